//! Linear heads on patch features: classes and depth of pixels.

use portolan_encoders::layers::BatchNorm;
use portolan_tensor::{Kind, Reduction, Tensor, Vars};

use super::features::PatchFeatures;
use super::images::NO_CLASS;

/// Depth is a mean over this many bins (DINOv2, section 7.4).
const BINS: i64 = 256;
/// The depth of the first bin in meters (`min_depth` of DINOv2's `decode_head.py`).
const NEAREST: f64 = 1e-3;
/// What is added to every bin before they are divided by their sum (`decode_head.py`).
const BIN_EPS: f64 = 0.1;
/// DINOv2 upsamples the features of its depth head this much (section 7.4).
const DEPTH_UPSAMPLING: i64 = 4;
/// What is added to depths before their logarithm (`sigloss.py`).
const LOG_EPS: f64 = 1e-3;
/// The weight of the squared mean beside the variance (`sigloss.py`, after AdaBins).
const MEAN_WEIGHT: f64 = 0.15;

/// Batch norm, then a linear layer at every place, which is a convolution of one pixel.
#[derive(Debug)]
struct LinearHead {
    vars: Vars,
    norm: BatchNorm,
    weight: Tensor,
    bias: Tensor,
}

impl LinearHead {
    /// Weights are N(0, 0.01²) and biases zero, as in mmsegmentation's `BaseDecodeHead`.
    fn new(vars: Vars, inputs: i64, outputs: i64) -> Self {
        let float = (Kind::Float, vars.device());
        let weight = Tensor::randn([outputs, inputs, 1, 1], float) * 0.01;
        LinearHead {
            norm: BatchNorm::new(&(&vars / "bn"), inputs, 1),
            weight: vars.parameter("weight", weight),
            bias: vars.parameter("bias", Tensor::zeros([outputs], float)),
            vars,
        }
    }

    /// `[n, inputs, rows, columns]` to `[n, outputs, rows, columns]`.
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let normalized = self.norm.forward(x, train);
        normalized.conv2d(&self.weight, Some(&self.bias), 1, 0, 1, 1)
    }
}

/// A linear layer on patch tokens whose logits are upsampled to the pixels: DINOv2's section 7.4,
/// and `BNHead` of its `segmentation/models/decode_heads/linear_head.py`.
#[derive(Debug)]
pub(crate) struct SegmentationHead(LinearHead);

impl SegmentationHead {
    pub(crate) fn new(vars: Vars, width: i64, classes: i64) -> Self {
        SegmentationHead(LinearHead::new(vars, width, classes))
    }

    pub(crate) fn vars(&self) -> &Vars {
        &self.0.vars
    }

    /// `[n, classes, side, side]`.
    pub(crate) fn logits(&self, features: &PatchFeatures, side: i64, train: bool) -> Tensor {
        upsampled(&self.0.forward(&features.map, train), side, side)
    }

    /// The mean cross entropy over the pixels that have a class (`[n, side, side]`, int64).
    pub(crate) fn loss(logits: &Tensor, truth: &Tensor) -> Tensor {
        let counted = truth.ne(NO_CLASS).sum(Kind::Float).clamp_min(1.0);
        let sum = logits.cross_entropy_loss::<Tensor>(truth, None, Reduction::Sum, NO_CLASS, 0.0);
        sum / counted
    }
}

/// A linear layer on patch and class token whose outputs weigh 256 depths: DINOv2's section 7.4,
/// and `depth/models/decode_heads` of its code.
#[derive(Debug)]
pub(crate) struct DepthHead {
    linear: LinearHead,
    /// What a bin adds to the total of the shares and to that of the depths: 1 and its depth,
    /// `[bins, 2]`.
    bins: Tensor,
}

impl DepthHead {
    /// `farthest` is the depth of the last bin.
    pub(crate) fn new(vars: Vars, features: &PatchFeatures, farthest: f64) -> Self {
        let inputs = with_class_token(features).size()[1];
        let bins = Tensor::linspace(NEAREST, farthest, BINS, (Kind::Float, vars.device()));
        let bins = Tensor::stack(&[bins.ones_like(), bins], 1);
        DepthHead { linear: LinearHead::new(vars, inputs, BINS), bins }
    }

    pub(crate) fn vars(&self) -> &Vars {
        &self.linear.vars
    }

    /// `[n, side, side]`, in meters.
    pub(crate) fn depth(&self, features: &PatchFeatures, side: i64, train: bool) -> Tensor {
        // Upsampling and a linear layer can change places, and it has fewer outputs than inputs.
        let outputs = self.linear.forward(&with_class_token(features), train);
        let outputs = upsampled_channels_last(&outputs, DEPTH_UPSAMPLING);
        // The linear norm of AdaBins (Bhat et al. 2021, arXiv 2011.14141): each bin has a share of
        // relu + ε.
        let sums = outputs.relu().matmul(&self.bins)
            + self.bins.sum_dim_intlist(0, false, Kind::Float) * BIN_EPS;
        let depth = (sums.select(-1, 1) / sums.select(-1, 0)).unsqueeze(1);
        upsampled(&depth, side, side).squeeze_dim(1)
    }

