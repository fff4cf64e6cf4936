//! The loop with MoCo on a few gray images: what it leaves, how it stops and goes on, how it fails.
#![allow(clippy::unwrap_used)]

use anyhow::Result;
use image::{Rgb, RgbImage};
use portolan_augment::{ViewSpec, presets};
use portolan_data::{ImageData, Source};
use portolan_encoders::ResNetConfig;
use portolan_evaluate::KnnConfig;
use portolan_images::{Augment, EpochKnn, ImageTask};
use portolan_method::Method;
use portolan_moco::{Moco, MocoConfig};
use portolan_optim::{Decay, LrScaling, OptimizerConfig, Schedule};
use portolan_tensor::{Device, Precision, Tensor, seed, tch};
use portolan_train::{Job, OnDivergence, Outcome, TrainConfig, newest, pretrain};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Two classes: dark and light gradients.
struct Gradients;

impl Source for Gradients {
    fn len(&self) -> usize {
        24
    }
    fn image(&self, index: usize) -> portolan_data::Result<ImageData> {
        let base = 40 + 100 * (index % 2) as u8;
        let pixel = |x, y| Rgb([base + 5 * x as u8, base + 3 * y as u8, base + index as u8]);
        Ok(ImageData::Decoded(RgbImage::from_fn(16, 16, pixel)))
    }
    fn label(&self, index: usize) -> Option<u32> {
        Some(index as u32 % 2)
    }
    fn describe(&self, index: usize) -> String {
        format!("gradient {index}")
    }
}

fn config() -> TrainConfig {
    TrainConfig {
        epochs: 3,
        batch_size: 8,
        accumulate: 1,
        precision: Precision::Fp32,
        decay: Decay::All,
        final_weight_decay: None,
        clip_gradients: 1.0,
        learning_rate: 0.05,
        scaling: LrScaling::None,
        schedule: Schedule::default(),
        optimizer: OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: false },
        knn_every: 1,
        checkpoint_minutes: 0.0,
        max_bad: 0.01,
        on_divergence: OnDivergence::Warn,
        cuda_graph: false,
    }
}

fn moco() -> Moco {
    tch::set_num_threads(1);
    seed(3);
    let encoder =
        ResNetConfig { batch_norm_splits: 2, ..ResNetConfig::named("resnet18-w4").unwrap() }.into();
    let settings = MocoConfig { queue: 13, momentum: 0.9, symmetric: true, ..MocoConfig::v2() };
    Moco::new(settings, &encoder, vec![presets::small_images(16); 2], Device::Cpu).unwrap()
}

fn task<'a>(
    moco: &'a mut Moco,
    config: &TrainConfig,
    eval_view: &'a ViewSpec,
    knn: Option<&'a KnnConfig>,
) -> ImageTask<'a> {
    let knn = knn.map(|config| EpochKnn { bank: &Gradients, test: &Gradients, config, classes: 2 });
    ImageTask {
        method: moco,
        images: Arc::new(Gradients),
        seed: 3,
        device: Device::Cpu,
        precision: config.precision,
        augment: Augment::Cpu,
        threads: 2,
        accumulate: config.accumulate,
        eval_view,
        knn,
    }
}

fn run(
    moco: &mut Moco,
    config: &TrainConfig,
    folder: &Path,
    resume: Option<PathBuf>,
    stop: bool,
) -> Result<Outcome> {
    let eval_view = presets::evaluation(16, 16);
    let knn = KnnConfig { k: 3, temperature: 0.1 };
    let stop = AtomicBool::new(stop);
    let job = Job {
        name: "moco",
        traits: portolan_moco::METHOD.traits,
        config,
        checksum: "gradients",
        seed: 3,
        device: Device::Cpu,
        folder,
        resume,
        stop: &stop,
        afterwards: 0.0,
        tensorboard: false,
    };
    pretrain(&mut task(moco, config, &eval_view, Some(&knn)), &job)
}

fn state(moco: &Moco) -> Vec<(String, Tensor)> {
    moco.state().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect()
}

fn lines(folder: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_stopped_after_every_step_ends_in_the_same_bits() {
    let (whole, pieces) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut uninterrupted = moco();
    assert!(run(&mut uninterrupted, &config(), whole.path(), None, false).unwrap().complete);

    let mut resume = None;
    for step in 1..=9 {
        // A new process would build anew and load; so does this.
        let mut moco = moco();
        let outcome = run(&mut moco, &config(), pieces.path(), resume, true).unwrap();
        assert_eq!(outcome.complete, step == 9);
        if outcome.complete {
            for ((name, a), (_, b)) in state(&uninterrupted).iter().zip(&state(&moco)) {
                assert_eq!(a, b, "{name}");
            }
        }
        resume = Some(newest(pieces.path()).unwrap());
    }
    let knn = |folder: &Path| -> Vec<f64> {
        lines(folder).iter().filter_map(|line| line["knn_top1"].as_f64()).collect()
    };
    assert_eq!(knn(whole.path()).len(), 3);
    assert_eq!(knn(whole.path()), knn(pieces.path()));
    let kept = std::fs::read_dir(pieces.path().join("checkpoints")).unwrap().count();
    assert_eq!(kept, 2, "the last two checkpoints are kept");
}

#[test]
fn accumulated_micro_batches_are_one_step() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { accumulate: 2, epochs: 1, ..config() };
    let mut moco = moco();
    run(&mut moco, &config, folder.path(), None, false).unwrap();
    let steps = lines(folder.path()).iter().filter_map(|line| line["step"].as_u64()).max();
    assert_eq!(steps, Some(3));
    let state = state(&moco);
    let pointer = &state.iter().find(|(name, _)| name == "queue.pointer").unwrap().1;
    // 3 steps of 2 micro-batches of 4 images in both directions, modulo the queue's 13 places.
    assert_eq!(pointer.int64_value(&[0]), (3 * 2 * 4 * 2) % 13);
}

