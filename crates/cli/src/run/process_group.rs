//! A run as one of several processes, started by torchrun, Slurm or `cargo xtask launch`.

use anyhow::Result;
use portolan_method::ImageMethod;
use portolan_tensor::distributed::{self, Launch};
use portolan_tensor::{Device, Error, Tensor, seed};

/// How long a process waits for another, in seconds. A process that ended is noticed at once; one
/// that is only slow (a slow disk, a stopped process) may continue.
const PATIENCE: u64 = 600;

/// The device and the number of threads of this process. On one machine, each process gets a GPU
/// and a share of the cores.
///
/// # Errors
/// If this process is one of several and `device` names a single GPU.
pub(crate) fn place(
    launch: Option<&Launch>,
    device: &str,
    threads: Option<usize>,
) -> Result<(String, Option<usize>)> {
    let Some(launch) = launch else { return Ok((device.to_owned(), threads)) };
    let gpu = portolan_tensor::device::choose(device)?.is_cuda();
    anyhow::ensure!(
        !device.contains(':'),
        "--device {device} is one GPU for all processes of the job; give --device cuda so that \
         each process uses the GPU of its LOCAL_RANK"
    );
    let device = if gpu { format!("cuda:{}", launch.local_rank) } else { device.to_owned() };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let here = std::env::var("LOCAL_WORLD_SIZE").ok().and_then(|n| n.parse().ok());
    Ok((device, threads.or(Some((cores / here.unwrap_or(1usize).max(1)).max(1)))))
}

/// The membership of this process in its job. If it is dropped before [`Membership::leave`], by an
/// error or a panic, it leaves the others without waiting for them. Otherwise libtorch would do so
/// while the program exits, when it is too late for NCCL.
#[must_use]
pub(crate) struct Membership;

impl Membership {
    /// Waits for all processes and leaves the job. Returns whether this process does the remaining
    /// work.
    ///
    /// # Errors
    /// If another process is gone.
    pub(crate) fn leave(self) -> Result<bool> {
        let first = distributed::rank() == 0;
        let _all_here = distributed::sum(&Tensor::from(0i64))?;
        distributed::leave()?;
        Ok(first)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // The error that led here matters more than an error of libtorch.
        let _ = distributed::abort();
    }
}

/// Joins the other processes, if there are any.
///
/// # Errors
/// If not all of them join.
pub(crate) fn join(launch: Option<&Launch>, device: Device) -> Result<Membership> {
    let Some(launch) = launch else { return Ok(Membership) };
    // A layer that loses the other processes can only report it by a panic, which is not a bug of
    // the program: print it as an error.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match info.payload().downcast_ref() {
        Some(error @ Error::Lost { .. }) => eprintln!("error: {}", error.with_causes()),
        _ => usual(info),
    }));
    distributed::join(launch, device, PATIENCE)?;
    Ok(Membership)
}

/// Copies the networks of the first process to all others, and gives each its own random numbers
/// for operations such as stochastic depth.
///
/// # Errors
/// If another process is gone.
pub(crate) fn synchronize_networks(method: &dyn ImageMethod, run_seed: u64) -> Result<()> {
    synchronize(&method.state(), run_seed)
}

