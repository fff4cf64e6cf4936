//! What is known of public data sets: the files in the workspace's `datasets/`, compiled in.

use anyhow::{Context, Result};
use serde::Deserialize;

/// One file of `datasets/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its name on the command line (the file's name).
    #[serde(skip)]
    pub name: &'static str,
    /// Its name in prose.
    pub title: String,
    /// Where it is published.
    pub homepage: String,
    /// What to cite.
    pub source: String,
    /// How a person gets it.
    pub by_hand: String,
    /// Images for training.
    pub train: usize,
    /// Images for testing.
    pub test: usize,
    /// Class names in the order of their labels; empty where they are too many to list.
    pub classes: Vec<String>,
    /// Of the training images.
    pub normalization: Normalization,
    /// Absent where it cannot be downloaded without a person.
    pub download: Option<Download>,
}

/// Mean and standard deviation of each channel, of pixel values in [0, 1].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// Red, green, blue.
    pub mean: [f32; 3],
    /// Red, green, blue.
    pub std: [f32; 3],
    /// Who says so.
    pub source: String,
}

/// An archive (`.tar.gz`) to fetch.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// Its address; the last part is the archive's file name.
    pub url: String,
    /// Its length.
    pub bytes: u64,
    /// Its checksum, in lower-case hexadecimal.
    pub sha256: String,
    /// Who published the checksum.
    pub sha256_source: String,
    /// Whether we have downloaded the archive ourselves and found that checksum.
    pub checked_against_real_bytes: bool,
}

// The folder lies at the top of the workspace, where users look for it.
const FILES: [(&str, &str); 4] = [
    ("cifar10", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/cifar10.toml"))),
    ("cifar100", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/cifar100.toml"))),
    ("imagenet", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/imagenet.toml"))),
    ("stl10", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/stl10.toml"))),
];

/// The names that [`known`] takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// What is known of the data set with this name; `None` for any other name.
///
/// # Errors
/// Where the file in `datasets/` is not as it should be.
pub fn known(name: &str) -> Result<Option<Known>> {
    let Some(&(name, text)) = FILES.iter().find(|(file, _)| *file == name) else { return Ok(None) };
    let known =
        toml::from_str(text).with_context(|| format!("datasets/{name}.toml is not valid"))?;
    Ok(Some(Known { name, ..known }))
}

/// The normalization for data with these classes: that of the known data set with the same class names
/// (it is that data set in another container), otherwise ImageNet's.
///
/// # Errors
/// As [`known`].
pub fn normalization_for(classes: &[String]) -> Result<Normalization> {
    for name in names() {
        if let Some(known) = known(name)?
            && !classes.is_empty()
            && known.classes == classes
        {
            return Ok(known.normalization);
        }
    }
    Ok(known("imagenet")?.context("datasets/imagenet.toml is missing")?.normalization)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_valid_and_sensible() {
        for name in names() {
            let known = known(name).unwrap().unwrap();
            assert_eq!(known.name, name);
            for (mean, std) in known.normalization.mean.into_iter().zip(known.normalization.std) {
                assert!((0.3..0.6).contains(&mean) && (0.1..0.4).contains(&std), "{name}");
            }
            let mut distinct = known.classes.clone();
            distinct.sort();
            distinct.dedup();
            assert_eq!(distinct, known.classes, "{name}: these authors sort their classes");
            if let Some(download) = known.download {
                assert!(download.sha256.len() == 64 && download.url.ends_with(".tar.gz"), "{name}");
            }
        }
        assert_eq!(known("cifar100").unwrap().unwrap().classes.len(), 100);
        assert!(known("cifar11").unwrap().is_none());
    }

    #[test]
    fn normalization_goes_by_class_names() {
        let cifar = known("cifar10").unwrap().unwrap();
        assert_eq!(normalization_for(&cifar.classes).unwrap().mean, cifar.normalization.mean);
        let imagenet = known("imagenet").unwrap().unwrap();
        for classes in [vec![], vec!["airplane".to_owned()]] {
            assert_eq!(normalization_for(&classes).unwrap().mean, imagenet.normalization.mean);
        }
    }
}
