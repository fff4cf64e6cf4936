//! The training loop's task for a text method.

use anyhow::Result;
use portolan_method::{Batch, Method, StepContext, TextMethod, TextScore};
use portolan_metrics::names;
use portolan_random::{Purpose, stream};
use portolan_tensor::{Device, Precision, distributed, no_grad};
use portolan_train::{BatchSource, Clock, Evaluation, Stage, StepPlan, Task};
use rand::seq::SliceRandom;
use std::fmt;
use std::sync::Arc;

use crate::Sequences;

/// Sequences scored at once.
const SCORED: usize = 32;
/// The seed of what the evaluation draws, BERT's masks, so that all epochs and runs have the same.
const EVALUATION_SEED: u64 = 0;

/// A text method, the sequences it trains on, and those that measure it at the end of an epoch.
pub struct TextTask<'a> {
    /// The method.
    pub method: &'a mut dyn TextMethod,
    /// The sequences to train on.
    pub train: Arc<Sequences>,
    /// Held-out sequences.
    pub test: &'a Sequences,
    /// The characters of the held-out text for each of its tokens, for bits per character; `None`
    /// where a token's loss is not that of its text, as for BERT.
    pub characters_per_token: Option<f64>,
    /// The seed of the order.
    pub seed: u64,
    /// The device of the network.
    pub device: Device,
    /// The arithmetic of the evaluation.
    pub precision: Precision,
    /// Micro-batches in a step.
    pub accumulate: usize,
    /// What else to do at the end of an epoch, such as writing samples.
    pub at_epoch_end: Option<AtEpochEnd<'a>>,
}

/// Called with the number of the epoch, counted from 1, and the method.
pub type AtEpochEnd<'a> = &'a dyn Fn(u64, &dyn TextMethod) -> Result<()>;

impl fmt::Debug for TextTask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextTask")
            .field("train", &self.train.len())
            .field("test", &self.test.len())
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl Task for TextTask<'_> {
    fn method(&self) -> &dyn Method {
        &*self.method
    }

    fn method_mut(&mut self) -> &mut dyn Method {
        &mut *self.method
    }

    fn items(&self) -> usize {
        self.train.len()
    }

    fn noun(&self) -> &'static str {
        "sequences"
    }

    fn batches(&self, plan: StepPlan, from: u64) -> Result<Box<dyn BatchSource>> {
        Ok(Box::new(Batches {
            sequences: Arc::clone(&self.train),
            plan,
            accumulate: self.accumulate,
            seed: self.seed,
            device: self.device,
            next: from * self.accumulate as u64,
            ordered: (u64::MAX, Vec::new()),
        }))
    }

    fn evaluate(&self, epoch: u64) -> Result<Evaluation> {
        if let Some(act) = self.at_epoch_end {
            act(epoch, self.method)?;
        }
        let score = score(self.method, self.test, self.device, self.precision)?;
        if !score.nats.is_finite() {
            return Ok(Evaluation::NotFinite);
        }
        let mut metrics = vec![
            (names::HELD_OUT_LOSS, score.mean()),
            (names::HELD_OUT_ACCURACY, score.accuracy()),
        ];
        let mut summary = format!(
            "held out: {:.3} nats, accuracy {:.1} %",
            score.mean(),
            100.0 * score.accuracy()
        );
        if let Some(characters) = self.characters_per_token {
            let bits = score.mean() / std::f64::consts::LN_2 / characters;
            metrics.push((names::BITS_PER_CHARACTER, bits));
            summary = format!("held out: {bits:.3} bits per character");
        }
        Ok(Evaluation::Metrics(metrics, Some(summary)))
    }
}

/// How well a method predicts all tokens of these sequences. What it draws, such as BERT's masks,
/// is the same each time.
///
/// # Errors
/// When libtorch fails.
pub fn score(
    method: &dyn TextMethod,
    sequences: &Sequences,
    device: Device,
    precision: Precision,
) -> Result<TextScore> {
    let all: Vec<usize> = (0..sequences.len()).collect();
    let mut total = TextScore::default();
    for (step, part) in (0..).zip(all.chunks(SCORED)) {
        let batch = Batch { inputs: sequences.batch(part, device), ids: part.to_vec() };
        // The draws of a process's own part: every process scores all.
        let cx = StepContext::new(step, u64::MAX, device).with_seed(EVALUATION_SEED);
        total += no_grad(|| precision.run(device, || method.score(&batch, &cx)))??;
    }
    Ok(total)
}

/// The batches of a run in the order of its seed.
struct Batches {
    sequences: Arc<Sequences>,
    plan: StepPlan,
    accumulate: usize,
    seed: u64,
    device: Device,
    /// The next micro-batch, counted from the start of the run.
    next: u64,
    /// The epoch that is ordered, and its order.
    ordered: (u64, Vec<usize>),
}

impl BatchSource for Batches {
    fn next_batch(&mut self, clock: &mut Clock) -> Result<Batch> {
        let accumulate = self.accumulate as u64;
        let (step, micro_batch) = (self.next / accumulate, (self.next % accumulate) as usize);
        let epoch = self.plan.epoch_of(step);
        if self.ordered.0 != epoch {
            let mut order: Vec<usize> = (0..self.plan.items).collect();
            order.shuffle(&mut stream(self.seed, Purpose::Order, &[epoch]));
            self.ordered = (epoch, order);
        }
        let size = self.plan.batch_size / self.accumulate;
        let of_epoch = (step % self.plan.steps_per_epoch()) as usize * self.plan.batch_size;
        let whole = &self.ordered.1[of_epoch + micro_batch * size..][..size];
        // All processes use the same order, and each takes its own part of every batch.
        let share = size / distributed::world_size();
        let ids = whole[distributed::rank() * share..][..share].to_vec();
        self.next += 1;
        clock.end(Stage::Data);
        let inputs = self.sequences.batch(&ids, self.device);
        clock.end(Stage::Views);
        Ok(Batch { inputs, ids })
    }

    /// None: all sequences are in memory.
    fn skipped(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn batches(from: u64, accumulate: usize) -> Batches {
        let ids = (0..10).map(|i| vec![i, i + 1, i + 2]).collect();
        Batches {
            sequences: Arc::new(Sequences::new(ids, None)),
            plan: StepPlan { items: 10, batch_size: 4, epochs: 3 },
            accumulate,
            seed: 7,
            device: Device::Cpu,
            next: from * accumulate as u64,
            ordered: (u64::MAX, Vec::new()),
        }
    }

    fn drawn(batches: &mut Batches, count: usize) -> Vec<Vec<usize>> {
        let mut clock = Clock::stopped();
        (0..count).map(|_| batches.next_batch(&mut clock).unwrap().ids).collect()
    }

    #[test]
    fn a_resumed_run_sees_the_batches_of_an_uninterrupted_one() {
        let all = drawn(&mut batches(0, 1), 6);
        assert_eq!(drawn(&mut batches(3, 1), 3), all[3..]);
        let mut epoch = all[..2].concat();
        epoch.sort_unstable();
        epoch.dedup();
        assert_eq!(epoch.len(), 8, "no sequence twice in an epoch");
        assert_ne!(all[..2], all[2..4], "another order in the next epoch");
        let halves = drawn(&mut batches(0, 2), 12);
        assert_eq!(halves.concat(), all.concat(), "micro-batches are parts of the batch");
    }
}
