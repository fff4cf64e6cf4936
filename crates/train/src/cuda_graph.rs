//! Steps as one CUDA graph.

use anyhow::Result;
use portolan_method::{Batch, StepContext, StepInputs, StepLoss};
use portolan_tensor::{Device, Graph, Tensor, leave_default_stream};
use std::fmt;

use crate::step::{Training, schedule, step, work};
use crate::{Clock, Stage, TrainConfig};

/// Steps that are done one by one before one is captured: memory is taken, and cuDNN tries its
/// algorithms.
const WARM_UP: u32 = 3;

/// Does the steps of a run: each by itself, or, with `cuda_graph`, captured once and replayed.
///
/// A replay starts all kernels of a step at once, where the CPU would otherwise start thousands one
/// by one and small networks wait for it. It computes what the step would: new views and what the
/// method is given ([`StepContext::tensor_input`]) are copied to where the graph reads them. When a
/// group of parameters is no longer frozen, a new graph is captured; when capture fails, the run
/// goes on without.
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
    /// For a run on this device, by settings that [`TrainConfig::validate`] allows.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn new(config: &TrainConfig, device: Device) -> Result<Self> {
        if config.cuda_graph {
            leave_default_stream(device)?;
        }
        Ok(Steps { wanted: config.cuda_graph, done: 0, captured: None })
    }

    /// Whether steps are replays of a graph by now.
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
        if self.captured.as_ref().is_some_and(|captured| captured.frozen == frozen) {
            let captured = self.captured.as_ref().expect("looked at above");
            for held in &captured.batches {
                copy_views(held, &next_batch(clock)?);
            }
            let losses = captured.replay(cx);
            clock.end(Stage::Forward); // and all that follows
            return losses;
        }
        self.captured = None; // its memory goes before more is taken
        // One more step by itself, on the tensors that the graph will read, notes what the method
        // is given.
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
    /// Groups of parameters that the step leaves alone.
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

    /// The step of `cx` on the views that were copied in. The next replay writes over what the
    /// graph returns, so that copies are handed out.
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

/// Hands out these batches one by one, as a loader does.
fn shown(batches: &[Batch]) -> impl FnMut(&mut Clock) -> Result<Batch> {
    let mut batches = batches.iter();
    move |_| {
        let batch = batches.next().expect("as many batches as micro-batches");
        let views = batch.inputs.iter().map(Tensor::shallow_clone).collect();
        Ok(Batch { inputs: views, ids: batch.ids.clone() })
    }
}