    /// The scale-invariant loss of Eigen et al. 2014 as in `sigloss.py`, over the pixels that have
    /// a depth. `warm_up` leaves out the variance, as the authors do in the first 100 steps.
    pub(crate) fn loss(depth: &Tensor, truth: &Tensor, warm_up: bool) -> Tensor {
        let known = truth.gt(0.0).to_kind(Kind::Float);
        let count = known.sum(Kind::Float).clamp_min(1.0);
        let off = ((depth + LOG_EPS).log() - (truth + LOG_EPS).log()) * &known;
        let mean = off.sum(Kind::Float) / &count;
        let variance =
            ((off - &mean) * &known).square().sum(Kind::Float) / (count - 1.0).clamp_min(1.0);
        let squared = mean.square() * MEAN_WEIGHT;
        let total = if warm_up { squared } else { variance + squared };
        // The root has no slope at 0.
        total.clamp_min(1e-12).sqrt()
    }
}

/// The class token beside each patch token, `[n, 2 · width, rows, columns]`; without one, the map.
fn with_class_token(features: &PatchFeatures) -> Tensor {
    let PatchFeatures { map, class_token } = features;
    let Some(token) = class_token else { return map.shallow_clone() };
    let everywhere = token.unsqueeze(-1).unsqueeze(-1).expand_as(map);
    Tensor::cat(&[map, &everywhere], 1)
}

fn upsampled(x: &Tensor, rows: i64, columns: i64) -> Tensor {
    x.upsample_bilinear2d([rows, columns], /* align_corners */ false, None, None)
}

/// Bilinear upsampling by `factor`, `[n, channels, rows, columns]` to
/// `[n, factor · rows, factor · columns, channels]`, as two matrix products. With 256 channels they
/// take a fraction of libtorch's time.
fn upsampled_channels_last(x: &Tensor, factor: i64) -> Tensor {
    let size = x.size();
    let (n, channels, rows, columns) = (size[0], size[1], size[2], size[3]);
    let last = x.permute([0, 2, 3, 1]).reshape([n, rows, columns * channels]);
    let taller = weights(rows, factor, x).matmul(&last);
    let taller = taller.view([n * factor * rows, columns, channels]);
    let wider = weights(columns, factor, x).matmul(&taller);
    wider.view([n, factor * rows, factor * columns, channels])
}

/// What each of `count` places adds to each of the upsampled ones, `[factor · count, count]`.
fn weights(count: i64, factor: i64, like: &Tensor) -> Tensor {
    let each = Tensor::eye(count, (Kind::Float, like.device())).view([count, 1, count, 1]);
    upsampled(&each, factor * count, 1).view([count, factor * count]).tr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_tensor::{Device, seed};

    fn features() -> PatchFeatures {
        seed(1);
        let float = (Kind::Float, Device::Cpu);
        let token = Some(Tensor::randn([2, 5], float));
        PatchFeatures { map: Tensor::randn([2, 5, 3, 3], float), class_token: token }
    }

    #[test]
    fn depth_is_within_the_bins_and_starts_near_their_middle() {
        let features = features();
        let head = DepthHead::new(Vars::new(Device::Cpu), &features, 10.0);
        let depth = head.depth(&features, 12, /* train */ true);
        assert_eq!(depth.size(), [2, 12, 12]);
        assert!((depth.mean(Kind::Float).double_value(&[]) - 5.0).abs() < 0.5);
        assert!(depth.min().double_value(&[]) > 0.0 && depth.max().double_value(&[]) < 10.0);
    }

    #[test]
    fn matrix_products_upsample_as_libtorch_does() {
        seed(2);
        let x = Tensor::randn([2, 5, 3, 4], (Kind::Float, Device::Cpu));
        let found = upsampled_channels_last(&x, 4).permute([0, 3, 1, 2]);
        assert!(found.allclose(&upsampled(&x, 12, 16), 1e-5, 1e-6, false));
    }

    #[test]
    fn the_linear_layer_and_upsampling_change_places() {
        let features = features();
        let head = DepthHead::new(Vars::new(Device::Cpu), &features, 10.0);
        let larger = |x: &Tensor| upsampled(x, 12, 12);
        let first = larger(&head.linear.forward(&features.map.repeat([1, 2, 1, 1]), false));
        let second = head.linear.forward(&larger(&features.map.repeat([1, 2, 1, 1])), false);
        assert!(first.allclose(&second, 1e-5, 1e-6, false));
    }

    #[test]
    fn a_common_factor_costs_less_than_an_uneven_one() {
        let truth = Tensor::from_slice(&[1f32, 2.0, 0.0, 4.0]);
        let loss = |depth: &[f32], warm_up| {
            DepthHead::loss(&Tensor::from_slice(depth), &truth, warm_up).double_value(&[])
        };
        assert!(loss(&[1.0, 2.0, 9.0, 4.0], false) < 1e-5);
        let factor = loss(&[2.0, 4.0, 0.1, 8.0], false);
        // All logarithms are off by ln 2 (to the eps): the variance is 0.
        assert!((factor - 0.15f64.sqrt() * 2f64.ln()).abs() < 1e-3, "{factor}");
        assert!(loss(&[2.0, 1.0, 0.1, 4.0], false) > factor);
        assert!(loss(&[2.0, 1.0, 0.1, 4.0], true) < 1e-3);
    }

    #[test]
    fn pixels_without_a_class_do_not_count() {
        let logits = Tensor::from_slice(&[2f32, 0.0, 0.0, 2.0, 5.0, -5.0]).view([3, 2, 1, 1]);
        let truth = Tensor::from_slice(&[0i64, 1, NO_CLASS]).view([3, 1, 1]);
        let loss = SegmentationHead::loss(&logits, &truth).double_value(&[]);
        assert!((loss - (1.0 + (-2f64).exp()).ln()).abs() < 1e-6);
        let none = SegmentationHead::loss(&logits, &truth.full_like(NO_CLASS));
        assert_eq!(none.double_value(&[]), 0.0);
    }
}
