//! Estimates the time and the disk space of a run from a few trial steps.

use anyhow::Result;
use portolan_data::{Dataset, subset};
use portolan_evaluate::features;
use portolan_method::ImageMethod;
use portolan_tensor::{Device, device, release_freed_memory};
use portolan_train::{Clock, StepPlan, checkpoint_bytes, duration};
use std::time::Instant;

use crate::config::RunConfig;
use crate::config::build::build_method;
use crate::data::is_labeled;
use crate::encoder_source::eval_view;
use crate::run::trial_steps::Work;

/// The measurement of steps stops after about this many seconds.
const PATIENCE: f64 = 7.0;
/// Seconds of whole steps to time, if they are short enough.
const TIMED: f64 = 1.0;
/// Images in the first step. Even a ResNet-50 at 224 pixels on two cores takes only a second for
/// these.
const FIRST_BATCH: usize = 4;
/// If the full batch is too slow to measure, its time is extrapolated from batches that grow by
/// this factor.
const GROWTH: usize = 4;
/// Batches that the loader may have prefetched before the first step.
const READY: u64 = 3;
/// Seconds of embedding to time.
const TIMED_EMBEDDING: f64 = 0.3;
/// Bytes per second of checkpoint writes, and seconds per checkpoint for the disk to finish.
const DISK: (f64, f64) = (200e6, 0.02);
/// Checkpoints that a finished run keeps.
const KEPT: u64 = 2;
/// The approximate size of `report.html`, `report.json` and `metrics.jsonl`.
const REPORT: u64 = 3_000_000;
/// On a CPU, a run that takes longer than this many seconds gets a warning.
const DAY: f64 = 86_400.0;

/// The speed of a run on this machine, and the sizes of its files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Seconds per step.
    pub(crate) step: f64,
    /// Seconds to embed an image in evaluation.
    pub(crate) image: f64,
    /// The size of a checkpoint in bytes.
    pub(crate) checkpoint: u64,
    /// The size of `encoder.safetensors` in bytes.
    pub(crate) encoder: u64,
    /// The feature dimension.
    pub(crate) width: i64,
}

impl Pace {
    /// Measures with a temporary method, so that the run does not depend on the measurement. Takes
    /// a few seconds on a CPU with any settings.
    ///
    /// # Errors
    /// If the settings conflict, or no image can be read.
    pub(crate) fn measure(
        config: &RunConfig,
        data: &Dataset,
        device: Device,
        threads: usize,
    ) -> Result<Self> {
        let mut method = build_method(config, device)?;
        let (step, checkpoint) = seconds_of_a_step(config, data, &mut *method, device, threads)?;
        let state = method.encoder().vars().state();
        let bytes = state.iter().map(|(_, t)| t.numel() * t.kind().elt_size_in_bytes());
        let pace = Pace {
            step,
            image: seconds_of_per_image(config, data, &*method, device)?,
            checkpoint,
            encoder: bytes.sum::<usize>() as u64,
            width: method.encoder().width(),
        };
        drop((state, method));
        // Otherwise, cached blocks for other batch sizes would use memory during the whole run.
        release_freed_memory();
        Ok(pace)
    }
}

