//! The network of a block that is applied to every token by itself.

use portolan_tensor::{Tensor, Vars};
use serde::{Deserialize, Serialize};

use crate::Init;
use crate::layers::Linear;

/// The form of a block's MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mlp {
    /// A hidden layer four times as wide as a token, with GELU (ViT, section 3.1).
    #[default]
    Gelu,
    /// The same with x · sigmoid(1.702 x), an approximation of GELU (Hendrycks and Gimpel 2016,
    /// arXiv:1606.08415, section 2), as in OpenAI's CLIP.
    QuickGelu,
    /// silu(a) · b of two hidden layers (Shazeer 2020, arXiv:2002.05202, equation 6), each 8/3 as
    /// wide as a token, rounded up to a multiple of 8 as in DINOv2's `swiglu_ffn.py`. `fc1` holds
    /// a, then b, as timm's `SwiGLUPacked`.
    SwiGlu,
    /// The same with hidden layers four times as wide as a token, as in DINOv3's `plus` encoders
    /// (`ffn_ratio` of 6 in its `hub/backbones.py`, two thirds of which are used).
    SwiGluWide,
}

impl Mlp {
    /// The outputs of `fc1` and the inputs of `fc2` for tokens of `width` numbers.
    pub fn hidden(self, width: i64) -> (i64, i64) {
        match self {
            Mlp::Gelu | Mlp::QuickGelu => (4 * width, 4 * width),
            Mlp::SwiGlu => {
                let hidden = (4 * width * 2 / 3 + 7) / 8 * 8;
                (2 * hidden, hidden)
            }
            Mlp::SwiGluWide => (8 * width, 4 * width),
        }
    }
}

/// Two fully connected layers, with timm's names `fc1` and `fc2`.
#[derive(Debug)]
pub(super) struct TokenMlp {
    fc1: Linear,
    fc2: Linear,
    form: Mlp,
}

impl TokenMlp {
    pub(super) fn new(vars: &Vars, width: i64, form: Mlp, init: Init) -> Self {
        let (outputs, inputs) = form.hidden(width);
        TokenMlp {
            fc1: init.linear(&(vars / "fc1"), width, outputs),
            fc2: init.linear(&(vars / "fc2"), inputs, width),
            form,
        }
    }

    /// A second handle to the same weights, for another thread.
    pub(super) fn shared(&self) -> Self {
        TokenMlp { fc1: self.fc1.shared(), fc2: self.fc2.shared(), form: self.form }
    }

    /// `[batch, tokens, width]` to the same.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let hidden = self.fc1.forward(x);
        let hidden = match self.form {
            Mlp::Gelu => hidden.gelu("none"),
            Mlp::QuickGelu => &hidden * (&hidden * 1.702).sigmoid(),
            Mlp::SwiGlu | Mlp::SwiGluWide => {
                let parts = hidden.chunk(2, -1);
                parts[0].silu() * &parts[1]
            }
        };
        self.fc2.forward(&hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swiglu_is_two_thirds_as_wide_in_multiples_of_eight() {
        assert_eq!(Mlp::SwiGlu.hidden(1536), (8192, 4096)); // DINOv2's g
        assert_eq!(Mlp::SwiGlu.hidden(16), (96, 48)); // 42.7 rounded up
        assert_eq!(Mlp::SwiGluWide.hidden(384), (3072, 1536)); // DINOv3's S+
    }
}
