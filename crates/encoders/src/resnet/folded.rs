//! ResNets with batch norms folded into the convolutions, for inference on many images.

use portolan_tensor::fused::{self, Epilogue};
use portolan_tensor::{Tensor, no_grad};
use std::cell::OnceCell;

use crate::layers::{BatchNorm, Conv2d};

/// A convolution with the batch norm that follows it, which in evaluation mode scales its weight
/// and adds a bias.
#[derive(Debug)]
pub(crate) struct FoldedConv {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
    /// The weight in the layout for the shape of the first images.
    packed: OnceCell<Tensor>,
}

impl FoldedConv {
    /// Folds the current values.
    pub(crate) fn new(conv: &Conv2d, norm: &BatchNorm) -> Self {
        let (weight, stride, padding) = conv.parts();
        let (scale, shift) = norm.scale_and_shift();
        no_grad(|| FoldedConv {
            weight: (weight * scale.view([-1, 1, 1, 1])).to_kind(weight.kind()),
            bias: shift.to_kind(weight.kind()),
            stride,
            padding,
            packed: OnceCell::new(),
        })
    }

    fn forward(&self, x: &Tensor, epilogue: Epilogue) -> Tensor {
        let FoldedConv { weight, bias, stride, padding, .. } = self;
        let pack =
            || fused::pack_weight(weight, x, *stride, *padding).expect("a weight to lay out");
        let weight = self.packed.get_or_init(pack);
        fused::convolution(x, weight, bias, *stride, *padding, epilogue).expect("images that fit")
    }
}

/// relu(shortcut(x) + branch(x)).
#[derive(Debug)]
pub(crate) struct FoldedBlock {
    pub(crate) branch: Vec<FoldedConv>,
    pub(crate) shortcut: Option<FoldedConv>,
}

impl FoldedBlock {
    /// `x` may be overwritten.
    fn forward(&self, x: Tensor) -> Tensor {
        let mut y = x.shallow_clone();
        let (last, before) = self.branch.split_last().expect("a block has convolutions");
        for conv in before {
            y = conv.forward(&y, Epilogue { add: None, relu: true });
        }
        let shortcut = match &self.shortcut {
            Some(conv) => conv.forward(&x, Epilogue::default()),
            None => x,
        };
        last.forward(&y, Epilogue { add: Some(&shortcut), relu: true })
    }
}

/// A whole ResNet.
#[derive(Debug)]
pub(crate) struct FoldedResNet {
    pub(crate) stem: FoldedConv,
    pub(crate) pool: bool,
    pub(crate) blocks: Vec<FoldedBlock>,
}

impl FoldedResNet {
    /// `[batch, 3, height, width]` to `[batch, features]`.
    pub(crate) fn forward(&self, images: &Tensor) -> Tensor {
        no_grad(|| {
            let mut x = self.stem.forward(images, Epilogue { add: None, relu: true });
            if self.pool {
                x = x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
            }
            for block in &self.blocks {
                x = block.forward(x);
            }
            x.adaptive_avg_pool2d([1, 1]).flatten(1, -1)
        })
    }
}
