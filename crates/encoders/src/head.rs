//! Projection heads: the small networks between an encoder and a loss, discarded after pretraining.

use portolan_tensor::fused::Epilogue;
use portolan_tensor::{Tensor, Vars};
use serde::{Deserialize, Serialize};

use crate::layers::{BatchNorm, Linear, count_batch};

/// Which layers of a head have a batch norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadNorm {
    /// None (MoCo v2).
    None,
    /// All but the last (BYOL, Barlow Twins, VICReg).
    Hidden,
    /// All, the last without scale and shift (SimCLR v1's code, SimSiam).
    All,
}

/// Linear layers with ReLU between them. Layers are numbered as in PyTorch's `nn.Sequential`, so
/// that MoCo v2's head has the names `0.weight`, `0.bias`, `2.weight`, `2.bias`.
#[derive(Debug)]
pub struct ProjectionHead {
    layers: Vec<(Linear, Option<BatchNorm>)>,
    /// The batch norms' counters.
    counters: Vec<Tensor>,
}

impl ProjectionHead {
    /// The output widths of `layers` layers: `hidden` for all but the last, which has `dim`.
    pub fn widths(layers: usize, hidden: i64, dim: i64) -> Vec<i64> {
        let mut widths = vec![hidden; layers.saturating_sub(1)];
        widths.push(dim);
        widths
    }

    /// Layers from `widths[0]` over `widths[1]`… to the last width. A layer before a batch norm has
    /// no bias, since the norm would cancel it. `last_bias` is whether the last layer has a bias if
    /// no norm follows it; it has none in the code of BYOL's and MoCo v3's authors. `splits` is the
    /// number of groups for batch statistics (see [`BatchNorm`]).
    pub fn new(vars: &Vars, widths: &[i64], norm: HeadNorm, last_bias: bool, splits: i64) -> Self {
        let last = widths.len().saturating_sub(2);
        let mut position = 0;
        let mut next = || {
            position += 1;
            vars / (position - 1)
        };
        let mut layers = Vec::new();
        for (i, pair) in widths.windows(2).enumerate() {
            let normed = norm == HeadNorm::All || (norm == HeadNorm::Hidden && i < last);
            let bias = !normed && (last_bias || i < last);
            let linear = Linear::new(&next(), pair[0], pair[1], bias);
            let batch_norm = normed.then(|| {
                let vars = next();
                if i < last {
                    BatchNorm::new(&vars, pair[1], splits)
                } else {
                    BatchNorm::without_affine(&vars, pair[1], splits)
                }
            });
            next(); // the ReLU's index
            layers.push((linear, batch_norm));
        }
        let norms = layers.iter().filter_map(|(_, norm)| norm.as_ref());
        let counters = norms.map(BatchNorm::counter).collect();
        ProjectionHead { layers, counters }
    }

    /// `[batch, widths[0]]` to `[batch, last width]`, not normalized.
    pub fn forward(&self, features: &Tensor, train: bool) -> Tensor {
        if train {
            count_batch(&self.counters);
        }
        let mut x = features.shallow_clone();
        for (i, (linear, norm)) in self.layers.iter().enumerate() {
            x = linear.forward(&x);
            let relu = i + 1 < self.layers.len();
            x = match norm {
                Some(norm) => norm.forward_with(&x, train, Epilogue { add: None, relu }),
                None if relu => x.relu_(),
                None => x,
            };
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use portolan_tensor::{Device, Kind};

    use super::*;

    fn names(norm: HeadNorm, last_bias: bool) -> Vec<String> {
        let vars = Vars::new(Device::Cpu);
        let head = ProjectionHead::new(&vars, &[6, 5, 4], norm, last_bias, 1);
        let x = Tensor::ones([3, 6], (Kind::Float, Device::Cpu));
        assert_eq!(head.forward(&x, true).size(), [3, 4]);
        vars.parameters().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn layers_are_numbered_as_in_a_sequential() {
        assert_eq!(names(HeadNorm::None, true), ["0.weight", "0.bias", "2.weight", "2.bias"]);
        let hidden = ["0.weight", "1.weight", "1.bias", "3.weight", "3.bias"];
        assert_eq!(names(HeadNorm::Hidden, true), hidden);
        assert_eq!(names(HeadNorm::All, true), ["0.weight", "1.weight", "1.bias", "3.weight"]);
    }

    #[test]
    fn the_last_bias_can_be_left_out_and_no_other() {
        assert_eq!(names(HeadNorm::None, false), ["0.weight", "0.bias", "2.weight"]);
        assert_eq!(names(HeadNorm::Hidden, false), ["0.weight", "1.weight", "1.bias", "3.weight"]);
        assert_eq!(names(HeadNorm::All, false), names(HeadNorm::All, true));
    }

    #[test]
    fn the_last_layer_has_no_relu() {
        let vars = Vars::new(Device::Cpu);
        let head = ProjectionHead::new(&vars, &[4, 64], HeadNorm::None, true, 1);
        let x = Tensor::ones([2, 4], (Kind::Float, Device::Cpu));
        assert!(head.forward(&x, true).min().double_value(&[]) < 0.0);
    }
}
