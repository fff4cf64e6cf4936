//! One step of training.

use anyhow::{Context, Result};
use portolan_method::{Batch, Method, StepContext, StepLoss};
use portolan_metrics::names;
use portolan_optim::{Optimizer, clip_grad_norm, grad_norm};
use portolan_tensor::distributed::Reducer;
use std::fmt;

use crate::{Clock, Stage, StepPlan, TrainConfig};

/// The method, optimizer and settings of a step.
pub struct Training<'a> {
    /// The method.
    pub method: &'a mut dyn Method,
    /// What moves its parameters.
    pub optimizer: &'a mut Optimizer,
    /// The loop's settings.
    pub config: &'a TrainConfig,
    /// The shape of the run.
    pub plan: StepPlan,
    /// Averages gradients over the processes of the job, if there are several.
    pub reducer: Option<&'a Reducer>,
}

impl fmt::Debug for Training<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Training")
            .field("config", &self.config)
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

/// One optimizer step: forward and backward for each micro-batch of `next_batch`, then the update.
/// It never waits for the device.
///
/// Returns the losses in the order of the micro-batches, without gradients. Only the last one has
/// outputs.
///
/// # Errors
/// When there is no batch, or the method fails.
pub fn step(
    training: &mut Training,
    cx: &StepContext,
    next_batch: impl FnMut(&mut Clock) -> Result<Batch>,
    clock: &mut Clock,
) -> Result<Vec<StepLoss>> {
    schedule(training, cx)?;
    work(training, cx, next_batch, clock)
}

/// The part that depends on the step's number: sets the rates that [`work`] reads from tensors.
pub(crate) fn schedule(training: &mut Training, cx: &StepContext) -> Result<()> {
    let Training { optimizer, config, plan, .. } = training;
    if let Some(weight_decay) = config.weight_decay(plan, cx.step) {
        optimizer.set_weight_decay(weight_decay)?;
    }
    Ok(optimizer.schedule(config.rate(plan, cx.step), cx.epochs_done())?)
}

/// The step itself. Only the values of tensors differ between steps.
pub(crate) fn work(
    training: &mut Training,
    cx: &StepContext,
    mut next_batch: impl FnMut(&mut Clock) -> Result<Batch>,
    clock: &mut Clock,
) -> Result<Vec<StepLoss>> {
    let Training { method, optimizer, config, reducer, .. } = training;
    let mut losses: Vec<StepLoss> = Vec::with_capacity(config.accumulate);
    let mut cx = *cx;
    match reducer {
        Some(_) => optimizer.zero_grad_in_place()?,
        None => optimizer.zero_grad()?,
    }
    for micro_batch in 0..config.accumulate as u64 {
        cx.micro_batch = micro_batch;
        let batch = next_batch(clock)?;
        let step_loss = config.precision.run(cx.device, || method.loss(&batch, &cx))??;
        clock.end(Stage::Forward);
        let loss = &step_loss.loss / config.accumulate as f64;
        // The reducer averages the gradients of all micro-batches at the last one.
        if let Some(reducer) = reducer.filter(|_| micro_batch + 1 == config.accumulate as u64) {
            reducer.prepare(&loss)?;
        }
        loss.f_backward().context("the backward pass failed")?;
        clock.end(Stage::Backward);
        if let Some(last) = losses.last_mut() {
            last.outputs = None;
        }
        losses.push(StepLoss { loss: step_loss.loss.detach(), ..step_loss });
    }
    let norm = if config.clip_gradients > 0.0 {
        clip_grad_norm(optimizer.params(), config.clip_gradients)?
    } else {
        grad_norm(optimizer.params())?
    };
    for loss in &mut losses {
        loss.metrics.push((names::GRADIENT_NORM, norm.shallow_clone()));
    }
    method.before_update(&cx)?;
    optimizer.apply()?;
    clock.end(Stage::Optimizer);
    method.after_update(&cx)?;
    clock.end(Stage::Update);
    Ok(losses)
}
