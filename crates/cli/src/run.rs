//! `reproduce` and `pretrain`: from arguments to a run's folder.

use anyhow::{Context, Result, anyhow, bail, ensure};
use portolan_augment::ViewSpec;
use portolan_data::{Dataset, Options, in_memory, subset};
use portolan_tensor::distributed::{self, Launch};
use portolan_tensor::{Device, device, release_freed_memory, tch};
use portolan_train::{Job, KnnPoint, checkpoints, duration, newest, pretrain as train, step_of};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use toml::{Table, Value};

use crate::args::RunArgs;
use crate::config::{DataConfig, RunConfig};
use crate::estimate::{Counts, Estimate, Pace};
use crate::plan::Plan;
use crate::stop::{STOP, listen_for_stop, stopped};
use crate::written_for::{Layers, adapt};
use crate::{automatic, finish, init, job, methods, settings, trained};

/// Images are kept decoded in memory up to this many bytes: all of CIFAR and `shapes`, not ImageNet.
const MEMORY: u64 = 1 << 30;
/// `portolan reproduce`: by a recipe, `shapes` if none is named.
pub(crate) fn reproduce(args: RunArgs) -> Result<ExitCode> {
    run(args, by_first_recipe)
}

fn by_first_recipe(entry: &methods::Entry, _: &RunArgs) -> Result<String> {
    Ok(entry.recipes[0].0.to_owned())
}

/// `portolan pretrain`: on one's own images, with settings that follow from them and the machine if no recipe is named.
pub(crate) fn pretrain(args: RunArgs) -> Result<ExitCode> {
    ensure!(!args.all, "--all is for reproduce; name a method to pretrain with");
    run(args, |_, args| match args.data.as_deref() {
        None => bail!(
            "say which images to train on: --data FOLDER (or --data shapes for built-in ones)"
        ),
        Some("shapes") => Ok("shapes".to_owned()),
        Some(_) => Ok(automatic::NAME.to_owned()),
    })
}

fn run(
    args: RunArgs,
    default_recipe: impl Fn(&methods::Entry, &RunArgs) -> Result<String>,
) -> Result<ExitCode> {
    let started = Instant::now();
    let plan = Plan::from_args(&args, default_recipe)?;
    execute(plan, &args, started)
}

/// What `reproduce` with these arguments will take, measured.
///
/// # Errors
/// When the settings contradict each other, or no image can be read.
pub(crate) fn estimate(args: &RunArgs) -> Result<Estimate> {
    let plan = Plan::from_args(args, by_first_recipe)?;
    let Setup { device, threads } = set_up(&plan.config.device, args.threads)?;
    plan.config.training.validate(plan.data.pretraining().len(), device)?;
    let pace = Pace::measure(&plan.config, &plan.data, device, threads)?;
    Ok(Estimate::new(&plan.config, Counts::of(&plan.data), pace, 0))
}

/// Settings, and what the data set or the number of epochs changed of the recipe, a sentence each.
pub(crate) type Resolved = (RunConfig, Vec<String>);

/// The recipe with everything that file, flags and --set change, in this order.
pub(crate) fn resolve(mut table: Table, args: &RunArgs) -> Result<Resolved> {
    // No recipe begins with a trained encoder, but any run can.
    table.entry("init").or_insert_with(|| Value::String(String::new()));
    let recipe = table.clone();
    let file = args.config.as_deref().map(settings::read).transpose()?;
    if let Some(file) = &args.config {
        settings::lay_over(&mut table, file)?;
    }
    let mut given = Vec::new();
    let text = |value: &Option<String>| value.clone().map(Value::String);
    let flags = [
        ("data.source", text(&args.data)),
        ("data.limit", args.limit.map(Value::Integer)),
        ("data.limit_test", args.limit_test.map(Value::Integer)),
        ("training.epochs", args.epochs.map(Value::Integer)),
        ("training.batch_size", args.batch_size.map(Value::Integer)),
        ("training.precision", text(&args.precision)),
        ("training.cuda_graph", args.cuda_graph.then_some(Value::Boolean(true))),
        ("training.max_bad", args.max_bad.map(Value::Float)),
        ("training.on_divergence", text(&args.on_divergence)),
        ("augment", text(&args.augment)),
        ("init", args.init.as_ref().map(|path| Value::String(path.display().to_string()))),
        ("seed", args.seed.map(Value::Integer)),
    ];
    for (key, value) in flags {
        if let Some(value) = value {
            given.push(settings::set(&mut table, key, value)?);
        }
    }
    if let Some(name) = &args.encoder {
        let named = Table::try_from(portolan_encoders::EncoderConfig::named(name)?)?;
        let encoder = table["encoder"].as_table_mut().context("the recipe has no encoder")?;
        if named["family"] != encoder["family"] {
            *encoder = named;
        } else {
            // The recipe's own choices, such as the stem, stay as they are.
            let named_by = ["arch", "width", "depth", "heads", "patch", "image"];
            for (key, value) in named.into_iter().filter(|(key, _)| named_by.contains(&&**key)) {
                encoder.insert(key, value);
            }
        }
    }
    for text in &args.set {
        given.push(settings::set_from_text(&mut table, text)?);
    }
    let layers = Layers { recipe: &recipe, file: file.as_ref(), given: &given };
    let notes = adapt(&mut table, &layers);
    // Its message has a line for the value and one for the place.
    let one_line = |error: toml::de::Error| error.to_string().trim().replace('\n', " ");
    let config = table
        .try_into()
        .map_err(|error| anyhow!("the settings cannot be used: {}", one_line(error)))?;
    Ok((config, notes))
}

