//! Steps as one CUDA graph.

use anyhow::Result;
use portolan_method::{Batch, StepContext, StepInputs, StepLoss};
use portolan_tensor::{Device, Graph, Tensor, leave_default_stream};
use std::fmt;

use crate::step::{Training, schedule, step, work};
use crate::{Clock, Stage, TrainConfig};

/// Ordinary steps before a capture, in which memory is allocated and cuDNN tries its algorithms.
const WARM_UP: u32 = 3;

/// Runs the steps of a run: one by one, or, with `cuda_graph`, captured once and replayed.
///
/// A replay launches all kernels of a step at once. Otherwise the CPU launches thousands of kernels
/// one by one, and small networks wait for it. The result is the same: new views and the method's
/// inputs ([`StepContext::tensor_input`]) are copied to the memory that the graph reads. When a
/// group of parameters is unfrozen, a new graph is captured; if capture fails, the run continues
/// without a graph.
pub struct Steps {
    wanted: bool,
    done: u32,
    captured: Option<Captured>,
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps")
            .field("done", &self.done)
            .field("captured", &self.captured.is_some())
            .finish_non_exhaustive()
    }
}

impl Steps {
    /// For a run on this device. `config` must have passed [`TrainConfig::validate`].
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn new(config: &TrainConfig, device: Device) -> Result<Self> {
        if config.cuda_graph {
            leave_default_stream(device)?;
        }
        Ok(Steps { wanted: config.cuda_graph, done: 0, captured: None })
    }

    /// Whether steps are now replays of a graph.
    pub fn captured(&self) -> bool {
        self.captured.is_some()
    }

    /// The next step: as [`step`](fn@crate::step).
    ///
    /// # Errors
    /// As [`step`](fn@crate::step).
    pub fn step(
        &mut self,
        training: &mut Training,
        cx: &StepContext,
        mut next_batch: impl FnMut(&mut Clock) -> Result<Batch>,
        clock: &mut Clock,
    ) -> Result<Vec<StepLoss>> {
        self.done += 1;
        if !self.wanted || self.done <= WARM_UP {
            return step(training, cx, next_batch, clock);
        }
        schedule(training, cx)?;
        let frozen = training.optimizer.frozen();
        if let Some(captured) = self.captured.as_ref().filter(|captured| captured.frozen == frozen)
        {
            for held in &captured.batches {
                copy_views(held, &next_batch(clock)?);
            }
            let losses = captured.replay(cx);
            clock.end(Stage::Forward); // and all that follows
            return losses;
        }
        self.captured = None; // its memory goes before more is taken
        // One more ordinary step, on the tensors that the graph will read, records the method's
        // inputs.
        let accumulate = training.config.accumulate;
        let batches: Vec<Batch> =
            (0..accumulate).map(|_| Ok(held(&next_batch(clock)?))).collect::<Result<_>>()?;
        let inputs = StepInputs::default();
        let noting = cx.with_inputs(Some(&inputs));
        let losses = work(training, &noting, shown(&batches), clock)?;
        match Captured::new(training, cx, inputs, batches) {
            Ok(captured) => self.captured = Some(captured),
            Err(error) => {
                self.wanted = false;
                tracing::warn!(
                    "the step runs without a CUDA graph, since capture failed: {error:#}"
                );
            }
        }
        Ok(losses)
    }
}

/// A step in a graph, and the tensors that it reads and writes.
struct Captured {
    graph: Graph,
    inputs: StepInputs,
    batches: Vec<Batch>,
    losses: Vec<StepLoss>,
    /// Number of frozen groups of parameters.
    frozen: usize,
}

impl Captured {
    fn new(
        training: &mut Training,
        cx: &StepContext,
        inputs: StepInputs,
        batches: Vec<Batch>,
    ) -> Result<Self> {
        inputs.restart();
        let given = cx.with_inputs(Some(&inputs));
        let (graph, losses) =
            Graph::capture(|| work(training, &given, shown(&batches), &mut Clock::stopped()))?;
        Ok(Captured { frozen: training.optimizer.frozen(), graph, inputs, batches, losses })
    }

    /// The step of `cx` on the views that were copied in. It returns copies, because the next
    /// replay overwrites the graph's results.
    fn replay(&self, cx: &StepContext) -> Result<Vec<StepLoss>> {
        self.inputs.refresh(cx);
        self.graph.replay()?;
        let copied = |loss: &StepLoss| StepLoss {
            loss: loss.loss.copy(),
            metrics: loss.metrics.iter().map(|(name, value)| (*name, value.copy())).collect(),
            outputs: loss.outputs.as_ref().map(Tensor::copy),
        };
        Ok(self.losses.iter().map(copied).collect())
    }
}

/// A batch in memory of its own.
fn held(batch: &Batch) -> Batch {
    Batch { inputs: batch.inputs.iter().map(Tensor::copy).collect(), ids: batch.ids.clone() }
}

fn copy_views(held: &Batch, batch: &Batch) {
    for (to, from) in held.inputs.iter().zip(&batch.inputs) {
        to.shallow_clone().copy_(from);
    }
}

/// Yields these batches one by one, as a loader does.
fn shown(batches: &[Batch]) -> impl FnMut(&mut Clock) -> Result<Batch> {
    let mut batches = batches.iter();
    move |_| {
        let batch = batches.next().expect("as many batches as micro-batches");
        let views = batch.inputs.iter().map(Tensor::shallow_clone).collect();
        Ok(Batch { inputs: views, ids: batch.ids.clone() })
    }
}
