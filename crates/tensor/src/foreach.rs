//! Operations on all tensors of a list in a few kernels, for optimizers and momentum networks. On a
//! GPU, launching one kernel per parameter would take most of a step's time.
//!
//! All functions run outside autograd, and all but [`norms`] and [`add`] work in place.
#![allow(unsafe_code)] // Lists of tensors go to cpp/portolan.cpp as pointers.

use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

use crate::native::{check, new_tensor};
use crate::{Error, Result};

type List = *const *const C_tensor;

unsafe extern "C" {
    fn portolan_foreach_zero(items: List, n: usize) -> *const c_char;
    fn portolan_foreach_increment(items: List, n: usize) -> *const c_char;
    fn portolan_foreach_clear_grad(items: List, n: usize) -> *const c_char;
    fn portolan_foreach_lerp(
        targets: List,
        sources: List,
        n: usize,
        weight: *const C_tensor,
    ) -> *const c_char;
    fn portolan_foreach_norms(items: List, n: usize, out: *mut *mut C_tensor) -> *const c_char;
    fn portolan_foreach_scale(items: List, n: usize, factor: *const C_tensor) -> *const c_char;
    fn portolan_foreach_add(
        items: List,
        others: List,
        n: usize,
        weight: f64,
        out: *mut *mut C_tensor,
    ) -> *const c_char;
    fn portolan_sgd_step(
        params: List,
        gradients: List,
        buffers: List,
        n: usize,
        lr: *const C_tensor,
        momentum: f64,
        weight_decay: f64,
        nesterov: bool,
    ) -> *const c_char;
    fn portolan_adamw_step(
        params: List,
        gradients: List,
        means: List,
        squares: List,
        steps: List,
        n: usize,
        lr: *const C_tensor,
        beta1: f64,
        beta2: f64,
        eps: f64,
    ) -> *const c_char;
}

fn pointers(tensors: &[Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr()).collect()
}

/// The common length of these lists.
fn common_length(lists: &[&[Tensor]]) -> Result<usize> {
    let n = lists[0].len();
    match lists.iter().find(|list| list.len() != n) {
        None => Ok(n),
        Some(other) => Err(Error::Mismatch(format!(
            "lists of {n} and {} tensors do not go together",
            other.len()
        ))),
    }
}

/// Sets every value to zero.
///
/// # Errors
/// When libtorch refuses.
pub fn zero(tensors: &[Tensor]) -> Result<()> {
    if tensors.is_empty() {
        return Ok(());
    }
    let items = pointers(tensors);
    // SAFETY: here and below, every list has the given number of valid tensors, borrowed for the
    // call.
    check(unsafe { portolan_foreach_zero(items.as_ptr(), items.len()) })
}

/// Adds one to every value.
///
/// # Errors
/// When libtorch refuses.
pub fn increment(tensors: &[Tensor]) -> Result<()> {
    if tensors.is_empty() {
        return Ok(());
    }
    let items = pointers(tensors);
    check(unsafe { portolan_foreach_increment(items.as_ptr(), items.len()) })
}

/// Drops every tensor's gradient. The next backward pass makes a new one.
///
/// # Errors
/// When libtorch refuses.
pub fn clear_grad(tensors: &[Tensor]) -> Result<()> {
    let items = pointers(tensors);
    check(unsafe { portolan_foreach_clear_grad(items.as_ptr(), items.len()) })
}

/// `targets[i] += weight · (sources[i] − targets[i])`. `weight` is a scalar tensor.
///
/// # Errors
/// When the lists differ in length, or a pair in shape or device.
pub fn lerp(targets: &[Tensor], sources: &[Tensor], weight: &Tensor) -> Result<()> {
    let n = common_length(&[targets, sources])?;
    let (targets, sources) = (pointers(targets), pointers(sources));
    check(unsafe { portolan_foreach_lerp(targets.as_ptr(), sources.as_ptr(), n, weight.as_ptr()) })
}

