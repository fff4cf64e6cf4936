//! `portolan bench`: measures training speed and where the time of a step goes.

use anyhow::{Context, Result};
use portolan_data::Dataset;
use portolan_evaluate::{features, knn_top1};
use portolan_method::ImageMethod;
use portolan_tensor::{Device, device, peak_memory, warn_on_synchronization};
use portolan_train::{Clock, Stage};
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use crate::args::{BenchArgs, RunArgs};
use crate::config::RunConfig;
use crate::config::build::build_method;
use crate::config::resolve::resolve;
use crate::data::{is_labeled, open_data};
use crate::encoder_source::eval_view;
use crate::methods;
use crate::run::setup::{Setup, set_up};
use crate::run::trial_steps::Work;

/// Steps before the clock starts. They allocate memory and let cuDNN try its algorithms.
const WARM_UP: u64 = 8;

/// One row of the table.
struct Job {
    name: &'static str,
    method: &'static str,
    recipe: &'static str,
    /// Images per step; 0 for the batch size of the recipe.
    batch_size: i64,
    precision: &'static str,
    /// Whether images are read and augmented. Otherwise every step uses the same random views.
    end_to_end: bool,
}

/// The jobs that were also measured with the Python libraries.
const ON_A_GPU: [Job; 6] = [
    end_to_end("simclr-32", "simclr", "cifar10", "bf16"),
    end_to_end("moco-32", "moco", "cifar10", "bf16"),
    end_to_end("byol-32", "byol", "cifar10", "bf16"),
    step_alone("simclr-224", "simclr", 256),
    step_alone("mae-224", "mae", 256),
    step_alone("dino-224", "dino", 128),
];

/// The recipes for two CPU cores.
const ON_A_CPU: [Job; 3] = [
    end_to_end("simclr-shapes", "simclr", "shapes", "fp32"),
    end_to_end("moco-shapes", "moco", "shapes", "fp32"),
    end_to_end("byol-shapes", "byol", "shapes", "fp32"),
];

const fn end_to_end(
    name: &'static str,
    method: &'static str,
    recipe: &'static str,
    precision: &'static str,
) -> Job {
    Job { name, method, recipe, batch_size: 0, precision, end_to_end: true }
}

const fn step_alone(name: &'static str, method: &'static str, batch_size: i64) -> Job {
    Job { name, method, recipe: "imagenet", batch_size, precision: "bf16", end_to_end: false }
}

/// The results of one job, printed as a row and written as JSON.
#[derive(Serialize)]
struct Row {
    job: &'static str,
    method: String,
    encoder: String,
    batch_size: usize,
    precision: &'static str,
    input: &'static str,
    device: String,
    threads: usize,
    images_per_second: f64,
    /// The peak tensor memory on a GPU.
    peak_bytes: Option<u64>,
    /// The share of each stage in a step, measured with a device synchronization after every stage.
    shares: BTreeMap<String, f64>,
    /// Seconds of one kNN evaluation, if the images have labels.
    evaluation_seconds: Option<f64>,
}

pub(crate) fn bench(args: &BenchArgs) -> Result<ExitCode> {
    let gpu = device::choose(&args.device.name)?.is_cuda();
    let all = || ON_A_GPU.iter().chain(&ON_A_CPU);
    let jobs: Vec<&Job> = match &args.jobs[..] {
        [] if gpu => ON_A_GPU.iter().collect(),
        [] => ON_A_CPU.iter().collect(),
        names => names.iter().map(|name| named(name, all())).collect::<Result<_>>()?,
    };
    println!("{}", header());
    let mut rows = Vec::new();
    for job in jobs {
        let row = measure(job, args).with_context(|| format!("the job {}", job.name))?;
        println!("{}", line(&row));
        rows.push(row);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&rows)?;
        portolan_tensor::io::write_atomic(path, text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn named<'a>(name: &str, all: impl Iterator<Item = &'a Job> + Clone) -> Result<&'a Job> {
    all.clone().find(|job| job.name == name).with_context(|| {
        let names: Vec<_> = all.map(|job| job.name).collect();
        format!("there is no job `{name}`; there are {}", names.join(", "))
    })
}

