//! Layers, with the names of torchvision and the initial values of PyTorch.

use portolan_tensor::distributed::{self, RunningStats};
use portolan_tensor::fused::{self, Epilogue};
use portolan_tensor::{Error, Kind, Tensor, Vars, channels_last, foreach, no_grad};

/// A convolution without bias.
#[derive(Debug)]
pub struct Conv2d {
    weight: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// The weight is `[outputs, inputs, kernel, kernel]` with the initial values of torchvision's
    /// ResNet: normal with variance 2 / (outputs · kernel²) (He et al. 2015, arXiv:1502.01852,
    /// fan-out form).
    pub fn new(
        vars: &Vars,
        inputs: i64,
        outputs: i64,
        kernel: i64,
        stride: i64,
        padding: i64,
    ) -> Self {
        let std = (2.0 / (outputs * kernel * kernel) as f64).sqrt();
        let weight = Tensor::randn([outputs, inputs, kernel, kernel], (Kind::Float, vars.device()));
        // cuDNN would convert it to this layout at every call. On the CPU the images' layout
        // decides.
        let weight = if vars.device().is_cuda() { channels_last(&weight) } else { weight };
        Conv2d { weight: vars.parameter("weight", weight * std), stride, padding }
    }

    /// Its weight, stride and padding.
    pub(crate) fn parts(&self) -> (&Tensor, i64, i64) {
        (&self.weight, self.stride, self.padding)
    }

    /// `[batch, inputs, h, w]` to `[batch, outputs, h', w']`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (mut x, mut stride) = (x.shallow_clone(), self.stride);
        // In the backward pass of a strided 1×1 convolution with the channels last, libtorch 2.11
        // (oneDNN on CPUs with AVX-512) writes out of bounds if the channels are not a multiple of
        // 16. Drop the skipped pixels first, so that the convolution has no stride.
        let odd = self.weight.size()[1] % 16 != 0 && self.weight.size()[2] == 1;
        if stride > 1 && odd && !x.device().is_cuda() {
            x = x.slice(2, None, None, stride).slice(3, None, None, stride);
            stride = 1;
        }
        x.conv2d(&self.weight, None::<Tensor>, [stride; 2], [self.padding; 2], [1, 1], 1)
    }
}

/// A fully connected layer.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// The weight is `[outputs, inputs]`. It and the bias are uniform in ±1/√inputs, as in PyTorch.
    pub fn new(vars: &Vars, inputs: i64, outputs: i64, bias: bool) -> Self {
        let bound = 1.0 / (inputs as f64).sqrt();
        let uniform = |shape: &[i64]| {
            Tensor::empty(shape, (Kind::Float, vars.device())).uniform_(-bound, bound)
        };
        let weight = uniform(&[outputs, inputs]);
        Linear::of(vars, weight, bias.then(|| uniform(&[outputs])))
    }

    /// A layer with these initial values.
    pub fn of(vars: &Vars, weight: Tensor, bias: Option<Tensor>) -> Self {
        Linear {
            weight: vars.parameter("weight", weight),
            bias: bias.map(|values| vars.parameter("bias", values)),
        }
    }

    /// A second handle to the same weights, for another thread.
    pub(crate) fn shared(&self) -> Self {
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        Linear { weight: self.weight.shallow_clone(), bias }
    }

    /// `[…, inputs]` to `[…, outputs]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        fused::linear(x, &self.weight, self.bias.as_ref())
    }

    /// The same with this bias, `[outputs]`, instead of its own.
    pub(crate) fn with_bias(&self, x: &Tensor, bias: &Tensor) -> Tensor {
        fused::linear(x, &self.weight, Some(bias))
    }
}

/// Layer norm over the last dimension.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// For vectors of `width` numbers, with the initial scale 1 and shift 0, and an eps of 1e-6 as
    /// in timm's vision transformers.
    pub fn new(vars: &Vars, width: i64) -> Self {
        LayerNorm::with_eps(vars, width, 1e-6)
    }

    /// The same with another eps.
    pub fn with_eps(vars: &Vars, width: i64, eps: f64) -> Self {
        let float = (Kind::Float, vars.device());
        LayerNorm {
            eps,
            weight: vars.parameter("weight", Tensor::ones([width], float)),
            bias: vars.parameter("bias", Tensor::zeros([width], float)),
        }
    }

    /// A second handle to the same weights, for another thread.
    pub(crate) fn shared(&self) -> Self {
        LayerNorm {
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
            eps: self.eps,
        }
    }

    /// `[…, width]` to the same.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

/// Batch norm over the channel dimension, with PyTorch's defaults (eps 1e-5, momentum 0.1).
///
/// With `splits` above one, it computes the statistics of each of that many groups of consecutive
/// images of the batch, as if each group were on a GPU of its own.
#[derive(Debug)]
pub struct BatchNorm {
    affine: Option<(Tensor, Tensor)>,
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    splits: i64,
}

const MOMENTUM: f64 = 0.1;
const EPS: f64 = 1e-5;

