//! Fine-tuning, and training the same encoder from scratch.

use anyhow::{Context, Result, ensure};
use portolan_encoders::{Encoder, EncoderConfig, build};
use portolan_evaluate::{FinetuneConfig, finetune, to_finetune};
use portolan_report::counted;
use portolan_tensor::{Vars, seed};
use std::path::Path;

use super::metrics::ProtocolMetrics;
use super::subject::Subject;
use crate::args::{EvaluateArgs, Protocol};

/// Epochs, unless others are given.
const EPOCHS: u64 = 30;

/// What the name of the fine-tuned encoder's result begins with.
pub(super) const FINETUNED: &str = "fine-tuned";

/// Checks that there is something to save for `--save-finetuned`, and makes the folder.
///
/// # Errors
/// If no protocol trains an encoder, or the folder cannot be made.
pub(super) fn prepare_folder(args: &EvaluateArgs) -> Result<()> {
    let Some(folder) = &args.save_finetuned else { return Ok(()) };
    let trains = |protocol: &Protocol| matches!(protocol, Protocol::Finetune | Protocol::Scratch);
    ensure!(
        args.protocol.iter().any(trains),
        "--save-finetuned saves what finetune and scratch train, and neither is among the \
         protocols; add --protocol finetune"
    );
    std::fs::create_dir_all(folder).with_context(|| {
        format!("cannot create {}; choose a writable --save-finetuned", folder.display())
    })
}

/// The fine-tuned encoder, and the same encoder from scratch.
///
/// # Errors
/// If training fails or a file cannot be written.
pub(super) fn finetuned(on: &Subject) -> Result<Vec<ProtocolMetrics>> {
    let config = &on.trained.config;
    seed(on.trained.seed);
    let pretrained = to_finetune(on.trained.build(config, on.device)?, config)?;
    let after = trained(on, &*pretrained, FINETUNED, "finetuned.safetensors")?;
    Ok(vec![after, from_random_values(on)?])
}

/// The encoder trained with labels alone, from random values.
///
/// # Errors
/// If training fails or a file cannot be written.
pub(super) fn scratch(on: &Subject) -> Result<Vec<ProtocolMetrics>> {
    if on.args.protocol.contains(&Protocol::Finetune) {
        return Ok(Vec::new()); // finetune trains from scratch too
    }
    seed(on.trained.seed);
    Ok(vec![from_random_values(on)?])
}

fn from_random_values(on: &Subject) -> Result<ProtocolMetrics> {
    let config = &on.trained.config;
    let untrained = to_finetune(build(config, &Vars::new(on.device))?, config)?;
    trained(on, &*untrained, "from scratch", "scratch.safetensors")
}

/// Trains an encoder with labels, scores it, and writes it to `file` of `--save-finetuned`.
fn trained(on: &Subject, encoder: &dyn Encoder, how: &str, file: &str) -> Result<ProtocolMetrics> {
    let recipe = recipe(on);
    let name = format!("{how}, {}", counted(recipe.epochs as usize, "epoch", "epochs"));
    let views = on.trained.finetuning_views();
    let log = |epoch, loss| eprintln!("{name}: epoch {}  loss {loss:.4}", epoch + 1);
    let (test, votes) = finetune(encoder, &on.labeled(&views)?, &recipe, log)?;
    if let Some(folder) = &on.args.save_finetuned {
        save(on, encoder, how, &folder.join(file))?;
    }
    ProtocolMetrics::of(name.clone(), &votes, test.labels()?)
}

fn recipe(on: &Subject) -> FinetuneConfig {
    let epochs = on.args.finetune_epochs.unwrap_or(EPOCHS);
    let (config, images) = (&on.trained.config, on.bank.ids.len());
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
