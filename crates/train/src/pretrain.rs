//! The loop.

mod epoch_end;
mod recovery;

pub use self::recovery::Divergence;

use anyhow::{Context, Result, bail};
use portolan_doctor::Problem;
use portolan_method::{Method, StepContext, StepLoss, output_deviation, output_rank};
use portolan_metrics::{MetricsRow, names};
use portolan_optim::Optimizer;
use portolan_tensor::distributed::{self, Reducer};
use portolan_tensor::{Device, Kind, Tensor};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use self::recovery::Failure;
use crate::checkpoint::prune;
use crate::correlation;
use crate::metrics_writer::MetricsWriter;
use crate::progress::{Progress, Standing};
use crate::{
    BatchSource, Checkpoint, Clock, Job, OnDivergence, Outcome, StepPlan, Steps, Task, TrainConfig,
    Training,
};

/// Losses are read back from the device every so many steps, because reading waits for the device.
const LOG_EVERY: usize = 10;
/// The rank of the outputs, which needs the eigenvalues of a matrix, is computed every so many
/// steps and at the end of an epoch.
const RANK_EVERY: u64 = 100;

/// Trains the task's method until its epochs are done or `job.stop` is set. Writes `metrics.jsonl`
/// and `checkpoints/` to the run's folder.
///
/// # Errors
/// When settings contradict each other, items cannot be read, the folder cannot be written, or the
/// loss is no longer finite. Checkpoints written before stay valid.
pub fn pretrain(task: &mut dyn Task, job: &Job) -> Result<Outcome> {
    job.config.validate(task.items(), job.device)?;
    let mut start = Start { from: job.resume.clone(), healthy: job.resume.clone(), rollbacks: 0 };
    loop {
        let mut run = Run::start(task, job, start)?;
        match run.train(task) {
            Ok(()) => return run.finish(task),
            Err(Failure::Recoverable(divergence)) => start = run.roll_back(divergence)?,
            Err(Failure::Fatal(error)) => return Err(error),
        }
    }
}

/// The optimizer that `config` describes, over the method's parameters.
///
/// # Errors
/// When a setting is out of range.
pub fn optimizer(config: &TrainConfig, method: &dyn Method) -> Result<Optimizer> {
    let groups = config.decay.apply(method.params());
    Ok(Optimizer::new(config.optimizer.clone(), config.base_rate(), groups)?)
}

/// Where training starts, or starts again after a rollback.
struct Start {
    /// The checkpoint; none for a new run.
    from: Option<PathBuf>,
    /// The checkpoint of the last healthy epoch, which is kept.
    healthy: Option<PathBuf>,
    /// Rollbacks so far.
    rollbacks: u32,
}

/// A run in progress.
struct Run<'a> {
    job: &'a Job<'a>,
    /// The job's settings, with the learning rate that rollbacks have left.
    config: TrainConfig,
    plan: StepPlan,
    optimizer: Optimizer,
    steps: Steps,
    /// Averages gradients over the processes of the job, where there are several.
    reducer: Option<Reducer>,
    batches: Box<dyn BatchSource>,
    items: usize,
    metrics_writer: MetricsWriter,
    progress: Progress,
    /// What the next checkpoint will record.
    state: Checkpoint,
    /// Seconds of training before this process.
    before: f64,
    /// Steps done before this process.
    first: u64,
    started: Instant,
    /// Losses and metrics not read back from the device yet.
    pending: Vec<StepLoss>,
    last_read: Instant,
    last_saved: Instant,
    checkpoint: Option<PathBuf>,
    began_with: Option<PathBuf>,
    /// As in [`Start`].
    healthy: Option<PathBuf>,
    /// The last loss and speed that were read back.
    shown: (f64, f64),
    /// The last warning.
    warned: Option<Problem>,
}

