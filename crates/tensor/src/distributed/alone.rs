//! A group of one process, to check that collective operations work on this machine.

use std::marker::PhantomData;
use std::net::TcpListener;
use tch::{Device, Kind, Tensor};

use super::{
    Launch, Reducer, join, leave, lost, portolan_group_batch_norm, portolan_group_broadcast,
    portolan_group_gather, portolan_group_sum, portolan_reducer_new,
};
use crate::native::{check, new_tensor};
use crate::{Error, Result};

const TIMEOUT_SECONDS: u64 = 60;

/// Forms a group of this process alone on `device` (NCCL on a GPU, Gloo on the CPU) and checks each
/// collective operation: sum, gathered rows, broadcast, batch norm and averaged gradients.
///
/// # Errors
/// When libtorch refuses, or a result is wrong. The message names it.
pub fn check_alone(device: Device) -> Result<()> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let launch = Launch {
        rank: 0,
        local_rank: 0,
        world_size: 1,
        address: "127.0.0.1".to_owned(),
        port: port.map_err(Error::Port)?.port(),
        agent_attempt: None,
    };
    join(&launch, device, TIMEOUT_SECONDS)?;
    let checked = all_collectives(device);
    let left = leave();
    checked.and(left)
}

fn all_collectives(device: Device) -> Result<()> {
    let float = (Kind::Float, device);
    let x = Tensor::arange(24, float).sin().view([6, 4]);
    let same = |what: &'static str, a: &Tensor, b: &Tensor| {
        if a.allclose(b, 1e-5, 1e-6, false) { Ok(()) } else { Err(Error::WrongCollective(what)) }
    };
    // SAFETY: all tensors live until the calls return.
    let (sum, rows, norm) = unsafe {
        let (mean, var) = (Tensor::zeros([4], float), Tensor::ones([4], float));
        let none = std::ptr::null();
        (
            new_tensor(|out| portolan_group_sum(x.as_ptr(), out)).map_err(lost)?,
            new_tensor(|out| portolan_group_gather(x.as_ptr(), out)).map_err(lost)?,
            new_tensor(|out| {
                let (mean, var) = (mean.as_ptr(), var.as_ptr());
                portolan_group_batch_norm(x.as_ptr(), none, none, mean, var, 0.1, 1e-5, out)
            })
            .map_err(lost)?,
        )
    };
    same("the sum", &sum, &x)?;
    same("the gathered rows", &rows, &x)?;
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
    check(unsafe { portolan_group_broadcast([sent.as_ptr()].as_ptr(), 1) }).map_err(lost)?;
    same("the broadcast tensor", &sent, &x)?;
    same("a gradient", &reduced_gradient(&x)?, &x)
}

/// The gradient of Σ w·x with respect to w, averaged over the group. It is x.
fn reduced_gradient(x: &Tensor) -> Result<Tensor> {
    let w = x.ones_like().set_requires_grad(true);
    let mut raw = std::ptr::null_mut();
    // SAFETY: on success `raw` is a new Reducer, which is dropped with the value made of it.
    check(unsafe { portolan_reducer_new([w.as_ptr()].as_ptr(), 1, &mut raw) }).map_err(lost)?;
    let reducer = Reducer { raw, _not_send: PhantomData };
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
