//! The folder of a run.

use anyhow::{Context, Result, ensure};
use portolan_tensor::distributed;
use portolan_tensor::io;
use portolan_train::{checkpoints, newest};
use std::path::{Path, PathBuf};

use crate::args::RunArgs;

/// Where a run is written.
pub(crate) struct RunFolder {
    /// The folder.
    pub(crate) path: PathBuf,
    /// The checkpoint that the run resumes from.
    pub(crate) checkpoint: Option<PathBuf>,
    /// Whether the run begins here, in the first process: then the folder does not exist yet.
    new: bool,
}

impl RunFolder {
    /// The run to resume, --out, or a new name.
    ///
    /// # Errors
    /// If a new run's folder is not empty.
    pub(crate) fn of(args: &RunArgs, method: &str, recipe: &str) -> Result<Self> {
        if let Some(run) = &args.resume {
            let checkpoint = (!checkpoints(run)?.is_empty()).then(|| newest(run)).transpose()?;
            return Ok(RunFolder { path: run.clone(), checkpoint, new: false });
        }
        let path = args.out.clone().unwrap_or_else(|| {
            Path::new("runs").join(format!("{method}-{recipe}-{}", time_for_names()))
        });
        let new = distributed::rank() == 0;
        if new {
            ensure_empty(&path, args.out.is_some())?;
        }
        Ok(RunFolder { path, checkpoint: None, new })
    }

    /// Creates the folder of a new run with the run's settings. Call it only after the settings are
    /// known to work: a refused run leaves nothing behind.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub(crate) fn create(&self, config_toml: &str) -> Result<()> {
        if self.new {
            create_folder(&self.path)?;
            io::write_atomic(&self.path.join("config.toml"), config_toml.as_bytes())?;
        }
        Ok(())
    }
}

/// The current time for folder names: 20261122-194500.
pub(crate) fn time_for_names() -> String {
    portolan_report::now().replace(['-', ':'], "").replace('T', "-").replace('Z', "")
}

/// Refuses a folder that is not empty. A second run within the same second would also get the same
/// name.
fn ensure_empty(folder: &Path, chosen: bool) -> Result<()> {
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
