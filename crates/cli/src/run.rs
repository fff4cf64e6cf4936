//! `reproduce` and `pretrain`: from arguments to a run's folder.

use anyhow::{Context, Result, anyhow, bail, ensure};
use portolan_augment::ViewSpec;
use portolan_data::{Dataset, Options, in_memory, subset};
use portolan_tensor::distributed::{self, Launch};
use portolan_tensor::{Device, device, tch};
use portolan_train::{Job, KnnPoint, checkpoints, newest, pretrain as train};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use toml::{Table, Value};

use crate::args::RunArgs;
use crate::config::{DataConfig, RunConfig};
use crate::written_for::{Layers, adapt};
use crate::{encoder, finish, init, job, methods, settings, trained};

/// Images are kept decoded in memory up to this many bytes: all of CIFAR and `shapes`, not ImageNet.
const MEMORY: u64 = 1 << 30;
/// Set by Ctrl-C and SIGTERM.
static STOP: AtomicBool = AtomicBool::new(false);
/// Which of the two it was.
static SIGNAL: AtomicI32 = AtomicI32::new(SIGTERM);

/// `portolan reproduce`: by a recipe, `shapes` if none is named.
pub(crate) fn reproduce(args: RunArgs) -> Result<ExitCode> {
    run(args, |entry, _| Ok(entry.recipes[0].0.to_owned()))
}

/// `portolan pretrain`: on one's own images, with the recipe that suits their size if none is named.
pub(crate) fn pretrain(args: RunArgs) -> Result<ExitCode> {
    ensure!(!args.all, "--all is for reproduce; name a method to pretrain with");
    run(args, |_, args| {
        let Some(data) = &args.data else {
            bail!(
                "say which images to train on: --data FOLDER (or --data shapes for built-in ones)"
            )
        };
        recipe_for(data)
    })
}

/// The recipe for images of this size: ImageNet's settings would leave nothing of a small image, and the
/// small ones' would see a stamp of a photograph.
fn recipe_for(data: &str) -> Result<String> {
    if data == "shapes" {
        return Ok("shapes".to_owned());
    }
    let source = portolan_data::open(data, &Options::default())?.train;
    let image = (0..source.len().min(100))
        .find_map(|i| source.picture(i).and_then(|picture| picture.decode()).ok())
        .with_context(|| format!("none of the first images of {data} can be read"))?;
    let (width, height) = image.dimensions();
    let recipe = if width.min(height) <= 64 { "cifar10" } else { "imagenet" };
    eprintln!("recipe   {recipe}, since images are {width}×{height} (--recipe to choose another)");
    Ok(recipe.to_owned())
}

fn run(
    args: RunArgs,
    default_recipe: impl Fn(&methods::Entry, &RunArgs) -> Result<String>,
) -> Result<ExitCode> {
    let (mut config, notes, folder) = match &args.resume {
        Some(run) => (encoder::config_of(run)?, Vec::new(), run.clone()),
        None => {
            let name = args.method.as_deref().context("name a method, for instance moco")?;
            let entry = methods::find(name)?;
            // A run's own settings say which recipe they changed.
            let file = args.config.as_deref().map(settings::recipe_in).transpose()?.flatten();
            let recipe = match args.recipe.clone().or(file) {
                Some(recipe) => recipe,
                None => default_recipe(entry, &args)?,
            };
            let (config, notes) = resolve(entry.recipe(&recipe)?, &args)?;
            let folder = folder_of(&args, &config);
            (config, notes, folder)
        }
    };
    if let (Some(method), Some(run)) = (&args.method, &args.resume) {
        ensure!(
            *method == config.method,
            "{} is a run of {}, not of {method}",
            run.display(),
            config.method
        );
    }
    if let Some(device) = &args.device {
        config.device.clone_from(device);
    }
    config.augment = config.augment.on(device::choose(&config.device)?);
    let mut data = open_data(&config.data)?;
    data.notes.extend(notes);
    for op in config.views.iter_mut().flat_map(|views| &mut views.ops) {
        op.normalise_by(data.mean, data.std);
    }
    execute(&config, &data, &folder, &args)
}

