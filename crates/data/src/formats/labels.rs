//! Labels and the names of classes.

use std::fs;
use std::path::Path;

use crate::error::{Result, WithContext};

/// The greatest label that a file may have: it decides how many class names are kept.
pub(crate) const MAX_LABEL: u32 = 999_999;

/// The class names in a text file, one on each line.
pub(crate) fn read_class_names(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the class names in {}", path.display()))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// The number of classes by these labels.
pub(crate) fn count_classes(labels: impl Iterator<Item = Option<u32>>) -> u32 {
    labels.flatten().max().map_or(0, |last| last + 1)
}

/// The numbers of the classes as their names.
pub(crate) fn numbered_classes(count: u32) -> Vec<String> {
    (0..count).map(|label| label.to_string()).collect()
}
