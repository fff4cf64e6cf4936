//! ResNet (He et al. 2015, arXiv:1512.03385) as torchvision builds it, without the classifier.

mod config;
mod folded;

pub use config::{Arch, ResNetConfig, Stem};

use portolan_tensor::fused::Epilogue;
use portolan_tensor::{Kind, Tensor, Vars, no_grad};

use self::config::Layout;
use self::folded::{FoldedBlock, FoldedConv, FoldedResNet};
use crate::Encoder;
use crate::layers::{BatchNorm, Conv2d, count_batch};

/// A ResNet: stem, four stages of residual blocks, global average pooling.
#[derive(Debug)]
pub struct ResNet {
    vars: Vars,
    conv1: Conv2d,
    bn1: BatchNorm,
    pool: bool,
    blocks: Vec<Block>,
    /// The batch norms' counters.
    counters: Vec<Tensor>,
    width: i64,
}

impl ResNet {
    /// Builds the network that `config` describes.
    pub fn new(config: &ResNetConfig, vars: &Vars) -> Self {
        let splits = config.batch_norm_splits;
        let Layout { depths, bottleneck } = config.arch.layout();
        let (kernel, stride, padding) = match config.stem {
            Stem::Imagenet => (7, 2, 3),
            Stem::Cifar => (3, 1, 1),
            Stem::CifarStrided => (3, 2, 1),
        };
        let conv1 = Conv2d::new(&(vars / "conv1"), 3, config.width, kernel, stride, padding);
        let bn1 = BatchNorm::new(&(vars / "bn1"), config.width, splits);
        let mut blocks = Vec::new();
        let mut inputs = config.width;
        for (stage, depth) in depths.into_iter().enumerate() {
            let planes = config.width << stage;
            for i in 0..depth {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let vars = &(vars / format!("layer{}", stage + 1)) / i;
                let block = Block::new(&vars, inputs, planes, stride, bottleneck, splits);
                inputs = block.outputs;
                if config.zero_init_residual {
                    block.branch[block.branch.len() - 1].1.zero_init();
                }
                blocks.push(block);
            }
        }
        let pool = config.stem == Stem::Imagenet;
        let norms = blocks.iter().flat_map(|block| block.branch.iter().chain(&block.shortcut));
        let counters = std::iter::once(&bn1).chain(norms.map(|(_, norm)| norm));
        let counters = counters.map(BatchNorm::counter).collect();
        ResNet { vars: vars.clone(), conv1, bn1, pool, blocks, counters, width: inputs }
    }
}

/// Whether all values are finite. If not, the sum is not either.
fn is_finite(tensor: &Tensor) -> bool {
    no_grad(|| tensor.sum(Kind::Double)).double_value(&[]).is_finite()
}

const RELU: Epilogue = Epilogue { add: None, relu: true };

impl Encoder for ResNet {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        self.features_and_map(images, train).0
    }

    fn features_and_map(&self, images: &Tensor, train: bool) -> (Tensor, Tensor) {
        let map = self.feature_map(images, train);
        (map.adaptive_avg_pool2d([1, 1]).flatten(1, -1), map)
    }

    fn feature_map(&self, images: &Tensor, train: bool) -> Tensor {
        if train {
            count_batch(&self.counters);
        }
        let mut x = self.bn1.forward_with(&self.conv1.forward(images), train, RELU);
        if self.pool {
            x = x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        }
        for block in &self.blocks {
            x = block.forward(&x, train);
        }
        x
    }

    fn frozen(&self) -> Box<dyn Fn(&Tensor) -> Tensor + '_> {
        // oneDNN's ReLU turns NaN into zero, which would hide that the encoder has diverged.
        if !self.vars.state().iter().all(|(_, tensor)| is_finite(tensor)) {
            return Box::new(|images| no_grad(|| self.forward(images, false)));
        }
        let folded = FoldedResNet {
            stem: FoldedConv::new(&self.conv1, &self.bn1),
            pool: self.pool,
            blocks: self.blocks.iter().map(Block::folded).collect(),
        };
        Box::new(move |images| folded.forward(images))
    }

    fn width(&self) -> i64 {
        self.width
    }

    fn vars(&self) -> &Vars {
        &self.vars
    }
}

