//! The loop.

mod epoch_end;
pub use epoch_end::doctor_run;
mod recovery;

use anyhow::{Context, Result, bail};
use portolan_method::{Method, StepContext, StepLoss, output_deviation, output_rank};
use portolan_metrics::{MetricsRow, names};
use portolan_optim::Optimizer;
use portolan_tensor::distributed::{self, Reducer};
use portolan_tensor::{Device, Kind, Tensor};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::checkpoint::prune;
use crate::metrics_writer::MetricsWriter;
use crate::progress::{Progress, Standing};
use crate::{
    Checkpoint, Clock, Job, Loader, LoaderConfig, OnDivergence, Outcome, StepPlan, Steps,
    TrainConfig, Training,
};

/// Losses are read back from the device every so many steps, since reading waits for it.
const LOG_EVERY: usize = 10;
/// The outputs' rank takes the eigenvalues of a matrix: it is read every so many steps, and at the end of an epoch.
const RANK_EVERY: u64 = 100;

/// Trains `method` until its epochs are done or `job.stop` is set, leaving `metrics.jsonl` and
/// `checkpoints/` in the run's folder.
///
/// # Errors
/// When settings contradict each other, images cannot be read, the folder cannot be written, or the loss
/// is no longer finite; checkpoints written before stay good.
pub fn pretrain(method: &mut dyn Method, job: &Job) -> Result<Outcome> {
    job.config.validate(job.images.len(), job.device)?;
    let mut start = Start { from: job.resume.clone(), healthy: job.resume.clone(), rollbacks: 0 };
    loop {
        let mut run = Run::start(method, job, start)?;
        match run.go(method) {
            Err(error) => start = run.go_back(error)?,
            Ok(()) => return run.finish(method),
        }
    }
}

/// The optimizer that `config` describes, over the method's parameters.
///
/// # Errors
/// When a setting is out of range.
pub fn optimizer(config: &TrainConfig, method: &dyn Method) -> Result<Optimizer> {
    let groups = config.decay.apply(method.params());
    Optimizer::new(config.optimizer.clone(), config.base_rate(), groups)
}

/// With what training begins, or begins again.
struct Start {
    /// The checkpoint; none at the beginning.
    from: Option<PathBuf>,
    /// The checkpoint of the last epoch in which nothing was found to be wrong, which is kept.
    healthy: Option<PathBuf>,
    /// How often the run has gone back to a checkpoint.
    rollbacks: u32,
}

/// A run in progress.
struct Run<'a> {
    job: &'a Job<'a>,
    /// The job's, with the learning rate that rollbacks have left.
    config: TrainConfig,
    plan: StepPlan,
    optimizer: Optimizer,
    steps: Steps,
    /// What averages gradients over the processes of the job, where there are several.
    reducer: Option<Reducer>,
    loader: Loader,
    metrics_writer: MetricsWriter,
    progress: Progress,
    /// Where the run stands, as the next checkpoint will say.
    state: Checkpoint,
    /// Seconds of training before this process.
    before: f64,
    /// Steps done before this process.
    first: u64,
    started: Instant,
    /// Losses and figures not read back from the device yet.
    pending: Vec<StepLoss>,
    last_read: Instant,
    last_saved: Instant,
    checkpoint: Option<PathBuf>,
    began_with: Option<PathBuf>,
    /// As in [`Start`].
    healthy: Option<PathBuf>,
    /// The last loss and speed that were read back.
    shown: (f64, f64),
    /// What was last said to be wrong.
    warned: Option<portolan_doctor::Problem>,
}

impl<'a> Run<'a> {
    fn start(method: &mut dyn Method, job: &'a Job<'a>, start: Start) -> Result<Self> {
        let Start { from, healthy, rollbacks } = start;
        let mut config = job.config.clone();
        let steps = Steps::new(&config, job.device)?;
        let plan = StepPlan {
            items: job.images.len(),
            batch_size: config.batch_size,
            epochs: config.epochs,
        };
        let optimizer = optimizer(&config, method)?;
        let fresh = Checkpoint {
            method: job.name.to_owned(),
            data: job.checksum.to_owned(),
            processes: distributed::world_size(),
            ..Checkpoint::default()
        };
        let mut state = match &from {
            Some(path) => Checkpoint::load(path, job.name, &*method, &optimizer, job.device)?,
            None => fresh,
        };
        state.processes = distributed::world_size();
        state.rollbacks = state.rollbacks.max(rollbacks);
        config.learning_rate *= recovery::SLOWER.powi(state.rollbacks as i32);
        if state.data != job.checksum {
            bail!("the data is not what this run was trained on; resume it with the same --data");
        }
        let feed = LoaderConfig {
            images: Arc::clone(&job.images),
            views: method.views().to_vec(),
            plan,
            accumulate: config.accumulate,
            seed: job.seed,
            augment: job.augment,
            device: job.device,
        };
        let loader = Loader::start(feed, state.step, job.threads)?;
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
            loader,
            metrics_writer: MetricsWriter::open(job.folder, state.step, job.tensorboard)?,
            progress: Progress::new(state.step, plan.total_steps(), plan.epochs),
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
        // What is gone back to must be there, and must know of it before anything else goes wrong.
        if run.config.on_divergence == OnDivergence::Rollback
            && (run.checkpoint.is_none() || rollbacks > 0)
        {
            run.save(method)?;
            run.healthy = run.healthy.or(run.checkpoint.clone());
        }
        Ok(run)
    }

