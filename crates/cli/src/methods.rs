//! The methods by name: the one place of Portolan that knows them all.

use anyhow::{Context, Result, bail};
use portolan_augment::ViewSpec;
use portolan_encoders::EncoderConfig;
use portolan_method::Method;
use portolan_moco::{Moco, MocoConfig};
use portolan_random::{Purpose, stream};
use portolan_tensor::{Device, seed};
use rand::RngExt;
use serde::de::DeserializeOwned;

use crate::config::RunConfig;

/// What the program knows of a method.
pub(crate) struct Entry {
    /// As it is written on the command line.
    pub(crate) name: &'static str,
    /// As people write it.
    pub(crate) title: &'static str,
    /// Its recipes by name, the default first.
    pub(crate) recipes: &'static [(&'static str, &'static str)],
    build: Build,
}

/// From the method's settings, the encoder, the views and the device to the method.
type Build = fn(toml::Table, &EncoderConfig, Vec<ViewSpec>, Device) -> Result<Box<dyn Method>>;

const METHODS: &[Entry] = &[Entry {
    name: "moco",
    title: "MoCo",
    recipes: &portolan_moco::recipes::ALL,
    build: |settings, encoder, views, device| {
        let config: MocoConfig = parse(settings)?;
        Ok(Box::new(Moco::new(config, encoder, views, device)?))
    },
}];

fn parse<T: DeserializeOwned>(settings: toml::Table) -> Result<T> {
    toml::Value::Table(settings).try_into().context("in the method's settings")
}

/// The method of this name.
///
/// # Errors
/// When there is none; the message lists them.
pub(crate) fn find(name: &str) -> Result<&'static Entry> {
    METHODS.iter().find(|method| method.name == name).with_context(|| {
        let names: Vec<_> = METHODS.iter().map(|method| method.name).collect();
        format!("there is no method `{name}`; there are {}", names.join(", "))
    })
}

impl Entry {
    /// The recipe of this name.
    ///
    /// # Errors
    /// When the method has none of that name; the message lists its recipes.
    pub(crate) fn recipe(&self, name: &str) -> Result<toml::Table> {
        let Some((_, text)) = self.recipes.iter().find(|(known, _)| *known == name) else {
            let names: Vec<_> = self.recipes.iter().map(|(name, _)| *name).collect();
            bail!("{} has no recipe `{name}`; it has {}", self.name, names.join(", "))
        };
        text.parse().with_context(|| format!("the recipe {name} of {}", self.name))
    }
}

/// Builds the run's method on `device`. The same seed gives the same initial values, so that the untrained
/// encoder can be had again after training.
///
/// # Errors
/// When the settings contradict each other.
pub(crate) fn build(config: &RunConfig, device: Device) -> Result<Box<dyn Method>> {
    let entry = find(&config.method)?;
    for (i, view) in config.views.iter().enumerate() {
        view.validate().with_context(|| format!("in view {}", i + 1))?;
    }
    let micro = config.training.batch_size / config.training.accumulate.max(1);
    let splits = config.encoder.batch_norm_splits.max(1) as usize;
    if micro / splits < 2 || !micro.is_multiple_of(splits) {
        bail!(
            "a batch of {micro} cannot be split into {splits} groups of two or more images for batch \
             statistics; choose --batch-size {} or --set batch_norm_splits=1",
            (2 * splits).max(micro.next_multiple_of(splits))
        );
    }
    seed(stream(config.seed, Purpose::Libtorch, &[]).random());
    (entry.build)(config.settings.clone(), &config.encoder, config.views.clone(), device)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_recipe_is_complete_and_buildable() {
        for method in METHODS {
            for (name, _) in method.recipes {
                let table = method.recipe(name).unwrap();
                let mut config: RunConfig = table.clone().try_into().unwrap();
                assert_eq!((config.method.as_str(), config.recipe.as_str()), (method.name, *name));
                // A recipe says everything: what it left to a default could change under it.
                let resolved = toml::Table::try_from(&config).unwrap();
                assert_eq!(sorted(&table), sorted(&resolved), "{name}");
                config.encoder.width = 4;
                config.settings.insert("queue".to_owned(), 64.into());
                build(&config, Device::Cpu).unwrap();
            }
        }
    }

    fn sorted(table: &toml::Table) -> Vec<String> {
        let mut paths = crate::settings::paths(table);
        paths.sort();
        paths
    }
}
