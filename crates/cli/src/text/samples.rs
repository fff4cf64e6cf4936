//! Samples of what a method writes, at the end of every epoch.

use anyhow::{Context, Result};
use portolan_method::{Sampling, TextMethod};
use portolan_text::Tokens;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use super::model::continued;

/// The file in a run's folder, one sample per line.
const FILE: &str = "samples.jsonl";
/// Tokens of a sample.
const TOKENS: usize = 120;
/// The temperatures.
const TEMPERATURES: [f64; 3] = [0.5, 0.8, 1.0];

/// A text that a method wrote.
#[derive(Serialize, Deserialize)]
struct Sample {
    epoch: u64,
    temperature: f64,
    text: String,
}

/// Adds a sample at each temperature to the run's file, if the method can write.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn add(
    folder: &Path,
    epoch: u64,
    method: &dyn TextMethod,
    tokens: &Tokens,
) -> Result<()> {
    let path = folder.join(FILE);
    for temperature in TEMPERATURES {
        let how = Sampling { temperature, ..Sampling::default() };
        let Some(text) = continued(method, tokens, "", TOKENS, &how)? else { return Ok(()) };
        let line = serde_json::to_string(&Sample { epoch, temperature, text })?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{line}"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The samples of a run, each with when and how it was drawn: the newest first. Where a resumed run
/// repeated an epoch, its last samples. A line that a killed run cut off is left out.
pub(crate) fn read(folder: &Path) -> Vec<[String; 2]> {
    let text = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    let mut found = BTreeMap::new();
    for sample in text.lines().filter_map(|line| serde_json::from_str::<Sample>(line).ok()) {
        let how = format!("epoch {}, temperature {}", sample.epoch, sample.temperature);
        let place = TEMPERATURES.iter().position(|&it| it == sample.temperature);
        found.insert((std::cmp::Reverse(sample.epoch), place), [how, sample.text]);
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_newest_come_first_and_a_line_that_was_cut_off_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let line = |epoch, temperature, text: &str| {
            serde_json::to_string(&Sample { epoch, temperature, text: text.to_owned() }).unwrap()
        };
        let lines = [
            line(1, 0.5, "first"),
            line(2, 0.8, "second, of a run that was killed"),
            line(2, 0.5, "third"),
            line(2, 0.8, "second"),
        ];
        let cut = "{\"epoch\":3,\"temperature\":0.5,\"te";
        std::fs::write(folder.path().join(FILE), lines.join("\n") + "\n" + cut).unwrap();
        let texts: Vec<String> = read(folder.path()).into_iter().map(|[_, text]| text).collect();
        assert_eq!(texts, ["third", "second", "first"]);
        assert!(read(&folder.path().join("none")).is_empty());
    }
}