/// The recipe with everything that file, flags and --set change, in this order; and what that changed of the recipe besides, a sentence
/// each.
pub(crate) fn resolve(mut table: Table, args: &RunArgs) -> Result<(RunConfig, Vec<String>)> {
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

/// What a program that was asked to stop exits with, as schedulers expect it: 130 after Ctrl-C; 143 after SIGTERM, and where another
/// process of the job was asked.
fn stopped() -> ExitCode {
    ExitCode::from(128 + SIGNAL.load(Ordering::Relaxed) as u8)
}

/// Whether the program was asked to stop.
pub(crate) fn stopping() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Makes the run's folder, which must be new or empty. A second run within the same second gets a number.
fn make_folder(folder: &Path, chosen: bool) -> Result<()> {
    let taken = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(
        !taken,
        "the folder {} is not empty; choose another {}, or go on with the run in it: --resume {}",
        folder.display(),
        if chosen { "--out" } else { "--out (or wait a second)" },
        folder.display()
    );
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
    data.unlabelled = data.unlabelled.map(|more| in_memory(more, MEMORY));
    data.test = data.test.map(|test| match config.limit_test {
        0 => in_memory(test, MEMORY),
        limit => in_memory(subset(test, limit), MEMORY),
    });
    Ok(data)
}

/// The plain view of evaluation, normalised as the run's data.
pub(crate) fn plain_view(config: &RunConfig, data: &Dataset) -> ViewSpec {
    trained::plain_view(&config.evaluation.shown(data.mean, data.std))
}

/// Whether accuracies can be measured: labels, and a test split.
pub(crate) fn is_labelled(data: &Dataset) -> bool {
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
fn execute(config: &RunConfig, data: &Dataset, folder: &Path, args: &RunArgs) -> Result<ExitCode> {
    let launch = Launch::from_env()?;
    let (device, threads) = job::place(launch.as_ref(), &config.device, args.threads)?;
    let Setup { device, threads } = set_up(&device, threads)?;
    let membership = job::join(launch.as_ref(), device)?;
    let images = data.to_pretrain_on();
    config.training.validate(images.len(), device)?;
    if is_labelled(data) {
        config.evaluation.knn.check(data.train.len())?;
    }
    let mut method = methods::build(config, device)?;
    let resume = match &args.resume {
        Some(run) if !checkpoints(run)?.is_empty() => Some(newest(run)?),
        _ => None,
    };
    if resume.is_none() && !config.init.is_empty() {
        init::start_from(Path::new(&config.init), config, &*method)?;
    }
    job::begin_alike(&*method, config.seed)?;
    // Only now, when the settings have proved possible: a refused run leaves nothing behind.
    if args.resume.is_none() && distributed::rank() == 0 {
        make_folder(folder, args.out.is_some())?;
        let text = toml::to_string(config)?;
        portolan_tensor::io::write_aside(&folder.join("config.toml"), text.as_bytes())?;
    }
    if args.resume.is_some() && resume.is_none() {
        eprintln!("note     the run left no checkpoint: it starts from the beginning");
    }
    if distributed::rank() == 0 {
        announce(config, data, folder, device);
    }
    listen_for_stop()?;

    let view = plain_view(config, data);
    let test = data.test.clone().filter(|_| is_labelled(data));
    let knn = test.as_ref().map(|test| KnnPoint {
        bank: &*data.train,
        test: &**test,
        config: &config.evaluation.knn,
        classes: data.classes.len() as i64,
    });
    let job = Job {
        name: &config.method,
        config: &config.training,
        images,
        checksum: &data.sha256,
        seed: config.seed,
        device,
        augment: config.augment,
        folder,
        threads,
        resume,
        stop: &STOP,
        plain_view: &view,
        knn,
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
    finish::finish(config, data, &*method, &outcome, folder, device)?;
    Ok(ExitCode::SUCCESS)
}

/// Says what a user should know of the data.
pub(crate) fn tell_notes(notes: &[String]) {
    for note in notes {
        eprintln!("note     {note}");
    }
}

/// What is about to run, in a few lines.
fn announce(config: &RunConfig, data: &Dataset, folder: &Path, device: Device) {
    let training = &config.training;
    let test = data.test.as_ref().map_or(0, |test| test.len());
    eprintln!("method   {} ({}), seed {}", config.method, config.recipe, config.seed);
    eprintln!(
        "data     {}: {} images to train on, {test} to test on",
        data.name,
        data.to_pretrain_on().len()
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
    tell_notes(&data.notes);
    if !is_labelled(data) {
        eprintln!("note     no labelled test split: no accuracy will be measured");
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

/// Ctrl-C and SIGTERM end the run after the step in progress; a second one ends it at once.
fn listen_for_stop() -> Result<()> {
    static ONCE: OnceLock<()> = OnceLock::new();
    if ONCE.set(()).is_err() {
        return Ok(());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for Ctrl-C")?;
    let listen = move || {
        for signal in signals.forever() {
            SIGNAL.store(signal, Ordering::Relaxed);
            if STOP.swap(true, Ordering::Relaxed) {
                std::process::exit(128 + signal);
            }
            eprintln!("stopping after this step, to leave a checkpoint (again to stop at once)");
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    Ok(())
}
