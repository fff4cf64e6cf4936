//! Writes the encoder of a run as a hub folder: weights, `config.json` and a model card.

use anyhow::{Context, Result, ensure};
use portolan_encoders::{Encoder, EncoderConfig, Positions};
use portolan_interchange::{Exported, Layout, Preprocessing, python};
use portolan_report::{Report, counted};
use portolan_tensor::io::{self, write_atomic};
use std::collections::BTreeMap;
use std::path::Path;

use crate::config::RunConfig;
use crate::encoder_source::run_encoder;

/// Writes the folder, which must be new or empty.
///
/// # Errors
/// If it is not empty or cannot be written.
pub(crate) fn write(
    encoder: &dyn Encoder,
    config: &RunConfig,
    layout: Layout,
    exported: &Exported,
    (run, folder): (&Path, &Path),
) -> Result<()> {
    let taken = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(!taken, "the folder {} is not empty; choose another --out", folder.display());
    std::fs::create_dir_all(folder).with_context(|| {
        format!("cannot create the folder {}; choose a writable --out", folder.display())
    })?;
    let preprocessing = run_encoder::preprocessing(config)?;
    write_tensors(exported, &folder.join("model.safetensors"))?;
    for (name, contents) in &exported.files {
        let text = serde_json::to_string_pretty(contents)?;
        write_atomic(&folder.join(name), text.as_bytes())?;
    }
    let loading = loading(config, layout);
    let card = card(encoder, config, &preprocessing, Report::read(run).ok().as_ref(), loading);
    Ok(write_atomic(&folder.join("README.md"), card.as_bytes())?)
}

/// Writes the tensors as safetensors.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write_tensors(exported: &Exported, path: &Path) -> Result<()> {
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(io::save(path, &exported.tensors, &metadata)?)
}

/// How Python loads the folder.
struct Loading {
    library: &'static str,
    builder: &'static str,
    code: Option<&'static str>,
}

fn loading(config: &RunConfig, layout: Layout) -> Loading {
    let python = python(&config.encoder);
    match layout {
        Layout::Timm if python.timm => Loading {
            library: "timm",
            builder: python.builder,
            code: Some(
                "import timm\n\
                 encoder = timm.create_model(\"local-dir:THIS_FOLDER\", pretrained=True)",
            ),
        },
        Layout::Timm => Loading { library: "portolan", builder: python.builder, code: None },
        Layout::Dinov2 => Loading {
            library: "dinov2",
            builder: "DinoVisionTransformer of facebookresearch/dinov2",
            code: None,
        },
        Layout::Transformers => Loading {
            library: "transformers",
            builder: "transformers",
            code: Some(
                "from transformers import AutoImageProcessor, AutoModel\n\
                 processor = AutoImageProcessor.from_pretrained(\"THIS_FOLDER\")\n\
                 encoder = AutoModel.from_pretrained(\"THIS_FOLDER\")",
            ),
        },
    }
}

/// The model card: the architecture, the training, the accuracies, and how to load it.
fn card(
    encoder: &dyn Encoder,
    config: &RunConfig,
    preprocessing: &Preprocessing,
    report: Option<&Report>,
    loading: Loading,
) -> String {
    let name = config.encoder.name();
    let training = &config.training;
    let mut card = format!(
        "---\ntags:\n- image-feature-extraction\n- self-supervised\n- {method}\n\
         library_name: {library}\n---\n\n\
         # {name}, pretrained by {method} without labels\n\n\
         It maps an image of {size} pixels to {width} features. Made by Portolan {version}.\n\n\
         | | |\n|---|---|\n\
         | method | {method}, recipe `{recipe}`, seed {seed} |\n\
         | images | {data} |\n\
         | training | {epochs} in batches of {batch} |\n\
         | preprocessing | resize the short side to {resize} ({interpolation}), \
         center crop to {size} × {size}, \
         normalize with mean {mean:?} and standard deviation {std:?} |\n",
        method = config.method,
        library = loading.library,
        width = encoder.width(),
        size = preprocessing.size,
        version = env!("CARGO_PKG_VERSION"),
        recipe = config.recipe,
        seed = config.seed,
        data = config.data.source,
        epochs = counted(training.epochs as usize, "epoch", "epochs"),
        batch = training.batch_size,
        resize = preprocessing.resize,
        interpolation = format!("{:?}", preprocessing.interpolation).to_lowercase(),
        mean = preprocessing.mean,
        std = preprocessing.std,
    );
    if let Some(report) = report {
        card += &accuracies(report);
    }
    card += &format!("\nBuilt by {}.\n", loading.builder);
    if let Some(code) = loading.code {
        card += &format!("\n```python\n{code}\n```\n");
    }
    if starts_from_dinov3(config) {
        card += "\nIf its training started from DINOv3's weights, the DINOv3 License applies to it \
                 (https://ai.meta.com/resources/models-and-libraries/dinov3-license/).\n";
    }
    card + "\nChoose a license before you publish this model.\n"
}

/// Whether the training may have started from weights of DINOv3, which have their own license.
fn starts_from_dinov3(config: &RunConfig) -> bool {
    let rotary =
        matches!(&config.encoder, EncoderConfig::Vit(vit) if vit.positions == Positions::Rotary);
    rotary && !config.init.is_empty()
}

fn accuracies(report: &Report) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut rows = String::new();
    if let Some(knn) = &report.knn {
        let untrained = percent(knn.random_init_top1);
        rows +=
            &format!("| kNN, k = {} | {} (untrained {untrained}) |\n", knn.k, percent(knn.top1));
    }
    if let Some(probe) = &report.linear_probe {
        let untrained = percent(probe.random_init_top1);
        rows += &format!("| linear probe | {} (untrained {untrained}) |\n", percent(probe.top1));
    }
    rows
}
