//! The inputs and the result of one training step of a method.

mod inputs;

use portolan_losses::l2_normalize;
use portolan_random::{Purpose, Stream, stream};
use portolan_tensor::{Device, Kind, Tensor, distributed, no_grad, scalar, upload};
use rand::seq::SliceRandom;

use self::inputs::Make;
pub use self::inputs::StepInputs;
use crate::{Error, Result};

/// One batch, on the device.
#[derive(Debug)]
pub struct Batch {
    /// Tensors whose first dimension is the batch. For an image method: one per view, in the order
    /// of [`crate::ImageMethod::views`], `[batch, 3, size, size]`, float32, normalized.
    pub inputs: Vec<Tensor>,
    /// The indices of these items in the data set.
    pub ids: Vec<usize>,
}

impl Batch {
    /// The two views, for a method that needs two.
    ///
    /// # Errors
    /// When there are not two views, or when there are fewer than two images: batch statistics and
    /// most losses need two.
    pub fn pair(&self) -> Result<(&Tensor, &Tensor)> {
        let [a, b] = &self.inputs[..] else {
            return Err(Error::Batch(format!(
                "the method wants two views of an image, and was handed {}",
                self.inputs.len()
            )));
        };
        self.validate()?;
        Ok((a, b))
    }

    /// The view, for a method that needs one.
    ///
    /// # Errors
    /// As [`Batch::pair`].
    pub fn single(&self) -> Result<&Tensor> {
        let [view] = &self.inputs[..] else {
            return Err(Error::Batch(format!(
                "the method wants one view of an image, and was handed {}",
                self.inputs.len()
            )));
        };
        self.validate()?;
        Ok(view)
    }

    /// Checks that there are at least two images.
    ///
    /// # Errors
    /// When there are fewer than two.
    pub fn validate(&self) -> Result<()> {
        let images = self.inputs.first().map_or(0, |view| view.size()[0]);
        if images < 2 {
            return Err(Error::Batch(format!(
                "a batch of {images} is too small: training needs at least two images"
            )));
        }
        Ok(())
    }
}

/// The position in the run, from which a method derives the values of its schedules and its random
/// draws.
///
/// ```
/// use portolan_method::StepContext;
/// use portolan_tensor::Device;
///
/// let cx = StepContext::new(3, 100, Device::Cpu).with_seed(1);
/// assert_eq!((cx.step, cx.epoch, cx.seed), (3, 0, 1));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StepContext<'a> {
    /// Optimizer steps done so far.
    pub step: u64,
    /// Optimizer steps of the whole run.
    pub total_steps: u64,
    /// The epoch of this step, counted from 0.
    pub epoch: u64,
    /// Optimizer steps of one epoch, for schedules that change at every step.
    pub steps_per_epoch: u64,
    /// The index of the micro-batch in this step, when gradients are accumulated.
    pub micro_batch: u64,
    /// The run's seed.
    pub seed: u64,
    /// The device of the batch.
    pub device: Device,
    /// Keeps the inputs of a step that is captured in a CUDA graph, for its replays; `None` when
    /// steps are not captured.
    pub inputs: Option<&'a StepInputs>,
}

impl<'a> StepContext<'a> {
    /// Step `step` of `total_steps`, both counted in optimizer steps: one epoch, micro-batch 0 and
    /// seed 0.
    #[must_use]
    pub const fn new(step: u64, total_steps: u64, device: Device) -> Self {
        StepContext {
            step,
            total_steps,
            epoch: 0,
            steps_per_epoch: total_steps,
            micro_batch: 0,
            seed: 0,
            device,
            inputs: None,
        }
    }

    /// At another step.
    #[must_use]
    pub const fn with_step(self, step: u64) -> Self {
        StepContext { step, ..self }
    }

    /// In another epoch.
    #[must_use]
    pub const fn with_epoch(self, epoch: u64) -> Self {
        StepContext { epoch, ..self }
    }

    /// In a run with this many steps in an epoch.
    #[must_use]
    pub const fn with_steps_per_epoch(self, steps_per_epoch: u64) -> Self {
        StepContext { steps_per_epoch, ..self }
    }

    /// For another micro-batch.
    #[must_use]
    pub const fn with_micro_batch(self, micro_batch: u64) -> Self {
        StepContext { micro_batch, ..self }
    }

    /// With another seed.
    #[must_use]
    pub const fn with_seed(self, seed: u64) -> Self {
        StepContext { seed, ..self }
    }

    /// With these [`StepInputs`], or without.
    #[must_use]
    pub const fn with_inputs(self, inputs: Option<&'a StepInputs>) -> Self {
        StepContext { inputs, ..self }
    }
}

