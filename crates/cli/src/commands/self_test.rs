//! `portolan self-test`: checks in seconds what depends on the device. Prints one line of JSON per
//! check.
//!
//! Without a GPU, checks that need one are skipped, which counts as neither passed nor failed.

use anyhow::{Context, Result, bail, ensure};
use portolan::METHODS;
use portolan_tensor::tch::Cuda;
use portolan_tensor::{Device, Graph, Kind, Tensor, device, distributed, leave_default_stream};
use portolan_tensor::{no_grad, upload, use_gpu};
use portolan_train::Clock;
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use crate::args::{RunArgs, SelfTestArgs};
use crate::config::RunConfig;
use crate::config::build::build_method;
use crate::config::resolve::resolve;
use crate::config::teacher;
use crate::methods;
use crate::run::setup::set_up;
use crate::run::trial_steps::Work;

/// Images per step.
const BATCH: i64 = 32;
/// Steps without a graph.
const STEPS: u64 = 2;
/// Steps in the comparison with a graph, which is captured in the fourth step.
const STEPS_WITH_GRAPH: u64 = 7;
/// The tolerance between losses with and without a graph, relative to the loss if it is above 1.
const GRAPH_TOLERANCE: f64 = 1e-3;

/// The outcome of a check that did not fail.
enum Outcome {
    Passed(String),
    Skipped(&'static str),
}

pub(crate) fn self_test(args: &SelfTestArgs) -> Result<ExitCode> {
    // The checks are too small to benefit from threads on a CPU.
    let device = set_up(&args.device.name, Some(1))?.device;
    let on_gpu = |check: fn(Device) -> Result<String>| {
        if device.is_cuda() {
            check(device).map(Outcome::Passed)
        } else {
            Ok(Outcome::Skipped("no GPU"))
        }
    };
    let mut failures = 0;
    let mut check =
        |name: &str, body: &dyn Fn() -> Result<Outcome>| failures += print_check(name, body);
    check("devices", &|| on_gpu(devices));
    check("fp32 convolution", &|| convolution(device).map(Outcome::Passed));
    check("page-locked upload", &|| on_gpu(uploads));
    check("failed capture", &|| on_gpu(failed_capture));
    check("capture", &|| on_gpu(capture));
    let alone = |device| {
        distributed::check_alone(device)?;
        Ok("all collectives".to_owned())
    };
    check("gloo, one process", &|| alone(Device::Cpu).map(Outcome::Passed));
    check("nccl, one process", &|| on_gpu(alone));
    for method in METHODS {
        check(&format!("{} fp32", method.name), &|| {
            steps(method.name, device, "fp32").map(Outcome::Passed)
        });
        // Skipped on CPUs: libtorch's bfloat16 convolutions leave some gradients of small maps
        // uninitialized there.
        check(&format!("{} bf16", method.name), &|| {
            if device.is_cuda() {
                steps(method.name, device, "bf16").map(Outcome::Passed)
            } else {
                Ok(Outcome::Skipped("no GPU"))
            }
        });
    }
    for method in METHODS {
        check(&format!("{} graph equals eager", method.name), &|| {
            if device.is_cuda() {
                graph_equals_eager(method.name, device).map(Outcome::Passed)
            } else {
                Ok(Outcome::Skipped("no GPU"))
            }
        });
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a check and prints its result. Returns 1 if it failed, 0 otherwise.
fn print_check(check: &str, body: &dyn Fn() -> Result<Outcome>) -> usize {
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        bail!("panicked: {}", text.unwrap_or_default())
    });
    let (state, detail) = match &outcome {
        Ok(Outcome::Passed(detail)) => ("passed", detail.clone()),
        Ok(Outcome::Skipped(why)) => ("skipped", (*why).to_owned()),
        Err(error) => ("failed", format!("{error:#}")),
    };
    let seconds = started.elapsed().as_secs_f64();
    println!("{}", json!({ "check": check, "state": state, "detail": detail, "seconds": seconds }));
    usize::from(outcome.is_err())
}

/// Every GPU computes correctly, and the chosen one is the current device afterwards.
fn devices(chosen: Device) -> Result<String> {
    let count = Cuda::device_count();
    for index in 0..count {
        let gpu = device::choose(&format!("cuda:{index}"))?;
        let product = Tensor::ones([64, 64], (Kind::Float, gpu));
        let product = product.f_matmul(&product)?.double_value(&[0, 0]);
        ensure!(product == 64.0, "cuda:{index} computed {product} for 64");
    }
    use_gpu(chosen)?;
    Ok(format!("{count} GPUs compute, {} is used", device::name(chosen)))
}

/// A float32 convolution must match float64 to float32 precision. TF32 would have an error of about
/// 1e-3.
fn convolution(device: Device) -> Result<String> {
    let sines = |shape: &[i64]| {
        let n: i64 = shape.iter().product();
        (Tensor::arange(n, (Kind::Double, Device::Cpu)) * 0.37).sin().view(shape)
    };
    let (x, weight) = (sines(&[8, 64, 16, 16]), sines(&[64, 64, 3, 3]));
    let of =
        |x: &Tensor, weight: &Tensor| x.f_conv2d(weight, None::<Tensor>, [1, 1], [1, 1], [1, 1], 1);
    let exact = of(&x, &weight)?;
    let there = |x: &Tensor| x.to_kind(Kind::Float).to_device(device);
    let single = of(&there(&x), &there(&weight))?.to_device(Device::Cpu).to_kind(Kind::Double);
    let error = ((&single - &exact).abs().max() / exact.abs().max()).double_value(&[]);
    ensure!(error < 1e-5, "the relative error is {error:.1e}: TF32 is on");
    Ok(format!("relative error {error:.1e}"))
}

/// Tensors arrive on the GPU intact, from this thread and from another.
fn uploads(device: Device) -> Result<String> {
    let arrives = move || -> Result<()> {
        use_gpu(device)?;
        let here = Tensor::arange(1 << 20, (Kind::Float, Device::Cpu));
        let there = upload(&here, device) * 2.0;
        ensure!(there.to_device(Device::Cpu) == here * 2.0, "another tensor arrived");
        Ok(())
    };
    arrives()?;
    let other = std::thread::spawn(arrives).join();
    other.unwrap_or_else(|_| bail!("the other thread panicked"))?;
    Ok("4 MB from two threads".to_owned())
}

/// Random numbers, memory and further captures must work after a failed capture.
fn failed_capture(device: Device) -> Result<String> {
    leave_default_stream(device)?;
    let x = Tensor::rand([1000], (Kind::Float, device));
    let failed = Graph::capture(|| -> Result<_> {
        let drawn = x.rand_like();
        // Reading a value waits for the GPU, which a graph cannot do.
        Ok(drawn.f_sum(Kind::Float)?.f_double_value(&[])?)
    });
    let error = failed.err().context("a capture that waits for the GPU did not fail")?;
    let mean = x.f_rand_like()?.f_mean(Kind::Float)?.double_value(&[]);
    ensure!((mean - 0.5).abs() < 0.1, "random numbers have the mean {mean} afterwards");
    let (graph, _sum) = Graph::capture(|| anyhow::Ok(x.rand_like().f_sum(Kind::Float)?))?;
    graph.replay()?;
    Ok(format!("refused ({error:#}); random numbers, memory and a further capture work"))
}

/// A replay of a graph uses the current tensor values and draws new random numbers.
fn capture(device: Device) -> Result<String> {
    leave_default_stream(device)?;
    let x = Tensor::zeros([1000], (Kind::Float, device));
    let (graph, (sum, drawn)) = Graph::capture(|| -> Result<_> {
        let _ = no_grad(|| x.shallow_clone().g_add_scalar_(1.0));
        Ok((x.f_sum(Kind::Float)?, x.f_rand_like()?))
    })?;
    graph.replay()?;
    let first = drawn.copy();
    graph.replay()?;
    let sum = sum.double_value(&[]);
    ensure!(sum == 2000.0, "two replays computed {sum} for 2000");
    ensure!(drawn != first, "both replays drew the same numbers");
    Ok("two replays".to_owned())
}

/// The settings of the method's recipe for built-in images, on `device`.
fn settings(method: &str, device: Device, precision: &str, cuda_graph: bool) -> Result<RunConfig> {
    let changes = RunArgs {
        batch_size: Some(BATCH),
        precision: Some(precision.to_owned()),
        cuda_graph,
        ..RunArgs::default()
    };
    let (mut config, _) = resolve(methods::find(method)?.recipe("shapes")?, &changes)?;
    config.device = device::name(device);
    teacher::add_random(&mut config)?;
    Ok(config)
}

/// The losses of `steps` steps on the same random views.
fn losses(config: &RunConfig, device: Device, steps: u64) -> Result<Vec<f64>> {
    let mut method = build_method(config, device)?;
    let mut work = Work::new(config, &*method, device, None)?;
    let mut losses = Vec::new();
    for _ in 0..steps {
        let step = work.step(&mut *method, &mut Clock::stopped())?;
        let loss = step.last().context("a step without a loss")?.loss.double_value(&[]);
        ensure!(loss.is_finite(), "the loss is {loss}");
        losses.push(loss);
    }
    ensure!(work.captured() == config.training.cuda_graph, "the step was not captured");
    Ok(losses)
}

fn steps(method: &str, device: Device, precision: &str) -> Result<String> {
    let losses = losses(&settings(method, device, precision, false)?, device, STEPS)?;
    Ok(format!("losses {losses:.4?}"))
}

fn graph_equals_eager(method: &str, device: Device) -> Result<String> {
    let of = |graph| losses(&settings(method, device, "fp32", graph)?, device, STEPS_WITH_GRAPH);
    let (eager, graph) = (of(false)?, of(true)?);
    let off = |(a, b): (&f64, &f64)| (a - b).abs() / a.abs().max(1.0);
    let worst = eager.iter().zip(&graph).map(off).fold(0.0, f64::max);
    ensure!(worst <= GRAPH_TOLERANCE, "losses {graph:.4?} with a graph, {eager:.4?} without");
    Ok(format!("losses within {worst:.1e}, the last {:.4}", graph[graph.len() - 1]))
}