impl BatchNorm {
    /// For inputs `[batch, channels]` or `[batch, channels, h, w]`, with the initial scale 1 and
    /// shift 0.
    pub fn new(vars: &Vars, channels: i64, splits: i64) -> Self {
        let float = (Kind::Float, vars.device());
        let affine = (
            vars.parameter("weight", Tensor::ones([channels], float)),
            vars.parameter("bias", Tensor::zeros([channels], float)),
        );
        BatchNorm::with_affine(vars, channels, splits, Some(affine))
    }

    /// The same without scale and shift.
    pub fn without_affine(vars: &Vars, channels: i64, splits: i64) -> Self {
        BatchNorm::with_affine(vars, channels, splits, None)
    }

    fn with_affine(
        vars: &Vars,
        channels: i64,
        splits: i64,
        affine: Option<(Tensor, Tensor)>,
    ) -> Self {
        let float = (Kind::Float, vars.device());
        BatchNorm {
            affine,
            running_mean: vars.buffer("running_mean", Tensor::zeros([channels], float)),
            running_var: vars.buffer("running_var", Tensor::ones([channels], float)),
            num_batches_tracked: vars.buffer(
                "num_batches_tracked",
                Tensor::zeros([0i64; 0], (Kind::Int64, vars.device())),
            ),
            splits,
        }
    }

    /// Sets the scale to zero, so that the branch that it ends adds nothing at first.
    pub(crate) fn zero_init(&self) {
        if let Some((weight, _)) = &self.affine {
            let _ = no_grad(|| weight.shallow_clone().zero_());
        }
    }

    /// Normalizes each channel: with `train` by the batch's statistics, which update the running
    /// ones, else by the running statistics. In a job of several processes, the batch is that of
    /// all of them.
    ///
    /// It does not update `num_batches_tracked`: [`count_batch`] does, for all layers of a network
    /// at once.
    ///
    /// # Panics
    /// When another process is gone.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.forward_with(x, train, Epilogue::default())
    }

    /// [`BatchNorm::forward`] with an epilogue.
    ///
    /// # Panics
    /// When another process is gone.
    pub fn forward_with(&self, x: &Tensor, train: bool, epilogue: Epilogue) -> Tensor {
        let processes = distributed::world_size() as i64;
        // The groups are those of the whole batch, of which each process has a part.
        let splits = (self.splits / processes).max(1);
        if train && self.splits > 1 {
            return self.grouped(x, splits, epilogue);
        }
        let mut y =
            if train && processes > 1 { self.synchronized(x) } else { self.normalize(x, train) };
        if let Some(add) = epilogue.add {
            y += add;
        }
        if epilogue.relu { y.relu_() } else { y }
    }

    /// With the statistics of `splits` equal groups, or of as many as the batch can be split into.
    fn grouped(&self, x: &Tensor, splits: i64, epilogue: Epilogue) -> Tensor {
        let batch = x.size()[0];
        let groups = (1..=splits).rev().find(|groups| batch % groups == 0).unwrap_or(1);
        let affine = self.affine.as_ref().map(|(weight, bias)| (weight, bias));
        let y = or_panic(fused::batch_norm(x, affine, &self.running(), groups, EPS, epilogue));
        if distributed::world_size() > 1 {
            for own in [&self.running_mean, &self.running_var] {
                no_grad(|| own.shallow_clone().copy_(&or_panic(distributed::mean(own))));
            }
        }
        y
    }

    /// With statistics over all processes (synchronized batch norm), as if one process had the
    /// whole batch.
    fn synchronized(&self, x: &Tensor) -> Tensor {
        let affine = self.affine.as_ref().map(|(weight, bias)| (weight, bias));
        or_panic(distributed::batch_norm(x, affine, &self.running(), EPS))
    }

    fn running(&self) -> RunningStats<'_> {
        RunningStats { mean: &self.running_mean, var: &self.running_var, momentum: MOMENTUM }
    }

    fn normalize(&self, x: &Tensor, train: bool) -> Tensor {
        let weight = self.affine.as_ref().map(|(weight, _)| weight);
        let bias = self.affine.as_ref().map(|(_, bias)| bias);
        let (mean, var) = (Some(&self.running_mean), Some(&self.running_var));
        x.batch_norm(weight, bias, mean, var, train, MOMENTUM, EPS, true)
    }

    /// `num_batches_tracked`, an int64 scalar, for [`count_batch`].
    pub fn counter(&self) -> Tensor {
        self.num_batches_tracked.shallow_clone()
    }

    /// The layer in evaluation mode as `scale · x + shift`, both `[channels]` in float64, without
    /// gradients.
    pub(crate) fn scale_and_shift(&self) -> (Tensor, Tensor) {
        no_grad(|| {
            let mean = self.running_mean.to_kind(Kind::Double);
            let scale = (self.running_var.to_kind(Kind::Double) + EPS).rsqrt();
            match &self.affine {
                Some((weight, bias)) => {
                    let scale = scale * weight;
                    let shift = bias - mean * &scale;
                    (scale, shift)
                }
                None => {
                    let shift = -mean * &scale;
                    (scale, shift)
                }
            }
        })
    }
}