#[test]
fn the_rank_of_the_outputs_is_journalled_once_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut moco(), &config(), folder.path(), None, false).unwrap();
    let rows = lines(folder.path());
    let steps = |name: &str| -> Vec<u64> {
        let having = rows.iter().filter(|row| row[name].is_f64());
        having.filter_map(|row| row["step"].as_u64()).collect()
    };
    assert_eq!(steps("output_rank"), [3, 6, 9]);
    assert_eq!(steps("output_deviation"), [3, 6, 9]);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_way_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { learning_rate: 1e25, clip_gradients: 0.0, epochs: 9, ..config() };
    let error = run(&mut moco(), &config, folder.path(), None, false).unwrap_err().to_string();
    assert!(error.contains("the loss is NaN at step"), "{error}");
    assert!(error.contains("checkpoint") && error.contains("learning_rate"), "{error}");
}

#[test]
fn a_diverging_run_goes_back_to_half_the_rate_as_often_as_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    // The doctor would call a collapse what follows; that is the next test's.
    let config = TrainConfig {
        learning_rate: 3e5,
        schedule: Schedule::Constant,
        on_divergence: OnDivergence::Rollback,
        clip_gradients: 0.0,
        epochs: 4,
        knn_every: 0,
        ..config()
    };
    let mut moco = moco();
    let outcome = run(&mut moco, &config, folder.path(), None, false).unwrap();
    assert!(outcome.complete && (1..=5).contains(&outcome.rollbacks), "{outcome:?}");
    let rows = lines(folder.path());
    let rate = rows.last().unwrap()["lr"].as_f64().unwrap();
    assert_eq!(rate, 3e5 * 0.5f64.powi(outcome.rollbacks as i32));
    let steps: Vec<_> = rows.iter().map(|row| row["step"].as_u64().unwrap()).collect();
    assert!(
        steps.is_sorted_by(|a, b| a < b),
        "what was undone is out of the metrics file: {steps:?}"
    );
}

#[test]
fn a_collapse_ends_the_run_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        learning_rate: 1e4,
        on_divergence: OnDivergence::Stop,
        clip_gradients: 0.0,
        epochs: 4,
        ..config()
    };
    let error = run(&mut moco(), &config, folder.path(), None, false).unwrap_err().to_string();
    assert!(error.contains("the representation has collapsed (epoch"), "{error}");
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut moco(), &config(), folder.path(), None, true).unwrap();
    let path = newest(folder.path()).unwrap();

    let stop = AtomicBool::new(true);
    let mut other = moco();
    let (config, eval_view) = (config(), presets::evaluation(16, 16));
    let mut task = task(&mut other, &config, &eval_view, None);
    let job = |name, checksum| Job {
        name,
        traits: portolan_moco::METHOD.traits,
        config: &config,
        checksum,
        seed: 3,
        device: Device::Cpu,
        folder: folder.path(),
        resume: Some(path.clone()),
        stop: &stop,
        afterwards: 0.0,
        tensorboard: false,
    };
    let error = pretrain(&mut task, &job("byol", "gradients")).unwrap_err().to_string();
    assert!(error.contains("a checkpoint of moco, not of byol"), "{error}");
    let error = pretrain(&mut task, &job("moco", "photos")).unwrap_err().to_string();
    assert!(error.contains("--data"), "{error}");

    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = format!("{:#}", pretrain(&mut task, &job("moco", "gradients")).unwrap_err());
    assert!(error.contains("not a whole"), "{error}");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut moco(), &config(), folder.path(), None, false).unwrap();
    let all = portolan_train::checkpoints(folder.path()).unwrap();
    assert_eq!(newest(folder.path()).unwrap(), all[1]);
    let damage = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1; // one bit
        std::fs::write(path, bytes).unwrap();
    };
    damage(&all[1]);
    assert_eq!(newest(folder.path()).unwrap(), all[0]);
    damage(&all[0]);
    let error = newest(folder.path()).unwrap_err().to_string();
    assert!(error.contains("all 2 checkpoints") && error.contains("damaged"), "{error}");
}

#[test]
fn a_batch_larger_than_the_data_is_refused_with_the_largest_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { batch_size: 32, ..config() };
    let error = run(&mut moco(), &config, folder.path(), None, false).unwrap_err().to_string();
    assert!(error.contains("--batch-size 24 or less"), "{error}");
}