/// Where the run's files go, unless --out says.
fn folder_of(args: &RunArgs, config: &RunConfig) -> PathBuf {
    args.out.clone().unwrap_or_else(|| {
        Path::new("runs").join(format!("{}-{}-{}", config.method, config.recipe, time_for_names()))
    })
}

/// This moment as a part of a folder's name: 20261122-194500.
pub(crate) fn time_for_names() -> String {
    portolan_report::now().replace(['-', ':'], "").replace('T', "-").replace('Z', "")
}

/// Refuses a folder for a new run that is not empty, as that of a second run within the same second would be.
fn refuse_taken(folder: &Path, chosen: bool) -> Result<()> {
    let taken = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(
        !taken,
        "the folder {} is not empty; choose another {}, or go on with the run in it: --resume {}",
        folder.display(),
        if chosen { "--out" } else { "--out (or wait a second)" },
        folder.display()
    );
    Ok(())
}

/// Makes the run's folder.
fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| {
        format!("cannot make the run's folder {}; choose a writable --out", folder.display())
    })
}

/// The data set with its limits applied, decoded into memory where it fits.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn open_data(config: &DataConfig) -> Result<Dataset> {
    let options = Options { size: config.size, ..Options::default() };
    let mut data = portolan_data::open(&config.source, &options)?;
    if config.limit > 0 {
        data.limit(config.limit);
    }
    data.train = in_memory(data.train, MEMORY);
    data.unlabeled = data.unlabeled.map(|more| in_memory(more, MEMORY));
    data.test = data.test.map(|test| match config.limit_test {
        0 => in_memory(test, MEMORY),
        limit => in_memory(subset(test, limit), MEMORY),
    });
    Ok(data)
}

/// The plain view of evaluation, normalized as the run's data.
pub(crate) fn eval_view(config: &RunConfig, data: &Dataset) -> ViewSpec {
    trained::eval_view(&config.evaluation.shown(data.mean, data.std))
}

/// Whether accuracies can be measured: labels, and a test split.
pub(crate) fn is_labeled(data: &Dataset) -> bool {
    data.test.is_some() && !data.classes.is_empty()
}

/// Where a run works.
pub(crate) struct Setup {
    pub(crate) device: Device,
    pub(crate) threads: usize,
}

/// Prepares libtorch for a run: its threads, and algorithms that repeat themselves on the CPU and are the fastest of
/// those that cuDNN has tried on a GPU.
///
/// # Errors
/// When the device is absent, or there are to be no threads.
pub(crate) fn set_up(device: &str, threads: Option<usize>) -> Result<Setup> {
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = threads.unwrap_or_else(cores);
    ensure!(threads >= 1, "--threads is 0; at least one is needed");
    let device = device::choose(device)?;
    tch::set_num_threads(threads as i32);
    portolan_tensor::deterministic(!device.is_cuda());
    tch::Cuda::cudnn_set_benchmark(device.is_cuda());
    Ok(Setup { device, threads })
}

