//! `pretrain` without a recipe: chooses settings for the images and the machine, each with a
//! reason.
//!
//! [`choose`] makes the choices. All other settings come from a recipe of the method:
//!
//! | images | on a CPU | on a GPU |
//! |---|---|---|
//! | fewer than 20,000 | `shapes`, made for short runs of small batches | the same, with a wider
//! encoder |
//! | more | the same | `cifar10` or `imagenet`, with as large a batch as fits |

mod case;
mod continued;
mod views;

#[cfg(test)]
mod tests;

use anyhow::{Result, ensure};
use portolan_method::MethodEntry;
use portolan_optim::Schedule;
use portolan_optim::schedule::Per;
use serde::Serialize;
use std::fmt::Display;
use toml::{Table, Value};

use self::case::{Case, unit};
use crate::config::RunConfig;
use crate::config::overrides::at;
use crate::run::machine::{Images, Machine};
use crate::run::start::Start;

/// The recipe name in the `config.toml` of an automatic run.
pub(crate) const NAME: &str = "auto";

/// The recipe that goes on from trained weights. What it does not name is chosen too.
pub(crate) const CONTINUE: &str = "continue";

/// Images with at least this short side, in pixels, are treated as photos.
const PHOTO: u32 = 96;
/// With at least this many images, a GPU uses the recipes of the papers.
const MANY: usize = 20_000;
/// The minimum number of steps per epoch.
const STEPS: usize = 4;
/// How often features are evaluated during the run.
const EVALUATIONS: u64 = 5;
/// A GPU with less memory than this, in bytes, gets a small encoder.
const SMALL_GPU: u64 = 10 << 30;
/// CPUs with at least this many cores train on photos of 128 pixels.
const MANY_CORES: usize = 8;

/// A setting, its value, and the reason for it.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// Its path, as for `--set`.
    pub(crate) setting: &'static str,
    pub(crate) value: Value,
    /// The value as text for the user.
    pub(crate) text: String,
    pub(crate) reason: String,
}

impl Choice {
    fn new(setting: &'static str, value: impl Serialize, reason: impl Display) -> Result<Self> {
        let value = Value::try_from(value)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(Choice { setting, value, text, reason: reason.to_string() })
    }

    fn with_text(self, text: String) -> Self {
        Choice { text, ..self }
    }
}

/// The settings chosen for a run, except those that depend on its epochs.
pub(crate) struct Automatic {
    /// The recipe to which the choices are applied.
    base: Table,
    pub(crate) choices: Vec<Choice>,
}

/// What the user has given, beside flags.
#[derive(Clone, Copy, Default)]
pub(crate) struct Given<'a> {
    /// The recipe, instead of one that suits the images.
    pub(crate) recipe: Option<&'a str>,
    /// What the run starts from.
    pub(crate) start: Option<&'a Start>,
    /// Whether the encoder is named, instead of that of `start`.
    pub(crate) named: bool,
}

