//! Resolves a recipe and the arguments to the settings of a run.

use anyhow::{Context, Result, anyhow};
use portolan_data::shapes::Palette;
use portolan_encoders::EncoderConfig;
use toml::{Table, Value};

use super::RunConfig;
use super::adapt::{Layers, adapt};
use super::overrides;
use crate::args::RunArgs;

/// The settings, and one sentence for each setting of the recipe that was adapted to the data set
/// or the number of epochs.
pub(crate) type Resolved = (RunConfig, Vec<String>);

/// Applies the file, the flags and --set to the recipe, in this order.
pub(crate) fn resolve(mut table: Table, args: &RunArgs) -> Result<Resolved> {
    // Recipes do not name an initial encoder, but any run may.
    table.entry("init").or_insert_with(|| Value::String(String::new()));
    if let Some(data) = table.get_mut("data").and_then(Value::as_table_mut) {
        data.entry("palette").or_insert_with(|| Palette::Standard.to_string().into());
    }
    if let Some(evaluation) = table.get_mut("evaluation").and_then(Value::as_table_mut) {
        evaluation.entry("baselines").or_insert(false.into());
    }
    complete_encoder(&mut table)?;
    let recipe = table.clone();
    let file = args.config.as_deref().map(overrides::read).transpose()?;
    if let Some(file) = &args.config {
        overrides::apply_file(&mut table, file)?;
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
            given.push(overrides::set(&mut table, key, value)?);
        }
    }
    if let Some(name) = &args.encoder {
        let config = EncoderConfig::named(name)?;
        let named = Table::try_from(&config)?;
        let encoder = table["encoder"].as_table_mut().context("the recipe has no encoder")?;
        if named["family"] != encoder["family"] {
            *encoder = named;
        } else {
            // Other settings of the recipe's encoder, such as the stem, stay as they are.
            for key in config.size_keys() {
                encoder.insert((*key).to_owned(), named[*key].clone());
            }
        }
    }
    if let Some(teacher) = &args.teacher {
        teacher.insert_into(&mut table)?;
    }
    for text in &args.set {
        given.push(overrides::set_from_text(&mut table, text)?);
    }
    let layers = Layers { recipe: &recipe, file: file.as_ref(), given: &given };
    let notes = adapt(&mut table, &layers);
    // The error of `toml` has several lines.
    let one_line = |error: toml::de::Error| error.to_string().trim().replace('\n', " ");
    let config = table
        .try_into()
        .map_err(|error| anyhow!("the settings cannot be used: {}", one_line(error)))?;
    Ok((config, notes))
}

/// Adds the encoder's settings that a recipe leaves out, so that flags can change them.
fn complete_encoder(table: &mut Table) -> Result<()> {
    if let Some(encoder) = table.get_mut("encoder") {
        *encoder = Value::try_from(encoder.clone().try_into::<EncoderConfig>()?)?;
    }
    Ok(())
}
