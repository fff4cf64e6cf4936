//! The projection head of DINO (Caron et al. 2021, arXiv 2104.14294, section 3.1, appendix C),
//! which iBOT and DINOv2 use too.

use portolan_encoders::Init;
use portolan_encoders::layers::{BatchNorm, Linear, count_batch};
use portolan_losses::l2_normalize;
use portolan_tensor::{Kind, Tensor, Vars, fused};

/// The sizes of a [`DinoHead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DinoHeadConfig {
    /// Layers before the last, at least 1; 3 in the papers.
    pub layers: usize,
    /// Width of its hidden layers; 2,048 in the papers.
    pub hidden: i64,
    /// Dimensions of its l2-normalized bottleneck; 256 in DINO.
    pub bottleneck: i64,
    /// K, the dimensions of an output; 65,536 in DINO.
    pub dim: i64,
    /// Whether the hidden layers have batch norms.
    pub batch_norm: bool,
    /// Whether the rows of the last layer have a fixed norm of one.
    pub norm_last_layer: bool,
}

/// Layers with GELU between them, an l2-normalized bottleneck, and a last layer without bias and
/// with weight normalization (Salimans, Kingma 2016, arXiv 1602.07868). The tensors are named as in
/// the authors' code: `mlp.0` …, `last_layer.weight_g`, `last_layer.weight_v`.
#[derive(Debug)]
pub struct DinoHead {
    layers: Vec<(Linear, Option<BatchNorm>)>,
    /// The batch norms' counters.
    counters: Vec<Tensor>,
    /// Lengths of the last layer's rows, `[dim, 1]`.
    g: Tensor,
    /// Directions of the last layer's rows, `[dim, bottleneck]`.
    v: Tensor,
}

impl DinoHead {
    /// A head for features of `inputs` numbers, with initial values from libtorch's generator.
    pub fn new(vars: &Vars, inputs: i64, config: &DinoHeadConfig) -> Self {
        let mut widths = vec![inputs];
        widths.extend(vec![config.hidden; config.layers - 1]);
        widths.push(config.bottleneck);
        let mlp = vars / "mlp";
        // Indices in PyTorch's Sequential: a layer, an optional batch norm, a GELU.
        let stride = if config.batch_norm { 3 } else { 2 };
        let layer = |(i, pair): (usize, &[i64])| {
            let hidden = i + 2 < widths.len();
            let norm = (config.batch_norm && hidden)
                .then(|| BatchNorm::new(&(&mlp / (i * stride + 1)), pair[1], 1));
            (Init::Normal.linear(&(&mlp / (i * stride)), pair[0], pair[1]), norm)
        };
        let layers: Vec<(Linear, Option<BatchNorm>)> =
            widths.windows(2).enumerate().map(layer).collect();
        let norms = layers.iter().filter_map(|(_, norm)| norm.as_ref());
        let counters = norms.map(BatchNorm::counter).collect();
        let last = vars / "last_layer";
        let float = (Kind::Float, vars.device());
        let ones = Tensor::ones([config.dim, 1], float);
        let bound = 1.0 / (config.bottleneck as f64).sqrt(); // PyTorch's for a linear layer
        let directions =
            Tensor::empty([config.dim, config.bottleneck], float).uniform_(-bound, bound);
        DinoHead {
            layers,
            counters,
            g: if config.norm_last_layer {
                last.buffer("weight_g", ones)
            } else {
                last.parameter("weight_g", ones)
            },
            v: last.parameter("weight_v", directions),
        }
    }

    /// `[n, inputs]` to `[n, dim]`.
    pub fn forward(&self, features: &Tensor, train: bool) -> Tensor {
        if train {
            count_batch(&self.counters);
        }
        let mut x = features.shallow_clone();
        for (i, (linear, norm)) in self.layers.iter().enumerate() {
            x = linear.forward(&x);
            if let Some(norm) = norm {
                x = norm.forward(&x, train);
            }
            if i + 1 < self.layers.len() {
                x = x.gelu("none");
            }
        }
        fused::linear(&l2_normalize(&x), &(l2_normalize(&self.v) * &self.g), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_tensor::Device;

    fn head(change: impl Fn(&mut DinoHeadConfig)) -> (DinoHead, Vars) {
        let mut config = DinoHeadConfig {
            layers: 3,
            hidden: 6,
            bottleneck: 4,
            dim: 10,
            batch_norm: false,
            norm_last_layer: true,
        };
        change(&mut config);
        let vars = Vars::new(Device::Cpu);
        (DinoHead::new(&vars, 5, &config), vars)
    }

    #[test]
    fn outputs_are_cosines_with_the_last_layers_rows() {
        let (head, vars) = head(|_| ());
        let y = head.forward(&Tensor::randn([7, 5], (Kind::Float, Device::Cpu)), true);
        assert_eq!(y.size(), [7, 10]);
        assert!(y.abs().max().double_value(&[]) <= 1.0 + 1e-5);
        let trained: Vec<_> = vars.parameters().into_iter().map(|(name, _)| name).collect();
        let expected = ["mlp.0", "mlp.2", "mlp.4"];
        for (i, layer) in expected.iter().enumerate() {
            assert_eq!(trained[2 * i], format!("{layer}.weight"));
        }
        assert_eq!(trained[6..], ["last_layer.weight_v"], "the lengths stay one");
    }

    #[test]
    fn batch_norms_and_free_lengths_are_there_when_asked_for() {
        let (_, vars) = head(|config| (config.batch_norm, config.norm_last_layer) = (true, false));
        let names: Vec<_> = vars.parameters().into_iter().map(|(name, _)| name).collect();
        assert!(
            names.contains(&"mlp.1.weight".to_owned()) && names.contains(&"mlp.6.bias".to_owned())
        );
        assert!(names.contains(&"last_layer.weight_g".to_owned()));
    }
}
