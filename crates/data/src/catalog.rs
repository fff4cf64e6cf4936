//! The known public data sets: the files in the workspace's `datasets/`, compiled in.

pub(crate) mod download;
pub(crate) mod fingerprint;

use serde::Deserialize;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// One file of `datasets/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownDataset {
    /// Its name on the command line (the file's name).
    #[serde(skip)]
    pub name: &'static str,
    /// Its name in prose.
    pub title: String,
    /// Where it is published.
    pub homepage: String,
    /// What to cite.
    pub source: String,
    /// How to get it by hand.
    pub by_hand: String,
    /// Images for training.
    pub train: usize,
    /// Images for testing.
    pub test: usize,
    /// Class names in the order of their labels; empty if there are too many to list.
    pub classes: Vec<String>,
    /// Of the training images.
    pub normalization: Normalization,
    /// Where a package of the operating system puts its files.
    pub installed: Option<Installed>,
    /// The SHA-256 of the listing that `sha256sum` prints for its unpacked files, if that is what
    /// tells it from others in the same format.
    pub unpacked_sha256: Option<String>,
    /// Its archive or its files; empty if a program cannot download it.
    #[serde(default)]
    pub download: Vec<Archive>,
}

/// A package of an operating system.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// The folder with the files.
    pub folder: PathBuf,
    /// The command that installs it.
    pub command: String,
}

/// Mean and standard deviation of each channel, of pixel values in [0, 1].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// Red, green, blue.
    pub mean: [f32; 3],
    /// Red, green, blue.
    pub std: [f32; 3],
    /// Who published these values.
    pub source: String,
}

/// A file to fetch. An archive (`.tar.gz`) is unpacked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Its address; the last part is the file's name.
    pub url: String,
    /// Its length.
    pub bytes: u64,
    /// Its checksum, in lower-case hexadecimal.
    pub sha256: String,
    /// Who published the checksum.
    pub sha256_source: String,
    /// Whether we have had the file ourselves and found that checksum.
    pub checked_against_real_bytes: bool,
}

// `datasets` is a link to the folder at the top of the workspace, where users look for it.
const FILES: [(&str, &str); 5] = [
    ("cifar10", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/cifar10.toml"))),
    ("cifar100", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/cifar100.toml"))),
    (
        "fashion-mnist",
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/fashion-mnist.toml")),
    ),
    ("imagenet", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/imagenet.toml"))),
    ("stl10", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/stl10.toml"))),
];

/// The names of all known data sets.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The data set of this name, if it is known.
///
/// # Errors
/// If its file in `datasets/` is not valid.
pub fn find(name: &str) -> Result<Option<KnownDataset>> {
    let Some(&(name, text)) = FILES.iter().find(|(file, _)| *file == name) else { return Ok(None) };
    let known: KnownDataset =
        toml::from_str(text).map_err(|source| Error::Catalog { name, source })?;
    Ok(Some(KnownDataset { name, ..known }))
}

/// The data set of this name, which has to be known.
pub(crate) fn get(name: &str) -> Result<KnownDataset> {
    find(name)?.ok_or_else(|| Error::Missing(format!("datasets/{name}.toml is missing")))
}

/// The data set whose unpacked files have this checksum, if it is known.
pub(crate) fn by_content(sha256: &str) -> Result<Option<KnownDataset>> {
    for name in names() {
        let known = get(name)?;
        if known.unpacked_sha256.as_deref() == Some(sha256) {
            return Ok(Some(known));
        }
    }
    Ok(None)
}

/// The normalization for data with these classes: that of the known data set with the same class
/// names, since it is that data set in another format; otherwise ImageNet's.
///
/// # Errors
/// As [`find`].
pub fn normalization_for(classes: &[String]) -> Result<Normalization> {
    for name in names() {
        let known = get(name)?;
        if !classes.is_empty() && known.classes == classes {
            return Ok(known.normalization);
        }
    }
    Ok(get("imagenet")?.normalization)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_valid_and_sensible() {
        for name in names() {
            let known = get(name).unwrap();
            assert_eq!(known.name, name);
            for (mean, std) in known.normalization.mean.into_iter().zip(known.normalization.std) {
                assert!((0.2..0.6).contains(&mean) && (0.1..0.4).contains(&std), "{name}");
            }
            let mut distinct = known.classes.clone();
            distinct.sort();
            distinct.dedup();
            if name == "fashion-mnist" {
                assert_eq!(distinct.len(), known.classes.len());
            } else {
                assert_eq!(distinct, known.classes, "{name}: these authors sort their classes");
            }
            for download in known.download {
                assert!(download.sha256.len() == 64 && download.url.ends_with(".gz"), "{name}");
            }
        }
        assert_eq!(get("cifar100").unwrap().classes.len(), 100);
        assert!(find("cifar11").unwrap().is_none());
    }

    #[test]
    fn normalization_goes_by_class_names() {
        let cifar = get("cifar10").unwrap();
        assert_eq!(normalization_for(&cifar.classes).unwrap().mean, cifar.normalization.mean);
        let imagenet = get("imagenet").unwrap();
        for classes in [vec![], vec!["airplane".to_owned()]] {
            assert_eq!(normalization_for(&classes).unwrap().mean, imagenet.normalization.mean);
        }
    }
}
