//! `metrics.jsonl`: one line of JSON for every few steps, and one for every kNN figure.

use anyhow::{Context, Result};
use portolan_tensor::distributed;
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::tensorboard::Events;

/// The metrics file of a run, appended to line by line.
pub(crate) struct MetricsWriter {
    path: PathBuf,
    /// Nowhere, in all processes of a job but the first.
    file: Option<File>,
    /// The same for TensorBoard, where that is asked for.
    events: Option<Events>,
}

impl MetricsWriter {
    /// Opens the run's metrics file and drops what was written after `step`: a resumed run writes that anew. With
    /// `tensorboard` what it keeps is written as events too, and so is all that follows.
    pub(crate) fn open(run: &Path, step: u64, tensorboard: bool) -> Result<Self> {
        let path = run.join("metrics.jsonl");
        if distributed::rank() > 0 {
            return Ok(MetricsWriter { path, file: None, events: None });
        }
        let open = || -> Result<(File, String)> {
            let old = if path.exists() { std::fs::read_to_string(&path)? } else { String::new() };
            let kept: String = old
                .lines()
                .filter(|line| step_of(line).is_some_and(|written| written <= step))
                .map(|line| format!("{line}\n"))
                .collect();
            portolan_tensor::io::write_atomic(&path, kept.as_bytes())?;
            Ok((OpenOptions::new().append(true).open(&path)?, kept))
        };
        let (file, kept) = open().with_context(|| format!("cannot open {}", path.display()))?;
        let mut events = tensorboard.then(|| Events::create(run)).transpose()?;
        if let Some(events) = &mut events {
            for line in kept.lines() {
                events.write(&serde_json::from_str(line)?)?;
            }
        }
        Ok(MetricsWriter { path, file: Some(file), events })
    }

    /// Appends one line.
    pub(crate) fn write(&mut self, row: Map<String, Value>) -> Result<()> {
        if let Some(events) = &mut self.events {
            events.write(&row)?;
        }
        let line = format!("{}\n", Value::Object(row));
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(line.as_bytes())
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
        let mut writer = MetricsWriter::open(folder.path(), 2, /* tensorboard */ true).unwrap();
        writer.write(json!({"step": 3, "loss": 0.5}).as_object().unwrap().clone()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2}\n{\"loss\":0.5,\"step\":3}\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "and one file of events");
    }
}
