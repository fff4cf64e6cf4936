//! Fine-tuning, and training the same encoder from scratch.

use anyhow::{Context, Result, ensure};
use portolan_data::{Source, selected};
use portolan_encoders::{Encoder, EncoderConfig, build};
use portolan_evaluate::{FinetuneConfig, Finetuning, Shots, finetune, labeled_rows, to_finetune};
use portolan_report::counted;
use portolan_tensor::{Vars, seed};
use std::path::Path;
use std::sync::Arc;

use super::metrics::ProtocolMetrics;
use super::subject::Subject;
use crate::args::{EvaluateArgs, Protocol};

/// Epochs, unless others are given.
const EPOCHS: u64 = 30;

/// What the name of the fine-tuned encoder's result begins with.
pub(super) const FINETUNED: &str = "fine-tuned";

/// What the name of a result with fewer labels says after their share.
pub(super) const OF_LABELS: &str = "% of the labels";

/// Checks that there is something to save for `--save-finetuned`, and makes the folder.
///
/// # Errors
/// If no protocol trains an encoder, several would be saved, or the folder cannot be made.
pub(super) fn check(args: &EvaluateArgs) -> Result<()> {
    let Some(folder) = &args.save_finetuned else { return Ok(()) };
    let trains = |protocol: &Protocol| matches!(protocol, Protocol::Finetune | Protocol::Scratch);
    ensure!(
        args.protocol.iter().any(trains),
        "--save-finetuned saves what finetune and scratch train, and neither is among the \
         protocols; add --protocol finetune"
    );
    ensure!(
        args.labels.len() == 1,
        "--save-finetuned saves one encoder, and --labels has several shares; give one of them"
    );
    std::fs::create_dir_all(folder).with_context(|| {
        format!("cannot create {}; choose a writable --save-finetuned", folder.display())
    })
}

/// The fine-tuned encoder, and the same encoder from scratch, with each share of the labels.
///
/// # Errors
/// If training fails or a file cannot be written.
pub(super) fn finetuned(on: &Subject) -> Result<Vec<ProtocolMetrics>> {
    let config = &on.trained.config;
    let mut results = Vec::new();
    for &share in &on.args.labels {
        seed(on.trained.seed);
        let encoder = on.trained.build(config, on.device)?;
        let pretrained = to_finetune(encoder, config, on.args.class_token)?;
        results.push(trained(on, share, &*pretrained, FINETUNED, "finetuned.safetensors")?);
        results.push(from_random_values(on, share)?);
    }
    Ok(results)
}

/// The encoder trained with labels alone, from random values, with each share of the labels.
///
/// # Errors
/// If training fails or a file cannot be written.
pub(super) fn scratch(on: &Subject) -> Result<Vec<ProtocolMetrics>> {
    if on.args.protocol.contains(&Protocol::Finetune) {
        return Ok(Vec::new()); // finetune trains from scratch too
    }
    let with = |&share| {
        seed(on.trained.seed);
        from_random_values(on, share)
    };
    on.args.labels.iter().map(with).collect()
}

fn from_random_values(on: &Subject, share: f64) -> Result<ProtocolMetrics> {
    let config = &on.trained.config;
    let encoder = build(config, &Vars::new(on.device))?;
    let untrained = to_finetune(encoder, config, on.args.class_token)?;
    trained(on, share, &*untrained, "from scratch", "scratch.safetensors")
}

/// Trains an encoder with labels, scores it, and writes it to `file` of `--save-finetuned`.
fn trained(
    on: &Subject,
    share: f64,
    encoder: &dyn Encoder,
    how: &str,
    file: &str,
) -> Result<ProtocolMetrics> {
    let views = on.trained.finetuning_views();
    let (train, few) = labeled(on, share)?;
    let recipe = recipe(on, train.len());
    let name = format!("{how}, {}{few}", counted(recipe.epochs as usize, "epoch", "epochs"));
    let log = |epoch, loss| eprintln!("{name}: epoch {}  loss {loss:.4}", epoch + 1);
    let images = Finetuning { train: &*train, ..on.labeled(&views)? };
    let (test, votes) = finetune(encoder, &images, &recipe, log)?;
    if let Some(folder) = &on.args.save_finetuned {
        save(on, encoder, how, &folder.join(file))?;
    }
    ProtocolMetrics::of(name.clone(), &votes, test.labels()?)
}

/// A share of the training images, drawn from each class, and its description after a comma. All
/// encoders get the same images.
fn labeled(on: &Subject, share: f64) -> Result<(Arc<dyn Source>, String)> {
    if share == 1.0 {
        return Ok((Arc::clone(&on.data.train), String::new()));
    }
    let labels = Vec::<i64>::try_from(on.bank.labels()?)?;
    let rows = labeled_rows(&labels, on.classes, Shots::Share(share), 0)?;
    let images = rows.into_iter().map(|row| on.bank.ids[row]).collect();
    let few = selected(Arc::clone(&on.data.train), images);
    let count = counted(few.len(), "image", "images");
    // Rounded, since 100 × 0.07 is not 7.
    let percent = (1e5 * share).round() / 1e3;
    Ok((few, format!(", {percent} {OF_LABELS} ({count})")))
}

fn recipe(on: &Subject, images: usize) -> FinetuneConfig {
    let epochs = on.args.finetune_epochs.unwrap_or(EPOCHS);
    let config = &on.trained.config;
    let recipe = if config.is_transformer() {
        FinetuneConfig::vit(epochs)
    } else {
        FinetuneConfig::resnet(epochs)
    };
    // MAE's settings do not suit fewer than 32 steps per epoch, or images too small to erase a
    // third.
    let most = if config.is_transformer() { images / 32 } else { images };
    FinetuneConfig {
        batch_size: recipe.batch_size.min(most.max(2)),
        erasing: if on.trained.has_small_images() { 0.0 } else { recipe.erasing },
        ..recipe
    }
}

/// Writes an encoder so that `evaluate` and `embed` take it.
fn save(on: &Subject, encoder: &dyn Encoder, how: &str, path: &Path) -> Result<()> {
    let own: Option<EncoderConfig> = encoder.as_vit().map(|vit| vit.config().clone().into());
    let config = own.as_ref().unwrap_or(&on.trained.config);
    let preprocessing = on.trained.finetuning_preprocessing();
    portolan_interchange::write(path, encoder, config, &preprocessing, how)?;
    println!("the encoder {how}: {}", path.display());
    Ok(())
}