/// Trains, evaluates and reports.
fn execute(mut plan: Plan, args: &RunArgs, started: Instant) -> Result<ExitCode> {
    let launch = Launch::from_env()?;
    let (device, threads) = job::place(launch.as_ref(), &plan.config.device, args.threads)?;
    let Setup { device, threads } = set_up(&device, threads)?;
    let membership = job::join(launch.as_ref(), device)?;
    check(&plan.config, &plan.data, device)?;
    let resume = match &args.resume {
        Some(run) if !checkpoints(run)?.is_empty() => Some(newest(run)?),
        _ => None,
    };
    let folder = match &args.resume {
        Some(run) => run.clone(),
        None => folder_of(args, &plan.config),
    };
    if args.resume.is_none() && distributed::rank() == 0 {
        refuse_taken(&folder, args.out.is_some())?;
    }
    let estimate = foresee(&mut plan, resume.as_deref(), device, threads, started)?;
    let Plan { config, data, .. } = &plan;
    check(config, data, device)?;
    let mut method = methods::build(config, device)?;
    if resume.is_none() && !config.init.is_empty() {
        init::start_from(Path::new(&config.init), config, &*method)?;
    }
    job::begin_alike(&*method, config.seed)?;
    // Only now, when the settings have proved possible: a refused run leaves nothing behind.
    if args.resume.is_none() && distributed::rank() == 0 {
        make_folder(&folder)?;
        let text = toml::to_string(config)?;
        portolan_tensor::io::write_atomic(&folder.join("config.toml"), text.as_bytes())?;
    }
    if args.resume.is_some() && resume.is_none() {
        eprintln!("note     the run left no checkpoint: it starts from the beginning");
    }
    if distributed::rank() == 0 {
        announce(&plan, &folder, device);
        if let Some(estimate) = &estimate {
            eprintln!("{}", estimate.text());
            if let Some(advice) = estimate.advice(config, device) {
                eprintln!("{advice}");
            }
        }
    }
    listen_for_stop()?;

    let view = eval_view(config, data);
    let test = data.test.clone().filter(|_| is_labeled(data));
    let knn = test.as_ref().map(|test| KnnPoint {
        bank: &*data.train,
        test: &**test,
        config: &config.evaluation.knn,
        classes: data.classes.len() as i64,
    });
    let job = Job {
        name: &config.method,
        config: &config.training,
        images: data.pretraining(),
        checksum: &data.sha256,
        seed: config.seed,
        device,
        augment: config.augment,
        folder: &folder,
        threads,
        resume,
        stop: &STOP,
        eval_view: &view,
        knn,
        afterwards: estimate.map_or(0.0, |estimate| estimate.evaluation),
        tensorboard: args.tensorboard,
    };
    let outcome = train(&mut *method, &job)?;
    // What follows is one process's work.
    if !membership.leave()? {
        return Ok(if outcome.complete { ExitCode::SUCCESS } else { stopped() });
    }
    if !outcome.complete {
        eprintln!("stopped; {} is written. Go on with:", outcome.checkpoint.display());
        eprintln!("  portolan pretrain --resume {}", folder.display());
        return Ok(stopped());
    }
    match &estimate {
        Some(estimate) => eprintln!("evaluating, about {}", duration(estimate.evaluation)),
        None => eprintln!("evaluating"),
    }
    // What a step needed is of no use to the evaluation, whose batches are of another size.
    release_freed_memory();
    finish::finish(config, data, &*method, &outcome, &folder, device)?;
    Ok(ExitCode::SUCCESS)
}

/// Says what a user should know of the data.
pub(crate) fn tell_notes(notes: &[String]) {
    for note in notes {
        eprintln!("note     {note}");
    }
}

/// Refuses settings that these images, or the device, do not allow.
fn check(config: &RunConfig, data: &Dataset, device: Device) -> Result<()> {
    config.training.validate(data.pretraining().len(), device)?;
    if is_labeled(data) {
        config.evaluation.knn.validate(data.train.len())?;
    }
    Ok(())
}

/// What the run will take; chooses its epochs, where the time is to decide. The processes of a job do not measure: they would have to
/// agree on how many steps.
fn foresee(
    plan: &mut Plan,
    resume: Option<&Path>,
    device: Device,
    threads: usize,
    started: Instant,
) -> Result<Option<Estimate>> {
    if distributed::world_size() > 1 {
        ensure!(
            !plan.by_time(),
            "a job of several processes cannot choose its epochs by time; give --epochs"
        );
        return Ok(None);
    }
    let pace = Pace::measure(&plan.config, &plan.data, device, threads)?;
    let counts = Counts::of(&plan.data);
    plan.choose_epochs(pace, counts, started)?;
    let done = resume.and_then(step_of).unwrap_or(0);
    Ok(Some(Estimate::new(&plan.config, counts, pace, done)))
}

/// What is about to run, in a few lines.
fn announce(plan: &Plan, folder: &Path, device: Device) {
    let Plan { config, data, .. } = plan;
    let training = &config.training;
    let test = data.test.as_ref().map_or(0, |test| test.len());
    eprintln!("method   {} ({}), seed {}", config.method, config.recipe, config.seed);
    eprintln!(
        "data     {}: {} images to train on, {test} to test on",
        data.name,
        data.pretraining().len()
    );
    eprintln!(
        "encoder  {}, {} epochs in batches of {}, {} on {}",
        config.encoder.name(),
        training.epochs,
        training.batch_size,
        finish::precision_name(training.precision),
        device::name(device)
    );
    eprintln!("run      {}", folder.display());
    tell_notes(&plan.notes);
    tell_notes(&data.notes);
    if !is_labeled(data) {
        eprintln!("note     no labeled test split: no accuracy will be measured");
    }
    if training.accumulate > 1 {
        eprintln!("note     {}", finish::ACCUMULATION);
    }
    if distributed::world_size() > 1 {
        eprintln!(
            "job      {} processes, {} images of a batch each",
            distributed::world_size(),
            training.batch_size / distributed::world_size()
        );
    }
}