/// The Euclidean norm of each tensor, `[n]`, on their device.
///
/// # Errors
/// When the list is empty, or the tensors are on different devices.
pub fn norms(tensors: &[Tensor]) -> Result<Tensor> {
    if tensors.is_empty() {
        return Err(Error::Mismatch("there are no tensors to take norms of".to_owned()));
    }
    let items = pointers(tensors);
    new_tensor(|out| unsafe { portolan_foreach_norms(items.as_ptr(), items.len(), out) })
}

/// Multiplies all tensors by one factor (a scalar tensor), or each by its own (`[n]`, which takes a
/// kernel per tensor).
///
/// # Errors
/// When the number of factors is neither one nor n.
pub fn scale(tensors: &[Tensor], factor: &Tensor) -> Result<()> {
    if tensors.is_empty() {
        return Ok(());
    }
    let items = pointers(tensors);
    check(unsafe { portolan_foreach_scale(items.as_ptr(), items.len(), factor.as_ptr()) })
}

/// The new tensors `tensors[i] + weight · others[i]`.
///
/// # Errors
/// When the lists differ in length, or a pair in shape or device.
pub fn add(tensors: &[Tensor], others: &[Tensor], weight: f64) -> Result<Vec<Tensor>> {
    let n = common_length(&[tensors, others])?;
    let (items, others) = (pointers(tensors), pointers(others));
    let mut out = vec![std::ptr::null_mut(); n];
    // SAFETY: on success `out` is filled with new tensors, owned by the `Tensor`s made of them.
    unsafe {
        check(portolan_foreach_add(items.as_ptr(), others.as_ptr(), n, weight, out.as_mut_ptr()))?;
        Ok(out.into_iter().map(|tensor| Tensor::from_ptr(tensor)).collect())
    }
}

/// The settings of [`sgd_step`].
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// The weight of the last update, m below.
    pub momentum: f64,
    /// The L2 penalty, λ below.
    pub weight_decay: f64,
    /// Whether to use Nesterov momentum.
    pub nesterov: bool,
}

/// One step of `torch.optim.SGD` without dampening: v ← m·v + g + λp, p ← p − lr·v (with Nesterov
/// p ← p − lr·(g + λp + m·v)).
///
/// `lr` is a [`scalar`](crate::scalar) on the parameters' device. Buffers of zeros give PyTorch's
/// first step. Without buffers, p ← p − lr·(g + λp).
///
/// # Errors
/// When the lists differ in length, or corresponding tensors in shape, kind or device.
pub fn sgd_step(
    params: &[Tensor],
    gradients: &[Tensor],
    buffers: Option<&[Tensor]>,
    lr: &Tensor,
    settings: Sgd,
) -> Result<()> {
    let n = common_length(&[params, gradients, buffers.unwrap_or(params)])?;
    if n == 0 {
        return Ok(());
    }
    let (params, gradients) = (pointers(params), pointers(gradients));
    let buffers = buffers.map(pointers);
    let buffers = buffers.as_ref().map_or(std::ptr::null(), |list| list.as_ptr());
    let Sgd { momentum, weight_decay, nesterov } = settings;
    let (params, gradients, lr) = (params.as_ptr(), gradients.as_ptr(), lr.as_ptr());
    // SAFETY: lists of n tensors; null stands for none.
    check(unsafe {
        portolan_sgd_step(params, gradients, buffers, n, lr, momentum, weight_decay, nesterov)
    })
}

/// The settings of [`adamw_step`].
#[derive(Clone, Copy, Debug)]
pub struct Adamw {
    /// The decay rates β₁, β₂ of the two moments.
    pub betas: [f64; 2],
    /// ε, which keeps the quotient finite.
    pub eps: f64,
}

/// AdamW's state, an entry per parameter.
#[derive(Debug, Default)]
pub struct Moments {
    /// The running mean of the gradient.
    pub means: Vec<Tensor>,
    /// The running mean of the squared gradient.
    pub squares: Vec<Tensor>,
    /// The number of steps, a float32 scalar on the parameter's device. [`adamw_step`] increments
    /// it.
    pub steps: Vec<Tensor>,
}