/// Seconds per step and bytes per checkpoint. Tries growing batches up to the batch size of the
/// run, or until a step is too slow.
fn seconds_of_a_step(
    config: &RunConfig,
    data: &Dataset,
    method: &mut dyn ImageMethod,
    device: Device,
    threads: usize,
) -> Result<(f64, u64)> {
    let started = Instant::now();
    let whole = config.training.batch_size;
    let splits = config.encoder.batch_norm_splits().max(1) as usize;
    let mut batch = whole.min(FIRST_BATCH.max(2 * splits));
    let mut smaller = None;
    loop {
        let mut part = config.clone();
        if batch < whole {
            (part.training.batch_size, part.training.accumulate) = (batch, 1);
        }
        let begun = Instant::now();
        let mut work = Work::new(&part, method, device, Some((data, threads)))?;
        let mut step = |n: u64| -> Result<f64> {
            let now = Instant::now();
            work.steps(method, n, &mut Clock::stopped())?;
            device::synchronize(device);
            Ok(now.elapsed().as_secs_f64())
        };
        let first = step(1)?;
        if batch == whole {
            let seconds = whole_step(&mut step, first, begun, device)?;
            return Ok((seconds, checkpoint_bytes(method, &work.optimizer)));
        }
        // The first step also starts threads and allocates memory.
        let seconds = if first < PATIENCE / 2.0 { step(1)? } else { first };
        let judged = |n: usize| extrapolate((batch, seconds), smaller, n);
        let next = (batch * GROWTH).min(whole);
        // The first batch must be measured with one step, because there is no smaller one to
        // compare with.
        let steps = if smaller.is_some() { 2.0 } else { 1.0 };
        if started.elapsed().as_secs_f64() + steps * judged(next) > PATIENCE {
            return Ok((judged(whole), checkpoint_bytes(method, &work.optimizer)));
        }
        smaller = Some((batch, seconds));
        batch = next;
    }
}

/// Extrapolates the seconds of a step with `n` images from those of two smaller batches. The time
/// of a small batch is mostly the fixed cost of a step, above all on a busy machine, so only the
/// difference between the two scales with the number of images.
fn extrapolate((images, seconds): (usize, f64), smaller: Option<(usize, f64)>, n: usize) -> f64 {
    let per_image = match smaller {
        Some((fewer, less)) => (seconds - less).max(0.0) / (images - fewer) as f64,
        None => seconds / images as f64,
    };
    seconds + per_image * (n - images) as f64
}

/// Seconds of a full step. One step has already been done in `first` seconds since `begun`.
fn whole_step(
    step: &mut impl FnMut(u64) -> Result<f64>,
    first: f64,
    begun: Instant,
    device: Device,
) -> Result<f64> {
    // On a GPU, the first steps allocate memory, let cuDNN try its algorithms, and capture a graph.
    let warm_up: u64 = if device.is_cuda() { 8 } else { 2 };
    let mut done = 1;
    let (mut timed, mut seconds) = (0u64, 0.0);
    while seconds < TIMED && (timed < 1 || begun.elapsed().as_secs_f64() < PATIENCE) {
        let now = step(1)?;
        done += 1;
        if done > warm_up || first > TIMED {
            (timed, seconds) = (timed + 1, seconds + now);
        }
        if done >= 100 {
            break;
        }
    }
    // A slow loader only shows once its prefetched batches are used up.
    let loader = begun.elapsed().as_secs_f64() / (done + READY) as f64;
    Ok((seconds / timed.max(1) as f64).max(loader))
}

/// Seconds to embed an image in evaluation.
fn seconds_of_per_image(
    config: &RunConfig,
    data: &Dataset,
    method: &dyn ImageMethod,
    device: Device,
) -> Result<f64> {
    let (view, precision) = (eval_view(config, data), config.training.precision);
    let all = data.train.len();
    let seconds_of = |count: usize| -> Result<f64> {
        let some = subset(data.train.clone(), count);
        let started = Instant::now();
        features(method.encoder(), &*some, &view, device, precision)?;
        Ok(started.elapsed().as_secs_f64())
    };
    let mut count = all.min(8);
    seconds_of(count)?; // starts threads and allocates memory
    loop {
        let seconds = seconds_of(count)?;
        if seconds >= TIMED_EMBEDDING || count == all {
            return Ok(seconds / count as f64);
        }
        count = all.min(count * GROWTH);
    }
}

/// The number of images of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Images for pretraining.
    pub(crate) images: usize,
    /// Images in the training split.
    pub(crate) bank: usize,
    /// Images in a labeled test split; 0 without one.
    pub(crate) test: usize,
    pub(crate) classes: usize,
}

impl Counts {
    pub(crate) fn of(data: &Dataset) -> Self {
        let test = data.test.as_ref().filter(|_| is_labeled(data));
        Counts {
            images: data.pretraining().len(),
            bank: data.train.len(),
            test: test.map_or(0, |test| test.len()),
            classes: data.classes.len(),
        }
    }
}

