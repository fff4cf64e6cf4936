//! Adapts settings that were written for another data set or number of epochs.

use toml::{Table, Value};

use crate::config::overrides::at;

/// In a shorter run, spans keep their length up to this share of the run. No published run has a
/// warm-up that is longer relative to its length: BYOL warms up for 10 epochs whether it trains for
/// 40, 100, 300 or 1,000 (`configs/byol.py`), SimCLR for 10 of 100 or 1,000 (`run.py`).
const SHARE: f64 = 0.25;

/// The sources of settings; later ones override earlier ones.
pub(crate) struct Layers<'a> {
    /// All settings of the recipe.
    pub(crate) recipe: &'a Table,
    /// The settings from `--config`.
    pub(crate) file: Option<&'a Table>,
    /// The paths of the settings from flags and `--set`.
    pub(crate) given: &'a [String],
}

impl Layers<'_> {
    /// The value of `owner` that the setting at `path` was written for, or `None` if the user gave
    /// the setting directly.
    fn written_for(&self, path: &str, owner: &str) -> Option<&Value> {
        let is_it = |given: &String| path == given || path.starts_with(&format!("{given}."));
        match self.file {
            _ if self.given.iter().any(is_it) => None,
            Some(file) if at(file, path).is_some() => at(file, owner),
            _ => at(self.recipe, owner),
        }
    }
}

/// Adapts the settings in `table`, which combine all `layers`, that were written for another data
/// set or number of epochs. Returns one sentence per change.
///
/// Limits are dropped. The epochs of learning rate drops scale with the length of the run. Other
/// spans shrink if they would exceed a quarter of a shorter run, at most in proportion to its
/// length. A longer run keeps them, as longer published runs do (DINO: 10 epochs of warm-up in 100
/// and in 300, `main_dino.py` and the commands in its README).
pub(crate) fn adapt(table: &mut Table, layers: &Layers) -> Vec<String> {
    let changes =
        [drop_limits(table, layers), scale_spans(table, layers), move_drops(table, layers)];
    changes.into_iter().flatten().collect()
}

fn drop_limits(table: &mut Table, layers: &Layers) -> Option<String> {
    let source = at(table, "data.source")?.clone();
    let mut dropped = Vec::new();
    for name in ["limit", "limit_test"] {
        let path = format!("data.{name}");
        let Some(before) = layers.written_for(&path, "data.source").filter(|it| **it != source)
        else {
            continue;
        };
        let place = place(table, &path)?;
        if place.as_integer().is_some_and(|limit| limit > 0) {
            dropped.push(format!("{name} {place} (meant for {before})"));
            *place = Value::Integer(0);
        }
    }
    (!dropped.is_empty()).then(|| format!("recipe settings not used: {}", dropped.join(", ")))
}

fn scale_spans(table: &mut Table, layers: &Layers) -> Option<String> {
    let epochs = at(table, "training.epochs").and_then(number)?;
    let by_step = at(table, "training.schedule.per").and_then(Value::as_str) == Some("step");
    type Round = fn(f64) -> f64;
    let spans: [(&str, Round); 5] = [
        ("training.schedule.warmup_epochs", if by_step { |span: f64| span } else { f64::floor }),
        ("settings.teacher_temperature_epochs", f64::floor),
        ("settings.freeze_last_layer", f64::floor),
        ("settings.freeze_encoder", |span: f64| span),
        ("training.knn_every", |span: f64| span.floor().max(1.0)),
    ];
    let mut changes = Vec::new();
    for (path, round) in spans {
        let from = layers.written_for(path, "training.epochs").and_then(number);
        let Some(from) = from.filter(|&from| from > epochs) else { continue };
        let Some(place) = place(table, path) else { continue };
        let Some(span) = number(place) else { continue };
        let longest = round((span / from).max(SHARE) * epochs);
        if span > longest {
            let scaled = value(longest);
            let name = path.rsplit('.').next().unwrap_or(path);
            changes.push(format!("{name} {scaled} instead of {place}"));
            *place = scaled;
        }
    }
    (!changes.is_empty())
        .then(|| format!("for a run of {}: {}", epoch_count(epochs), changes.join(", ")))
}

