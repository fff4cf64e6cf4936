//! A run of a text method: trains, evaluates and writes the results.

use anyhow::{Context, Result, ensure};
use portolan_interchange::LoadedText;
use portolan_method::{TextMethod, TextMethodEntry};
use portolan_report::counted;
use portolan_sequences::TextTask;
use portolan_tensor::distributed::{self, Launch};
use portolan_tensor::{Device, device, io};
use portolan_text::Tokens;
use portolan_train::Job;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use super::build::build;
use super::config::{MODEL, TOKENIZER, TextRunConfig, resolve, stored};
use super::corpus::{Prepared, prepare};
use super::{hub, page, results, samples};
use crate::args::RunArgs;
use crate::data::print_notes;
use crate::run::folder::RunFolder;
use crate::run::process_group;
use crate::run::setup::{Setup, set_up};
use crate::run::signals::{STOP, listen_for_stop};
use crate::run::{Trained, train};

/// `portolan reproduce bert` and `gpt`.
pub(crate) fn reproduce(entry: &'static TextMethodEntry, args: &RunArgs) -> Result<ExitCode> {
    execute(entry, args, entry.recipes[0].name)
}

/// `portolan pretrain bert` and `gpt`.
pub(crate) fn pretrain(entry: &'static TextMethodEntry, args: &RunArgs) -> Result<ExitCode> {
    ensure!(
        args.data.is_some() || args.resume.is_some() || args.config.is_some(),
        "give the text to train on: --data FILE or FOLDER (or --data shakespeare)"
    );
    execute(entry, args, entry.recipes[0].name)
}

fn execute(entry: &'static TextMethodEntry, args: &RunArgs, recipe: &str) -> Result<ExitCode> {
    let (mut config, changes) = match &args.resume {
        Some(run) => (stored(run)?, Vec::new()),
        None => resolve(entry, args.recipe.as_deref().unwrap_or(recipe), args)?,
    };
    ensure!(
        config.method == entry.name,
        "this is a run of {}, not of {}",
        config.method,
        entry.name
    );
    if let (Some(device), Some(_)) = (&args.device, &args.resume) {
        config.device.clone_from(device);
    }
    let launch = Launch::from_env()?;
    let (place, threads) =
        process_group::place(launch.as_ref(), &config.device, args.threads.count)?;
    let Setup { device, .. } = set_up(&place, threads)?;
    let membership = process_group::join(launch.as_ref(), device)?;
    let first = distributed::rank() == 0;
    let folder = RunFolder::of(args, &config.method, &config.recipe)?;
    let tokens = args.resume.as_ref().map(|run| Tokens::open(&run.join(TOKENIZER))).transpose()?;
    let mut prepared = prepare(&config, tokens)?;
    prepared.notes.extend(changes);
    config.training.validate(prepared.train.len(), device)?;
    let mut method = build(&config, &prepared.tokens, device)?;
    if !config.init.is_empty() && folder.checkpoint.is_none() {
        start_from(&config, &*method, &mut prepared.notes)?;
    }
    process_group::synchronize(&method.state(), config.seed)?;
    folder.create(&toml::to_string(&config)?)?;
    let at = folder.path.as_path();
    if args.resume.is_none() && first {
        io::write_atomic(&at.join(TOKENIZER), prepared.tokens.to_json()?.as_bytes())?;
    }
    if first {
        print_plan(&config, &prepared, at, device);
    }
    listen_for_stop()?;
    let add_samples = |epoch: u64, method: &dyn TextMethod| {
        if first { samples::add(at, epoch, method, &prepared.tokens) } else { Ok(()) }
    };
    let mut task = TextTask {
        method: &mut *method,
        train: prepared.train.clone(),
        test: &prepared.test,
        characters_per_token: (!entry.masks).then_some(prepared.characters_per_token),
        seed: config.seed,
        device,
        precision: config.training.precision,
        accumulate: config.training.accumulate,
        at_epoch_end: Some(&add_samples),
    };
    let job = Job {
        name: &config.method,
        traits: entry.traits,
        config: &config.training,
        checksum: &prepared.checksum()?,
        seed: config.seed,
        device,
        folder: at,
        resume: folder.checkpoint.clone(),
        stop: &STOP,
        afterwards: 0.0,
        tensorboard: args.tensorboard,
    };
    let outcome = match train(&mut task, &job, membership)? {
        Trained::Complete(outcome) => outcome,
        Trained::Ended(code) => return Ok(code),
    };
    eprintln!("evaluating");
    let results = results::measure(&config, &prepared, &*method, &outcome, device)?;
    results.write(at)?;
    // transformers reads no file that does not name its format.
    let format = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    io::save(&at.join(MODEL), &method.state(), &format)
        .context("the trained network cannot be written")?;
    hub::write(&config, &prepared.tokens, at)?;
    let page = page::write(&config, &prepared, &*method, &results, at, device)?;
    eprintln!("{}", results.sentence());
    for [what, value, beside] in results.rows() {
        eprintln!("{what:18} {value:11} {beside}");
    }
    eprintln!("report             {}", page.display());
    Ok(ExitCode::SUCCESS)
}

/// Copies the weights of the network that the run starts from.
fn start_from(
    config: &TextRunConfig,
    method: &dyn TextMethod,
    notes: &mut Vec<String>,
) -> Result<()> {
    let has_head = LoadedText::open(Path::new(&config.init))?
        .copy_into(&method.state())
        .with_context(|| format!("{} does not fit the settings of the run", config.init))?;
    notes.push(format!("the run starts from the network in {}", config.init));
    if !has_head {
        notes.push("it has no output layer; that of the run starts from random values".to_owned());
    }
    Ok(())
}

/// Prints a summary of the run before it starts.
fn print_plan(config: &TextRunConfig, prepared: &Prepared, folder: &Path, device: Device) {
    let training = &config.training;
    let encoder = &config.encoder;
    eprintln!("method   {} ({}), seed {}", config.method, config.recipe, config.seed);
    eprintln!(
        "text     {}: {}, {} characters; {} to train on, {} held out",
        prepared.corpus.name,
        counted(prepared.corpus.documents.len(), "document", "documents"),
        prepared.corpus.characters(),
        counted(prepared.train.len(), "sequence", "sequences"),
        prepared.test.len(),
    );
    eprintln!(
        "tokens   {} in the vocabulary, {:.2} characters each",
        prepared.tokens.size(),
        prepared.characters_per_token
    );
    eprintln!(
        "encoder  {} blocks of width {}, {} in batches of {}, {} on {}",
        encoder.depth,
        encoder.width,
        counted(training.epochs as usize, "epoch", "epochs"),
        training.batch_size,
        crate::run::report::precision_name(training.precision),
        device::name(device)
    );
    eprintln!("run      {}", folder.display());
    print_notes(&prepared.notes);
}