/// One step of `torch.optim.AdamW` without its weight decay (p ← p − lr·λ·p, which comes first):
/// p ← p − lr · m̂ / (√v̂ + ε), with bias-corrected moments m̂ and v̂.
///
/// `lr` is a [`scalar`](crate::scalar) on the parameters' device.
///
/// # Errors
/// When the lists differ in length, or corresponding tensors in shape, kind or device.
pub fn adamw_step(
    params: &[Tensor],
    gradients: &[Tensor],
    moments: &Moments,
    lr: &Tensor,
    settings: Adamw,
) -> Result<()> {
    let Moments { means, squares, steps } = moments;
    let n = common_length(&[params, gradients, means, squares, steps])?;
    if n == 0 {
        return Ok(());
    }
    let [params, gradients, means, squares, steps] =
        [params, gradients, means, squares, steps].map(pointers);
    let Adamw { betas: [beta1, beta2], eps } = settings;
    // SAFETY: lists of n tensors each.
    check(unsafe {
        portolan_adamw_step(
            params.as_ptr(),
            gradients.as_ptr(),
            means.as_ptr(),
            squares.as_ptr(),
            steps.as_ptr(),
            n,
            lr.as_ptr(),
            beta1,
            beta2,
            eps,
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tch::Kind;

    use super::*;

    fn pair(a: &[f32], b: &[f32]) -> Vec<Tensor> {
        vec![Tensor::from_slice(a), Tensor::from_slice(b)]
    }

    #[test]
    fn each_of_a_list() {
        let (items, others) = (pair(&[3.0, 4.0], &[2.0]), pair(&[1.0, 0.0], &[10.0]));
        assert_eq!(norms(&items).unwrap(), Tensor::from_slice(&[5.0f32, 2.0]));
        assert_eq!(add(&items, &others, 0.5).unwrap(), pair(&[3.5, 4.0], &[7.0]));
        scale(&items, &Tensor::from(2.0f32)).unwrap();
        assert_eq!(items, pair(&[6.0, 8.0], &[4.0]));
        scale(&items, &Tensor::from_slice(&[0.5f32, -1.0])).unwrap();
        assert_eq!(items, pair(&[3.0, 4.0], &[-4.0]));
        lerp(&items, &others, &Tensor::from(0.25)).unwrap();
        assert_eq!(items, pair(&[2.5, 3.0], &[-0.5]));
        zero(&items).unwrap();
        assert_eq!(items, pair(&[0.0, 0.0], &[0.0]));
        increment(&items).unwrap();
        assert_eq!(items, pair(&[1.0, 1.0], &[1.0]));
    }

    #[test]
    fn a_cleared_gradient_is_none_and_the_next_is_as_before() {
        let x = Tensor::from_slice(&[3f32]).set_requires_grad(true);
        for _ in 0..2 {
            x.square().sum(Kind::Float).backward();
            assert_eq!(x.grad().double_value(&[0]), 6.0);
            clear_grad(&[x.shallow_clone()]).unwrap();
            assert!(!x.grad().defined());
        }
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let items = pair(&[3.0, 4.0], &[2.0]);
        assert!(lerp(&items, &items[..1], &Tensor::from(0.5)).is_err());
        assert!(add(&items, &[], 1.0).is_err());
        assert!(norms(&[]).is_err());
        let lr = Tensor::from(0.1);
        let settings = Sgd { momentum: 0.0, weight_decay: 0.0, nesterov: false };
        assert!(sgd_step(&items, &items[1..], None, &lr, settings).is_err());
        assert!(sgd_step(&[], &[], None, &lr, settings).is_ok());
        assert!(scale(&items, &Tensor::zeros([3], (Kind::Float, tch::Device::Cpu))).is_err());
    }
}
