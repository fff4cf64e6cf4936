//! `metrics.jsonl`: one line of JSON for every few steps, and one for every kNN figure.

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The journal of a run, appended to line by line.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the run's journal and drops what was written after `step`: a resumed run writes that anew.
    pub(crate) fn open(run: &Path, step: u64) -> Result<Self> {
        let path = run.join("metrics.jsonl");
        let open = || -> Result<File> {
            let old = if path.exists() { std::fs::read_to_string(&path)? } else { String::new() };
            let kept: String = old
                .lines()
                .filter(|line| step_of(line).is_some_and(|written| written <= step))
                .map(|line| format!("{line}\n"))
                .collect();
            portolan_tensor::io::write_aside(&path, kept.as_bytes())?;
            Ok(OpenOptions::new().append(true).open(&path)?)
        };
        let file = open().with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Journal { path, file })
    }

    /// Appends one line.
    pub(crate) fn write(&mut self, row: Map<String, Value>) -> Result<()> {
        let line = format!("{}\n", Value::Object(row));
        self.file
            .write_all(line.as_bytes())
            .with_context(|| format!("cannot write to {}", self.path.display()))
    }
}

fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn resuming_drops_what_came_after_and_a_line_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"ste").unwrap();
        let mut journal = Journal::open(folder.path(), 2).unwrap();
        journal.write(json!({"step": 3, "loss": 0.5}).as_object().unwrap().clone()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2}\n{\"loss\":0.5,\"step\":3}\n");
    }
}
