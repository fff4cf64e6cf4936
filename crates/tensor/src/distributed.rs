//! Collective operations over the processes of a training job.
//!
//! A process works alone until it [joins](join) a group. From then on every process of the group
//! must call the same collective operations in the same order. In a process that works alone they
//! are the identity, so that code written with them runs unchanged on one process or many.
//!
//! The group is PyTorch's own (c10d). As in PyTorch there is one per process, so that layers deep
//! in a network, such as batch norm, can use it without its being passed to them.
#![allow(unsafe_code)] // Calls into cpp/distributed.cpp.

use std::ffi::{CString, c_char};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Device, Tensor};
use torch_sys::C_tensor;

use crate::native::{check, new_tensor};
use crate::{Error, Result};

mod alone;

pub use alone::check_alone;

type List = *const *const C_tensor;

/// c10d's Reducer, opaque to Rust.
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

/// The index of this process in its group; 0 when alone.
pub fn rank() -> usize {
    RANK.load(Ordering::Relaxed)
}

/// The number of processes of the group; 1 when alone.
pub fn world_size() -> usize {
    SIZE.load(Ordering::Relaxed)
}

/// What a launcher tells a process, in the environment variables that torchrun, PyTorchJob and most
/// Slurm scripts set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The index of this process (`RANK`).
    pub rank: usize,
    /// Its index among the processes of its machine, and so the GPU that it uses (`LOCAL_RANK`).
    pub local_rank: usize,
    /// The number of processes (`WORLD_SIZE`).
    pub world_size: usize,
    /// The host of process 0 (`MASTER_ADDR`).
    pub address: String,
    /// Its port (`MASTER_PORT`).
    pub port: u16,
    /// The number of restarts so far, if torchrun's agent serves the store
    /// (`TORCHELASTIC_USE_AGENT_STORE`).
    pub agent_attempt: Option<u64>,
}

impl Launch {
    /// Reads the environment; `None` if it names no other processes.
    ///
    /// # Errors
    /// When a variable is missing or malformed.
    pub fn from_env() -> Result<Option<Self>> {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let Some(world_size) = variable("WORLD_SIZE") else { return Ok(None) };
        let text = |name: &str| {
            variable(name).ok_or_else(|| {
                Error::Launch(format!(
                    "WORLD_SIZE is set and {name} is not; set RANK, LOCAL_RANK, WORLD_SIZE, \
                     MASTER_ADDR and MASTER_PORT, or none"
                ))
            })
        };
        let number = |name: &str, value: String| {
            value.trim().parse::<usize>().map_err(|_| {
                Error::Launch(format!("{name} is `{value}`; it must be a whole number"))
            })
        };
        let world_size = match number("WORLD_SIZE", world_size)? {
            0 => {
                let message = "WORLD_SIZE is 0; a job has at least one process";
                return Err(Error::Launch(message.to_owned()));
            }
            1 => return Ok(None),
            n => n,
        };
        let rank = number("RANK", text("RANK")?)?;
        if rank >= world_size {
            return Err(Error::Launch(format!(
                "RANK is {rank} of WORLD_SIZE {world_size}; ranks count from 0"
            )));
        }
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
            port: port.parse().map_err(|_| {
                Error::Launch(format!("MASTER_PORT is `{port}`; it must be a port"))
            })?,
            agent_attempt: agent.then(|| attempt.unwrap_or(0)),
        }))
    }
}

/// Joins the group that `launch` describes, for work on `device`. Returns when all processes have
/// joined.
///
/// From then on, a collective operation fails when another process is gone or does not call it
/// within `timeout_seconds`.
///
/// # Errors
/// When the others do not join in time, or this process is in a group already.
pub fn join(launch: &Launch, device: Device, timeout_seconds: u64) -> Result<()> {
    if world_size() > 1 {
        return Err(Error::AlreadyJoined);
    }
    let c_string = |text: &str| {
        CString::new(text).map_err(|error| Error::Launch(format!("in MASTER_ADDR: {error}")))
    };
    let address = c_string(&launch.address)?;
    let prefix = match launch.agent_attempt {
        Some(attempt) => c_string(&format!("/worker/attempt_{attempt}"))?,
        None => c"portolan".to_owned(),
    };
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
    .map_err(|source| Error::Join {
        rank: launch.rank,
        world_size: launch.world_size,
        address: format!("{}:{}", launch.address, launch.port),
        source: Box::new(source),
    })?;
    RANK.store(launch.rank, Ordering::Relaxed);
    SIZE.store(launch.world_size, Ordering::Relaxed);
    Ok(())
}

/// Leaves the group together with all other processes. No other collective operation may be
/// running. This process works alone from then on.
///
/// # Errors
/// When libtorch refuses.
pub fn leave() -> Result<()> {
    leave_group(true)
}

/// Leaves the group without waiting for the others, because this process or another has failed. The
/// next collective operation of the others fails.
///
/// # Errors
/// When libtorch refuses.
pub fn abort() -> Result<()> {
    leave_group(false)
}

fn leave_group(orderly: bool) -> Result<()> {
    RANK.store(0, Ordering::Relaxed);
    SIZE.store(1, Ordering::Relaxed);
    // SAFETY: releases the group. Reducers that still use it hold a reference count of their own.
    check(unsafe { portolan_group_leave(orderly) })
}

