//! Runs a program with a time limit and reads its output line by line.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);
/// How long to wait for the last lines after a program has ended. A child process may keep its
/// output open.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Runs `command` with its standard error redirected to `log`, and passes each line of its standard
/// output to `line`. Returns its exit status, or `None` if it was killed after `limit`.
///
/// # Errors
/// If the program cannot be started or `line` fails.
pub(super) fn run(
    command: &mut Command,
    log: File,
    limit: Duration,
    mut line: impl FnMut(&str) -> Result<()>,
) -> Result<Option<ExitStatus>> {
    let what = command.get_program().to_string_lossy().into_owned();
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().with_context(|| format!("cannot start {what}"))?;
    let lines = lines_of(&mut child)?;
    let deadline = Instant::now() + limit;
    loop {
        match lines.recv_timeout(POLL) {
            Ok(text) => line(&text)?,
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(POLL),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let ended = child.try_wait()?;
        let late = ended.is_none() && Instant::now() >= deadline;
        if late {
            child.kill()?;
            child.wait()?;
        }
        if late || ended.is_some() {
            while let Ok(text) = lines.recv_timeout(LAST_LINES) {
                line(&text)?;
            }
            return Ok(ended);
        }
    }
}

/// A channel with the lines of standard output.
fn lines_of(child: &mut Child) -> Result<Receiver<String>> {
    let output = child.stdout.take().context("a program without an output")?;
    let (sender, lines) = channel();
    let read = move || {
        for text in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(text).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("output".to_owned()).spawn(read)?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell(script: &str, limit: Duration) -> (Option<ExitStatus>, Vec<String>) {
        let mut lines = Vec::new();
        let log = tempfile::tempfile().unwrap();
        let ended = run(Command::new("sh").args(["-c", script]), log, limit, |text| {
            lines.push(text.to_owned());
            Ok(())
        });
        (ended.unwrap(), lines)
    }

    #[test]
    fn a_program_is_read_to_its_end_and_killed_after_its_time() {
        let (ended, lines) = shell("echo one; echo two; exit 3", Duration::from_secs(60));
        assert_eq!((ended.unwrap().code(), lines), (Some(3), vec!["one".into(), "two".into()]));
        let (ended, lines) = shell("echo one; exec sleep 600", Duration::from_millis(300));
        assert_eq!((ended, lines), (None, vec!["one".to_owned()]));
    }
}
