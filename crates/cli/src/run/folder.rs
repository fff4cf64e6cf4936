//! The folder of a run.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

use crate::args::RunArgs;
use crate::config::RunConfig;

/// The folder of the run: --out, or a new name.
pub(crate) fn folder_of(args: &RunArgs, config: &RunConfig) -> PathBuf {
    args.out.clone().unwrap_or_else(|| {
        Path::new("runs").join(format!("{}-{}-{}", config.method, config.recipe, time_for_names()))
    })
}

/// The current time for folder names: 20261122-194500.
pub(crate) fn time_for_names() -> String {
    portolan_report::now().replace(['-', ':'], "").replace('T', "-").replace('Z', "")
}

/// Refuses a folder that is not empty. A second run within the same second would also get the same
/// name.
pub(crate) fn ensure_empty(folder: &Path, chosen: bool) -> Result<()> {
    let taken = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(
        !taken,
        "the folder {} is not empty; choose another {}, or resume the run in it with --resume {}",
        folder.display(),
        if chosen { "--out" } else { "--out (or wait a second)" },
        folder.display()
    );
    Ok(())
}

/// Creates the folder of the run.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| {
        format!("cannot create the folder of the run {}; choose a writable --out", folder.display())
    })
}
