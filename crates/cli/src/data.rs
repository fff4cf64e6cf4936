//! The images of a run or a command.

use anyhow::{Context, Result, bail};
use portolan_data::{Dataset, Options, Source, in_memory, subset};
use portolan_evaluate::Features;
use portolan_report::counted;
use std::sync::Arc;

use crate::config::DataConfig;

/// Images are kept decoded in memory up to this many bytes: all of CIFAR and `shapes`, not ImageNet.
const MEMORY: u64 = 1 << 30;

/// The data set with its limits applied, decoded into memory where it fits.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn open_data(config: &DataConfig) -> Result<Dataset> {
    let options = Options { size: config.size, ..Options::default() };
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

/// The split of this name, with the images in no class folder that are trained on too.
///
/// # Errors
/// When the data has none.
pub(crate) fn split_of(data: &Dataset, name: &str) -> Result<Arc<dyn Source>> {
    match name {
        "train" => Ok(data.pretraining()),
        "test" => data.test.clone().with_context(|| format!("{} has no test split", data.name)),
        other => bail!("there is no split `{other}`; choose train or test"),
    }
}

/// Whether accuracies can be measured: labels, and a test split.
pub(crate) fn is_labeled(data: &Dataset) -> bool {
    data.test.is_some() && !data.classes.is_empty()
}

/// Says what a user should know of the data.
pub(crate) fn print_notes(notes: &[String]) {
    for note in notes {
        eprintln!("note     {note}");
    }
}

pub(crate) fn warn_of_skipped(features: &Features) {
    if let Some(first) = features.skipped.first() {
        eprintln!(
            "{} could not be read and were skipped, the first: {first}",
            counted(features.skipped.len(), "image", "images")
        );
    }
}
