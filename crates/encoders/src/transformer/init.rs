//! The initial values of a transformer.

use portolan_tensor::{Kind, Tensor, Vars};
use serde::{Deserialize, Serialize};

use crate::layers::Linear;

/// The initial values of a transformer's matrices and class token. Biases of fully connected layers
/// are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Normal with a standard deviation of 0.02, also the class token. The patch projection is
    /// PyTorch's default for a convolution. As in DINO's `vision_transformer.py` and timm.
    Normal,
    /// Uniform in ±√(6 / (inputs + outputs)), with queries, keys and values as separate matrices.
    /// The patch projection's bias is zero, the class token's standard deviation 1e-6. As in MoCo
    /// v3's `vits.py`.
    Xavier,
    /// Uniform in ±√(6 / (inputs + outputs)), with queries, keys and values as one matrix
    /// `[3 · width, width]`. The patch projection's bias is PyTorch's default for a convolution,
    /// the class token's standard deviation 0.02. As in `initialize_weights` of MAE's
    /// `models_mae.py`.
    XavierFused,
    /// As `Normal`, but class token and registers have a standard deviation of 1e-6. As in DINOv2's
    /// `init_weights` of `vision_transformer.py`.
    Dinov2,
}

impl Init {
    /// A fully connected layer with bias.
    pub fn linear(self, vars: &Vars, inputs: i64, outputs: i64) -> Linear {
        let bias = Tensor::zeros([outputs], (Kind::Float, vars.device()));
        Linear::of(vars, self.matrix(vars, inputs, outputs, outputs), Some(bias))
    }

    /// Queries, keys and values of `width` numbers each, in one layer.
    pub(super) fn qkv(self, vars: &Vars, width: i64, bias: bool) -> Linear {
        let counted = if self == Init::XavierFused { 3 * width } else { width };
        let bias = bias.then(|| Tensor::zeros([3 * width], (Kind::Float, vars.device())));
        Linear::of(vars, self.matrix(vars, width, 3 * width, counted), bias)
    }

    /// Values with the bounds of a matrix with `counted` outputs.
    fn matrix(self, vars: &Vars, inputs: i64, outputs: i64, counted: i64) -> Tensor {
        let float = (Kind::Float, vars.device());
        match self {
            Init::Normal | Init::Dinov2 => Tensor::randn([outputs, inputs], float) * 0.02,
            Init::Xavier | Init::XavierFused => {
                let bound = xavier_bound(inputs, counted);
                Tensor::empty([outputs, inputs], float).uniform_(-bound, bound)
            }
        }
    }

    /// The standard deviation of the class token and of registers.
    pub(crate) fn token_std(self) -> f64 {
        match self {
            Init::Normal | Init::XavierFused => 0.02,
            Init::Xavier | Init::Dinov2 => 1e-6,
        }
    }

    /// The bounds of the patch projection's weight (`inputs` numbers per patch) and of its bias.
    /// Both are uniform.
    pub(crate) fn patch_bounds(self, inputs: i64, width: i64) -> (f64, f64) {
        let default = 1.0 / (inputs as f64).sqrt(); // PyTorch's default for a convolution
        match self {
            Init::Normal | Init::Dinov2 => (default, default),
            Init::Xavier => (xavier_bound(inputs, width), 0.0),
            Init::XavierFused => (xavier_bound(inputs, width), default),
        }
    }
}

/// √(6 / (inputs + outputs)) (Glorot and Bengio 2010, equation 16).
fn xavier_bound(inputs: i64, outputs: i64) -> f64 {
    (6.0 / (inputs + outputs) as f64).sqrt()
}
