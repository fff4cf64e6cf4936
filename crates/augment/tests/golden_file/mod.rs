//! The golden file of augmentations, as both engines' tests read it. Not by `portolan-testing`,
//! which needs libtorch: this crate does without it unless the feature `device` is on.
#![allow(dead_code, clippy::unwrap_used)] // each test uses a part of it

use image::RgbImage;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::env;
use std::path::PathBuf;

/// The file's bytes. `None`, with a line that says so, when it is missing and
/// `PORTOLAN_SKIP_GOLDEN` is 1.
pub(crate) fn read_golden() -> Option<Vec<u8>> {
    let own = || concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden").into();
    let folder = env::var_os("PORTOLAN_GOLDEN").map_or_else(own, PathBuf::from);
    let path = folder.join("augment.safetensors");
    if path.exists() {
        return Some(std::fs::read(path).unwrap());
    }
    let skip = env::var_os("PORTOLAN_SKIP_GOLDEN").is_some_and(|value| value == "1");
    assert!(skip, "{} is missing; PORTOLAN_SKIP_GOLDEN=1 skips this test", path.display());
    println!("skipped: {} is missing", path.display());
    None
}

/// The case's name without its number: `hue_1` is of kind `hue`.
pub(crate) fn kind(case: &str) -> &str {
    case.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_')
}

pub(crate) struct Golden<'a> {
    pub(crate) tensors: SafeTensors<'a>,
    pub(crate) settings: HashMap<String, Value>,
    pub(crate) cases: BTreeSet<String>,
}

impl<'a> Golden<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let tensors = SafeTensors::deserialize(bytes).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
        let settings: HashMap<_, _> = metadata
            .metadata()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .map(|(case, json)| (case, serde_json::from_str(&json).unwrap()))
            .collect();
        let with_tensors =
            tensors.names().into_iter().map(|name| name.split('.').next().unwrap().to_string());
        let cases = settings.keys().cloned().chain(with_tensors).collect();
        Golden { tensors, settings, cases }
    }

    /// Mean absolute difference at most 1 level, and none over `most`; all equal where that is 0.
    pub(crate) fn check_image(
        &self,
        case: &str,
        actual: &RgbImage,
        most: u8,
        moved: f64,
    ) -> Result<(), String> {
        let expected = self.image(&format!("{case}.out.rgb"));
        assert_eq!(actual.dimensions(), expected.dimensions(), "{case}: width and height");
        let away = |level: u8| if level < 128 { level + moved as u8 } else { level - moved as u8 };
        let differences =
            actual.as_raw().iter().zip(expected.as_raw()).map(|(a, e)| a.abs_diff(away(*e)));
        let worst = differences.clone().max().unwrap();
        let mean = differences.map(f64::from).sum::<f64>() / actual.as_raw().len() as f64;
        if worst <= most && mean <= 1.0 {
            return Ok(());
        }
        Err(format!(
            "{case}: differs by {mean:.3} levels on average and {worst} at most (allowed: 1 and {most})"
        ))
    }

    pub(crate) fn source(&self, case: &str) -> RgbImage {
        self.image(&format!("image_{}.in.rgb", self.number(case, "image")))
    }

    /// A tensor `[height, width, 3]` of bytes as an image.
    pub(crate) fn image(&self, name: &str) -> RgbImage {
        let tensor = self.tensors.tensor(name).unwrap();
        let [height, width, 3] = *tensor.shape() else {
            panic!("{name} is not [height, width, 3]")
        };
        RgbImage::from_raw(width as u32, height as u32, tensor.data().to_vec()).unwrap()
    }

    /// The values of a tensor of floats.
    pub(crate) fn floats(&self, name: &str) -> Vec<f64> {
        let tensor = self.tensors.tensor(name).unwrap();
        match tensor.dtype() {
            Dtype::F32 => {
                tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect()
            }
            Dtype::F64 => {
                tensor.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
            }
            other => panic!("{name} is {other:?}, not floats"),
        }
    }

    pub(crate) fn number(&self, case: &str, key: &str) -> f64 {
        self.settings[case][key].as_f64().unwrap_or_else(|| panic!("{case} has no number {key}"))
    }

    pub(crate) fn numbers(&self, case: &str, key: &str) -> Vec<f64> {
        serde_json::from_value(self.settings[case][key].clone())
            .unwrap_or_else(|e| panic!("{case}, {key}: {e}"))
    }
}
