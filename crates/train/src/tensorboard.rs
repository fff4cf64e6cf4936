//! The metrics as an event file, which TensorBoard displays during a run.
//!
//! The file is a list of records (TensorFlow's TFRecord): a length, its checksum, that many bytes,
//! their checksum. The bytes are a protocol buffer, `Event` of TensorFlow's `event.proto`, of which
//! scalars need only five fields, so this module writes both formats without a generated library.

use anyhow::{Context, Result};
use portolan_metrics::MetricsRow;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the names of event files begin; TensorBoard finds them by it.
const PREFIX: &str = "events.out.tfevents.";

/// The event file of a run.
pub(crate) struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Creates a new event file in the run's folder and removes those of earlier starts.
    pub(crate) fn create(run: &Path) -> Result<Self> {
        let path = run.join(format!("{PREFIX}{:.6}.portolan", now()));
        let create = || -> std::io::Result<File> {
            for entry in std::fs::read_dir(run)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                    std::fs::remove_file(entry.path())?;
                }
            }
            let mut file = File::create(&path)?;
            file.write_all(&record(&event(0, &bytes(3, b"brain.Event:2"))))?;
            Ok(file)
        };
        let file = create().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Events { path, file })
    }

    /// Appends the numbers of a row of the metrics file as scalars of its step.
    pub(crate) fn write(&mut self, row: &MetricsRow) -> Result<()> {
        let epoch = row.epoch.map(|epoch| ("epoch", epoch));
        let metrics = row.metrics.iter().map(|(name, value)| (name.as_str(), *value));
        let summary: Vec<u8> = epoch
            .into_iter()
            .chain(metrics.filter(|(_, value)| value.is_finite()))
            .flat_map(|(name, value)| bytes(1, &scalar(name, value as f32)))
            .collect();
        self.file
            .write_all(&record(&event(row.step, &bytes(5, &summary))))
            .with_context(|| format!("cannot write to {}", self.path.display()))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// `Event { wall_time = 1, step = 2, … }`.
fn event(step: u64, what: &[u8]) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1]; // eight bytes
    event.extend(now().to_le_bytes());
    event.push(2 << 3); // a number of as many bytes as it needs
    event.extend(varint(step));
    event.extend(what);
    event
}

/// `Summary.Value { tag = 1, simple_value = 2 }`.
fn scalar(name: &str, value: f32) -> Vec<u8> {
    let mut scalar = bytes(1, name.as_bytes());
    scalar.push(2 << 3 | 5); // four bytes
    scalar.extend(value.to_le_bytes());
    scalar
}

/// A field of any length: a text, or a message.
fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    let mut all = vec![field << 3 | 2];
    all.extend(varint(content.len() as u64));
    all.extend(content);
    all
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(mut number: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while number >= 0x80 {
        all.push(number as u8 | 0x80);
        number >>= 7;
    }
    all.push(number as u8);
    all
}

/// A record of a TFRecord file.
fn record(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &checksum(&length), content, &checksum(content)].concat()
}

/// CRC-32C, rotated and shifted as TFRecord requires.
fn checksum(content: &[u8]) -> [u8; 4] {
    crc32c::crc32c(content).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The contents of all records, whose lengths and checksums must be right.
    fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while !file.is_empty() {
            let (length, rest) = file.split_at(8);
            let n = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            assert_eq!(rest[..4], checksum(length));
            assert_eq!(rest[4 + n..8 + n], checksum(&rest[4..4 + n]));
            all.push(rest[4..4 + n].to_vec());
            file = &rest[8 + n..];
        }
        all
    }

    #[test]
    fn a_row_becomes_a_record_and_a_new_start_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = [("loss", 0.5), ("nothing", f64::NAN)];
        let row = MetricsRow { epoch: None, ..MetricsRow::new(300, 0.0, &metrics) };
        for _ in 0..2 {
            let mut events = Events::create(folder.path()).unwrap();
            events.write(&row).unwrap();
        }
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(files.len(), 1);
        let found = records(&std::fs::read(files[0].as_ref().unwrap().path()).unwrap());
        assert_eq!(found.len(), 2);
        assert!(found[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        // Step 300; a summary of 13 bytes; in it one value of 11: the tag `loss` and the number.
        assert_eq!(found[1][9..], *b"\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f");
    }

    #[test]
    fn checksums_are_masked_as_tfrecord_has_them() {
        // CRC-32C of "123456789" is e3069283 (RFC 3720's check value).
        let masked = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(checksum(b"123456789"), masked.to_le_bytes());
    }
}
