//! Work outside autograd.

/// Runs `body` without recording it for a backward pass.
///
/// Unlike tch's `no_grad`, it restores recording also when `body` panics.
pub fn no_grad<T>(body: impl FnOnce() -> T) -> T {
    let _guard = tch::no_grad_guard();
    body()
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn gradients_are_recorded_again_after_a_panic() {
        let x = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        assert!(!no_grad(|| &x * 2.0).requires_grad());
        let panicked = std::panic::catch_unwind(|| no_grad(|| panic!("on purpose")));
        assert!(panicked.is_err());
        assert!((&x * 2.0).requires_grad());
    }
}
