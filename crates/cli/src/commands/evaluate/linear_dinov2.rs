//! DINOv2's linear protocol.

use anyhow::{Context, Result};
use portolan_encoders::Encoder;
use portolan_evaluate::{LinearDinov2Config, linear_dinov2 as train};

use super::linear_dinov2_table::{Selection, input};
use super::metrics::ProtocolMetrics;
use super::subject::Subject;

/// Trains the grid of classifiers and scores the one that is best on validation images.
///
/// # Errors
/// If the encoder is not a vision transformer, or training fails.
pub(super) fn linear_dinov2(on: &Subject, encoder: &dyn Encoder) -> Result<ProtocolMetrics> {
    let vit = encoder.as_vit().with_context(|| {
        format!(
            "linear-dinov2 reads the class tokens of a vision transformer's blocks, and {} has \
             none; choose linear or linear-sgd",
            on.trained.config.name()
        )
    })?;
    let mut config = LinearDinov2Config::for_images(on.data.train.len());
    config.epochs = on.args.linear_epochs.unwrap_or(config.epochs);
    let views = [on.trained.classification_view(), on.trained.eval_view()];
    let tenth = (config.epochs / 10).max(1);
    let log = |done: u64| {
        if done.is_multiple_of(tenth) {
            eprintln!("linear-dinov2: epoch {done} of {}", config.epochs);
        }
    };
    let outcome = train(vit, &on.labeled(&views)?, &config, log)?;
    let chosen = &outcome.chosen;
    let name = format!("linear-dinov2, {}, rate {}", input(chosen), chosen.learning_rate);
    Ok(ProtocolMetrics {
        linear_dinov2: Some(Selection::new(&outcome, &config)),
        ..ProtocolMetrics::of(name, &outcome.logits, &outcome.labels)?
    })
}
