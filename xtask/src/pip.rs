//! Downloads wheels by the user's pip, with the user's mirrors, proxies and certificates, and
//! without installing anything into their Python.

use anyhow::{Context, Error, Result};
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::WAYS_AROUND;

/// Finds pip: the command and its first arguments.
pub(crate) fn find() -> Result<&'static [&'static str]> {
    const CANDIDATES: [&[&str]; 4] =
        [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]];
    let found = CANDIDATES.into_iter().find(|candidate| {
        let version = command(candidate).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    });
    found.with_context(|| {
        format!(
            "Python's pip, which fetches libtorch, is missing: \
             install it (for example `apt install python3-pip`), {WAYS_AROUND}"
        )
    })
}

fn command(pip: &[&str]) -> Command {
    let mut command = Command::new(pip[0]);
    command.args(&pip[1..]);
    command
}

/// Downloads the wheels named, without what they depend on, into the folder `into`.
pub(crate) fn download(pip: &[&str], wheels: &[&str], into: &Path) -> Result<()> {
    let mut child = command(pip)
        .args(["download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"])
        // Some versions of pip read a whole wheel into memory to cache it, and all would keep it
        // twice.
        .arg("--no-cache-dir")
        // Whatever Python runs pip: of each wheel only the parts without Python are used.
        .args(["--python-version", "3.11", "--implementation", "cp"])
        .args(platforms().iter().flat_map(|tag| ["--platform", tag]))
        .arg("--dest")
        .arg(into)
        .args(wheels)
        // Into the same folder, as it is large, and removed if this is interrupted.
        .env("TMPDIR", into)
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", pip.join(" ")))?;

    // The progress goes straight to the terminal; the errors are also read, to say what they mean.
    let mut errors = String::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines() {
            let line = line?;
            eprintln!("{line}");
            errors.push_str(&line);
        }
    }
    if !child.wait()?.success() {
        return Err(explain(&errors));
    }
    Ok(())
}

/// The platforms whose wheels run here: any glibc up to 2.28, which torch's own wheel needs.
fn platforms() -> Vec<String> {
    let machine = std::env::consts::ARCH;
    let mut tags: Vec<String> =
        (17..=28).map(|minor| format!("manylinux_2_{minor}_{machine}")).collect();
    tags.push(format!("manylinux2014_{machine}"));
    tags
}

/// Explains pip's error messages and what to do about them.
fn explain(errors: &str) -> Error {
    if errors.contains("Errno 28") {
        io::Error::from(io::ErrorKind::StorageFull).into()
    } else if errors.contains("connection broken by") || errors.contains("Max retries exceeded") {
        Error::msg(format!(
            "the network is missing, or does not lead to pip's package index: connect it or name a \
             mirror in pip's settings, {WAYS_AROUND}"
        ))
    } else {
        Error::msg(format!(
            "pip could not fetch libtorch, for the reason it gives above: remedy \
             that, {WAYS_AROUND}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_for_a_failure_is_named() {
        let no_network =
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'";
        assert!(explain(no_network).to_string().starts_with("the network is missing"));
        let full = explain(
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left",
        );
        let kind = full.downcast_ref::<io::Error>().map(io::Error::kind);
        assert_eq!(kind, Some(io::ErrorKind::StorageFull));
        let other = explain("ERROR: something new").to_string();
        assert!(other.contains("above") && other.contains("LIBTORCH_USE_PYTORCH=1"), "{other}");
    }
}