/// The estimated time and disk space of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    /// Seconds of the remaining training, with checkpoints and evaluations during training.
    pub(crate) training: f64,
    /// Seconds of the evaluation and the report at the end.
    pub(crate) evaluation: f64,
    /// Bytes of the files of the run.
    pub(crate) disk: u64,
}

impl Estimate {
    /// Estimates a run with these settings that has already done `done` steps.
    pub(crate) fn new(config: &RunConfig, counts: Counts, pace: Pace, done: u64) -> Self {
        let training = &config.training;
        let (batch_size, epochs) = (training.batch_size, training.epochs);
        let plan = StepPlan { items: counts.images, batch_size, epochs };
        let left = plan.total_steps().saturating_sub(done);
        let epochs_left = left as f64 / plan.steps_per_epoch().max(1) as f64;
        let evaluations = match training.knn_every {
            0 => 0.0,
            every => (epochs_left / every as f64).ceil(),
        };
        let encoders = if config.init.is_empty() { 1 } else { 2 };
        let checkpoint = DISK.1 + pace.checkpoint as f64 / DISK.0;
        Estimate {
            training: left as f64 * pace.step
                + evaluations * periodic_evaluation(counts, pace)
                + epochs_left.ceil() * checkpoint,
            evaluation: final_evaluation(counts, pace, !config.init.is_empty()),
            disk: KEPT * pace.checkpoint + encoders * pace.encoder + REPORT,
        }
    }

    /// Seconds of the whole run.
    pub(crate) fn seconds(&self) -> f64 {
        self.training + self.evaluation
    }

    /// The estimate as one line for the user.
    pub(crate) fn text(&self) -> String {
        format!(
            "estimate about {}: training {}, evaluation {}; {} on disk",
            duration(self.seconds()),
            duration(self.training),
            duration(self.evaluation),
            bytes(self.disk)
        )
    }

    /// A warning if the run takes more than a day on a CPU.
    pub(crate) fn advice(&self, config: &RunConfig, device: Device) -> Option<String> {
        (!device.is_cuda() && self.seconds() > DAY).then(|| {
            format!(
                "note     this takes more than a day on a CPU. For settings that fit these images, \
                 this machine and a time limit, run:\n           \
                 portolan pretrain {} --data {} --time 1h",
                config.method, config.data.source
            )
        })
    }
}

/// Seconds of an evaluation during training: diagnostics, and kNN if there are labels.
fn periodic_evaluation(counts: Counts, pace: Pace) -> f64 {
    let knn = if counts.test > 0 { counts.bank + counts.test } else { 0 };
    pace.image * (3 * counts.images.min(512) + knn) as f64
}

/// Seconds of the evaluation at the end. The trained encoder embeds both splits. The untrained
/// encoder does so twice, before and after its batch statistics are recalibrated with 5,000 images.
/// One that the run `started` from does so too, and both are diagnosed on 512 images in three
/// views. The map is a t-SNE of up to 2,000 images.
fn final_evaluation(counts: Counts, pace: Pace, started: bool) -> f64 {
    let Counts { images, bank, test, classes } = counts;
    let map = |n: usize| MAP * n.min(2_000) as f64;
    let diagnosed = if started { 6 * images.min(512) } else { 0 };
    if test == 0 {
        return pace.image * (bank.min(2_000) + diagnosed) as f64 + map(bank);
    }
    let encoders = if started { 4 } else { 3 };
    let probe = PROBE * bank as f64 * pace.width as f64 * classes as f64;
    let embedded = encoders * (bank + test) + 5_000 + diagnosed;
    pace.image * embedded as f64 + (encoders - 1) as f64 * probe + map(test)
}

/// Seconds of t-SNE per point, and of the linear probe per image, feature and class, on a CPU core
/// of 2026.
const MAP: f64 = 6e-4;
const PROBE: f64 = 1e-8;

/// The largest number of epochs for which `seconds_of(epochs)` is within `seconds`, at least 1.
///
/// # Errors
/// Those of `seconds_of`.
pub(crate) fn most_epochs(seconds: f64, seconds_of: impl Fn(u64) -> Result<f64>) -> Result<u64> {
    let (mut fits, mut most) = (1u64, 1 << 20);
    while fits < most {
        let middle = fits + (most - fits).div_ceil(2);
        if seconds_of(middle)? <= seconds { fits = middle } else { most = middle - 1 }
    }
    Ok(fits)
}

