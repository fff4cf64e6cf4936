//! Decides whether the accuracies of a run are comparable with published ones.

use anyhow::Result;
use portolan_data::Dataset;
use portolan_report::{self as report, counted};
use toml::Table;

use crate::config::overrides;
use crate::config::{PublishedAccuracy, RunConfig};
use crate::methods;

/// Compares how a published accuracy was measured with how this run is, and lists the differences.
pub(crate) fn compare(
    published: &PublishedAccuracy,
    config: &RunConfig,
    data: &Dataset,
    rollbacks: u32,
) -> report::Published {
    let mut differences = Vec::new();
    let mut differs = |really: bool, what: String| {
        if really {
            differences.push(what);
        }
    };
    // Only a download with the published checksum is the published data.
    let same_data = data.verified && data.name == published.data;
    differs(!same_data, format!("other data ({} instead of {})", data.name, published.data));
    differs(config.data.limit > 0 && same_data, "only part of the data".to_owned());
    let encoder = config.encoder.name();
    differs(encoder != published.encoder, format!("other encoder ({encoder})"));
    let epochs = config.training.epochs;
    differs(
        epochs != published.epochs,
        format!("{} instead of {}", counted(epochs as usize, "epoch", "epochs"), published.epochs),
    );
    let knn = &config.evaluation.knn;
    let same_knn = knn.k == published.k && (knn.temperature - published.temperature).abs() < 1e-9;
    differs(
        published.metric.starts_with("knn") && !same_knn,
        format!("k = {}, temperature {}", knn.k, knn.temperature),
    );
    differs(
        published.metric.starts_with("linear"),
        "linear classifier solved to convergence on frozen features instead of trained".to_owned(),
    );
    differs(
        rollbacks > 0,
        format!(
            "the learning rate was halved {} during the run",
            counted(rollbacks as usize, "time", "times")
        ),
    );
    differences.extend(fewer_evaluations(published, config.training.knn_every));
    // An older run may name a recipe that no longer exists.
    differences.extend(changed(config).unwrap_or_else(|_| vec!["an unknown recipe".to_owned()]));
    differences.extend(published.differs.iter().cloned());
    report::Published {
        source: published.source.clone(),
        // If the source evaluates the outputs of the head, compare with the same metric of this
        // run.
        metric: match published.features.as_str() {
            "head" => published.metric.replace("knn_", "knn_head_"),
            _ => published.metric.clone(),
        },
        value: published.value,
        setting: published.setting.clone(),
        comparable: differences.is_empty(),
        differences,
    }
}

/// The best of many epochs is higher than the best of few. Sources that report their best epoch
/// evaluate every one.
fn fewer_evaluations(published: &PublishedAccuracy, knn_every: u64) -> Option<String> {
    match knn_every {
        _ if !published.best_epoch => None,
        0 => Some("kNN after the last epoch only, instead of the best epoch".to_owned()),
        1 => None,
        n => Some(format!("measured every {n} epochs, instead of after each epoch")),
    }
}

/// The settings that differ from the recipe of the run and that affect the accuracy. Excludes those
/// that are compared with the published accuracy itself (data, encoder, epochs, kNN).
fn changed(config: &RunConfig) -> Result<Vec<String>> {
    let mut recipe: RunConfig =
        methods::find(&config.method)?.recipe(&config.recipe)?.try_into()?;
    recipe.seed = config.seed;
    recipe.device.clone_from(&config.device);
    recipe.augment = config.augment;
    recipe.data = config.data.clone();
    if recipe.encoder.name() != config.encoder.name() {
        recipe.encoder = config.encoder.clone();
    }
    recipe.evaluation.knn = config.evaluation.knn.clone();
    let (ours, training) = (&mut recipe.training, &config.training);
    ours.epochs = training.epochs;
    ours.knn_every = training.knn_every;
    ours.checkpoint_minutes = training.checkpoint_minutes;
    ours.max_bad = training.max_bad;
    ours.on_divergence = training.on_divergence;
    ours.cuda_graph = training.cuda_graph;
    // The normalization of the data set replaces that of the recipe.
    if let Some((mean, std)) = config.normalization() {
        let ops = recipe.views.iter_mut().flat_map(|views| &mut views.ops);
        ops.for_each(|op| op.normalize_by(mean, std));
    }
    let (recipe, run) = (Table::try_from(&recipe)?, Table::try_from(config)?);
    let mut changed = Vec::new();
    for path in overrides::paths(&run).iter().filter(|path| *path != "published") {
        match (overrides::at(&recipe, path), overrides::at(&run, path)) {
            (before, now) if before == now => {}
            (_, Some(now)) if now.is_table() => {} // its settings follow one by one
            (_, Some(now)) if now.is_array() => changed.push(format!("other {path}")),
            (Some(before), Some(now)) => changed.push(format!("{path} {now} instead of {before}")),
            (_, now) => changed.extend(now.map(|now| format!("{path} {now}"))),
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unchanged_recipe_has_no_differences() {
        for entry in portolan::METHODS {
            for recipe in entry.recipes {
                let name = recipe.name;
                let config: RunConfig = entry.recipe(name).unwrap().try_into().unwrap();
                assert_eq!(
                    changed(&config).unwrap(),
                    Vec::<String>::new(),
                    "{} {name}",
                    entry.name
                );
            }
        }
    }

    #[test]
    fn the_best_of_fewer_epochs_is_a_difference() {
        let config: RunConfig =
            methods::find("moco").unwrap().recipe("cifar10").unwrap().try_into().unwrap();
        let (last, best) = (&config.published[0], &config.published[3]);
        assert!(!last.best_epoch && best.best_epoch);
        assert_eq!(config.training.knn_every, 1);
        assert!(fewer_evaluations(best, 1).is_none());
        assert!(fewer_evaluations(best, 10).unwrap().contains("every 10 epochs"));
        assert!(fewer_evaluations(best, 0).unwrap().contains("last epoch only"));
        assert!([0, 1, 10].iter().all(|every| fewer_evaluations(last, *every).is_none()));
    }

    #[test]
    fn only_settings_that_affect_the_accuracy_are_differences() {
        let mut table = methods::find("moco").unwrap().recipe("cifar10").unwrap();
        for text in [
            "seed=7",
            "data.source=./x",
            "epochs=3",
            "knn_every=0",
            "temperature=0.5",
            "batch_size=64",
        ] {
            overrides::set_from_text(&mut table, text).unwrap();
        }
        let mut config: RunConfig = table.try_into().unwrap();
        config.init = "other.pth".to_owned();
        for op in config.views.iter_mut().flat_map(|views| &mut views.ops) {
            op.normalize_by([0.1; 3], [0.2; 3]);
        }
        let found = changed(&config).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("init \"other.pth\""), "{found:?}");
        assert!(found[1].starts_with("settings.temperature 0.5 instead of 0.1"), "{found:?}");
        assert!(found[2].starts_with("training.batch_size 64 instead of 512"), "{found:?}");
        config.views[0].ops.remove(1);
        assert!(changed(&config).unwrap().contains(&"other views".to_owned()));
    }
}
