//! Writing files whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes a file under another name and renames it, so that readers find either the old file or the
/// whole new one. Returns its path.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|source| Error::write(path, source))?;
    Ok(path.to_owned())
}