/// relu(shortcut(x) + branch(x)). The branch is two 3×3 convolutions (basic) or 1×1, 3×3, 1×1
/// (bottleneck), each followed by a batch norm, with ReLU between them.
#[derive(Debug)]
struct Block {
    branch: Vec<(Conv2d, BatchNorm)>,
    shortcut: Option<(Conv2d, BatchNorm)>,
    outputs: i64,
}

impl Block {
    fn new(
        vars: &Vars,
        inputs: i64,
        planes: i64,
        stride: i64,
        bottleneck: Option<i64>,
        splits: i64,
    ) -> Self {
        // (inputs, outputs, kernel, stride) of each convolution.
        let layers = match bottleneck.map(|times| times * planes) {
            Some(inner) => {
                vec![(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, 4 * planes, 1, 1)]
            }
            None => vec![(inputs, planes, 3, stride), (planes, planes, 3, 1)],
        };
        let outputs = layers[layers.len() - 1].1;
        let branch = layers
            .into_iter()
            .enumerate()
            .map(|(i, (from, to, kernel, stride))| {
                let conv = &(vars / format!("conv{}", i + 1));
                let norm = &(vars / format!("bn{}", i + 1));
                let padding = kernel / 2;
                let conv = Conv2d::new(conv, from, to, kernel, stride, padding);
                (conv, BatchNorm::new(norm, to, splits))
            })
            .collect();
        let shortcut = (stride != 1 || inputs != outputs).then(|| {
            let vars = vars / "downsample";
            let conv = Conv2d::new(&(&vars / 0), inputs, outputs, 1, stride, 0);
            (conv, BatchNorm::new(&(&vars / 1), outputs, splits))
        });
        Block { branch, shortcut, outputs }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let shortcut = match &self.shortcut {
            Some((conv, norm)) => norm.forward(&conv.forward(x), train),
            None => x.shallow_clone(),
        };
        let mut y = x.shallow_clone();
        for (i, (conv, norm)) in self.branch.iter().enumerate() {
            let last = i + 1 == self.branch.len();
            let epilogue = Epilogue { add: last.then_some(&shortcut), relu: true };
            y = norm.forward_with(&conv.forward(&y), train, epilogue);
        }
        y
    }

    fn folded(&self) -> FoldedBlock {
        let fold = |(conv, norm): &(Conv2d, BatchNorm)| FoldedConv::new(conv, norm);
        FoldedBlock {
            branch: self.branch.iter().map(fold).collect(),
            shortcut: self.shortcut.as_ref().map(fold),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_tensor::Device;

    use super::*;

    #[test]
    fn stems_and_widths_give_the_shapes_they_say() {
        let x = Tensor::rand([2, 3, 32, 32], (Kind::Float, Device::Cpu));
        for (name, width) in [("resnet18-w4", 32), ("resnet50-w4", 128)] {
            for stem in [Stem::Imagenet, Stem::Cifar, Stem::CifarStrided] {
                let config = ResNetConfig { stem, ..ResNetConfig::named(name).unwrap() };
                let net = ResNet::new(&config, &Vars::new(Device::Cpu));
                assert_eq!(net.forward(&x, true).size(), [2, width]);
                assert_eq!(net.width(), width);
            }
        }
    }

    #[test]
    fn a_training_pass_counts_one_batch_in_every_batch_norm() {
        let vars = Vars::new(Device::Cpu);
        let net = ResNet::new(&ResNetConfig::named("resnet18-w4").unwrap(), &vars);
        let x = Tensor::rand([2, 3, 32, 32], (Kind::Float, Device::Cpu));
        let _ = net.forward(&x, true);
        let _ = net.forward(&x, false);
        let state = vars.state();
        let counters = state.iter().filter(|(name, _)| name.ends_with("num_batches_tracked"));
        let counts: Vec<i64> = counters.map(|(_, count)| count.int64_value(&[])).collect();
        assert_eq!(counts, [1; 20]);
    }

    #[test]
    fn zero_init_residual_makes_blocks_start_as_the_identity() {
        let config = ResNetConfig {
            zero_init_residual: true,
            ..ResNetConfig::named("resnet18-w4").unwrap()
        };
        let net = ResNet::new(&config, &Vars::new(Device::Cpu));
        let x = Tensor::rand([2, 4, 8, 8], (Kind::Float, Device::Cpu));
        assert_eq!(net.blocks[0].forward(&x, true), x);
    }
}
