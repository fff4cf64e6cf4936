//! Golden values: what PyTorch, torchvision, timm, lightly and scikit-learn compute. Each crate has
//! its files in `tests/golden`; `interop/golden/README.md` says what they hold and how they are
//! made.
//!
//! - `PORTOLAN_GOLDEN=FOLDER` reads all files from this one folder instead.
//! - `PORTOLAN_SKIP_GOLDEN=1` skips the tests whose files are missing. Without it they fail.

use anyhow::{Context, Result, ensure};
use portolan_tensor::{Kind, Tensor, io};
use serde_json::Value;
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

/// Tensors by their names within a case: `in.z_a`, `out.loss`, `grad.z_a`.
pub type Tensors = BTreeMap<String, Tensor>;

/// The path of a golden file of the crate in `crate_folder`, which is the test's
/// `env!("CARGO_MANIFEST_DIR")`. `None` when the test should be skipped.
///
/// # Panics
/// When the file is missing and `PORTOLAN_SKIP_GOLDEN` is not 1.
pub fn path(crate_folder: &str, file: &str) -> Option<PathBuf> {
    let own = || Path::new(crate_folder).join("tests/golden");
    let path = env::var_os("PORTOLAN_GOLDEN").map_or_else(own, PathBuf::from).join(file);
    if path.exists() {
        return Some(path);
    }
    assert!(skips(), "{} is missing; PORTOLAN_SKIP_GOLDEN=1 skips this test", path.display());
    println!("skipped: {} is missing", path.display());
    None
}

fn skips() -> bool {
    env::var_os("PORTOLAN_SKIP_GOLDEN").is_some_and(|value| value == "1")
}

/// One case of a file.
#[derive(Debug)]
pub struct Case {
    /// Its name in the file: `nt_xent_0`.
    pub name: String,
    /// Its hyper-parameters.
    pub settings: Value,
    /// Its tensors.
    pub tensors: Tensors,
}

impl Case {
    /// Its name without the number that tells several cases of a kind apart.
    pub fn kind(&self) -> &str {
        match self.name.rsplit_once('_') {
            Some((kind, number)) if number.parse::<u32>().is_ok() => kind,
            _ => &self.name,
        }
    }

    /// A hyper-parameter.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn setting(&self, name: &str) -> Result<f64> {
        self.settings[name].as_f64().with_context(|| format!("there is no setting {name}"))
    }

    /// What a test must find: everything but the inputs.
    pub fn expected(&self) -> Tensors {
        let wanted = |(name, _): &(&String, &Tensor)| !name.starts_with("in.");
        self.tensors.iter().filter(wanted).map(|(n, x)| (n.clone(), x.copy())).collect()
    }
}

/// All cases of a file, found as by [`path`]; none when the test should be skipped.
///
/// # Panics
/// When the file is missing, or is not as the contract says.
pub fn cases(crate_folder: &str, file: &str) -> Vec<Case> {
    let Some(path) = path(crate_folder, file) else { return Vec::new() };
    let (tensors, metadata) = io::load(&path).unwrap();
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (name, settings) in metadata {
        let settings = serde_json::from_str(&settings).unwrap();
        cases.insert(name.clone(), Case { name, settings, tensors: Tensors::new() });
    }
    for (full_name, tensor) in tensors {
        let (case, name) = full_name.split_once('.').unwrap();
        let case = cases.get_mut(case).unwrap_or_else(|| panic!("{full_name} has no settings"));
        case.tensors.insert(name.to_owned(), tensor);
    }
    assert!(!cases.is_empty());
    cases.into_values().collect()
}

/// Checks that the outputs have the expected names and shapes, and differ from the expected values
/// by at most `tolerance` of the largest one.
///
/// # Errors
/// When an output differs; the message names the first.
pub fn compare(expected: &Tensors, computed: &Tensors, tolerance: f64) -> Result<()> {
    ensure!(
        expected.keys().eq(computed.keys()),
        "expected are {:?}, computed {:?}",
        expected.keys(),
        computed.keys()
    );
    for (name, expected) in expected {
        let off = difference(&computed[name], expected).context(name.clone())?;
        ensure!(off <= tolerance, "{name} is off by {off:e} of its largest value");
    }
    Ok(())
}

/// The largest difference, relative to the largest expected value; infinite where it is not a
/// number.
///
/// # Errors
/// When the shapes differ.
pub fn difference(computed: &Tensor, expected: &Tensor) -> Result<f64> {
    let (wanted, found) = (expected.size(), computed.size());
    ensure!(wanted == found, "the shape is {found:?} instead of {wanted:?}");
    let largest = |x: &Tensor| x.abs().max().to_kind(Kind::Double).double_value(&[]);
    let relative = largest(&(computed - expected)) / largest(expected);
    Ok(if relative.is_nan() { f64::INFINITY } else { relative })
}

/// Checks that a test of these cases can fail: if an expected tensor is off by three times the
/// tolerance, or if nothing computes it.
///
/// # Panics
/// When the test would pass.
pub fn would_fail(cases: &[Case], tolerance: f64, computed: impl Fn(&Case) -> Result<Tensors>) {
    for case in cases {
        let found = computed(case).unwrap();
        for name in found.keys() {
            let mut expected = case.expected();
            let tensor = &expected[name];
            let moved = tensor + tensor.abs().max() * (3.0 * tolerance);
            expected.insert(name.clone(), moved);
            let unseen = compare(&expected, &found, tolerance).is_ok();
            assert!(!unseen, "{} {name} was moved unseen", case.name);
        }
        let mut expected = case.expected();
        expected.insert("out.unread".to_owned(), Tensor::from(0f32));
        let unread = compare(&expected, &found, tolerance).is_ok();
        assert!(!unread, "{}: an output was left unread", case.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_golden_file_fails_the_test() {
        let found = std::panic::catch_unwind(|| path("/nonexistent", "none.safetensors"));
        assert_eq!(found.is_err(), !skips());
    }
}