/// Chooses the settings of a method for these images and this machine. `batch` is the batch size,
/// if the user has set it.
///
/// # Errors
/// If there is only one image, or the method cannot learn from the images.
pub(crate) fn choose(
    method: &MethodEntry,
    images: &Images,
    machine: &Machine,
    given: &Given,
    batch: Option<usize>,
) -> Result<Automatic> {
    ensure!(images.count >= 2, "there is only 1 image; pretraining needs at least 2");
    ensure!(
        !method.needs_color || !images.gray,
        "colorization learns from colors, but these images are gray; choose another method, such \
         as simclr"
    );
    let photos = images.side >= PHOTO;
    let large = machine.gpu && images.count >= MANY;
    let papers = if photos { "imagenet" } else { "cifar10" };
    let recipe = |name| -> Result<RunConfig> { Ok(method.recipe(name)?.try_into()?) };
    let name = given.recipe.unwrap_or(if large { papers } else { "shapes" });
    let base = recipe(name)?;
    let start = given.start.filter(|_| !given.named);
    let case = Case { images, machine, photos, large, base: &base, start };

    let mut all = Vec::new();
    let (size, why) = case.size();
    all.push(Choice::new("evaluation.size", size, why)?.with_text(format!("{size} px")));
    let resize = if photos { size * 256 / 224 } else { size };
    let why =
        if photos { "evaluation uses a center crop" } else { "evaluation uses the whole image" };
    all.push(Choice::new("evaluation.resize", resize, why)?.with_text(format!("{resize} px")));
    let (encoder, why) = case.encoder(size);
    all.push(Choice::new("encoder", &encoder, why)?.with_text(encoder.name()));
    let papers = given.recipe.filter(|_| photos).unwrap_or(papers);
    let from = recipe(papers)?;
    let scale = views::Scale { own: from.evaluation.size, size, unit: unit(&encoder, photos) };
    let mut views = scale.apply(&from.views, images.gray);
    if let Some(start) = given.start {
        views = start.normalized(views);
    }
    let why = if images.gray {
        format!("as in the recipe {papers}, without color changes because the images are gray")
    } else {
        format!("as in the recipe {papers}")
    };
    all.push(Choice::new("views", &views, why)?.with_text(views::text(&views)));
    let (fits, why) = case.batch(&views, &encoder);
    let why = if batch.is_some() { "given by you".to_owned() } else { why };
    let batch = batch.unwrap_or(fits);
    all.push(Choice::new("training.batch_size", batch as i64, why)?);
    all.extend(case.learning_rate(batch)?);
    all.extend(case.batch_norm_splits(&encoder, batch)?);
    let (precision, why) = case.precision();
    all.push(Choice::new("training.precision", precision, why)?);
    all.extend(case.queue(batch)?);
    all.extend(case.puzzle(size, &encoder)?);
    all.extend(case.neighbors()?);
    if let Some(heads) = given.start.and_then(|start| start.settings_of(method.name)) {
        all.extend(continued::heads(&base, heads)?);
    }

    let mut table = method.recipe(name)?;
    table.remove("published");
    table.insert("recipe".to_owned(), given.recipe.unwrap_or(NAME).into());
    for limit in ["data.limit", "data.limit_test"] {
        put(&mut table, limit, 0.into());
    }
    Ok(Automatic { base: table, choices: all })
}

impl Automatic {
    /// All settings for a run of `epochs` epochs.
    ///
    /// # Errors
    /// If the recipe is invalid.
    pub(crate) fn table(&self, epochs: u64) -> Result<Table> {
        let mut table = self.base.clone();
        for choice in self.choices.iter().cloned().chain(self.spans(epochs)?) {
            put(&mut table, choice.setting, choice.value);
        }
        Ok(table)
    }

    /// The settings that count epochs.
    fn spans(&self, epochs: u64) -> Result<Vec<Choice>> {
        let base: RunConfig = self.base.clone().try_into()?;
        let share = epochs as f64 / base.training.epochs as f64;
        let scaled = |n: u64| (n as f64 * share).round() as u64;
        let schedule = match base.training.schedule.clone() {
            Schedule::Cosine { warmup_epochs, start, last, per } => {
                let warmup_epochs = match per {
                    Per::Step => warmup_epochs * share,
                    Per::Epoch => (warmup_epochs * share).floor(),
                };
                Schedule::Cosine { warmup_epochs, start, last, per }
            }
            Schedule::Drops { epochs, factor } => {
                Schedule::Drops { epochs: epochs.into_iter().map(scaled).collect(), factor }
            }
            Schedule::Constant => Schedule::Constant,
        };
        let as_recipe = "scaled to the length of the run";
        let mut all = vec![
            Choice::new("training.epochs", epochs, "")?,
            Choice::new("training.schedule", schedule, as_recipe)?,
            Choice::new("training.knn_every", (epochs / EVALUATIONS).max(1), "five evaluations")?,
        ];
        all.extend(continued::frozen(&base, &self.choices, share)?);
        // DINO freezes its last layer for one epoch, which must not be most of the run.
        if base.settings.get("freeze_last_layer").is_some() && epochs < STEPS as u64 {
            all.push(Choice::new("settings.freeze_last_layer", 0, "the run is short")?);
        }
        Ok(all)
    }

    /// One line for each choice that the user did not override.
    pub(crate) fn text(&self, config: &RunConfig) -> Result<String> {
        let table = Table::try_from(config)?;
        let kept = |choice: &&Choice| at(&table, choice.setting) == Some(&choice.value);
        let line = |choice: &Choice| {
            let name = choice.setting.rsplit('.').next().unwrap_or_default();
            format!("  {name:18} {:22} {}\n", choice.text, choice.reason)
        };
        Ok(self.choices.iter().filter(kept).map(line).collect())
    }
}

/// Sets the value at a path whose tables exist.
fn put(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            if let Some(inner) = table.get_mut(first).and_then(Value::as_table_mut) {
                put(inner, rest, value);
            }
        }
    }
}
