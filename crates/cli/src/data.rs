//! The images of a run or a command.

use anyhow::{Context, Result, bail};
use portolan_data::{Dataset, DenseDataset, Options, Source, in_memory, subset};
use portolan_evaluate::Features;
use portolan_report::counted;
use std::sync::Arc;

use crate::config::DataConfig;

/// Images are decoded into memory up to this many bytes: enough for CIFAR and `shapes`, but not
/// ImageNet.
const MEMORY: u64 = 1 << 30;

/// Opens the data set, applies its limits, and decodes it into memory if it fits.
///
/// # Errors
/// If it cannot be opened.
pub(crate) fn open_data(config: &DataConfig) -> Result<Dataset> {
    let DataConfig { size, palette, .. } = *config;
    let options = Options { size, palette, ..Options::default() };
    let mut data = portolan_data::open(&config.source, &options)?;
    if config.limit > 0 {
        data.limit(config.limit);
    }
    data.train = in_memory(data.train, MEMORY);
    data.unlabeled = data.unlabeled.map(|more| in_memory(more, MEMORY));
    data.test = data.test.map(|test| match config.limit_test {
        0 => in_memory(test, MEMORY),
        limit => in_memory(subset(test, limit), MEMORY),
    });
    Ok(data)
}

/// Opens images with masks or depth maps. The limits apply to `shapes`.
///
/// # Errors
/// If there are none.
pub(crate) fn open_dense_data(config: &DataConfig) -> Result<DenseDataset> {
    let limited = |limit: usize, count: usize| if limit > 0 { limit.min(count) } else { count };
    let usual = Options::default();
    let options = Options {
        size: config.size,
        train: limited(config.limit, usual.train),
        test: limited(config.limit_test, usual.test),
        palette: config.palette,
        ..usual
    };
    Ok(portolan_data::open_dense(&config.source, &options)?)
}

/// The split with this name. The training split includes images outside of class folders.
///
/// # Errors
/// If the data does not have the split.
pub(crate) fn split_of(data: &Dataset, name: &str) -> Result<Arc<dyn Source>> {
    match name {
        "train" => Ok(data.pretraining()),
        "test" => data.test.clone().with_context(|| format!("{} has no test split", data.name)),
        other => bail!("there is no split `{other}`; choose train or test"),
    }
}

/// Whether accuracy can be measured: there are labels and a test split.
pub(crate) fn is_labeled(data: &Dataset) -> bool {
    data.test.is_some() && !data.classes.is_empty()
}

/// Prints the notes about a data set.
pub(crate) fn print_notes(notes: &[String]) {
    for note in notes {
        eprintln!("note     {note}");
    }
}

pub(crate) fn warn_about_skipped(features: &Features) {
    warn_about_items(&features.skipped);
}

/// Says how many items could not be read, each given as `location: reason`.
pub(crate) fn warn_about_items(skipped: &[String]) {
    if let Some(first) = skipped.first() {
        eprintln!(
            "{} could not be read and were skipped, the first: {first}",
            counted(skipped.len(), "image", "images")
        );
    }
}