impl<'a> Run<'a> {
    fn start(task: &dyn Task, job: &'a Job<'a>, start: Start) -> Result<Self> {
        let Start { from, healthy, rollbacks } = start;
        let mut config = job.config.clone();
        let steps = Steps::new(&config, job.device)?;
        let plan =
            StepPlan { items: task.items(), batch_size: config.batch_size, epochs: config.epochs };
        let optimizer = optimizer(&config, task.method())?;
        let fresh = Checkpoint {
            method: job.name.to_owned(),
            data: job.checksum.to_owned(),
            processes: distributed::world_size(),
            ..Checkpoint::default()
        };
        let mut state = match &from {
            Some(path) => Checkpoint::load(path, job.name, task.method(), &optimizer, job.device)?,
            None => fresh,
        };
        state.processes = distributed::world_size();
        state.rollbacks = state.rollbacks.max(rollbacks);
        config.learning_rate *= recovery::SLOWER.powi(state.rollbacks as i32);
        if state.data != job.checksum {
            bail!("the data is not what this run was trained on; resume it with the same --data");
        }
        let batches = task.batches(plan, state.step)?;
        let now = Instant::now();
        let mut run = Run {
            job,
            config,
            plan,
            reducer: Reducer::new(
                &optimizer.params().map(Tensor::shallow_clone).collect::<Vec<_>>(),
            )?,
            optimizer,
            steps,
            batches,
            items: task.items(),
            metrics_writer: MetricsWriter::open(job.folder, state.step, job.tensorboard)?,
            progress: Progress::new(state.step, plan.total_steps(), plan.epochs, task.noun()),
            before: state.seconds,
            first: state.step,
            state,
            started: now,
            pending: Vec::new(),
            last_read: now,
            last_saved: now,
            healthy,
            checkpoint: from.clone(),
            began_with: from,
            shown: (f64::NAN, 0.0),
            warned: None,
        };
        // A rollback needs a checkpoint. After a rollback, write one that records it before
        // anything else fails.
        if run.config.on_divergence == OnDivergence::Rollback
            && (run.checkpoint.is_none() || rollbacks > 0)
        {
            run.save(task.method()).map_err(Failure::into_error)?;
            run.healthy = run.healthy.or(run.checkpoint.clone());
        }
        Ok(run)
    }

    /// Steps until all are done, or the run is asked to stop.
    fn train(&mut self, task: &mut dyn Task) -> Result<(), Failure> {
        while self.state.step < self.plan.total_steps() {
            self.step(task.method_mut())?;
            correlation::draw(
                task.method(),
                self.job.folder,
                self.state.step,
                self.plan.total_steps(),
            )?;
            let epoch_ends = self.plan.ends_epoch(self.state.step);
            if epoch_ends {
                self.end_epoch(task)?;
            }
            let (stopping, due) = self.agree()?;
            if epoch_ends || stopping || due {
                self.save(task.method())?;
            }
            if stopping {
                break;
            }
        }
        Ok(())
    }

    fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// One step. Its losses are kept until they are read back.
    fn step(&mut self, method: &mut dyn Method) -> Result<(), Failure> {
        let (config, step) = (&self.config, self.state.step);
        let cx = StepContext::new(step, self.plan.total_steps(), self.job.device)
            .with_epoch(self.plan.epoch_of(step))
            .with_steps_per_epoch(self.plan.steps_per_epoch())
            .with_seed(self.job.seed);
        let batches = &mut self.batches;
        let mut training = Training {
            method,
            optimizer: &mut self.optimizer,
            config,
            plan: self.plan,
            reducer: self.reducer.as_ref(),
        };
        let next_batch = |clock: &mut Clock| batches.next_batch(clock);
        let losses = self.steps.step(&mut training, &cx, next_batch, &mut Clock::stopped())?;
        if let Some(last) = self.pending.last_mut() {
            last.outputs = None; // only the newest are measured
        }
        self.pending.extend(losses);
        self.state.step += 1;
        if self.pending.len() >= LOG_EVERY * config.accumulate {
            self.read_back()?;
        }
        Ok(())
    }

