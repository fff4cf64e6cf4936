//! Layers that are faster than libtorch's: fused with the addition and the ReLU that follow them,
//! GELU fused with its derivative, and linear layers by oneDNN where MKL is slow.
#![allow(unsafe_code)] // Calls into cpp/: batch_norm.cpp, gelu.cpp, inference.cpp and linear.cpp.

use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

use crate::Result;
use crate::distributed::RunningStats;
use crate::native::new_tensor;

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
    fn portolan_gelu_tanh(x: *const C_tensor, out: *mut *mut C_tensor) -> *const c_char;
    fn portolan_linear(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
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

/// What follows a layer: an addition, then a ReLU. The default is neither.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// A tensor to add, of the result's shape.
    pub add: Option<&'a Tensor>,
    /// Whether to apply a ReLU.
    pub relu: bool,
}

/// Batch norm in training, over groups of the batch: normalizes `x` (`[n, channels]` or
/// `[n, channels, h, w]`) by the mean and variance of each channel over each of `groups` equal
/// parts of the batch, applies `affine` (weight and bias, `[channels]` each), then `epilogue`. The
/// running statistics are updated by the mean over the groups. Carries gradients.
///
/// On the CPU, for float32 with the channels last, it takes one pass over memory for the
/// statistics, which are summed in float64, and one for all the rest.
///
/// # Errors
/// When the batch cannot be split into `groups` equal parts of more than one value each, or shapes
/// do not fit.
pub fn batch_norm(
    x: &Tensor,
    affine: Option<(&Tensor, &Tensor)>,
    running: &RunningStats,
    groups: i64,
    eps: f64,
    epilogue: Epilogue,
) -> Result<Tensor> {
    // SAFETY: here and below, all tensors live until the call returns; null stands for none.
    new_tensor(|out| unsafe {
        portolan_batch_norm(
            x.as_ptr(),
            or_null(affine.map(|(weight, _)| weight)),
            or_null(affine.map(|(_, bias)| bias)),
            or_null(epilogue.add),
            running.mean.as_ptr(),
            running.var.as_ptr(),
            groups,
            running.momentum,
            eps,
            epilogue.relu,
            out,
        )
    })
}

/// The approximation of GELU with tanh (Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2) of
/// `x`, of any shape. In training on the CPU in float32 it computes the derivative in the same
/// pass, and the backward pass only multiplies. With and without gradients it is equal to the bit.
///
/// GELU itself stays libtorch's: with erf the same idea made MAE slower.
///
/// # Panics
/// When libtorch refuses, as its own `gelu` does: when memory is exhausted.
pub fn gelu_tanh(x: &Tensor) -> Tensor {
    new_tensor(|out| unsafe { portolan_gelu_tanh(x.as_ptr(), out) }).expect("GELU")
}

/// `x` (`[…, inputs]`) times the transpose of `weight` (`[outputs, inputs]`), plus `bias`
/// (`[outputs]`): `[…, outputs]`. Carries gradients.
///
/// In float32 on a processor with AVX-512 that is not Intel's, oneDNN computes it and its gradients
/// in place of MKL, which is slower there (docs/results/speed.md). Elsewhere it is libtorch's
/// `linear`.
///
/// # Panics
/// When libtorch refuses, as its own `linear` does: when shapes do not fit or memory is exhausted.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    new_tensor(|out| unsafe { portolan_linear(x.as_ptr(), weight.as_ptr(), or_null(bias), out) })
        .expect("a linear layer")
}

/// The weight of a convolution (`[outputs, inputs, kernel, kernel]`) in oneDNN's layout for images
/// of the shape of `x`. Only [`convolution`] can read it; it takes images of other shapes too.
/// Where oneDNN is not used (on a GPU, and off x86) it is the weight itself.
///
/// # Errors
/// When libtorch refuses.
pub fn pack_weight(weight: &Tensor, x: &Tensor, stride: i64, padding: i64) -> Result<Tensor> {
    new_tensor(|out| unsafe {
        portolan_packed_convolution(weight.as_ptr(), x.as_ptr(), stride, padding, out)
    })
}

/// Convolves `x` (`[n, inputs, h, w]`) with a weight of [`pack_weight`], adds `bias` (`[outputs]`),
/// then applies `epilogue`, whose `add` may be overwritten. Carries no gradients.
///
/// # Errors
/// When shapes do not fit.
pub fn convolution(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    stride: i64,
    padding: i64,
    epilogue: Epilogue,
) -> Result<Tensor> {
    new_tensor(|out| unsafe {
        portolan_convolution(
            x.as_ptr(),
            weight.as_ptr(),
            bias.as_ptr(),
            stride,
            padding,
            or_null(epilogue.add),
            epilogue.relu,
            out,
        )
    })
}
