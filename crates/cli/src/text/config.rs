//! The settings of a text method's run, as stored in `config.toml`.

use anyhow::{Context, Result, anyhow, bail, ensure};
use portolan_encoders::TextConfig;
use portolan_interchange::{LoadedText, TextFamily};
use portolan_method::TextMethodEntry;
use portolan_text::{Split, TokenizerKind};
use portolan_train::TrainConfig;
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

use crate::args::RunArgs;
use crate::config::adapt::{Layers, adapt};
use crate::config::overrides;

/// The tokenizer in a run's folder.
pub(crate) const TOKENIZER: &str = "tokenizer.json";
/// The trained network in a run's folder, with transformers' names.
pub(crate) const MODEL: &str = "model.safetensors";

/// A recipe, or the resolved settings of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextRunConfig {
    /// The name of the method.
    pub(crate) method: String,
    /// The recipe these settings started from.
    pub(crate) recipe: String,
    /// The folder of the network that the run starts from; empty for random initial values.
    #[serde(default)]
    pub(crate) init: String,
    /// The random seed.
    pub(crate) seed: u64,
    /// The device: auto, cpu, cuda or cuda:N.
    pub(crate) device: String,
    /// The text.
    pub(crate) data: TextData,
    /// The tokenizer.
    pub(crate) tokenizer: TokenizerConfig,
    /// The encoder.
    pub(crate) encoder: EncoderSizes,
    /// The settings specific to the method.
    pub(crate) settings: Table,
    /// The training loop.
    pub(crate) training: TrainConfig,
    /// Published results to compare with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) published: Vec<PublishedText>,
}

/// The text of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextData {
    /// shakespeare, or a path.
    pub(crate) source: String,
    /// What is held out: `last_tenth` of every document, or whole `documents`.
    pub(crate) split: Split,
}

/// The tokenizer of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenizerConfig {
    /// The kind to train: characters, bpe or word_piece.
    pub(crate) kind: TokenizerKind,
    /// The most tokens that it may have.
    pub(crate) size: usize,
    /// A `tokenizer.json` to use instead of training one; empty for none.
    #[serde(default)]
    pub(crate) file: String,
}

/// The sizes of the encoder; the tokenizer determines its vocabulary.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EncoderSizes {
    /// The most tokens of a sequence.
    pub(crate) positions: i64,
    /// The dimension of a token.
    pub(crate) width: i64,
    /// The number of blocks.
    pub(crate) depth: i64,
    /// The number of attention heads.
    pub(crate) heads: i64,
    /// The probability of zeroing a number in training.
    pub(crate) dropout: f64,
}

impl EncoderSizes {
    /// The encoder for a vocabulary of this size.
    pub(crate) fn with_vocabulary(&self, vocabulary: i64) -> TextConfig {
        let &EncoderSizes { positions, width, depth, heads, dropout } = self;
        TextConfig { vocabulary, positions, width, depth, heads, dropout }
    }
}

/// A published result.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishedText {
    /// The authors and the publication.
    pub(crate) source: String,
    /// What was measured, in words.
    pub(crate) metric: String,
    /// The result.
    pub(crate) value: f64,
    /// On which text.
    pub(crate) data: String,
    /// A description of the setting.
    pub(crate) setting: String,
}

/// The settings of the recipe with the changes of the arguments.
///
/// A sentence for each setting that was adapted to another number of epochs.
///
/// # Errors
/// If a setting is unknown or has another type, or a flag is for images only.
pub(crate) fn resolve(
    entry: &TextMethodEntry,
    recipe: &str,
    args: &RunArgs,
) -> Result<(TextRunConfig, Vec<String>)> {
    refuse_image_flags(entry, args)?;
    let mut table = entry.recipe(recipe)?;
    table["tokenizer"]
        .as_table_mut()
        .context("the recipe has no tokenizer")?
        .entry("file")
        .or_insert_with(|| Value::String(String::new()));
    table.entry("init").or_insert_with(|| Value::String(String::new()));
    let recipe_table = table.clone();
    let file = args.config.as_deref().map(overrides::read).transpose()?;
    if let Some(file) = &args.config {
        overrides::apply_file(&mut table, file)?;
    }
    if let Some(init) = &args.init {
        start_from(init, entry, &mut table)?;
    }
    let mut given = Vec::new();
    let text = |value: &Option<String>| value.clone().map(Value::String);
    let flags = [
        ("data.source", text(&args.data)),
        ("training.epochs", args.epochs.map(Value::Integer)),
        ("training.batch_size", args.batch_size.map(Value::Integer)),
        ("training.precision", text(&args.precision)),
        ("training.on_divergence", text(&args.on_divergence)),
        ("seed", args.seed.map(Value::Integer)),
        ("device", text(&args.device)),
    ];
    for (key, value) in flags {
        if let Some(value) = value {
            given.push(overrides::set(&mut table, key, value)?);
        }
    }
    for text in &args.set {
        given.push(overrides::set_from_text(&mut table, text)?);
    }
    let layers = Layers { recipe: &recipe_table, file: file.as_ref(), given: &given };
    let notes = adapt(&mut table, &layers);
    let one_line = |error: toml::de::Error| error.to_string().trim().replace('\n', " ");
    let config: TextRunConfig = table
        .try_into()
        .map_err(|error| anyhow!("the settings cannot be used: {}", one_line(error)))?;
    ensure!(
        !config.data.source.is_empty(),
        "the recipe {recipe} has no text of its own; give it with --data FILE or FOLDER"
    );
    Ok((config, notes))
}

