//! One run of pretraining, from its plan to its report.
//!
//! | file | what it does |
//! |---|---|
//! | `plan.rs` | settings and images of a run, from the arguments |
//! | `automatic.rs`, `machine.rs` | settings chosen for the images and the machine |
//! | `estimate.rs`, `trial_steps.rs` | how long the run will take |
//! | `setup.rs`, `process_group.rs`, `signals.rs` | libtorch, several processes, Ctrl-C |
//! | `start.rs`, `folder.rs` | the weights that the run starts from, the folder of the run |
//! | `scores.rs`, `published.rs`, `report.rs` | accuracies, their comparison, the report |

pub(crate) mod automatic;
pub(crate) mod dense_probe;
pub(crate) mod estimate;
pub(crate) mod folder;
pub(crate) mod machine;
pub(crate) mod plan;
pub(crate) mod process_group;
mod published;
pub(crate) mod report;
pub(crate) mod scores;
pub(crate) mod setup;
pub(crate) mod signals;
pub(crate) mod start;
pub(crate) mod trial_steps;

use anyhow::{Result, ensure};
use portolan_data::Dataset;
use portolan_images::{EpochKnn, ImageTask};
use portolan_report::counted;
use portolan_tensor::distributed::{self, Launch};
use portolan_tensor::{Device, device, release_freed_memory};
use portolan_train::{Job, Outcome, Task, duration, pretrain, step_of};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use self::automatic::CONTINUE;
use self::estimate::{Counts, Estimate, Pace};
use self::folder::RunFolder;
use self::plan::Plan;
use self::process_group::Membership;
use self::setup::{Setup, set_up};
use self::signals::{STOP, listen_for_stop, stopped};
use self::start::Start;
use crate::args::RunArgs;
use crate::config::RunConfig;
use crate::config::build::build_method;
use crate::data::{is_labeled, print_notes};
use crate::encoder_source::eval_view;
use crate::encoder_source::teacher;
use crate::methods::find;

/// Measures how long `reproduce` will take with these arguments.
///
/// # Errors
/// If the settings conflict, or no image can be read.
pub(crate) fn estimate(args: &RunArgs) -> Result<Estimate> {
    let plan = Plan::from_args(args, Plan::first_recipe)?;
    let Setup { device, threads } = set_up(&plan.config.device, args.threads.count)?;
    plan.config.training.validate(plan.data.pretraining().len(), device)?;
    let pace = Pace::measure(&plan.config, &plan.data, device, threads)?;
    Ok(Estimate::new(&plan.config, Counts::of(&plan.data), pace, 0))
}