impl StepContext<'_> {
    /// The epochs done before this step: 0.5 in the middle of the first.
    pub fn epochs_done(&self) -> f64 {
        self.step as f64 / self.steps_per_epoch.max(1) as f64
    }

    /// A tensor that the CPU computes for this step, on the device. A method must get every value
    /// that differs between steps from this function or [`StepContext::scalar_input`]. A step can
    /// then be captured in a CUDA graph, and a replay gets new values without running the method
    /// again. `make` may depend only on the context and on what it owns, and must return the same
    /// shape and kind at every step.
    pub fn tensor_input(&self, make: impl Fn(&StepContext) -> Tensor + 'static) -> Tensor {
        match self.inputs {
            Some(inputs) => inputs.next(self, Make::Tensor(Box::new(make))),
            None => upload(&make(self), self.device),
        }
    }

    /// A number for this step, such as the value of a schedule, as a scalar tensor on the device.
    pub fn scalar_input(&self, of: impl Fn(&StepContext) -> f64 + 'static) -> Tensor {
        match self.inputs {
            Some(inputs) => inputs.next(self, Make::Number(Box::new(of))),
            None => scalar(of(self), self.device),
        }
    }

    /// A stream for the `draw`-th draw of this purpose in this micro-batch: no draw repeats
    /// another.
    pub fn rng(&self, purpose: Purpose, draw: u64) -> Stream {
        stream(self.seed, purpose, &[self.step, self.micro_batch, draw])
    }

    /// A random permutation of `0..n` for the `draw`-th draw: `[n]`, int64, on the device.
    pub fn permutation(&self, n: i64, draw: u64) -> Tensor {
        self.tensor_input(move |cx| {
            let mut order: Vec<i64> = (0..n).collect();
            order.shuffle(&mut cx.rng(Purpose::Shuffle, draw));
            Tensor::from_slice(&order)
        })
    }

    /// The number of processes that train together. Each gets an equal part of a batch, in the
    /// order of their ranks.
    pub fn processes(&self) -> i64 {
        distributed::world_size() as i64
    }

    /// This process's part, along `dim`, of a tensor for the whole batch.
    pub fn shard(&self, whole: &Tensor, dim: i64) -> Tensor {
        let size = whole.size()[dim as usize] / self.processes();
        whole.narrow(dim, distributed::rank() as i64 * size, size)
    }

    /// Concatenates the tensors `[batch, …]` of all processes to that of the whole batch. Gradients
    /// flow through it.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn all_gather(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(distributed::all_gather(rows)?)
    }

    /// The mean of the tensor over all processes.
    ///
    /// # Errors
    /// As [`StepContext::all_gather`].
    pub fn mean(&self, of: &Tensor) -> Result<Tensor> {
        Ok(distributed::mean(of)?)
    }
}

/// A loss, and metrics of the step.
#[derive(Debug)]
pub struct StepLoss {
    /// A scalar that carries gradients.
    pub loss: Tensor,
    /// Scalars to log by name, left on the device so that no step waits for them.
    pub metrics: Vec<(&'static str, Tensor)>,
    /// The outputs `[n, dim]` that a joint-embedding method compares, without gradients, for
    /// [`crate::collapse_metrics`].
    pub outputs: Option<Tensor>,
}

impl StepLoss {
    /// The mean of a boolean tensor, such as an accuracy, as a scalar.
    pub fn fraction(hits: &Tensor) -> Tensor {
        hits.to_kind(Kind::Float).mean(Kind::Float)
    }

    /// The share of rows of `a` whose most similar row of `b` has the same index, as a scalar: the
    /// accuracy of finding an image's other view in the batch. Both are `[batch, dim]`.
    pub fn match_top1(a: &Tensor, b: &Tensor) -> Tensor {
        no_grad(|| {
            let nearest = l2_normalize(a).matmul(&l2_normalize(b).tr()).argmax(1, false);
            let own = Tensor::arange(a.size()[0], (Kind::Int64, a.device()));
            StepLoss::fraction(&nearest.eq_tensor(&own))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_differ_by_step_micro_batch_and_draw() {
        let cx = StepContext::new(3, 9, Device::Cpu).with_seed(1);
        let first = cx.permutation(64, 0);
        assert_eq!(first, cx.permutation(64, 0));
        assert_eq!(first.sort(0, false).0, Tensor::arange(64, (Kind::Int64, Device::Cpu)));
        for other in [cx.with_step(4), cx.with_micro_batch(1)] {
            assert_ne!(first, other.permutation(64, 0));
        }
        assert_ne!(first, cx.permutation(64, 1));
    }
}