/// Adds one to the `num_batches_tracked` of these layers.
///
/// # Panics
/// When libtorch refuses.
pub fn count_batch(counters: &[Tensor]) {
    foreach::increment(counters).unwrap_or_else(|error| panic!("{}", error.with_causes()));
}

/// Layers return no errors. When another process is gone, the panic's payload is the error, so that
/// a program can tell it from a bug.
fn or_panic(result: portolan_tensor::Result<Tensor>) -> Tensor {
    match result {
        Ok(tensor) => tensor,
        Err(lost @ Error::Lost { .. }) => std::panic::panic_any(lost),
        Err(error) => panic!("{}", error.with_causes()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_tensor::Device;

    use super::*;

    fn ramp(shape: &[i64]) -> Tensor {
        let n: i64 = shape.iter().product();
        (Tensor::arange(n, (Kind::Float, Device::Cpu)) * 0.37).sin().view(shape)
    }

    fn close(a: &Tensor, b: &Tensor) -> bool {
        a.allclose(b, 1e-5, 1e-6, false)
    }

    #[test]
    fn a_narrow_convolution_that_skips_pixels_is_as_in_double_precision() {
        portolan_tensor::tch::set_num_threads(1);
        portolan_tensor::seed(0);
        let conv = Conv2d::new(&Vars::new(Device::Cpu), 8, 16, 1, 2, 0);
        let x = channels_last(&Tensor::randn([64, 8, 56, 56], (Kind::Float, Device::Cpu)));
        let x = x.set_requires_grad(true);
        let y = conv.forward(&x);
        y.square().sum(Kind::Float).backward(); // libtorch's own ends the process here
        let double =
            |t: &Tensor| t.detach().to_kind(Kind::Double).contiguous().set_requires_grad(true);
        let (x64, w64) = (double(&x), double(&conv.weight));
        let y64 = x64.conv2d(&w64, None::<Tensor>, [2, 2], [0, 0], [1, 1], 1);
        y64.square().sum(Kind::Double).backward();
        for (a, b) in [(y, y64), (x.grad(), x64.grad()), (conv.weight.grad(), w64.grad())] {
            assert_eq!(a.size(), b.size());
            let worst = (a.to_kind(Kind::Double) - &b).abs().max() / b.abs().max();
            assert!(worst.double_value(&[]) < 1e-5, "{worst:?}");
        }
    }

    #[test]
    fn split_batch_norm_is_one_batch_norm_a_group() {
        let x = ramp(&[8, 3, 2, 2]);
        for channels_last in [false, true] {
            let x = if channels_last {
                x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
            } else {
                x.shallow_clone()
            };
            let split_vars = Vars::new(Device::Cpu);
            let split = BatchNorm::new(&split_vars, 3, 4).forward(&x, true);
            let (mut parts, mut means, mut vars) = (vec![], vec![], vec![]);
            for group in x.chunk(4, 0) {
                let alone_vars = Vars::new(Device::Cpu);
                let alone = BatchNorm::new(&alone_vars, 3, 1);
                parts.push(alone.forward(&group, true));
                means.push(alone.running_mean);
                vars.push(alone.running_var);
            }
            assert!(close(&split, &Tensor::cat(&parts, 0)));
            let state = split_vars.state();
            let named = |name: &str| &state.iter().find(|(n, _)| n == name).unwrap().1;
            let mean = |t: &[Tensor]| Tensor::stack(t, 0).mean_dim(0, false, Kind::Float);
            assert!(close(named("running_mean"), &mean(&means)));
            assert!(close(named("running_var"), &mean(&vars)));
        }
    }

    #[test]
    fn statistics_can_move_between_passes_of_either_kind() {
        let norm = BatchNorm::new(&Vars::new(Device::Cpu), 3, 1);
        let x = ramp(&[4, 3, 2, 2]);
        let affine = norm.affine.as_ref().map(|(weight, bias)| (weight, bias));
        let whole = norm.forward(&x, true);
        let grouped = fused::batch_norm(&x, affine, &norm.running(), 1, EPS, Epilogue::default());
        let grouped = grouped.unwrap();
        assert!(close(&whole, &grouped));
        (whole.square() + grouped.square()).sum(Kind::Float).backward();
    }

    #[test]
    fn a_batch_that_the_groups_do_not_divide_is_parted_into_fewer() {
        let x = ramp(&[6, 3, 2, 2]);
        let of = |splits| BatchNorm::new(&Vars::new(Device::Cpu), 3, splits).forward(&x, true);
        assert!(close(&of(4), &of(3)) && !close(&of(4), &of(2)));
    }

    #[test]
    fn evaluation_neither_uses_nor_moves_the_batch_s_statistics() {
        let vars = Vars::new(Device::Cpu);
        let norm = BatchNorm::new(&vars, 3, 2);
        let x = ramp(&[4, 3, 2, 2]) + 5.0;
        let expected = &x / (1.0 + EPS).sqrt();
        assert!(close(&norm.forward(&x, false), &expected));
        assert_eq!(norm.running_mean.abs().sum(Kind::Float).double_value(&[]), 0.0);
    }
}
