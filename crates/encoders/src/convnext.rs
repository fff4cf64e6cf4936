//! ConvNeXt (Liu et al. 2022, arXiv:2201.03545) as timm builds it, without the classifier.

mod config;

pub use config::ConvNextConfig;

use portolan_tensor::{Kind, Tensor, Vars, channels_last, fused};

use crate::drop_path::drop_path;
use crate::layers::LayerNorm;
use crate::{Encoder, Family, Result};

/// A ConvNeXt: a stem of patches, four stages of blocks, global average pooling, a last norm.
#[derive(Debug)]
pub struct ConvNext {
    vars: Vars,
    stem: Convolution,
    stem_norm: LayerNorm,
    stages: Vec<Stage>,
    norm: LayerNorm,
    width: i64,
}

impl ConvNext {
    /// Builds the network that `config` describes.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(config: &ConvNextConfig, vars: &Vars) -> Result<Self> {
        config.validate()?;
        let widths = config.widths();
        let stem = &(vars / "stem");
        let patch = Shape { kernel: config.patch, stride: config.patch, groups: 1 };
        Ok(ConvNext {
            stem: Convolution::new(&(stem / 0), 3, widths[0], patch),
            stem_norm: LayerNorm::new(&(stem / 1), widths[0]),
            stages: (0..4).map(|i| Stage::new(vars, config, i)).collect(),
            norm: LayerNorm::new(&(&(vars / "head") / "norm"), widths[3]),
            vars: vars.clone(),
            width: widths[3],
        })
    }
}

impl Encoder for ConvNext {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        self.features_and_map(images, train).0
    }

    fn features_and_map(&self, images: &Tensor, train: bool) -> (Tensor, Tensor) {
        let map = self.feature_map(images, train);
        let mean = map.mean_dim([2i64, 3].as_slice(), false, None::<Kind>);
        (self.norm.forward(&mean), map)
    }

    fn feature_map(&self, images: &Tensor, train: bool) -> Tensor {
        let mut x = over_channels(&self.stem_norm, &self.stem.forward(images));
        for stage in &self.stages {
            x = stage.forward(&x, train);
        }
        x
    }

    fn width(&self) -> i64 {
        self.width
    }

    fn vars(&self) -> &Vars {
        &self.vars
    }
}

/// A norm and a 2×2 convolution of stride 2 (not in the first stage), then blocks.
#[derive(Debug)]
struct Stage {
    downsample: Option<(LayerNorm, Convolution)>,
    blocks: Vec<Block>,
}

impl Stage {
    fn new(vars: &Vars, config: &ConvNextConfig, i: usize) -> Self {
        let vars = &(&(vars / "stages") / i);
        let widths = config.widths();
        let downsample = (i > 0).then(|| {
            let vars = &(vars / "downsample");
            let halved = Shape { kernel: 2, stride: 2, groups: 1 };
            let conv = |vars| Convolution::new(&vars, widths[i - 1], widths[i], halved);
            (LayerNorm::new(&(vars / 0), widths[i - 1]), conv(vars / 1))
        });
        let before: i64 = config.depths[..i].iter().sum();
        let last = (config.depths.iter().sum::<i64>() - 1).max(1) as f64;
        let block = |j: i64| {
            let drop_path = config.drop_path * (before + j) as f64 / last;
            Block::new(&(&(vars / "blocks") / j), widths[i], drop_path, config)
        };
        Stage { downsample, blocks: (0..config.depths[i]).map(block).collect() }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let mut x = match &self.downsample {
            Some((norm, conv)) => conv.forward(&over_channels(norm, x)),
            None => x.shallow_clone(),
        };
        for block in &self.blocks {
            x = block.forward(&x, train);
        }
        x
    }
}

/// x + gamma · fc2(gelu(fc1(norm(conv_dw(x))))) with a depthwise 7×7 convolution (figure 4).
#[derive(Debug)]
struct Block {
    conv_dw: Convolution,
    norm: LayerNorm,
    fc1: Pointwise,
    fc2: Pointwise,
    gamma: Tensor,
    drop_path: f64,
}

impl Block {
    fn new(vars: &Vars, width: i64, drop_path: f64, config: &ConvNextConfig) -> Self {
        let depthwise = Shape { kernel: 7, stride: 1, groups: width };
        let mlp = &(vars / "mlp");
        let scale = Tensor::full([width], config.layer_scale, (Kind::Float, vars.device()));
        Block {
            gamma: vars.parameter("gamma", scale),
            conv_dw: Convolution::new(&(vars / "conv_dw"), width, width, depthwise),
            norm: LayerNorm::new(&(vars / "norm"), width),
            fc1: Pointwise::new(&(mlp / "fc1"), width, 4 * width, config.conv_mlp),
            fc2: Pointwise::new(&(mlp / "fc2"), 4 * width, width, config.conv_mlp),
            drop_path,
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let hidden = self.norm.forward(&to_last(&self.conv_dw.forward(x)));
        let hidden = self.fc2.forward(&self.fc1.forward(&hidden).gelu("none"));
        let branch = from_last(&(hidden * &self.gamma));
        x + drop_path(branch, self.drop_path, train)
    }
}

/// `[batch, channels, h, w]` to `[batch, h, w, channels]`.
fn to_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1])
}

/// The reverse of [`to_last`].
fn from_last(x: &Tensor) -> Tensor {
    x.permute([0, 3, 1, 2])
}

/// Normalizes the channels of each pixel (timm's `LayerNorm2d`).
fn over_channels(norm: &LayerNorm, x: &Tensor) -> Tensor {
    from_last(&norm.forward(&to_last(x)))
}

