//! `metrics.jsonl`: one line of JSON for every few steps, and one for every kNN evaluation.

use anyhow::{Context, Result};
use portolan_metrics::{FILE, MetricsRow, until};
use portolan_tensor::distributed;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::tensorboard::Events;

/// The metrics file of a run, appended to line by line.
pub(crate) struct MetricsWriter {
    path: PathBuf,
    /// `None` in all processes of a job but the first.
    file: Option<File>,
    /// The event file for TensorBoard, if requested.
    events: Option<Events>,
}

impl MetricsWriter {
    /// Opens the run's metrics file and drops the rows after `step`, which a resumed run writes
    /// again. With `tensorboard`, all kept and new rows are also written as events.
    pub(crate) fn open(run: &Path, step: u64, tensorboard: bool) -> Result<Self> {
        let path = run.join(FILE);
        if distributed::rank() > 0 {
            return Ok(MetricsWriter { path, file: None, events: None });
        }
        let open = || -> Result<(File, String)> {
            let old = if path.exists() { std::fs::read_to_string(&path)? } else { String::new() };
            let kept = until(&old, step);
            portolan_tensor::io::write_atomic(&path, kept.as_bytes())?;
            Ok((OpenOptions::new().append(true).open(&path)?, kept))
        };
        let (file, kept) = open().with_context(|| format!("cannot open {}", path.display()))?;
        let mut events = tensorboard.then(|| Events::create(run)).transpose()?;
        if let Some(events) = &mut events {
            kept.lines()
                .filter_map(MetricsRow::from_line)
                .try_for_each(|row| events.write(&row))?;
        }
        Ok(MetricsWriter { path, file: Some(file), events })
    }

    /// Appends one line.
    pub(crate) fn write(&mut self, row: &MetricsRow) -> Result<()> {
        if let Some(events) = &mut self.events {
            events.write(row)?;
        }
        let line = format!("{}\n", row.to_line());
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(line.as_bytes())
            .with_context(|| format!("cannot write to {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn resuming_drops_what_came_after_and_a_line_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"ste").unwrap();
        let mut writer = MetricsWriter::open(folder.path(), 2, /* tensorboard */ true).unwrap();
        writer.write(&MetricsRow::new(3, 1.0, &[("loss", 0.5)])).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2}\n{\"epoch\":1.0,\"loss\":0.5,\"step\":3}\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "and one file of events");
    }
}