fn measure(job: &Job, args: &BenchArgs) -> Result<Row> {
    let config = settings(job, args)?;
    let Setup { device, threads } = set_up(&config.device, args.threads.count)?;
    let mut method = build_method(&config, device)?;
    let data = job.end_to_end.then(|| open_data(&config.data)).transpose()?;
    let images = data.as_ref().map(|data| (data, threads));
    let mut work = Work::new(&config, &*method, device, images)?;
    work.steps(&mut *method, WARM_UP, &mut Clock::stopped())?;
    if device.is_cuda() {
        warn_on_synchronization(true);
        work.steps(&mut *method, 1, &mut Clock::stopped())?;
        warn_on_synchronization(false);
        peak_memory(device)?;
    }
    device::synchronize(device);
    let started = Instant::now();
    work.steps(&mut *method, args.steps, &mut Clock::stopped())?;
    device::synchronize(device);
    let seconds = started.elapsed().as_secs_f64();
    let peak_bytes = device.is_cuda().then(|| peak_memory(device)).transpose()?;

    let mut clock = Clock::running(device);
    work.steps(&mut *method, args.steps, &mut clock)?;
    let total: f64 = Stage::ALL.iter().map(|&stage| clock.seconds(stage)).sum();
    let share = |&stage: &Stage| (name_of(stage), clock.seconds(stage) / total);
    Ok(Row {
        job: job.name,
        method: config.method.clone(),
        encoder: config.encoder.name(),
        batch_size: config.training.batch_size,
        precision: job.precision,
        input: if job.end_to_end { "images" } else { "the same views" },
        device: device::name(device),
        threads,
        images_per_second: (args.steps as usize * config.training.batch_size) as f64 / seconds,
        peak_bytes,
        shares: Stage::ALL.iter().map(share).collect(),
        evaluation_seconds: match &data {
            Some(data) => evaluation(&config, data, &*method, device)?,
            None => None,
        },
    })
}

/// The settings of the recipe with the changes of the job, on the images of `--data`.
fn settings(job: &Job, args: &BenchArgs) -> Result<RunConfig> {
    let mut set = args.set.clone();
    set.push("training.accumulate=1".to_owned());
    let changes = RunArgs {
        data: Some(args.data.clone()),
        batch_size: (job.batch_size > 0).then_some(job.batch_size),
        precision: Some(job.precision.to_owned()),
        augment: args.augment.clone(),
        cuda_graph: args.cuda_graph,
        set,
        ..RunArgs::default()
    };
    let (mut config, _) = resolve(methods::find(job.method)?.recipe(job.recipe)?, &changes)?;
    config.device.clone_from(&args.device.name);
    Ok(config)
}

/// Seconds of one kNN evaluation, if the images have labels.
fn evaluation(
    config: &RunConfig,
    data: &Dataset,
    method: &dyn ImageMethod,
    device: Device,
) -> Result<Option<f64>> {
    let Some(test) = data.test.as_ref().filter(|_| is_labeled(data)) else { return Ok(None) };
    let started = Instant::now();
    let (view, precision) = (eval_view(config, data), config.training.precision);
    let of = |source| features(method.encoder(), source, &view, device, precision);
    let classes = data.classes.len() as i64;
    knn_top1(&of(&*data.train)?, &of(&**test)?, classes, &config.evaluation.knn)?;
    Ok(Some(started.elapsed().as_secs_f64()))
}

fn name_of(stage: Stage) -> String {
    format!("{stage:?}").to_lowercase()
}

fn header() -> String {
    let stages = Stage::ALL.map(|stage| format!("{:>10}", name_of(stage)));
    format!(
        "{:14} {:>10} {:>9}  share of a step in{} {:>11}",
        "job",
        "images/s",
        "memory",
        stages.concat(),
        "kNN"
    )
}

fn line(row: &Row) -> String {
    let shares = Stage::ALL.map(|stage| format!("{:>8.1} %", 100.0 * row.shares[&name_of(stage)]));
    let shares = shares.concat();
    let memory = row.peak_bytes.map_or("".to_owned(), |b| format!("{:.2} GB", b as f64 / 1e9));
    let evaluation = row.evaluation_seconds.map_or("".to_owned(), |s| format!("{s:.1} s"));
    format!(
        "{:14} {:>10.0} {memory:>9}  {:18}{shares} {evaluation:>11}",
        row.job, row.images_per_second, ""
    )
}