/// Gives the encoder the sizes of the network in this folder, and the run its tokenizer.
fn start_from(init: &Path, entry: &TextMethodEntry, table: &mut Table) -> Result<()> {
    let loaded = LoadedText::open(init)?;
    ensure!(
        (loaded.family == TextFamily::Bert) == entry.masks,
        "{} has another network than {}; give a folder of one",
        init.display(),
        entry.title
    );
    let config = loaded.config;
    let sizes = [
        ("positions", config.positions),
        ("width", config.width),
        ("depth", config.depth),
        ("heads", config.heads),
    ];
    for (name, size) in sizes {
        overrides::set(table, &format!("encoder.{name}"), Value::Integer(size))?;
    }
    let text = |path: &Path| Value::String(path.display().to_string());
    overrides::set(table, "tokenizer.file", text(&init.join(TOKENIZER)))?;
    overrides::set(table, "init", text(init))?;
    Ok(())
}

/// Refuses flags that have no meaning for text.
fn refuse_image_flags(entry: &TextMethodEntry, args: &RunArgs) -> Result<()> {
    let given = [
        ("--encoder", args.encoder.is_some()),
        ("--augment", args.augment.is_some()),
        ("--limit", args.limit.is_some()),
        ("--limit-test", args.limit_test.is_some()),
        ("--max-bad", args.max_bad.is_some()),
        ("--time", args.time.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => bail!(
            "{flag} is for methods of images, and {} learns from text; --set changes its settings",
            entry.title
        ),
        None => Ok(()),
    }
}

/// The settings that a run has stored.
///
/// # Errors
/// If the folder has none that can be read.
pub(crate) fn stored(run: &Path) -> Result<TextRunConfig> {
    let path = run.join("config.toml");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("{} cannot be read; is {} a run?", path.display(), run.display())
    })?;
    toml::from_str(&text)
        .with_context(|| format!("{} is not of a run that learned from text", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::text::find;
    use portolan::TEXT_METHODS;
    use portolan_method::Vocabulary;
    use portolan_tensor::Device;

    #[test]
    fn every_recipe_can_be_read_and_has_settings_that_work() {
        for entry in TEXT_METHODS {
            for recipe in entry.recipes {
                let args = RunArgs { data: Some("notes".to_owned()), ..RunArgs::default() };
                let (config, _) = resolve(entry, recipe.name, &args).unwrap();
                assert_eq!(
                    (config.method.as_str(), config.recipe.as_str()),
                    (entry.name, recipe.name)
                );
                config.training.validate(10_000, Device::Cpu).unwrap();
            }
        }
    }

    #[test]
    fn the_base_recipes_are_as_large_as_the_published_models() {
        // `bert-base-uncased` as BertForMaskedLM, and `gpt2`.
        for (name, parameters) in [("bert", 109_514_298), ("gpt", 124_439_808)] {
            let entry = find(name).unwrap();
            let args = RunArgs { data: Some("notes".to_owned()), ..RunArgs::default() };
            let (config, _) = resolve(entry, "base", &args).unwrap();
            let size = config.tokenizer.size as i64;
            let special = vec![0];
            let vocabulary = Vocabulary { size, mask: Some(0), special, continues: vec![] };
            let encoder = config.encoder.with_vocabulary(size);
            let method =
                (entry.build)(config.settings, &encoder, &vocabulary, Device::Cpu).unwrap();
            let found: usize = method.state().iter().map(|(_, tensor)| tensor.numel()).sum();
            assert_eq!(found, parameters, "{name}");
        }
    }

    #[test]
    fn flags_for_images_and_unknown_recipes_are_refused() {
        let gpt = find("gpt").unwrap();
        let of = |args: RunArgs, recipe| resolve(gpt, recipe, &args).unwrap_err().to_string();
        let encoder = RunArgs { encoder: Some("resnet18".to_owned()), ..RunArgs::default() };
        assert!(of(encoder, "shakespeare").contains("--encoder is for methods of images"));
        assert!(of(RunArgs::default(), "imagenet").contains("it has shakespeare, base"));
        assert!(of(RunArgs::default(), "base").contains("--data"));
        let wrong = RunArgs { set: vec!["widht=3".to_owned()], ..RunArgs::default() };
        let error = format!("{:#}", resolve(gpt, "shakespeare", &wrong).unwrap_err());
        assert!(error.contains("encoder.width"), "{error}");
    }
}