/// The standard deviation of the initial matrices (`_init_weights` of the authors' `convnext.py`).
const STD: f64 = 0.02;

/// The form of a convolution.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kernel: i64,
    stride: i64,
    groups: i64,
}

/// A convolution with bias. With a stride of 1, the map keeps its size.
#[derive(Debug)]
struct Convolution {
    weight: Tensor,
    bias: Tensor,
    shape: Shape,
}

impl Convolution {
    fn new(vars: &Vars, inputs: i64, outputs: i64, shape: Shape) -> Self {
        let Shape { kernel, groups, .. } = shape;
        let float = (Kind::Float, vars.device());
        let weight = Tensor::randn([outputs, inputs / groups, kernel, kernel], float) * STD;
        // As for a ResNet: cuDNN would convert it to this layout at every call.
        let weight = if vars.device().is_cuda() { channels_last(&weight) } else { weight };
        Convolution {
            weight: vars.parameter("weight", weight),
            bias: vars.parameter("bias", Tensor::zeros([outputs], float)),
            shape,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let Shape { kernel, stride, groups } = self.shape;
        let padding = if stride == 1 { kernel / 2 } else { 0 };
        x.conv2d(&self.weight, Some(&self.bias), stride, padding, 1, groups)
    }
}

/// A fully connected layer over the channels of each pixel, stored as a matrix or as a 1×1
/// convolution.
#[derive(Debug)]
struct Pointwise {
    weight: Tensor,
    bias: Tensor,
}

impl Pointwise {
    fn new(vars: &Vars, inputs: i64, outputs: i64, as_convolution: bool) -> Self {
        let float = (Kind::Float, vars.device());
        let mut weight = Tensor::randn([outputs, inputs], float) * STD;
        if as_convolution {
            weight = weight.view([outputs, inputs, 1, 1]);
        }
        Pointwise {
            weight: vars.parameter("weight", weight),
            bias: vars.parameter("bias", Tensor::zeros([outputs], float)),
        }
    }

    /// `[…, inputs]` to `[…, outputs]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        fused::linear(x, &self.weight.flatten(1, -1), Some(&self.bias))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_tensor::{Device, seed};

    use super::*;

    const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn small() -> ConvNextConfig {
        ConvNextConfig::named("convnext_w8d1-1-2-1").unwrap()
    }

    #[test]
    fn the_stem_s_patch_decides_the_size_of_the_last_map() {
        let x = Tensor::rand([2, 3, 32, 48], FLOAT);
        for (patch, rows, columns) in [(4, 1, 1), (2, 2, 3), (1, 4, 6)] {
            let net = ConvNext::new(&ConvNextConfig { patch, ..small() }, &Vars::new(Device::Cpu));
            let net = net.unwrap();
            assert_eq!(net.feature_map(&x, true).size(), [2, 64, rows, columns]);
            assert_eq!(net.forward(&x, true).size(), [2, net.width()]);
        }
    }

    #[test]
    fn the_mlp_s_two_forms_compute_the_same() {
        let of = |conv_mlp| {
            seed(3);
            let config = ConvNextConfig { conv_mlp, layer_scale: 1.0, ..small() };
            ConvNext::new(&config, &Vars::new(Device::Cpu)).unwrap()
        };
        seed(4);
        let x = Tensor::rand([2, 3, 32, 32], FLOAT);
        let (plain, convolutions) = (of(false), of(true));
        assert!(plain.forward(&x, false).equal(&convolutions.forward(&x, false)));
        let shape = |net: &ConvNext| net.stages[0].blocks[0].fc1.weight.size();
        assert_eq!((shape(&plain), shape(&convolutions)), (vec![32, 8], vec![32, 8, 1, 1]));
    }

    #[test]
    fn stochastic_depth_grows_over_all_blocks_and_acts_in_training_alone() {
        let config = ConvNextConfig { drop_path: 0.4, layer_scale: 1.0, ..small() };
        let net = ConvNext::new(&config, &Vars::new(Device::Cpu)).unwrap();
        let rates = net.stages.iter().flat_map(|stage| &stage.blocks).map(|it| it.drop_path);
        let expected = [0.0, 0.1, 0.2, 0.3, 0.4];
        assert!(rates.zip(expected).all(|(a, b)| (a - b).abs() < 1e-12));
        let x = Tensor::rand([8, 3, 32, 32], FLOAT);
        let plain = ConvNextConfig { drop_path: 0.0, ..config };
        let plain = ConvNext::new(&plain, &Vars::new(Device::Cpu)).unwrap();
        for ((_, to), (_, from)) in plain.vars.state().iter().zip(net.vars.state()) {
            portolan_tensor::no_grad(|| to.shallow_clone().copy_(&from));
        }
        assert!(net.forward(&x, false).equal(&plain.forward(&x, true)));
        assert!(!net.forward(&x, true).equal(&plain.forward(&x, true)));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (wrong, word) in [
            (ConvNextConfig { width: 0, ..small() }, "width"),
            (ConvNextConfig { depths: [1, 0, 1, 1], ..small() }, "depths"),
            (ConvNextConfig { patch: 0, ..small() }, "patch"),
            (ConvNextConfig { drop_path: 1.0, ..small() }, "drop_path"),
            (ConvNextConfig { layer_scale: -1.0, ..small() }, "layer_scale"),
        ] {
            let error = ConvNext::new(&wrong, &Vars::new(Device::Cpu)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
