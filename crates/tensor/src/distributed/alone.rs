//! A group of one process, which shows whether what is collective works on this machine.

use anyhow::{Context, Result, ensure};
use std::marker::PhantomData;
use std::net::TcpListener;
use tch::{Device, Kind, Tensor};

use super::{
    Launch, Reducer, collective, join, leave, made, portolan_group_batch_norm,
    portolan_group_broadcast, portolan_group_gather, portolan_group_sum, portolan_reducer_new,
};

/// How long the process waits for itself, in seconds.
const PATIENCE: u64 = 60;

/// Forms a group of this process alone, on `device` (NCCL on a GPU, Gloo on the CPU), and compares what is collective in it
/// with what it has to be: sum, gathered rows, broadcast, batch norm and averaged gradients.
///
/// # Errors
/// When libtorch refuses, or a result is wrong; the message names it.
pub fn check_alone(device: Device) -> Result<()> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let launch = Launch {
        rank: 0,
        local_rank: 0,
        world_size: 1,
        address: "127.0.0.1".to_owned(),
        port: port.context("no port is free")?.port(),
        agent_attempt: None,
    };
    join(&launch, device, PATIENCE)?;
    let checked = all_collectives(device);
    let left = leave();
    checked.and(left)
}

fn all_collectives(device: Device) -> Result<()> {
    let float = (Kind::Float, device);
    let x = Tensor::arange(24, float).sin().view([6, 4]);
    let same = |what: &str, a: &Tensor, b: &Tensor| -> Result<()> {
        ensure!(a.allclose(b, 1e-5, 1e-6, false), "{what} of one process is wrong");
        Ok(())
    };
    // SAFETY: all tensors live until the calls return, and each result is owned by the `Tensor` made of it.
    let (sum, rows, norm) = unsafe {
        let (mean, var) = (Tensor::zeros([4], float), Tensor::ones([4], float));
        let none = std::ptr::null();
        (
            made(|out| portolan_group_sum(x.as_ptr(), out))?,
            made(|out| portolan_group_gather(x.as_ptr(), out))?,
            made(|out| {
                let (mean, var) = (mean.as_ptr(), var.as_ptr());
                portolan_group_batch_norm(x.as_ptr(), none, none, mean, var, 0.1, 1e-5, out)
            })?,
        )
    };
    same("the sum", &sum, &x)?;
    same("what is gathered", &rows, &x)?;
    let none = None::<Tensor>;
    let expected = x.batch_norm(
        none.as_ref(),
        none.as_ref(),
        none.as_ref(),
        none.as_ref(),
        true,
        0.1,
        1e-5,
        false,
    );
    same("batch norm", &norm, &expected)?;
    let sent = x.copy();
    // SAFETY: the list and its tensor live until the call returns.
    collective(unsafe { portolan_group_broadcast([sent.as_ptr()].as_ptr(), 1) })?;
    same("what is broadcast", &sent, &x)?;
    same("a gradient", &reduced_gradient(&x)?, &x)
}

/// The gradient of Σ w·x by w, averaged over the group: x.
fn reduced_gradient(x: &Tensor) -> Result<Tensor> {
    let w = x.ones_like().set_requires_grad(true);
    let mut raw = std::ptr::null_mut();
    // SAFETY: on success `raw` is a new Reducer, which is dropped with the value made of it.
    collective(unsafe { portolan_reducer_new([w.as_ptr()].as_ptr(), 1, &mut raw) })?;
    let reducer = Reducer { raw, _here: PhantomData };
    let loss = (&w * x).sum(Kind::Float);
    reducer.prepare(&loss)?;
    loss.f_backward()?;
    Ok(w.grad().copy())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::distributed::{rank, world_size};

    #[test]
    fn a_group_of_one_computes_what_it_should_and_is_left() {
        for _ in 0..2 {
            check_alone(Device::Cpu).unwrap();
            assert_eq!((rank(), world_size()), (0, 1));
        }
    }
}
