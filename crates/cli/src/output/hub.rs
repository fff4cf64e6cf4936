//! Writes the encoder of a run in timm's hub layout: weights, `config.json` and a model card.

use anyhow::{Context, Result, ensure};
use portolan_encoders::Encoder;
use portolan_interchange::{Preprocessing, hub_config, python};
use portolan_report::{Report, counted};
use portolan_tensor::io::write_atomic;
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
    run: &Path,
    folder: &Path,
) -> Result<()> {
    let taken = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(!taken, "the folder {} is not empty; choose another --out", folder.display());
    std::fs::create_dir_all(folder).with_context(|| {
        format!("cannot create the folder {}; choose a writable --out", folder.display())
    })?;
    let preprocessing = run_encoder::preprocessing(config)?;
    run_encoder::write(encoder, config, &folder.join("model.safetensors"))?;
    let described = hub_config(&config.encoder, encoder.width(), &preprocessing);
    write_atomic(
        &folder.join("config.json"),
        serde_json::to_string_pretty(&described)?.as_bytes(),
    )?;
    let card = card(encoder, config, &preprocessing, Report::read(run).ok().as_ref());
    Ok(write_atomic(&folder.join("README.md"), card.as_bytes())?)
}

/// The model card: the architecture, the training, the accuracies, and how to load it.
fn card(
    encoder: &dyn Encoder,
    config: &RunConfig,
    preprocessing: &Preprocessing,
    report: Option<&Report>,
) -> String {
    let name = config.encoder.name();
    let training = &config.training;
    let python = python(&config.encoder);
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
        library = if python.timm { "timm" } else { "portolan" },
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
    card += &format!("\nBuilt by {}.\n", python.builder);
    if python.timm {
        card += "\n```python\nimport timm\n\
                 encoder = timm.create_model(\"local-dir:THIS_FOLDER\", pretrained=True)\n```\n";
    }
    card + "\nChoose a license before you publish this model.\n"
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