    /// Steps until all are done, or the run is asked to stop.
    fn go(&mut self, method: &mut dyn Method) -> Result<()> {
        while self.state.step < self.plan.total_steps() {
            self.step(method)?;
            let epoch_ends = self.plan.ends_epoch(self.state.step);
            if epoch_ends {
                self.end_epoch(method)?;
            }
            let (stopping, due) = self.agree()?;
            if epoch_ends || stopping || due {
                self.save(method)?;
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

    /// One step, whose losses are kept until they are read back.
    fn step(&mut self, method: &mut dyn Method) -> Result<()> {
        let (config, step) = (&self.config, self.state.step);
        let cx = StepContext::new(step, self.plan.total_steps(), self.job.device)
            .with_epoch(self.plan.epoch_of(step))
            .with_seed(self.job.seed);
        let loader = &mut self.loader;
        let mut training = Training {
            method,
            optimizer: &mut self.optimizer,
            config,
            plan: self.plan,
            reducer: self.reducer.as_ref(),
        };
        let next_batch = |clock: &mut Clock| loader.next_batch(clock);
        let losses = self.steps.step(&mut training, &cx, next_batch, &mut Clock::stopped())?;
        if let Some(last) = self.pending.last_mut() {
            last.outputs = None; // only the newest are looked at
        }
        self.pending.extend(losses);
        self.state.step += 1;
        if self.pending.len() >= LOG_EVERY * config.accumulate {
            self.read_back()?;
        }
        Ok(())
    }

    /// Reads losses and figures back from the device, writes their means, and refuses to go on with a loss
    /// that is not finite.
    fn read_back(&mut self) -> Result<()> {
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
            return Err(self
                .diverged(&format!("the loss is {}", losses[bad]), first + (bad / per_step) as u64)
                .into());
        }
        let last = self.state.step - 1;
        let speed = (steps as usize * self.plan.batch_size) as f64
            / self.last_read.elapsed().as_secs_f64().max(1e-9);
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        let mut row = self.row(last);
        row.insert(names::LOSS, loss);
        row.insert(names::LEARNING_RATE, self.config.rate(&self.plan, last));
        row.insert(names::IMAGES_PER_SECOND, speed);
        for (i, (name, _)) in pending[0].figures.iter().enumerate() {
            let values = over_all(&pending.iter().map(|p| &p.figures[i].1).collect::<Vec<_>>())?;
            // Such gradients have spoilt the parameters, and the next loss is no number.
            let bad = values.iter().position(|value| !value.is_finite());
            if let Some(bad) = bad.filter(|_| *name == names::GRADIENT_NORM) {
                let step = first + (bad / per_step) as u64;
                let what = format!("the gradients' norm is {}", values[bad]);
                return Err(self.diverged(&what, step).into());
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

    /// What is shown of the run: what is left goes by the pace so far, looks on the way included.
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

    /// The start of a row for what is known after step `last` (counted from 0).
    fn row(&self, last: u64) -> MetricsRow {
        MetricsRow::new(last + 1, (last + 1) as f64 / self.plan.steps_per_epoch() as f64, &[])
    }

    /// After an epoch: its line, and its kNN figure where one is due.
    fn end_epoch(&mut self, method: &dyn Method) -> Result<()> {
        self.read_back()?;
        let (done, total) = (self.state.step, self.plan.total_steps());
        let epoch = self.plan.epoch_of(done - 1);
        self.progress.epoch(self.standing());
        let every = self.job.config.knn_every;
        if every > 0 && ((epoch + 1).is_multiple_of(every) || done == total) {
            self.look(method)?;
        }
        self.last_read = Instant::now();
        Ok(())
    }

    /// Whether to stop, and whether a checkpoint is due: what one process of the job wants, all do. They ask each other when
    /// losses have just been read back, since that waits too.
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
    fn save(&mut self, method: &dyn Method) -> Result<()> {
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

    fn finish(mut self, method: &dyn Method) -> Result<Outcome> {
        let complete = self.state.step == self.plan.total_steps();
        let checkpoint = match self.checkpoint.take() {
            Some(path) => path,
            None => {
                self.save(method)?;
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
            skipped: self.loader.skipped(),
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
