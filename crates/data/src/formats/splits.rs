//! The names of splits.

use std::path::{Path, PathBuf};

const TRAIN: [&str; 2] = ["train", "training"];
const TEST: [&str; 2] = ["test", "testing"];
const VALIDATION: [&str; 3] = ["validation", "valid", "val"];

/// Whether a folder of this name is for training.
pub(crate) fn is_train(name: &str) -> bool {
    is_one_of(&TRAIN, name)
}

/// Whether a folder of this name is for testing.
pub(crate) fn is_test(name: &str) -> bool {
    is_one_of(&TEST, name)
}

/// Whether a folder of this name is for validation. It is used for scoring if there is no test
/// split.
pub(crate) fn is_validation(name: &str) -> bool {
    is_one_of(&VALIDATION, name)
}

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The files for training, and the files for scoring in groups, by their names: test files before
/// validation files.
pub(crate) fn of_files(files: &[PathBuf]) -> (Vec<PathBuf>, Vec<Vec<PathBuf>>) {
    let named = |says: fn(&str) -> bool| -> Vec<PathBuf> {
        let is = |file: &&PathBuf| split_of(file).is_some_and(|split| says(&split));
        files.iter().filter(is).cloned().collect()
    };
    let train = named(is_train);
    if train.is_empty() {
        return (files.to_vec(), Vec::new());
    }
    let tests = [named(is_test), named(is_validation)];
    (train, tests.into_iter().filter(|files| !files.is_empty()).collect())
}

/// The first word of a file name that names a split: `train` of `imagenet-train-00000.tar`.
fn split_of(file: &Path) -> Option<String> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let is_split = |word: &&str| is_train(word) || is_test(word) || is_validation(word);
    stem.split(['-', '_', '.']).find(is_split).map(str::to_owned)
}