/// A size in megabytes or gigabytes.
fn bytes(n: u64) -> String {
    match n as f64 {
        n if n >= 1e9 => format!("{:.1} GB", n / 1e9),
        n => format!("{:.0} MB", n / 1e6),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(epochs: u64, knn_every: u64) -> RunConfig {
        let recipe = crate::methods::find("moco").unwrap().recipe("shapes").unwrap();
        let mut config: RunConfig = recipe.try_into().unwrap();
        config.training.epochs = epochs;
        config.training.knn_every = knn_every;
        config.training.batch_size = 100;
        config
    }

    #[test]
    fn large_steps_are_extrapolated_from_smaller_ones() {
        assert!((extrapolate((4, 0.8), None, 128) - 25.6).abs() < 1e-9);
        let judged = extrapolate((16, 1.0), Some((4, 0.8)), 128);
        assert!((judged - (1.0 + 112.0 / 60.0)).abs() < 1e-9, "{judged}");
        assert_eq!(extrapolate((16, 0.7), Some((4, 0.8)), 128), 0.7, "noise");
    }

    const PACE: Pace =
        Pace { step: 2.0, image: 0.01, checkpoint: 20_000_000, encoder: 5_000_000, width: 10 };

    #[test]
    fn an_estimate_is_the_sum_of_its_parts() {
        let counts = Counts { images: 1_050, bank: 1_050, test: 200, classes: 10 };
        let found = Estimate::new(&config(4, 2), counts, PACE, 0);
        // 10 steps per epoch; two evaluations of 3 times 512 images and both splits; one checkpoint
        // of 20 MB per epoch.
        let expected = 40.0 * 2.0 + 2.0 * 0.01 * (1_536.0 + 1_250.0) + 4.0 * (0.02 + 0.1);
        assert!((found.training - expected).abs() < 1e-9, "{found:?}");
        // Both splits three times and 5,000 images, the map of the test images, two probes.
        let probes = 2.0 * PROBE * 1_050.0 * 10.0 * 10.0;
        let expected = 0.01 * (3.0 * 1_250.0 + 5_000.0) + MAP * 200.0 + probes;
        assert!((found.evaluation - expected).abs() < 1e-9, "{found:?}");
        assert_eq!(found.disk, 48_000_000);
        assert!(found.text().contains("48 MB on disk"), "{}", found.text());
        let resumed = Estimate::new(&config(4, 2), counts, PACE, 20);
        assert!(resumed.training < 0.51 * found.training, "{resumed:?}");
    }

    #[test]
    fn without_labels_only_the_map_is_made() {
        let counts = Counts { images: 300, bank: 300, test: 0, classes: 0 };
        let found = Estimate::new(&config(1, 0), counts, PACE, 0);
        assert!((found.training - (6.0 + 0.12)).abs() < 1e-9, "{found:?}");
        assert!((found.evaluation - 300.0 * (0.01 + MAP)).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn the_most_epochs_that_fit_are_found() {
        let takes = |epochs: u64| Ok(7.0 + 2.0 * epochs as f64);
        assert_eq!(most_epochs(107.9, takes).unwrap(), 50);
        assert_eq!(most_epochs(1.0, takes).unwrap(), 1, "too long, and still one");
    }

    #[test]
    fn more_than_a_day_on_a_cpu_is_advised_against() {
        let counts = Counts { images: 1_000_000, bank: 1, test: 0, classes: 0 };
        let long = Estimate::new(&config(100, 0), counts, PACE, 0);
        let advice = long.advice(&config(100, 0), Device::Cpu).unwrap();
        assert!(advice.contains("portolan pretrain moco --data shapes --time 1h"), "{advice}");
        assert!(long.advice(&config(100, 0), Device::Cuda(0)).is_none());
        let short = Estimate { training: 80_000.0, ..long };
        assert!(short.advice(&config(1, 0), Device::Cpu).is_none());
    }
}