/// The error of a failed collective operation.
fn lost(source: Error) -> Error {
    Error::Lost { rank: rank(), world_size: world_size(), source: Box::new(source) }
}

/// The sum over all processes of `x`, which has the same shape in each. Carries gradients.
///
/// # Errors
/// When another process is gone.
pub fn sum(x: &Tensor) -> Result<Tensor> {
    if world_size() == 1 {
        return Ok(x.shallow_clone());
    }
    // SAFETY: `x` lives until the call returns.
    new_tensor(|out| unsafe { portolan_group_sum(x.as_ptr(), out) }).map_err(lost)
}

/// The mean over all processes of `x`. Carries gradients.
///
/// # Errors
/// As [`sum`].
pub fn mean(x: &Tensor) -> Result<Tensor> {
    if world_size() == 1 {
        return Ok(x.shallow_clone());
    }
    Ok(sum(x)? / world_size() as f64)
}

/// The rows of all processes, by rank: `[n, …]`, with the same n everywhere, to
/// `[world_size · n, …]`. Carries gradients.
///
/// # Errors
/// As [`sum`].
pub fn all_gather(rows: &Tensor) -> Result<Tensor> {
    if world_size() == 1 {
        return Ok(rows.shallow_clone());
    }
    // SAFETY: `rows` lives until the call returns.
    new_tensor(|out| unsafe { portolan_group_gather(rows.as_ptr(), out) }).map_err(lost)
}

/// The running statistics of a batch norm, which are updated in place.
#[derive(Clone, Copy, Debug)]
pub struct RunningStats<'a> {
    /// The running mean of each channel, `[channels]`.
    pub mean: &'a Tensor,
    /// The running variance of each channel, `[channels]`.
    pub var: &'a Tensor,
    /// The weight of a batch's statistics in the update; 0.1 in PyTorch.
    pub momentum: f64,
}

/// Synchronized batch norm: normalizes `x` (`[n, channels, …]`, the same n in all processes) by
/// each channel's mean and variance over all processes, then applies `affine` (weight and bias,
/// `[channels]` each). Carries gradients. Takes one collective operation forward and one backward.
///
/// # Errors
/// As [`sum`].
pub fn batch_norm(
    x: &Tensor,
    affine: Option<(&Tensor, &Tensor)>,
    running: &RunningStats,
    eps: f64,
) -> Result<Tensor> {
    let (weight, bias) = affine.map_or((std::ptr::null(), std::ptr::null()), |(weight, bias)| {
        (weight.as_ptr(), bias.as_ptr())
    });
    // SAFETY: all tensors live until the call returns; null stands for none.
    new_tensor(|out| unsafe {
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
    .map_err(lost)
}

/// [`all_gather`] for processes with different numbers of rows. Carries no gradients.
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

/// Overwrites tensors with the values that process 0 has in them.
///
/// # Errors
/// As [`sum`].
pub fn broadcast(tensors: &[Tensor]) -> Result<()> {
    if world_size() == 1 {
        return Ok(());
    }
    let list: Vec<*const C_tensor> = tensors.iter().map(|tensor| tensor.as_ptr()).collect();
    // SAFETY: the list and its tensors live until the call returns.
    check(unsafe { portolan_group_broadcast(list.as_ptr(), list.len()) }).map_err(lost)
}

/// Averages gradients over the group during the backward pass, as PyTorch's
/// `DistributedDataParallel` does.
#[derive(Debug)]
pub struct Reducer {
    raw: *mut RawReducer,
    /// Neither `Send` nor `Sync`, on purpose: c10d expects one thread.
    _not_send: PhantomData<*mut RawReducer>,
}

impl Reducer {
    /// A reducer for these parameters; `None` when this process works alone.
    ///
    /// # Errors
    /// When the processes have different parameters, or another process is gone.
    pub fn new(params: &[Tensor]) -> Result<Option<Self>> {
        if world_size() == 1 {
            return Ok(None);
        }
        if params.is_empty() {
            let message = "there are no parameters to average gradients of";
            return Err(Error::Mismatch(message.to_owned()));
        }
        let list: Vec<*const C_tensor> = params.iter().map(|tensor| tensor.as_ptr()).collect();
        let mut raw = std::ptr::null_mut();
        // SAFETY: on success `raw` is a new Reducer, which `drop` releases.
        check(unsafe { portolan_reducer_new(list.as_ptr(), list.len(), &mut raw) })
            .map_err(lost)?;
        Ok(Some(Reducer { raw, _not_send: PhantomData }))
    }

    /// Has the next `loss.backward()` average the gradients: after it, every parameter's gradient
    /// is the group's mean of the accumulated gradients.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn prepare(&self, loss: &Tensor) -> Result<()> {
        // SAFETY: `raw` is a live Reducer.
        check(unsafe { portolan_reducer_prepare(self.raw, loss.as_ptr()) }).map_err(lost)
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: `raw` was made by `new` and is released once. Its error, when others are gone, is
        // of no use here.
        let _ = check(unsafe { portolan_reducer_drop(self.raw) });
    }
}

#[cfg(test)]
mod tests;