    /// Reads losses and metrics back from the device, writes their means, and fails on a loss that
    /// is not finite.
    fn read_back(&mut self) -> Result<(), Failure> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.check_skipped()?;
        let pending = std::mem::take(&mut self.pending);
        let losses = over_all(&pending.iter().map(|p| &p.loss).collect::<Vec<_>>())?;
        let per_step = self.job.config.accumulate;
        let steps = (pending.len() / per_step) as u64;
        let first = self.state.step - steps;
        if let Some(bad) = losses.iter().position(|loss| !loss.is_finite()) {
            let step = first + (bad / per_step) as u64;
            return Err(self.diverged(&format!("the loss is {}", losses[bad]), step));
        }
        let last = self.state.step - 1;
        let speed = (steps as usize * self.plan.batch_size) as f64
            / self.last_read.elapsed().as_secs_f64().max(1e-9);
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        let mut row = self.row(last);
        row.insert(names::LOSS, loss);
        row.insert(names::LEARNING_RATE, self.config.rate(&self.plan, last));
        row.insert(names::IMAGES_PER_SECOND, speed);
        for (i, (name, _)) in pending[0].metrics.iter().enumerate() {
            let values = over_all(&pending.iter().map(|p| &p.metrics[i].1).collect::<Vec<_>>())?;
            // Such gradients have ruined the parameters: the next loss would not be finite.
            let bad = values.iter().position(|value| !value.is_finite());
            if let Some(bad) = bad.filter(|_| *name == names::GRADIENT_NORM) {
                let step = first + (bad / per_step) as u64;
                let what = format!("the gradients' norm is {}", values[bad]);
                return Err(self.diverged(&what, step));
            }
            row.insert(name, values.iter().sum::<f64>() / values.len() as f64);
        }
        if let Some(outputs) = pending.last().and_then(|last| last.outputs.as_ref()) {
            row.insert(names::OUTPUT_DEVIATION, output_deviation(outputs));
            let hundreds = self.state.step / RANK_EVERY > first / RANK_EVERY;
            if hundreds || self.plan.ends_epoch(self.state.step) {
                row.insert(names::OUTPUT_RANK, output_rank(outputs)?);
            }
        }
        self.metrics_writer.write(&row)?;
        self.shown = (loss, speed);
        self.progress.steps(self.standing());
        self.last_read = Instant::now();
        Ok(())
    }

    /// The run's progress. The remaining time follows from the pace so far, evaluations included.
    fn standing(&self) -> Standing {
        let (done, total) = (self.state.step, self.plan.total_steps());
        let pace = self.started.elapsed().as_secs_f64() / (done - self.first).max(1) as f64;
        Standing {
            done,
            epoch: self.plan.epoch_of(done.max(1) - 1),
            loss: self.shown.0,
            speed: self.shown.1,
            left: pace * (total - done) as f64 + self.job.afterwards,
        }
    }

    /// An empty row of metrics for the moment after step `last` (counted from 0).
    fn row(&self, last: u64) -> MetricsRow {
        MetricsRow::new(last + 1, (last + 1) as f64 / self.plan.steps_per_epoch() as f64, &[])
    }

    /// Prints the epoch's line, and evaluates if that is due.
    fn end_epoch(&mut self, task: &dyn Task) -> Result<(), Failure> {
        self.read_back()?;
        let (done, total) = (self.state.step, self.plan.total_steps());
        let epoch = self.plan.epoch_of(done - 1);
        self.progress.epoch(self.standing());
        let every = self.job.config.knn_every;
        if every > 0 && ((epoch + 1).is_multiple_of(every) || done == total) {
            self.evaluate(task)?;
        }
        self.last_read = Instant::now();
        Ok(())
    }

    /// Whether to stop, and whether a checkpoint is due. If one process of the job wants it, all do
    /// it. They ask each other when losses have just been read back, because that waits too.
    fn agree(&self) -> Result<(bool, bool)> {
        let minutes = self.job.config.checkpoint_minutes;
        let due = minutes > 0.0 && self.last_saved.elapsed().as_secs_f64() >= 60.0 * minutes;
        let stop = self.job.stop.load(Ordering::Relaxed);
        if distributed::world_size() == 1 {
            return Ok((stop, due));
        }
        if !self.pending.is_empty() {
            return Ok((false, false));
        }
        let wishes = Tensor::from_slice(&[i64::from(stop), i64::from(due)]);
        let wishes: Vec<i64> = Vec::try_from(distributed::sum(&wishes)?)?;
        Ok((wishes[0] > 0, wishes[1] > 0))
    }

    /// Writes a checkpoint, once all losses up to here are known to be finite.
    fn save(&mut self, method: &dyn Method) -> Result<(), Failure> {
        self.read_back()?;
        self.state.seconds = self.seconds();
        let path = self.state.save(self.job.folder, method, &self.optimizer, self.job.device)?;
        self.checkpoint = Some(path);
        if distributed::rank() == 0 {
            prune(self.job.folder, self.healthy.as_deref())?;
        }
        self.last_saved = Instant::now();
        Ok(())
    }

    fn finish(mut self, task: &dyn Task) -> Result<Outcome> {
        let complete = self.state.step == self.plan.total_steps();
        let checkpoint = match self.checkpoint.take() {
            Some(path) => path,
            None => {
                self.save(task.method()).map_err(Failure::into_error)?;
                self.checkpoint.take().context("no checkpoint was written")?
            }
        };
        let seconds = self.seconds();
        let images = self.state.step as f64 * self.plan.batch_size as f64;
        Ok(Outcome {
            complete,
            seconds,
            images_per_second: images / seconds,
            best_knn: self.state.best_knn,
            skipped: self.batches.skipped(),
            rollbacks: self.state.rollbacks,
            checkpoint,
        })
    }
}

/// Scalars read back from the device, each the mean over the processes of the job.
fn over_all(scalars: &[&Tensor]) -> Result<Vec<f64>> {
    let own = Tensor::stack(scalars, 0).to_device(Device::Cpu).to_kind(Kind::Double);
    Ok(Vec::try_from(distributed::mean(&own)?)?)
}
