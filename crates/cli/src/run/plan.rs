//! Determines the settings of a run from the arguments: those of a recipe, of another run, or
//! automatic ones. Chooses the epochs for a time limit.

use anyhow::{Context, Result, ensure};
use portolan_data::Dataset;
use portolan_method::MethodEntry;
use portolan_tensor::device;
use portolan_train::duration;
use std::path::Path;
use std::time::Instant;
use toml::Table;

use crate::args::RunArgs;
use crate::config::overrides;
use crate::config::resolve::{Resolved, resolve};
use crate::config::{DataConfig, RunConfig};
use crate::data::open_data;
use crate::encoder_source::run_encoder;
use crate::methods;
use crate::run::automatic::{self, Automatic, Given};
use crate::run::estimate::{Counts, Estimate, Pace, most_epochs};
use crate::run::machine::{Images, Machine};
use crate::run::start::Start;

/// The time limit in seconds of an automatic run without `--time`.
const DEFAULT_TIME_LIMIT: f64 = 3600.0;
/// The share of the time limit to use. A machine can be slower than when it was measured.
const PLANNED_SHARE: f64 = 0.95;
/// Recipes that go on from trained weights.
const NEEDS_START: [&str; 2] = [automatic::CONTINUE, "imagenet-highres"];
/// A placeholder for epochs that are not chosen yet.
const OPEN: u64 = 1 << 40;

/// A run's settings and its images.
pub(crate) struct Plan {
    pub(crate) config: RunConfig,
    pub(crate) data: Dataset,
    /// One sentence for each setting of the recipe that was adapted to the data set or the number
    /// of epochs.
    pub(crate) notes: Vec<String>,
    /// What the run starts from, unless it is resumed; random weights if none.
    pub(crate) start: Option<Start>,
    epochs: Epochs,
}

/// How the number of epochs is determined.
enum Epochs {
    /// By the settings.
    Fixed,
    /// By a time limit in seconds. The function resolves the settings for a number of epochs.
    ByTime(f64, Box<dyn Fn(u64) -> Result<Resolved>>),
}

impl Plan {
    /// The run that the arguments describe, with the default recipe if they name none.
    ///
    /// # Errors
    /// If settings conflict, or the images cannot be opened.
    pub(crate) fn from_args(
        args: &RunArgs,
        default_recipe: impl Fn(&MethodEntry, &RunArgs) -> Result<String>,
    ) -> Result<Self> {
        if let Some(run) = &args.resume {
            let config = run_encoder::config_of(run)?;
            if let Some(method) = &args.method {
                ensure!(
                    *method == config.method,
                    "{} is a run of {}, not of {method}",
                    run.display(),
                    config.method
                );
            }
            return Self::resumed(config, args);
        }
        let name = args.method.as_deref().context("give a method, such as moco")?;
        let entry = methods::find(name)?;
        // The settings of a run name the recipe that they started from.
        let file = args.config.as_deref().map(overrides::recipe_in).transpose()?.flatten();
        let recipe = match args.recipe.clone().or(file) {
            Some(recipe) => recipe,
            None => default_recipe(entry, args)?,
        };
        Self::new(entry, &recipe, args)
    }

    /// The name of the method's first recipe for the images of `--data`, or of its first recipe.
    ///
    /// # Errors
    /// Never.
    pub(crate) fn first_recipe(entry: &MethodEntry, args: &RunArgs) -> Result<String> {
        let fitting = args.data.as_deref().and_then(|data| methods::recipe_for(entry, data));
        Ok(fitting.unwrap_or(entry.recipes[0].name).to_owned())
    }

    /// Resumes a run.
    ///
    /// # Errors
    /// If its images cannot be opened.
    fn resumed(config: RunConfig, args: &RunArgs) -> Result<Self> {
        let data = open_data(&config.data)?;
        let start = None; // its checkpoint has it all
        Self { config, data, notes: Vec::new(), start, epochs: Epochs::Fixed }.adapted(args)
    }