fn move_drops(table: &mut Table, layers: &Layers) -> Option<String> {
    let path = "training.schedule.epochs";
    let epochs = at(table, "training.epochs").and_then(number)?;
    let from = layers.written_for(path, "training.epochs").and_then(number)?;
    let Value::Array(drops) = place(table, path)? else { return None };
    if from == epochs {
        return None;
    }
    for drop in drops.iter_mut() {
        *drop = value((number(drop)? * epochs / from).round().max(1.0));
    }
    let at = Value::Array(drops.clone());
    Some(format!("for a run of {}: the learning rate drops at epochs {at}", epoch_count(epochs)))
}

/// `1 epoch` or `20 epochs`.
fn epoch_count(epochs: f64) -> String {
    format!("{epochs} {}", if epochs == 1.0 { "epoch" } else { "epochs" })
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or(value.as_integer().map(|n| n as f64))
}

/// A whole number becomes an integer.
fn value(number: f64) -> Value {
    if number.fract() == 0.0 { Value::Integer(number as i64) } else { Value::Float(number) }
}

fn place<'a>(table: &'a mut Table, path: &str) -> Option<&'a mut Value> {
    let mut parts = path.split('.');
    let first = table.get_mut(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get_mut(part))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::args::RunArgs;
    use crate::config::RunConfig;
    use crate::config::resolve::resolve;
    use crate::methods;
    use std::path::Path;

    /// The settings of a recipe with these arguments, and the notes about them.
    fn resolved(method: &str, recipe: &str, args: RunArgs) -> (RunConfig, String) {
        let table = methods::find(method).unwrap().recipe(recipe).unwrap();
        let (config, notes) = resolve(table, &args).unwrap();
        (config, notes.join("\n"))
    }

    fn set(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn warmup(config: &RunConfig) -> f64 {
        match config.training.schedule {
            portolan_optim::Schedule::Cosine { warmup_epochs, .. } => warmup_epochs,
            _ => panic!("no cosine"),
        }
    }

    #[test]
    fn a_limit_is_dropped_with_its_data_set() {
        let mine = || Some("mine".to_owned());
        let limits = |config: &RunConfig| (config.data.limit, config.data.limit_test);
        let (config, changes) = resolved("simclr", "shapes", RunArgs::default());
        assert_eq!((limits(&config), changes.as_str()), ((10_000, 2_000), ""));
        let args = RunArgs { data: mine(), ..RunArgs::default() };
        let (config, changes) = resolved("simclr", "shapes", args);
        assert_eq!(limits(&config), (0, 0));
        assert!(changes.contains("limit 10000") && changes.contains("\"shapes\""), "{changes}");
        let args = RunArgs { data: mine(), limit: Some(500), ..RunArgs::default() };
        assert_eq!(limits(&resolved("simclr", "shapes", args).0), (500, 0));
        let args =
            RunArgs { set: set(&["data.source=mine", "limit_test=7"]), ..RunArgs::default() };
        assert_eq!(limits(&resolved("simclr", "shapes", args).0), (0, 7));
    }

    #[test]
    fn a_limit_in_a_file_applies_to_the_data_set_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        let limit = |text: &str, data: Option<&str>| {
            std::fs::write(&path, text).unwrap();
            let data = data.map(str::to_owned);
            let args = RunArgs { config: Some(path.clone()), data, ..RunArgs::default() };
            resolved("moco", "shapes", args).0.data.limit
        };
        assert_eq!(limit("[data]\nlimit = 9", Some("mine")), 9);
        assert_eq!(limit("[data]\nsource = 'mine'\nlimit = 9", None), 9);
        assert_eq!(limit("[data]\nsource = 'mine'\nlimit = 9", Some("other")), 0);
        assert_eq!(limit("[data]\nsource = 'mine'", None), 0);
    }

    #[test]
    fn spans_shrink_in_a_short_run_and_stay_in_a_long_one() {
        let of = |epochs: i64| {
            resolved("dino", "imagenet", RunArgs { epochs: Some(epochs), ..RunArgs::default() })
        };
        let frozen = |config: &RunConfig| config.settings["freeze_last_layer"].as_integer();
        let (config, changes) = of(1);
        assert_eq!((warmup(&config), config.training.knn_every), (0.25, 1));
        assert_eq!(frozen(&config), Some(0));
        assert!(changes.contains("warmup_epochs 0.25 instead of 10"), "{changes}");
        config.training.schedule.validate(1).unwrap();
        let (config, changes) = of(40);
        assert_eq!((warmup(&config), config.training.knn_every, changes.as_str()), (10.0, 10, ""));
        let (config, _) = of(20);
        assert_eq!((warmup(&config), frozen(&config)), (5.0, Some(1)));
        assert_eq!(warmup(&of(800).0), 10.0);
        // 5 of 22 epochs are less than a quarter of the recipe's run, but more than a quarter of 11
        // epochs.
        let args = RunArgs { epochs: Some(11), ..RunArgs::default() };
        assert_eq!(warmup(&resolved("mae", "shapes", args).0), 2.75);
    }

    #[test]
    fn an_unchanged_recipe_is_not_adapted() {
        for method in portolan::METHODS {
            for recipe in method.recipes {
                let name = recipe.name;
                let recipe: RunConfig = method.recipe(name).unwrap().try_into().unwrap();
                let epochs = Some(recipe.training.epochs as i64);
                let (config, changes) =
                    resolved(method.name, name, RunArgs { epochs, ..RunArgs::default() });
                assert_eq!(changes, "", "{} {name}", method.name);
                assert_eq!(toml::to_string(&config).unwrap(), toml::to_string(&recipe).unwrap());
            }
        }
    }

    #[test]
    fn a_span_given_by_the_user_is_not_adapted() {
        let args = |texts: &[&str]| RunArgs { set: set(texts), ..RunArgs::default() };
        let (config, changes) = resolved(
            "mae",
            "shapes",
            args(&["training.epochs=8", "warmup_epochs=5", "knn_every=5"]),
        );
        assert_eq!((warmup(&config), config.training.knn_every, changes.as_str()), (5.0, 5, ""));
        let schedule = "schedule={ kind = \"cosine\", warmup_epochs = 6 }";
        assert_eq!(
            warmup(&resolved("mae", "shapes", args(&["training.epochs=8", schedule])).0),
            6.0
        );
    }

    #[test]
    fn drops_of_the_rate_move_with_the_length() {
        let drops = |epochs| {
            let args = RunArgs { epochs: Some(epochs), ..RunArgs::default() };
            match resolved("rotation", "cifar10", args).0.training.schedule {
                portolan_optim::Schedule::Drops { epochs, .. } => epochs,
                _ => panic!("no drops"),
            }
        };
        assert_eq!(drops(200), [60, 120, 160]);
        assert_eq!((drops(100), drops(400)), (vec![30, 60, 80], vec![120, 240, 320]));
        assert_eq!(drops(1), [1, 1, 1], "not before the first epoch is over");
    }

    #[test]
    fn the_settings_of_a_run_reproduce_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let args = RunArgs { epochs: Some(1), data: Some("mine".to_owned()), ..RunArgs::default() };
        let (config, _) = resolved("dino", "shapes-vit", args);
        assert_eq!(warmup(&config), 0.25);
        std::fs::write(file.path(), toml::to_string(&config).unwrap()).unwrap();
        let again = |epochs| {
            let config = Some(Path::to_owned(file.path()));
            resolved("dino", "shapes-vit", RunArgs { config, epochs, ..RunArgs::default() })
        };
        let (repeated, changes) = again(None);
        assert_eq!(toml::to_string(&repeated).unwrap(), toml::to_string(&config).unwrap());
        assert_eq!(changes, "");
        assert_eq!(warmup(&again(Some(9)).0), 0.25, "a longer run keeps the file's");
    }
}
