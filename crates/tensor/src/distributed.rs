//! The other processes of a training job.
//!
//! A process works alone until it [joins](join) a group; then what is collective concerns all of the group, each of which has
//! to call it, in the same order. Alone, the same functions are the identity: what is written once with them is right on many.
//!
//! The group is c10d's, PyTorch's own, and it is one for the whole process, as in PyTorch: layers deep in a network
//! (batch norm) and methods take part in it without its being handed through all that lies between.
#![allow(unsafe_code)] // Calls into cpp/distributed.cpp.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::{CString, c_char};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Device, Tensor};
use torch_sys::C_tensor;

use crate::native::check;

mod alone;

pub use alone::check_alone;

type List = *const *const C_tensor;

/// c10d's Reducer, which only C++ looks into.
#[repr(C)]
struct RawReducer {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn portolan_group_join(
        rank: i64,
        size: i64,
        address: *const c_char,
        port: i64,
        serve: bool,
        prefix: *const c_char,
        timeout_seconds: i64,
        cuda_index: i64,
    ) -> *const c_char;
    fn portolan_group_leave(orderly: bool) -> *const c_char;
    fn portolan_group_sum(x: *const C_tensor, out: *mut *mut C_tensor) -> *const c_char;
    fn portolan_group_gather(x: *const C_tensor, out: *mut *mut C_tensor) -> *const c_char;
    fn portolan_group_batch_norm(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        running_mean: *const C_tensor,
        running_var: *const C_tensor,
        momentum: f64,
        eps: f64,
        out: *mut *mut C_tensor,
    ) -> *const c_char;
    fn portolan_group_broadcast(items: List, n: usize) -> *const c_char;
    fn portolan_reducer_new(items: List, n: usize, out: *mut *mut RawReducer) -> *const c_char;
    fn portolan_reducer_prepare(reducer: *mut RawReducer, loss: *const C_tensor) -> *const c_char;
    fn portolan_reducer_drop(reducer: *mut RawReducer) -> *const c_char;
}

static RANK: AtomicUsize = AtomicUsize::new(0);
static SIZE: AtomicUsize = AtomicUsize::new(1);

/// Which process of its group this one is; 0 when alone.
pub fn rank() -> usize {
    RANK.load(Ordering::Relaxed)
}

/// How many processes the group has; 1 when alone.
pub fn world_size() -> usize {
    SIZE.load(Ordering::Relaxed)
}

/// What a launcher tells a process, in the environment variables that torchrun, PyTorchJob and most Slurm scripts set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Which process this is (`RANK`).
    pub rank: usize,
    /// Which of those on its machine, and so which of its GPUs is its own (`LOCAL_RANK`).
    pub local_rank: usize,
    /// How many there are (`WORLD_SIZE`).
    pub world_size: usize,
    /// Where process 0 is met (`MASTER_ADDR`).
    pub address: String,
    /// And at which port (`MASTER_PORT`).
    pub port: u16,
    /// How often the job was started before, where torchrun's agent serves the meeting (`TORCHELASTIC_USE_AGENT_STORE`).
    pub agent_attempt: Option<u64>,
}

impl Launch {
    /// What the environment says; nothing where it says nothing, or that there is one process.
    ///
    /// # Errors
    /// When it says something in part, or no numbers.
    pub fn from_env() -> Result<Option<Self>> {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let Some(world_size) = variable("WORLD_SIZE") else { return Ok(None) };
        let text = |name: &str| {
            variable(name).with_context(|| {
                format!("WORLD_SIZE is set and {name} is not; set RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or none")
            })
        };
        let number = |name: &str, value: String| {
            let parsed = value.trim().parse::<usize>();
            parsed.ok().with_context(|| format!("{name} is `{value}`; it must be a whole number"))
        };
        let world_size = number("WORLD_SIZE", world_size)?;
        ensure!(world_size >= 1, "WORLD_SIZE is 0; a job has at least one process");
        if world_size == 1 {
            return Ok(None);
        }
        let rank = number("RANK", text("RANK")?)?;
        ensure!(rank < world_size, "RANK is {rank} of WORLD_SIZE {world_size}; ranks count from 0");
        let agent = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        let attempt = variable("TORCHELASTIC_RESTART_COUNT").and_then(|n| n.parse().ok());
        let port = text("MASTER_PORT")?;
        Ok(Some(Launch {
            rank,
            local_rank: match variable("LOCAL_RANK") {
                Some(value) => number("LOCAL_RANK", value)?,
                None => 0,
            },
            world_size,
            address: text("MASTER_ADDR")?,
            port: port
                .parse()
                .ok()
                .with_context(|| format!("MASTER_PORT is `{port}`; it must be a port"))?,
            agent_attempt: agent.then(|| attempt.unwrap_or(0)),
        }))
    }
}

