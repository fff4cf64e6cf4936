//! Checkpoints: everything that training changes, in one file.

use anyhow::{Context, Result, bail, ensure};
use portolan_method::Method;
use portolan_optim::Optimizer;
use portolan_tensor::{
    Device, Tensor, distributed, generator_state, io, prefixed, set_generator_state,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Number of checkpoints that a run keeps: the newest, and the one before in case it is damaged.
const KEPT: usize = 2;

/// The state of a run when its tensors were written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The method whose tensors these are.
    pub method: String,
    /// Checksum of the data set trained on.
    pub data: String,
    /// Optimizer steps done.
    pub step: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Best kNN accuracy so far.
    pub best_knn: Option<f64>,
    /// Processes of the job that wrote it.
    #[serde(default = "one")]
    pub processes: usize,
    /// Number of rollbacks to a checkpoint so far; each halved the learning rate.
    #[serde(default)]
    pub rollbacks: u32,
}

fn one() -> usize {
    1
}

impl Checkpoint {
    /// The path of the checkpoint after `step` steps of the run in this folder.
    pub(crate) fn path(run: &Path, step: u64) -> PathBuf {
        run.join("checkpoints").join(format!("step-{step:08}.safetensors"))
    }

    /// Writes `checkpoints/step-NNNNNNNN.safetensors` in the run's folder: first under another
    /// name, which is then changed.
    ///
    /// # Errors
    /// When the folder cannot be written; the checkpoints before are then untouched.
    pub fn save(
        &self,
        run: &Path,
        method: &dyn Method,
        optimizer: &Optimizer,
        device: Device,
    ) -> Result<PathBuf> {
        let (folder, path) = (run.join("checkpoints"), Self::path(run, self.step));
        let mut tensors = tensors(method, optimizer);
        for (name, device) in generators(device) {
            // Networks are equal in all processes of a job, generators are not: [processes, bytes].
            let states = distributed::all_gather(&generator_state(device)?.unsqueeze(0))?;
            tensors.push((name.to_owned(), states));
        }
        if distributed::rank() > 0 {
            return Ok(path); // one process writes
        }
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let description = serde_json::to_string(self)?;
        io::save(&path, &tensors, &BTreeMap::from([("checkpoint".to_owned(), description)]))
            .context("cannot write a checkpoint; the one before is intact")?;
        Ok(path)
    }

    /// Reads the checkpoint at `path` into the method, the optimizer and libtorch's generators.
    /// Nothing is changed unless all of it fits.
    ///
    /// # Errors
    /// When the file is damaged, or was written by another method or for another network.
    pub fn load(
        path: &Path,
        name: &str,
        method: &dyn Method,
        optimizer: &Optimizer,
        device: Device,
    ) -> Result<Self> {
        let (mut found, metadata) = io::load(path)?;
        let description = metadata
            .get("checkpoint")
            .with_context(|| format!("{} is not a checkpoint of Portolan", path.display()))?;
        let checkpoint: Checkpoint = serde_json::from_str(description)
            .with_context(|| format!("{} has an unreadable description", path.display()))?;
        ensure!(
            checkpoint.method == name,
            "{} is a checkpoint of {}, not of {name}; resume it with `{}`",
            path.display(),
            checkpoint.method,
            checkpoint.method
        );
        let mut states = Vec::new();
        for (name, device) in generators(device) {
            // A run that moved from the CPU to a GPU has no state for the GPU's generator, which
            // keeps its initial state.
            states.extend(found.remove(name).map(|state| (device, state)));
        }
        // With another number of processes, the generators' states would belong to other processes.
        // The run then continues without them.
        let same = checkpoint.processes == distributed::world_size();
        if !same && distributed::rank() == 0 {
            tracing::warn!(
                "{} was written by {} processes and goes on with {}: correctly, but not to the bit",
                path.display(),
                checkpoint.processes,
                distributed::world_size()
            );
        }
        found.remove("generator.cuda");
        io::copy_into(&tensors(method, optimizer), &found)
            .with_context(|| format!("{} does not fit these settings", path.display()))?;
        for (device, state) in states.into_iter().filter(|_| same) {
            // Older checkpoints have one state, without a dimension for processes.
            let own = if state.dim() == 2 { state.get(distributed::rank() as i64) } else { state };
            set_generator_state(device, &own)?;
        }
        Ok(checkpoint)
    }
}

fn tensors(method: &dyn Method, optimizer: &Optimizer) -> Vec<(String, Tensor)> {
    let mut all = prefixed("method", method.state());
    all.extend(prefixed("optimizer", optimizer.state()));
    all
}

/// The generators of libtorch that a run on `device` uses.
fn generators(device: Device) -> Vec<(&'static str, Device)> {
    let mut all = vec![("generator.cpu", Device::Cpu)];
    if device.is_cuda() {
        all.push(("generator.cuda", device));
    }
    all
}

/// The checkpoints of the run in this folder, oldest first; empty if there are none yet.
///
/// # Errors
/// When the folder exists but cannot be read.
pub fn checkpoints(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join("checkpoints");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut all: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("step-") && name.ends_with(".safetensors")
        })
        .collect();
    all.sort();
    Ok(all)
}

/// The step after which a checkpoint was written, from its file name.
pub fn step_of(checkpoint: &Path) -> Option<u64> {
    checkpoint.file_stem()?.to_str()?.strip_prefix("step-")?.parse().ok()
}

/// The approximate size of a checkpoint in bytes.
pub fn checkpoint_bytes(method: &dyn Method, optimizer: &Optimizer) -> u64 {
    let bytes = |(_, tensor): &(String, Tensor)| {
        (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
    };
    tensors(method, optimizer).iter().map(bytes).sum()
}

/// Removes the run's checkpoints except the last two and `kept`.
///
/// # Errors
/// When one cannot be removed.
pub(crate) fn prune(run: &Path, kept: Option<&Path>) -> Result<()> {
    let all = checkpoints(run)?;
    let old = &all[..all.len().saturating_sub(KEPT)];
    for path in old.iter().filter(|path| Some(path.as_path()) != kept) {
        std::fs::remove_file(path).context("cannot remove an old checkpoint")?;
    }
    Ok(())
}

/// The newest whole checkpoint of the run in this folder. Damaged ones are skipped with a warning.
///
/// # Errors
/// When there is none; the message says so and names the folder.
pub fn newest(run: &Path) -> Result<PathBuf> {
    let all = checkpoints(run)?;
    ensure!(
        !all.is_empty(),
        "{} holds no checkpoint to go on from; start the run anew",
        run.display()
    );
    for path in all.iter().rev() {
        match io::load(path) {
            Ok(_) => return Ok(path.clone()),
            Err(error) if distributed::rank() == 0 => {
                tracing::warn!("a damaged checkpoint is passed over: {}", error.with_causes());
            }
            Err(_) => {}
        }
    }
    bail!("all {} checkpoints of {} are damaged; start the run anew", all.len(), run.display())
}
