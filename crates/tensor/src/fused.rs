//! Layers together with what follows them, in as few passes over memory as can be.
#![allow(unsafe_code)] // Calls into cpp/batch_norm.cpp and cpp/inference.cpp.

use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

use crate::distributed::Running;
use crate::native::check;

unsafe extern "C" {
    fn portolan_batch_norm(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        add: *const C_tensor,
        running_mean: *const C_tensor,
        running_var: *const C_tensor,
        groups: i64,
        momentum: f64,
        eps: f64,
        relu: bool,
        out: *mut *mut C_tensor,
    ) -> *const c_char;
    fn portolan_packed_convolution(
        weight: *const C_tensor,
        x: *const C_tensor,
        stride: i64,
        padding: i64,
        out: *mut *mut C_tensor,
    ) -> *const c_char;
    fn portolan_convolution(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        stride: i64,
        padding: i64,
        add: *const C_tensor,
        relu: bool,
        out: *mut *mut C_tensor,
    ) -> *const c_char;
}

fn or_null(tensor: Option<&Tensor>) -> *const C_tensor {
    tensor.map_or(std::ptr::null(), |tensor| tensor.as_ptr())
}

fn made(make: impl FnOnce(*mut *mut C_tensor) -> *const c_char) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    check(make(&mut out))?;
    // SAFETY: on success `out` is a new tensor, owned by the `Tensor` made of it.
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// What follows a layer: `add` is added to its result, then comes a ReLU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Then<'a> {
    /// A tensor of the result's shape; none by default.
    pub add: Option<&'a Tensor>,
    /// Whether numbers below zero become zero; not by default.
    pub relu: bool,
}

/// Batch normalization in training: `x` (`[n, channels]` or `[n, channels, h, w]`) normalized by the mean and variance of each channel over each of
/// `groups` equal parts of the batch, scaled and shifted by `affine`, and on to `then`. The running statistics move to the mean of the groups'. Carries
/// gradients.
///
/// On the CPU, for float32 with channels last, it does all of it in one pass over memory after that for the statistics,
/// whose sums are added up in float64.
///
/// # Errors
/// When the batch has no `groups` equal parts of more than one value each, or shapes do not fit.
pub fn batch_norm(
    x: &Tensor,
    affine: Option<(&Tensor, &Tensor)>,
    running: &Running,
    groups: i64,
    eps: f64,
    then: Then,
) -> Result<Tensor> {
    // SAFETY: here and below, all tensors live until the call returns; null stands for none.
    made(|out| unsafe {
        portolan_batch_norm(
            x.as_ptr(),
            or_null(affine.map(|(weight, _)| weight)),
            or_null(affine.map(|(_, bias)| bias)),
            or_null(then.add),
            running.mean.as_ptr(),
            running.var.as_ptr(),
            groups,
            running.momentum,
            eps,
            then.relu,
            out,
        )
    })
}

/// The weight of a convolution (`[outputs, inputs, kernel, kernel]`) laid out for images of the shape of `x`: for
/// [`convolution`] alone, which takes images of other shapes too. Off the CPU, or off x86, it is the weight itself.
///
/// # Errors
/// When libtorch refuses.
pub fn packed(weight: &Tensor, x: &Tensor, stride: i64, padding: i64) -> Result<Tensor> {
    made(|out| unsafe {
        portolan_packed_convolution(weight.as_ptr(), x.as_ptr(), stride, padding, out)
    })
}

/// `x` (`[n, inputs, h, w]`) convolved by a [`packed`] weight, plus `bias`, and on to `then`, whose `add` may be overwritten. Carries no
/// gradients.
///
/// # Errors
/// When shapes do not fit.
pub fn convolution(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    stride: i64,
    padding: i64,
    then: Then,
) -> Result<Tensor> {
    made(|out| unsafe {
        portolan_convolution(
            x.as_ptr(),
            weight.as_ptr(),
            bias.as_ptr(),
            stride,
            padding,
            or_null(then.add),
            then.relu,
            out,
        )
    })
}
