//! The exponential moving average (EMA) of a network: the momentum encoder, or teacher.

use portolan_tensor::{Tensor, Vars, foreach, io};

use crate::{Error, Result};

/// Keeps the parameters of a second network at an exponential moving average of the online
/// network's. The second network gets no gradients. Its buffers are not averaged: as in MoCo's
/// code, its batch norms record the statistics of the batches that it sees itself.
#[derive(Debug)]
pub struct EmaUpdater {
    online: Vec<Tensor>,
    average: Vec<Tensor>,
}

impl EmaUpdater {
    /// Copies `online` into `average`, a second build of the same network, and turns off gradients
    /// for `average`.
    ///
    /// # Errors
    /// When the two networks differ in their tensors.
    pub fn new(online: &Vars, average: &Vars) -> Result<Self> {
        let tensors = |vars: &Vars| -> Vec<Tensor> {
            vars.parameters().into_iter().map(|(_, tensor)| tensor).collect()
        };
        if online.state().len() != average.state().len() {
            return Err(Error::Mismatch(
                "a momentum encoder must be built as the network that it follows".to_owned(),
            ));
        }
        io::copy_into(&average.state(), &online.state().into_iter().collect())?;
        let average = tensors(average);
        for tensor in &average {
            let _ = tensor.set_requires_grad(false);
        }
        Ok(EmaUpdater { online: tensors(online), average })
    }

    /// θ_ema ← m θ_ema + (1 − m) θ_online, for all tensors at once. The momentum m is a
    /// [`scalar`](portolan_tensor::scalar) on their device, for instance from
    /// [`StepContext::scalar_input`](crate::StepContext::scalar_input).
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn update(&self, momentum: &Tensor) -> Result<()> {
        Ok(foreach::lerp(&self.average, &self.online, &(1.0 - momentum))?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_tensor::{Device, Kind, no_grad};

    fn network(value: f64) -> Vars {
        let vars = Vars::new(Device::Cpu);
        let _ = vars.parameter("weight", Tensor::full([3], value, (Kind::Float, Device::Cpu)));
        let _ = vars.buffer("running_mean", Tensor::full([1], value, (Kind::Float, Device::Cpu)));
        vars
    }

    fn first(vars: &Vars) -> f64 {
        vars.state()[0].1.double_value(&[0])
    }

    #[test]
    fn the_average_starts_equal_and_follows() {
        let (online, follower) = (network(1.0), network(5.0));
        let average = EmaUpdater::new(&online, &follower).unwrap();
        assert_eq!(first(&follower), 1.0);
        assert!(!follower.state()[0].1.requires_grad() && online.state()[0].1.requires_grad());
        let _ = no_grad(|| online.state()[0].1.shallow_clone().fill_(2.0));
        let _ = no_grad(|| online.state()[1].1.shallow_clone().fill_(9.0));
        average.update(&Tensor::from(0.75)).unwrap();
        assert_eq!(first(&follower), 1.25);
        assert_eq!(follower.state()[1].1.double_value(&[0]), 1.0, "buffers stay the average's own");
    }

    #[test]
    fn different_networks_are_refused() {
        let other = network(0.0);
        let _ = other.parameter("bias", Tensor::zeros([1], (Kind::Float, Device::Cpu)));
        assert!(EmaUpdater::new(&network(1.0), &other).is_err());
    }
}