/// The same for the tensors of any method.
///
/// # Errors
/// If another process is gone.
pub(crate) fn synchronize(state: &[(String, Tensor)], run_seed: u64) -> Result<()> {
    let tensors: Vec<Tensor> = state.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
    distributed::broadcast(&tensors)?;
    if distributed::rank() > 0 {
        seed(run_seed.wrapping_add(distributed::rank() as u64));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::RunConfig;
    use crate::config::build::build_method;
    use crate::config::build::tests::shrink;
    use portolan::{METHODS, TEXT_METHODS};
    use portolan_encoders::{EncoderConfig, Stem, TextConfig};
    use portolan_method::{Batch, Family, Method, StepContext, TextMethodEntry, Vocabulary};
    use portolan_tensor::distributed::Reducer;
    use portolan_tensor::{Kind, channels_last, io, tch};
    use portolan_train::TrainConfig;
    use std::path::Path;
    use std::process::{Child, Command};

    /// Set for the processes that a test starts: the folder for their results.
    const OUT: &str = "PORTOLAN_TEST_OUT";
    const IMAGES: i64 = 16;

    /// Runs the test with this name again, in a job of `processes` processes.
    fn start(test: &str, processes: usize, out: &Path) -> Vec<Child> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = |rank: usize| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", test, "--nocapture"])
                .env("RANK", rank.to_string())
                .env("WORLD_SIZE", processes.to_string())
                .env("MASTER_ADDR", "127.0.0.1")
                .env("MASTER_PORT", port.to_string())
                .env(OUT, out)
                .spawn()
                .unwrap()
        };
        (0..processes).map(process).collect()
    }

    /// A name, and two steps of a method.
    type Case = (String, Box<dyn Fn() -> Vec<(String, Tensor)>>);

    /// Every method, MoCo also with the shuffled batch norm of its first version, which is not
    /// synchronized, and DINOv2 also with Sinkhorn–Knopp.
    fn cases() -> Vec<Case> {
        let mut configs: Vec<(String, RunConfig)> = Vec::new();
        for method in METHODS {
            let mut config: RunConfig = method.recipe("shapes").unwrap().try_into().unwrap();
            if method.traits.family == Family::Reconstruction {
                config.encoder = EncoderConfig::named("vit_w8d2h2_patch4_32").unwrap();
            }
            if let EncoderConfig::Resnet(resnet) = &mut config.encoder {
                (resnet.stem, resnet.batch_norm_splits) = (Stem::CifarStrided, 1);
            }
            shrink(&mut config);
            configs.push((method.name.to_owned(), config.clone()));
            if method.name == "dinov2" {
                let mut config = config.clone();
                config.settings["centering"] = "sinkhorn_knopp".into();
                configs.push(("dinov2-sinkhorn-knopp".to_owned(), config));
            }
            if let ("moco", EncoderConfig::Resnet(resnet)) = (method.name, &mut config.encoder) {
                resnet.batch_norm_splits = 4;
                configs.push(("moco-shuffled".to_owned(), config));
            }
        }
        let of_images = configs
            .into_iter()
            .map(|(name, config)| -> Case { (name, Box::new(move || with_images(&config))) });
        let of_text = TEXT_METHODS
            .iter()
            .map(|entry| -> Case { (entry.name.to_owned(), Box::new(move || with_text(entry))) });
        of_images.chain(of_text).collect()
    }

    /// Two steps of an image method.
    fn with_images(config: &RunConfig) -> Vec<(String, Tensor)> {
        seed(1);
        let mut method = build_method(config, Device::Cpu).unwrap();
        let views = method.views().to_vec();
        two_steps(&mut *method, &config.training, &|cx| {
            let whole = |view: &portolan_augment::ViewSpec| {
                let size = i64::from(view.size());
                Tensor::randn([IMAGES, 3, size, size], (Kind::Double, Device::Cpu))
            };
            views.iter().map(|view| channels_last(&cx.shard(&whole(view), 0))).collect()
        })
    }

    /// Two steps of a text method. Passages have padding, so that processes have different numbers
    /// of tokens.
    fn with_text(entry: &TextMethodEntry) -> Vec<(String, Tensor)> {
        seed(1);
        let encoder = TextConfig {
            vocabulary: 20,
            positions: 12,
            width: 8,
            depth: 2,
            heads: 2,
            dropout: 0.0,
        };
        let special = vec![0, 1];
        let vocabulary = Vocabulary { size: 20, mask: Some(1), special, continues: vec![] };
        let config: toml::Table = entry.recipes[0].toml.parse().unwrap();
        let settings = config["settings"].as_table().unwrap().clone();
        let training: TrainConfig = config["training"].clone().try_into().unwrap();
        let mut method = (entry.build)(settings, &encoder, &vocabulary, Device::Cpu).unwrap();
        two_steps(&mut *method, &training, &|cx| {
            let ids = Tensor::randint_low(2, 20, [IMAGES, 12], (Kind::Int64, Device::Cpu));
            let lengths = Tensor::randint_low(6, 13, [IMAGES, 1], (Kind::Int64, Device::Cpu));
            let mask = Tensor::arange(12, (Kind::Int64, Device::Cpu)).lt_tensor(&lengths);
            let whole = if entry.masks { vec![ids * &mask, mask] } else { vec![ids] };
            whole.iter().map(|input| cx.shard(input, 0)).collect()
        })
    }

    /// The loss, gradients and state of two steps in float64, on the part of the batches of this
    /// process.
    fn two_steps(
        method: &mut dyn Method,
        training: &TrainConfig,
        inputs: &dyn Fn(&StepContext) -> Vec<Tensor>,
    ) -> Vec<(String, Tensor)> {
        tch::set_num_threads(1);
        for (_, mut tensor) in method.state() {
            if tensor.is_floating_point() {
                tensor.set_data(&tensor.to_kind(Kind::Double));
            }
        }
        synchronize(&method.state(), 0).unwrap();
        let mut optimizer = portolan_train::optimizer(training, method).unwrap();
        let params: Vec<Tensor> = optimizer.params().map(Tensor::shallow_clone).collect();
        let reducer = Reducer::new(&params).unwrap();
        let mut found = Vec::new();
        seed(2);
        for step in 0..2 {
            let cx = StepContext::new(step, 4, Device::Cpu).with_epoch(step);
            let ids = vec![0; (IMAGES / cx.processes()) as usize];
            let batch = Batch { inputs: inputs(&cx), ids };
            optimizer.zero_grad().unwrap();
            let loss = method.loss(&batch, &cx).unwrap().loss;
            if let Some(reducer) = &reducer {
                reducer.prepare(&loss).unwrap();
            }
            loss.backward();
            found.push((format!("{step}.loss"), distributed::mean(&loss.detach()).unwrap()));
            let gradients = params.iter().enumerate().filter(|(_, param)| param.grad().defined());
            found.extend(
                gradients.map(|(i, param)| (format!("{step}.grad.{i}"), param.grad().copy())),
            );
            method.before_update(&cx).unwrap();
            optimizer.step(0.01, 1.0).unwrap();
            method.after_update(&cx).unwrap();
        }
        found.extend(method.state().into_iter().map(|(name, tensor)| (name, tensor.copy())));
        found
    }

    /// A run that fails with an error in process 0 and with a panic in process 1, as if a layer
    /// lost the others.
    fn failing_run(launch: &Launch) -> Result<()> {
        let _membership = join(Some(launch), Device::Cpu)?;
        assert_eq!(distributed::world_size(), 2);
        assert!(launch.rank == 0, "on purpose");
        anyhow::bail!("on purpose")
    }

    #[test]
    fn a_process_that_fails_leaves_the_others() {
        if let Some(launch) = Launch::from_env().unwrap() {
            let ended = std::panic::catch_unwind(|| failing_run(&launch));
            assert_eq!(ended.is_err(), launch.rank == 1, "{ended:?}");
            assert_eq!((distributed::rank(), distributed::world_size()), (0, 1));
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        for mut child in start(
            "run::process_group::tests::a_process_that_fails_leaves_the_others",
            2,
            folder.path(),
        ) {
            assert!(child.wait().unwrap().success());
        }
    }

    #[test]
    fn many_processes_do_what_one_does_with_all_images() {
        let cases = cases();
        if let Some(launch) = Launch::from_env().unwrap() {
            let membership = join(Some(&launch), Device::Cpu).unwrap();
            let out = std::env::var(OUT).unwrap();
            for (name, steps) in &cases {
                let file = Path::new(&out).join(format!("{name}-{}", launch.rank));
                io::save(&file, &steps(), &Default::default()).unwrap();
            }
            assert_eq!(membership.leave().unwrap(), launch.rank == 0);
            return;
        }
        let alone: Vec<_> = cases.iter().map(|(_, steps)| steps()).collect();
        for processes in [2, 4] {
            let folder = tempfile::tempdir().unwrap();
            let test = "run::process_group::tests::many_processes_do_what_one_does_with_all_images";
            for mut child in start(test, processes, folder.path()) {
                assert!(child.wait().unwrap().success());
            }
            for ((name, _), alone) in cases.iter().zip(&alone) {
                for rank in 0..processes {
                    let (found, _) =
                        io::load(&folder.path().join(format!("{name}-{rank}"))).unwrap();
                    assert_eq!(found.len(), alone.len(), "{name}");
                    for (what, expected) in alone {
                        let (a, b) =
                            (found[what].to_kind(Kind::Double), expected.to_kind(Kind::Double));
                        let worst = (&a - &b).abs().max().double_value(&[]);
                        let scale = b.abs().max().double_value(&[]).max(1.0);
                        assert!(
                            worst <= 1e-8 * scale,
                            "{what} of {name} in process {rank} of {processes} differs by {worst:e}"
                        );
                    }
                }
            }
        }
    }
}
