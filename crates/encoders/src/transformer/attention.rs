//! Multi-head self-attention.

use portolan_tensor::{Kind, Tensor, Vars};
use serde::{Deserialize, Serialize};

use super::rotary::Rotation;
use crate::Init;
use crate::layers::Linear;

/// Which of queries, keys and values have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QkvBias {
    /// All: one tensor, `qkv.bias`.
    #[default]
    All,
    /// Queries and values: `q_bias` and `v_bias`, as timm names them. In DINOv3's code the keys'
    /// bias is masked (`mask_k_bias`), since it changes no attention weights.
    QueryValue,
    /// None, as timm keeps those DINOv3 encoders whose biases are all zero.
    None,
}

/// Multi-head self-attention.
#[derive(Debug)]
pub(super) struct Attention {
    qkv: Linear,
    /// The biases of queries and of values, if these are apart.
    query_value: Option<[Tensor; 2]>,
    proj: Linear,
    heads: i64,
}

impl Attention {
    pub(super) fn new(vars: &Vars, width: i64, heads: i64, bias: QkvBias, init: Init) -> Self {
        let part =
            |name: &str| vars.parameter(name, Tensor::zeros([width], (Kind::Float, vars.device())));
        Attention {
            qkv: init.qkv(&(vars / "qkv"), width, bias == QkvBias::All),
            query_value: (bias == QkvBias::QueryValue).then(|| [part("q_bias"), part("v_bias")]),
            proj: init.linear(&(vars / "proj"), width, width),
            heads,
        }
    }

    /// A second handle to the same weights, for another thread.
    pub(super) fn shared(&self) -> Self {
        let biases = |biases: &[Tensor; 2]| biases.each_ref().map(Tensor::shallow_clone);
        Attention {
            qkv: self.qkv.shared(),
            query_value: self.query_value.as_ref().map(biases),
            proj: self.proj.shared(),
            heads: self.heads,
        }
    }

    /// Queries, keys and values of `x`: each `[batch, heads, tokens, width / heads]`.
    fn split(&self, x: &Tensor, rotation: Option<&Rotation>) -> [Tensor; 3] {
        let (batch, tokens, width) = shape(x);
        let qkv = match &self.query_value {
            Some([q, v]) => self.qkv.with_bias(x, &Tensor::cat(&[q, &q.zeros_like(), v], 0)),
            None => self.qkv.forward(x),
        };
        let qkv =
            qkv.view([batch, tokens, 3, self.heads, width / self.heads]).permute([2, 0, 3, 1, 4]);
        // The backward pass of `unbind` stacks three gradients. That of `select` would fill and add
        // three tensors of the whole size.
        let [q, k, v] = <[Tensor; 3]>::try_from(qkv.unbind(0)).expect("three parts of qkv");
        match rotation {
            Some(rotation) => [rotation.turn(&q), rotation.turn(&k), v],
            None => [q, k, v],
        }
    }

    pub(super) fn forward(&self, x: &Tensor, rotation: Option<&Rotation>) -> Tensor {
        let [q, k, v] = self.split(x, rotation);
        let none = None::<Tensor>;
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, none, 0.0, false, None, false);
        self.proj.forward(&y.transpose(1, 2).reshape(x.size()))
    }

    /// The attention weights, `[batch, heads, tokens, tokens]`. Rows sum to one.
    pub(super) fn weights(&self, x: &Tensor, rotation: Option<&Rotation>) -> Tensor {
        let [q, k, _] = self.split(x, rotation);
        let scale = (q.size()[3] as f64).sqrt();
        (q.matmul(&k.transpose(-2, -1)) / scale).softmax(-1, Kind::Float)
    }

    /// The keys of all heads, one after another and not turned: `[batch, tokens, width]`.
    pub(super) fn keys(&self, x: &Tensor) -> Tensor {
        let [_, k, _] = self.split(x, None);
        k.transpose(1, 2).reshape(x.size())
    }
}

fn shape(x: &Tensor) -> (i64, i64, i64) {
    let size = x.size();
    (size[0], size[1], size[2])
}

#[cfg(test)]
mod tests {
    use portolan_tensor::Device;

    use super::*;

    #[test]
    fn fused_attention_is_the_softmax_of_queries_and_keys_over_values() {
        let vars = Vars::new(Device::Cpu);
        let attention = Attention::new(&vars, 8, 2, QkvBias::All, Init::Xavier);
        let x = Tensor::randn([3, 5, 8], (Kind::Float, Device::Cpu));
        let rotation = Rotation::of_grid([2, 2], 4, 1, Device::Cpu);
        for rotation in [None, Some(&rotation)] {
            let [_, _, v] = attention.split(&x, rotation);
            let weights = attention.weights(&x, rotation);
            let by_hand = weights.matmul(&v).transpose(1, 2).reshape([3, 5, 8]);
            let by_hand = attention.proj.forward(&by_hand);
            assert!(attention.forward(&x, rotation).allclose(&by_hand, 1e-5, 1e-6, false));
        }
        assert!(!attention.forward(&x, None).equal(&attention.forward(&x, Some(&rotation))));
    }

    #[test]
    fn biases_of_queries_and_values_are_where_their_parts_are() {
        let vars = Vars::new(Device::Cpu);
        let attention = Attention::new(&vars, 4, 1, QkvBias::QueryValue, Init::Xavier);
        let [query, value] = attention.query_value.as_ref().expect("two biases");
        portolan_tensor::no_grad(|| {
            let _ = query.shallow_clone().fill_(1.0);
            let _ = value.shallow_clone().fill_(2.0);
        });
        let zero = Tensor::zeros([1, 3, 4], (Kind::Float, Device::Cpu));
        let parts = attention.split(&zero, None).map(|part| part.mean(Kind::Float));
        assert_eq!(parts.map(|mean| mean.double_value(&[])), [1.0, 0.0, 2.0]);
        let names: Vec<String> = vars.state().into_iter().map(|(name, _)| name).collect();
        let expected = ["q_bias", "v_bias", "qkv.weight", "proj.weight", "proj.bias"];
        assert!(expected.iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
        assert_eq!(names.len(), expected.len());
    }

    #[test]
    fn keys_are_those_of_the_heads_one_after_another() {
        let vars = Vars::new(Device::Cpu);
        let attention = Attention::new(&vars, 8, 2, QkvBias::All, Init::Xavier);
        let x = Tensor::randn([3, 5, 8], (Kind::Float, Device::Cpu));
        let [_, k, _] = attention.split(&x, None);
        let keys = attention.keys(&x);
        assert_eq!(keys.size(), [3, 5, 8]);
        assert!(keys.get(1).get(4).narrow(0, 4, 4).equal(&k.get(1).get(1).get(4)));
    }
}
