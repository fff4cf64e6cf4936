//! Runs the program, and checks what it printed. Each test file uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

/// Runs `portolan` in a folder with the words of a line.
pub(crate) fn portolan(folder: &Path, line: &str) -> Output {
    let words: Vec<&str> = line.split_whitespace().collect();
    portolan_with(folder, &words)
}

/// Runs `portolan` in a folder with these arguments.
pub(crate) fn portolan_with(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portolan")).args(args).current_dir(folder).output().unwrap()
}

/// The standard output and the standard error of a command, one after the other.
pub(crate) fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// The standard output of a command that must succeed.
pub(crate) fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", printed(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All that a command printed that must succeed.
pub(crate) fn succeeded_printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", printed(output));
    printed(output)
}

/// Asserts that the command failed with an error that holds all of these words, and did not panic.
pub(crate) fn refused(output: &Output, words: &[&str]) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it succeeded: {complaint}");
    let error = complaint.find("error: ").map_or("", |at| &complaint[at..]);
    words.iter().for_each(|word| assert!(error.contains(word), "`{word}` is not in: {complaint}"));
    assert!(!complaint.contains("panicked"), "{complaint}");
}