/// Joins the group that `launch` describes, for work on `device`. Returns when all are there.
///
/// # Errors
/// When they are not all there in time, or this process has joined a group before. Afterwards, whatever is collective fails when
/// another process is gone, or has not come for `timeout_seconds`.
pub fn join(launch: &Launch, device: Device, timeout_seconds: u64) -> Result<()> {
    ensure!(world_size() == 1, "this process has joined a group already");
    let address = CString::new(launch.address.as_str()).context("in MASTER_ADDR")?;
    let prefix = match launch.agent_attempt {
        Some(attempt) => format!("/worker/attempt_{attempt}"),
        None => "portolan".to_owned(),
    };
    let prefix = CString::new(prefix)?;
    let serve = launch.rank == 0 && launch.agent_attempt.is_none();
    let cuda_index = match device {
        Device::Cuda(index) => index as i64,
        _ => -1,
    };
    // SAFETY: both strings live until the call returns.
    check(unsafe {
        portolan_group_join(
            launch.rank as i64,
            launch.world_size as i64,
            address.as_ptr(),
            i64::from(launch.port),
            serve,
            prefix.as_ptr(),
            timeout_seconds as i64,
            cuda_index,
        )
    })
    .with_context(|| {
        format!(
            "process {} of {} could not join the others at {}:{}",
            launch.rank, launch.world_size, launch.address, launch.port
        )
    })?;
    RANK.store(launch.rank, Ordering::Relaxed);
    SIZE.store(launch.world_size, Ordering::Relaxed);
    Ok(())
}

/// Leaves the group as all others do: this process works alone from now on. Nothing else may be collective at that time.
///
/// # Errors
/// When libtorch refuses.
pub fn leave() -> Result<()> {
    part(true)
}

/// Leaves the group without waiting for the others, because this process or another has failed; they notice.
///
/// # Errors
/// When libtorch refuses.
pub fn abandon() -> Result<()> {
    part(false)
}

fn part(orderly: bool) -> Result<()> {
    RANK.store(0, Ordering::Relaxed);
    SIZE.store(1, Ordering::Relaxed);
    // SAFETY: lets go of the group, which nothing else holds but reducers, each by a count of its own.
    check(unsafe { portolan_group_leave(orderly) })
}

/// What the error of something collective says when another process is gone.
pub const LOST: &str = "lost the others";

/// What went wrong in something collective, in words: almost always that another process is gone.
fn collective(message: *const c_char) -> Result<()> {
    check(message).with_context(|| {
        format!(
            "process {} of {} {LOST}: one of them has ended, or does not answer; see what it said last",
            rank(),
            world_size()
        )
    })
}

/// The sum of all processes' `x`, which have one shape. Carries gradients.
///
/// # Errors
/// When another process is gone.
pub fn sum(x: &Tensor) -> Result<Tensor> {
    if world_size() == 1 {
        return Ok(x.shallow_clone());
    }
    // SAFETY: `x` lives until the call returns.
    made(|out| unsafe { portolan_group_sum(x.as_ptr(), out) })
}

/// The tensor that something collective makes.
fn made(make: impl FnOnce(*mut *mut C_tensor) -> *const c_char) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    collective(make(&mut out))?;
    // SAFETY: on success `out` is a new tensor, owned by the `Tensor` made of it.
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// The mean of all processes' `x`. Carries gradients.
///
/// # Errors
/// As [`sum`].
pub fn mean(x: &Tensor) -> Result<Tensor> {
    if world_size() == 1 {
        return Ok(x.shallow_clone());
    }
    Ok(sum(x)? / world_size() as f64)
}

/// All processes' rows, in the order of their ranks: `[n, …]`, the same n everywhere, to `[world_size · n, …]`. Carries gradients.
///
/// # Errors
/// As [`sum`].
pub fn all_gather(rows: &Tensor) -> Result<Tensor> {
    if world_size() == 1 {
        return Ok(rows.shallow_clone());
    }
    // SAFETY: `rows` lives until the call returns.
    made(|out| unsafe { portolan_group_gather(rows.as_ptr(), out) })
}

