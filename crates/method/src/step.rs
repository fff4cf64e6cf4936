//! What a method is handed at each step, and what it hands back.

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
    /// Which items of the data set these are.
    pub ids: Vec<usize>,
}

impl Batch {
    /// The two views of a method that wants two.
    ///
    /// # Errors
    /// When there are not two, or fewer than two images, of which batch statistics and most losses
    /// make nothing.
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

    /// The view of a method that wants one.
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

    /// Whether there are images enough to learn from.
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

/// Where training stands, and what belongs to this very moment: the numbers of schedules, and
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
    /// The epoch that the step lies in, counted from 0.
    pub epoch: u64,
    /// Which micro-batch of this step, where gradients are accumulated.
    pub micro_batch: u64,
    /// The run's seed.
    pub seed: u64,
    /// Where the batch lies.
    pub device: Device,
    /// Where what the step is given is kept for the steps to come; nowhere, where each is run by
    /// itself.
    pub inputs: Option<&'a StepInputs>,
}

impl<'a> StepContext<'a> {
    /// Step `step` of `total_steps`, both counted in optimizer steps: epoch 0, micro-batch 0 and
    /// seed 0.
    #[must_use]
    pub const fn new(step: u64, total_steps: u64, device: Device) -> Self {
        StepContext { step, total_steps, epoch: 0, micro_batch: 0, seed: 0, device, inputs: None }
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

    /// With a place that keeps the step's inputs for later steps, or without.
    #[must_use]
    pub const fn with_inputs(self, inputs: Option<&'a StepInputs>) -> Self {
        StepContext { inputs, ..self }
    }
}

impl StepContext<'_> {
    /// What the CPU makes for this step, on the device. Whatever differs from step to step comes to
    /// a method by this or by [`StepContext::scalar_input`], so that a step can be captured in a
    /// graph, which is handed new values without the method being run again: `make` may depend on
    /// the context and on what it owns, and on nothing else. What it makes is of one shape and kind
    /// at every step.
    pub fn tensor_input(&self, make: impl Fn(&StepContext) -> Tensor + 'static) -> Tensor {
        match self.inputs {
            Some(inputs) => inputs.next(self, Make::Tensor(Box::new(make))),
            None => upload(&make(self), self.device),
        }
    }

    /// A number of this step, as a schedule has it: a scalar tensor on the device.
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

    /// How many processes train together: each is handed as large a part of a batch, in the order
    /// of their ranks.
    pub fn processes(&self) -> i64 {
        distributed::world_size() as i64
    }

    /// This process's part of what was made for the whole batch, along `dim`.
    pub fn shard(&self, whole: &Tensor, dim: i64) -> Tensor {
        let size = whole.size()[dim as usize] / self.processes();
        whole.narrow(dim, distributed::rank() as i64 * size, size)
    }

    /// The rows of every process's tensor, `[batch, …]`, one after the other: those of the whole
    /// batch. Carries gradients.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn all_gather(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(distributed::all_gather(rows)?)
    }

    /// The mean of every process's tensor.
    ///
    /// # Errors
    /// As [`StepContext::all_gather`].
    pub fn mean(&self, of: &Tensor) -> Result<Tensor> {
        Ok(distributed::mean(of)?)
    }
}

/// A loss, and what says how training goes.
#[derive(Debug)]
pub struct StepLoss {
    /// A scalar that carries gradients.
    pub loss: Tensor,
    /// Scalars to log by name, left on the device so that no step waits for them.
    pub metrics: Vec<(&'static str, Tensor)>,
    /// What a joint-embedding method compares, without gradients, `[n, dim]`:
    /// [`crate::collapse_metrics`] are read off it now and then.
    pub outputs: Option<Tensor>,
}

impl StepLoss {
    /// The mean of a boolean tensor, such as an accuracy: a scalar figure.
    pub fn fraction(hits: &Tensor) -> Tensor {
        hits.to_kind(Kind::Float).mean(Kind::Float)
    }

    /// How often the most similar of the rows `b` to a row of `a` is the row of the same number:
    /// the accuracy of finding a view's other view in the batch. Both `[batch, dim]`; a scalar
    /// figure.
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