    /// Uses the recipe with this name, or automatic settings. A `--config` file of an automatic run
    /// is complete and is used as it is.
    ///
    /// # Errors
    /// If settings conflict, or the images cannot be opened.
    fn new(entry: &'static MethodEntry, recipe: &str, args: &RunArgs) -> Result<Self> {
        let start = Start::of(args)?;
        ensure!(
            start.is_some() || !NEEDS_START.contains(&recipe),
            "the recipe {recipe} goes on from trained weights; give them with --init FILE, for \
             instance --init dinov2_vits14_reg4_pretrain.pth or --init runs/…"
        );
        if recipe != automatic::NAME && recipe != automatic::CONTINUE {
            return Self::of(entry.recipe(recipe)?, start, args);
        }
        match &args.config {
            Some(file) if args.recipe.is_none() => Self::of(whole(file, entry)?, start, args),
            _ => Self::automatic(entry, recipe, start, args),
        }
    }

    /// Uses the settings in `table` with the changes of the arguments. `--time` chooses the epochs.
    fn of(mut table: Table, start: Option<Start>, args: &RunArgs) -> Result<Self> {
        if let Some(start) = &start {
            start.apply(&mut table, args.encoder.is_some())?;
        }
        let (config, notes) = resolve(table.clone(), args)?;
        let data = open_data(&config.data)?;
        let epochs = match args.time {
            Some(time) if args.epochs.is_none() => {
                let args = args.clone();
                let with = move |epochs: u64| {
                    let args = RunArgs { epochs: Some(epochs as i64), ..args.clone() };
                    resolve(table.clone(), &args)
                };
                Epochs::ByTime(time.as_secs_f64(), Box::new(with))
            }
            _ => Epochs::Fixed,
        };
        Self { config, data, notes, start, epochs }.adapted(args)
    }

    /// Chooses settings for the images and the machine.
    fn automatic(
        entry: &'static MethodEntry,
        recipe: &str,
        start: Option<Start>,
        args: &RunArgs,
    ) -> Result<Self> {
        let source = args.data.clone().context("give the images to train on with --data FOLDER")?;
        let limit = |n: Option<i64>| n.unwrap_or(0).max(0) as usize;
        let (limit, limit_test) = (limit(args.limit), limit(args.limit_test));
        let opened = DataConfig { limit, limit_test, ..DataConfig::whole(source, 32) };
        let mut data = open_data(&opened)?;
        let device = device::choose(args.device.as_deref().unwrap_or("auto"))?;
        let (mut images, machine) = (Images::of(&data)?, Machine::of(device)?);

        let named = args.encoder.is_some();
        let given = Given {
            recipe: (recipe != automatic::NAME).then_some(recipe),
            start: start.as_ref(),
            named,
        };
        let mut chosen = automatic::choose(entry, &images, &machine, &given, None)?;
        let (mut config, mut notes) = resolve(chosen.table(OPEN)?, args)?;
        if config.data != opened {
            // A setting changes the images.
            data = open_data(&config.data)?;
            images = Images::of(&data)?;
            chosen = automatic::choose(entry, &images, &machine, &given, None)?;
            (config, notes) = resolve(chosen.table(OPEN)?, args)?;
        }
        let batch = chosen.choices.iter().find(|choice| choice.setting == "training.batch_size");
        let wanted = config.training.batch_size;
        if batch.and_then(|choice| choice.value.as_integer()) != Some(wanted as i64) {
            chosen = automatic::choose(entry, &images, &machine, &given, Some(wanted))?;
        }
        let given = Some(config.training.epochs).filter(|&epochs| epochs != OPEN);
        if let Some(epochs) = given {
            (config, notes) = resolve(chosen.table(epochs)?, args)?;
        }
        print_choices(&chosen, &images, &config)?;
        let args_too = args.clone();
        let epochs = match given {
            Some(_) => Epochs::Fixed,
            None => Epochs::ByTime(
                args.time.map_or(DEFAULT_TIME_LIMIT, |time| time.as_secs_f64()),
                Box::new(move |epochs| resolve(chosen.table(epochs)?, &args_too)),
            ),
        };
        Self { config, data, notes, start, epochs }.adapted(args)
    }