/// What [`batch_norm`] records into, and how.
pub struct Running<'a> {
    /// Each channel's mean so far, `[channels]`.
    pub mean: &'a Tensor,
    /// Each channel's variance so far, `[channels]`.
    pub var: &'a Tensor,
    /// How far they move towards a batch's.
    pub momentum: f64,
}

/// `x` (`[n, channels, …]`, the same n in all processes) normalized by each channel's mean and variance over all processes, then scaled and shifted by
/// `affine`. Carries gradients; with one collective forward and one backward.
///
/// # Errors
/// As [`sum`].
pub fn batch_norm(
    x: &Tensor,
    affine: Option<(&Tensor, &Tensor)>,
    running: &Running,
    eps: f64,
) -> Result<Tensor> {
    let (weight, bias) = affine.map_or((std::ptr::null(), std::ptr::null()), |(weight, bias)| {
        (weight.as_ptr(), bias.as_ptr())
    });
    // SAFETY: all tensors live until the call returns; null stands for none.
    made(|out| unsafe {
        portolan_group_batch_norm(
            x.as_ptr(),
            weight,
            bias,
            running.mean.as_ptr(),
            running.var.as_ptr(),
            running.momentum,
            eps,
            out,
        )
    })
}

/// The rows of [`all_gather`] where processes have different numbers of them. Carries no gradients.
///
/// # Errors
/// As [`sum`].
pub fn all_gather_ragged(rows: &Tensor) -> Result<Tensor> {
    if world_size() == 1 {
        return Ok(rows.shallow_clone());
    }
    let own = rows.detach();
    let n = own.size()[0];
    let counts: Vec<i64> =
        Vec::try_from(all_gather(&Tensor::from_slice(&[n]).to_device(own.device()))?)?;
    let most = counts.iter().copied().max().unwrap_or(0);
    let mut padding = own.size();
    padding[0] = most - n;
    let padded =
        Tensor::cat(&[own.shallow_clone(), Tensor::zeros(&padding, (own.kind(), own.device()))], 0);
    let all = all_gather(&padded)?;
    let parts: Vec<Tensor> =
        (0..).zip(&counts).map(|(i, &count)| all.narrow(0, i * most, count)).collect();
    Ok(Tensor::cat(&parts, 0))
}

/// Overwrites tensors with what process 0 has in them.
///
/// # Errors
/// As [`sum`].
pub fn broadcast(tensors: &[Tensor]) -> Result<()> {
    if world_size() == 1 {
        return Ok(());
    }
    let list: Vec<*const C_tensor> = tensors.iter().map(|tensor| tensor.as_ptr()).collect();
    // SAFETY: the list and its tensors live until the call returns.
    collective(unsafe { portolan_group_broadcast(list.as_ptr(), list.len()) })
}

/// Averages gradients over the group while backward runs.
pub struct Reducer {
    raw: *mut RawReducer,
    /// A raw pointer is neither `Send` nor `Sync`; this says that it is meant.
    _here: PhantomData<*mut RawReducer>,
}

impl Reducer {
    /// For these parameters; nothing when this process is alone. Where they differ, c10d refuses.
    ///
    /// # Errors
    /// When libtorch refuses, or another process is gone.
    pub fn new(params: &[Tensor]) -> Result<Option<Self>> {
        if world_size() == 1 {
            return Ok(None);
        }
        if params.is_empty() {
            bail!("there are no parameters to average gradients of");
        }
        let list: Vec<*const C_tensor> = params.iter().map(|tensor| tensor.as_ptr()).collect();
        let mut raw = std::ptr::null_mut();
        // SAFETY: on success `raw` is a new Reducer, which `drop` releases.
        collective(unsafe { portolan_reducer_new(list.as_ptr(), list.len(), &mut raw) })?;
        Ok(Some(Reducer { raw, _here: PhantomData }))
    }

    /// To be called before `loss.backward()`, if gradients are to be averaged in it: after it, every parameter's gradient is the
    /// mean over the group of what was accumulated.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn prepare(&self, loss: &Tensor) -> Result<()> {
        // SAFETY: `raw` is a live Reducer.
        collective(unsafe { portolan_reducer_prepare(self.raw, loss.as_ptr()) })
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: `raw` was made by `new` and is released once. What it says when others are gone is of no use here.
        let _ = check(unsafe { portolan_reducer_drop(self.raw) });
    }
}

#[cfg(test)]
mod tests;
