//! One step of training.

use anyhow::Result;
use portolan_method::{Batch, Method, StepCx, StepLoss};
use portolan_optim::{Optimizer, clip_grad_norm};

use crate::{Clock, Place, Stage, TrainConfig};

/// One optimiser step: forward and backward for each micro-batch that `next_batch` hands out, then the update. Nothing
/// in it waits for the device.
///
/// Losses come back in the order of the micro-batches, without gradients, and with the last one's outputs alone.
///
/// # Errors
/// When no batch can be had, or the method refuses.
pub fn step(
    method: &mut dyn Method,
    optimizer: &mut Optimizer,
    config: &TrainConfig,
    place: &Place,
    mut cx: StepCx,
    mut next_batch: impl FnMut(&mut Clock) -> Result<Batch>,
    clock: &mut Clock,
) -> Result<Vec<StepLoss>> {
    let mut losses: Vec<StepLoss> = Vec::with_capacity(config.accumulate);
    optimizer.zero_grad()?;
    for micro_batch in 0..config.accumulate as u64 {
        cx.micro_batch = micro_batch;
        let batch = next_batch(clock)?;
        let step_loss = config.precision.run(cx.device, || method.loss(&batch, &cx))??;
        clock.end(Stage::Forward);
        (&step_loss.loss / config.accumulate as f64).backward();
        clock.end(Stage::Backward);
        if let Some(last) = losses.last_mut() {
            last.outputs = None;
        }
        losses.push(StepLoss { loss: step_loss.loss.detach(), ..step_loss });
    }
    if config.clip_gradients > 0.0 {
        let _ = clip_grad_norm(optimizer.params(), config.clip_gradients)?;
    }
    method.before_update(&cx)?;
    if let Some(weight_decay) = config.weight_decay(place, cx.step) {
        optimizer.set_weight_decay(weight_decay)?;
    }
    optimizer.step(config.rate(place, cx.step), cx.epoch)?;
    clock.end(Stage::Optimizer);
    method.after_update(&cx)?;
    clock.end(Stage::Update);
    Ok(losses)
}