    /// Applies what only the device and the images determine.
    fn adapted(mut self, args: &RunArgs) -> Result<Self> {
        if let Some(device) = &args.device {
            self.config.device.clone_from(device);
        }
        if self.start.is_none() && args.resume.is_none() && !self.config.init.is_empty() {
            // Given as a setting.
            self.start = Some(Start::open(Path::new(&self.config.init), args.encoder.as_deref())?);
        }
        self.adapt()?;
        Ok(self)
    }

    /// Resolves where augmentation runs, and sets the normalization: that of the encoder that the
    /// run starts from, or else that of the images.
    fn adapt(&mut self) -> Result<()> {
        let config = &mut self.config;
        config.augment = config.augment.on(device::choose(&config.device)?);
        let resumed = config.normalization().filter(|_| !config.init.is_empty());
        let (mean, std) = match &self.start {
            Some(start) => start.normalization(),
            None => resumed.unwrap_or((self.data.mean, self.data.std)),
        };
        for op in config.views.iter_mut().flat_map(|views| &mut views.ops) {
            op.normalize_by(mean, std);
        }
        Ok(())
    }

    /// Whether the epochs are chosen from a time limit.
    pub(crate) fn by_time(&self) -> bool {
        matches!(self.epochs, Epochs::ByTime(..))
    }

    /// Chooses the epochs, if there is a time limit, for a run that began at `started`.
    ///
    /// # Errors
    /// If the settings cannot be resolved.
    pub(crate) fn choose_epochs(
        &mut self,
        pace: Pace,
        counts: Counts,
        started: Instant,
    ) -> Result<()> {
        let Epochs::ByTime(time, with) = &self.epochs else { return Ok(()) };
        let left = time * PLANNED_SHARE - started.elapsed().as_secs_f64();
        let takes = |epochs| Ok(Estimate::new(&with(epochs)?.0, counts, pace, 0).seconds());
        let epochs = most_epochs(left, takes)?;
        let (first, time) = (takes(1)?, *time);
        let device = self.config.device.clone();
        (self.config, self.notes) = with(epochs)?;
        self.config.device = device;
        self.adapt()?;
        eprintln!(
            "epochs   {epochs}, {}",
            if first > left {
                let first = duration(first);
                format!(
                    "although even 1 epoch takes about {first}; --limit N trains on fewer images"
                )
            } else {
                format!("so that the run ends within {} (change with --time)", duration(time))
            }
        );
        Ok(())
    }
}

/// The complete settings that a run has written.
fn whole(file: &Path, entry: &MethodEntry) -> Result<Table> {
    let table = overrides::read(file)?;
    let method = table.get("method").and_then(toml::Value::as_str).unwrap_or_default();
    ensure!(
        method == entry.name,
        "{} has settings for {method}, not for {}",
        file.display(),
        entry.name
    );
    Ok(table)
}