/// Trains, evaluates and writes the report.
pub(crate) fn execute(mut plan: Plan, args: &RunArgs, started: Instant) -> Result<ExitCode> {
    let launch = Launch::from_env()?;
    let (device, threads) =
        process_group::place(launch.as_ref(), &plan.config.device, args.threads.count)?;
    let Setup { device, threads } = set_up(&device, threads)?;
    let membership = process_group::join(launch.as_ref(), device)?;
    check(&plan.config, &plan.data, device)?;
    let folder = RunFolder::of(args, &plan.config.method, &plan.config.recipe)?;
    let resume = folder.checkpoint.clone();
    let estimate =
        estimate_and_choose_epochs(&mut plan, resume.as_deref(), device, threads, started)?;
    let Plan { config, data, start, .. } = &plan;
    check(config, data, device)?;
    let mut method = build_method(config, device)?;
    let reopened = match start {
        // A resumed run that has no checkpoint yet.
        None if resume.is_none() && !config.init.is_empty() => {
            Some(Start::open(Path::new(&config.init), None)?)
        }
        _ => None,
    };
    let start = start.as_ref().or(reopened.as_ref()).filter(|_| resume.is_none());
    if let Some(start) = start {
        let trained_heads = start::load(start, config, &*method)?;
        let advised = find(&config.method)?.recipes.iter().any(|recipe| recipe.name == CONTINUE);
        if advised && !trained_heads && config.recipe != CONTINUE {
            eprintln!(
                "note     the heads are new, and all trains at the recipe's rate from the first step; \
                 --recipe {CONTINUE} trains the heads first, then everything at a small rate"
            );
        }
    }
    if resume.is_none() {
        teacher::load(config, &*method)?;
    }
    process_group::synchronize_networks(&*method, config.seed)?;
    folder.create(&toml::to_string(config)?)?;
    let folder = &*folder.path;
    if start.is_some() && distributed::rank() == 0 {
        start::write(&*method, config, folder)?;
    }
    if args.resume.is_some() && resume.is_none() {
        eprintln!("note     the run has no checkpoint, so it starts from the beginning");
    }
    if distributed::rank() == 0 {
        print_plan(&plan, folder, device);
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
    let knn = test.as_ref().map(|test| EpochKnn {
        bank: &*data.train,
        test: &**test,
        config: &config.evaluation.knn,
        classes: data.classes.len() as i64,
    });
    let mut task = ImageTask {
        method: &mut *method,
        images: data.pretraining(),
        seed: config.seed,
        device,
        precision: config.training.precision,
        augment: config.augment,
        threads,
        accumulate: config.training.accumulate,
        eval_view: &view,
        knn,
    };
    let job = Job {
        name: &config.method,
        traits: find(&config.method)?.traits,
        config: &config.training,
        checksum: &data.sha256,
        seed: config.seed,
        device,
        folder,
        resume,
        stop: &STOP,
        afterwards: estimate.map_or(0.0, |estimate| estimate.evaluation),
        tensorboard: args.tensorboard,
    };
    let outcome = match train(&mut task, &job, membership)? {
        Trained::Complete(outcome) => outcome,
        Trained::Ended(code) => return Ok(code),
    };
    match &estimate {
        Some(estimate) => eprintln!("evaluating, about {}", duration(estimate.evaluation)),
        None => eprintln!("evaluating"),
    }
    // Cached memory blocks of training steps do not fit the batches of the evaluation.
    release_freed_memory();
    report::write_report(config, data, &*method, &outcome, folder, device)?;
    Ok(ExitCode::SUCCESS)
}

/// How training ended.
pub(crate) enum Trained {
    /// All epochs are done, and this process does the rest.
    Complete(Outcome),
    /// The program ends with this code: training was stopped, or another process does the rest.
    Ended(ExitCode),
}

/// Trains, and leaves the job of several processes: what follows is done by the first.
///
/// # Errors
/// If training fails.
pub(crate) fn train(task: &mut dyn Task, job: &Job, membership: Membership) -> Result<Trained> {
    let outcome = pretrain(task, job)?;
    if !membership.leave()? {
        let code = if outcome.complete { ExitCode::SUCCESS } else { stopped() };
        return Ok(Trained::Ended(code));
    }
    if !outcome.complete {
        eprintln!("stopped after writing {}. Resume with:", outcome.checkpoint.display());
        eprintln!("  portolan pretrain --resume {}", job.folder.display());
        return Ok(Trained::Ended(stopped()));
    }
    Ok(Trained::Complete(outcome))
}

/// Refuses settings that do not work with these images or this device.
fn check(config: &RunConfig, data: &Dataset, device: Device) -> Result<()> {
    config.training.validate(data.pretraining().len(), device)?;
    if is_labeled(data) {
        config.evaluation.knn.validate(data.train.len())?;
    }
    Ok(())
}

/// Estimates the run, and chooses its epochs if there is a time limit. Processes of a job do not
/// measure, because they would have to agree on the number of steps.
fn estimate_and_choose_epochs(
    plan: &mut Plan,
    resume: Option<&Path>,
    device: Device,
    threads: usize,
    started: Instant,
) -> Result<Option<Estimate>> {
    if distributed::world_size() > 1 {
        ensure!(
            !plan.by_time(),
            "a job of several processes cannot choose the epochs from a time limit; give --epochs"
        );
        return Ok(None);
    }
    let pace = Pace::measure(&plan.config, &plan.data, device, threads)?;
    let counts = Counts::of(&plan.data);
    plan.choose_epochs(pace, counts, started)?;
    let done = resume.and_then(step_of).unwrap_or(0);
    Ok(Some(Estimate::new(&plan.config, counts, pace, done)))
}

/// Prints a summary of the run before it starts.
fn print_plan(plan: &Plan, folder: &Path, device: Device) {
    let Plan { config, data, .. } = plan;
    let training = &config.training;
    let test = data.test.as_ref().map_or(0, |test| test.len());
    eprintln!("method   {} ({}), seed {}", config.method, config.recipe, config.seed);
    eprintln!(
        "data     {}: {} for training, {test} for testing",
        data.name,
        counted(data.pretraining().len(), "image", "images")
    );
    eprintln!(
        "encoder  {}, {} in batches of {}, {} on {}",
        config.encoder.name(),
        counted(training.epochs as usize, "epoch", "epochs"),
        training.batch_size,
        report::precision_name(training.precision),
        device::name(device)
    );
    eprintln!("run      {}", folder.display());
    print_notes(&plan.notes);
    print_notes(&data.notes);
    if !is_labeled(data) {
        eprintln!("note     no labeled test split, so no accuracy will be measured");
    }
    if training.accumulate > 1 {
        eprintln!("note     {}", report::ACCUMULATION);
    }
    if distributed::world_size() > 1 {
        eprintln!(
            "job      {} processes with {} per step each",
            distributed::world_size(),
            counted(training.batch_size / distributed::world_size(), "image", "images")
        );
    }
}