/// Prints the chosen settings with their reasons.
fn print_choices(chosen: &Automatic, images: &Images, config: &RunConfig) -> Result<()> {
    let Images { count, side, gray, .. } = images;
    let color = if *gray { "gray" } else { "color" };
    eprintln!(
        "settings for {count} {color} images of {side} px; override any with its flag or --set"
    );
    eprint!("{}", chosen.text(config)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::build::build_method;
    use crate::config::teacher;
    use portolan::METHODS;
    use portolan_tensor::{Device, tch};
    use std::time::Duration;

    const PACE: Pace = Pace { step: 0.5, image: 0.001, checkpoint: 0, encoder: 0, width: 8 };

    /// Arguments for a folder of `n` images of 120 by 100 pixels in `root`.
    fn photos(root: &Path, n: u32) -> RunArgs {
        for i in 0..n {
            let pixel = |x, y| image::Rgb([(i * 9) as u8, (x * 2) as u8, (y * 2) as u8]);
            image::RgbImage::from_fn(120, 100, pixel)
                .save(root.join(format!("{i:02}.png")))
                .unwrap();
        }
        RunArgs {
            data: Some(root.display().to_string()),
            device: Some("cpu".to_owned()),
            ..RunArgs::default()
        }
    }

    #[test]
    fn every_method_has_settings_for_a_folder_of_photos() {
        tch::set_num_threads(1);
        let folder = tempfile::tempdir().unwrap();
        let args = photos(folder.path(), 20);
        for entry in METHODS {
            let mut plan = Plan::new(entry, automatic::NAME, &args).unwrap();
            assert!(plan.by_time(), "{}", entry.name);
            plan.choose_epochs(PACE, Counts::of(&plan.data), Instant::now()).unwrap();
            teacher::add_random(&mut plan.config).unwrap();
            let config = &plan.config;
            config.training.validate(20, Device::Cpu).unwrap();
            build_method(config, Device::Cpu).unwrap();
            // 95 % of an hour is used; an epoch has five steps of four images.
            assert!((1_000..1_400).contains(&config.training.epochs), "{}", config.training.epochs);
            assert_eq!((config.evaluation.size, config.training.batch_size), (96, 4));
        }
    }

    #[test]
    fn settings_are_chosen_for_the_images_as_they_are_opened() {
        let args = |set: &str| RunArgs {
            data: Some("shapes".to_owned()),
            device: Some("cpu".to_owned()),
            limit: Some(8),
            limit_test: Some(4),
            set: vec![set.to_owned()],
            ..RunArgs::default()
        };
        let simclr = crate::methods::find("simclr").unwrap();
        let sizes = |set: &str| {
            let plan = Plan::new(simclr, automatic::NAME, &args(set)).unwrap();
            (plan.config.data.size, plan.config.evaluation.size)
        };
        assert_eq!(sizes("seed=1"), (32, 32));
        assert_eq!(sizes("data.size=64"), (64, 64));
    }

    #[test]
    fn flags_override_the_time_limit() {
        let folder = tempfile::tempdir().unwrap();
        let args = RunArgs {
            epochs: Some(3),
            batch_size: Some(10),
            time: Some(Duration::from_secs(600)),
            ..photos(folder.path(), 20)
        };
        let moco = crate::methods::find("moco").unwrap();
        let plan = Plan::new(moco, automatic::NAME, &args).unwrap();
        assert!(!plan.by_time());
        assert_eq!((plan.config.training.epochs, plan.config.training.batch_size), (3, 10));
        let by_set = RunArgs { epochs: None, set: vec!["epochs=4".to_owned()], ..args.clone() };
        let plan = Plan::new(moco, automatic::NAME, &by_set).unwrap();
        assert_eq!((plan.by_time(), plan.config.training.epochs), (false, 4));

        let timed = RunArgs { epochs: None, ..args };
        let mut plan = Plan::new(moco, "shapes", &timed).unwrap();
        plan.choose_epochs(PACE, Counts::of(&plan.data), Instant::now()).unwrap();
        let epochs = plan.config.training.epochs;
        assert_eq!(plan.config.recipe, "shapes");
        assert!((500..=570).contains(&epochs), "two steps of half a second an epoch: {epochs}");
    }

    #[test]
    fn the_config_file_of_a_run_reproduces_it() {
        let folder = tempfile::tempdir().unwrap();
        let args = RunArgs { epochs: Some(3), ..photos(folder.path(), 20) };
        let dino = crate::methods::find("dino").unwrap();
        let first = Plan::new(dino, automatic::NAME, &args).unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, toml::to_string(&first.config).unwrap()).unwrap();
        let args = RunArgs { config: Some(file), ..RunArgs::default() };
        let again = Plan::new(dino, automatic::NAME, &args).unwrap();
        assert!(!again.by_time());
        let text = |plan: &Plan| toml::to_string(&plan.config).unwrap();
        assert_eq!(text(&again), text(&first));
        let other = Plan::new(crate::methods::find("moco").unwrap(), automatic::NAME, &args);
        assert!(other.err().unwrap().to_string().contains("dino, not for moco"));
    }
}
