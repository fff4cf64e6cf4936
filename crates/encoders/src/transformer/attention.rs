//! Multi-head self-attention.

use portolan_tensor::{Kind, Tensor, Vars};

use crate::Init;
use crate::layers::Linear;

/// Multi-head self-attention.
#[derive(Debug)]
pub(super) struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: i64,
}

impl Attention {
    pub(super) fn new(vars: &Vars, width: i64, heads: i64, init: Init) -> Self {
        Attention {
            qkv: init.qkv(&(vars / "qkv"), width),
            proj: init.linear(&(vars / "proj"), width, width),
            heads,
        }
    }

    /// A second handle to the same weights, for another thread.
    pub(super) fn shared(&self) -> Self {
        Attention { qkv: self.qkv.shared(), proj: self.proj.shared(), heads: self.heads }
    }

    /// Queries, keys and values of `x`: each `[batch, heads, tokens, width / heads]`.
    fn split(&self, x: &Tensor) -> [Tensor; 3] {
        let (batch, tokens, width) = shape(x);
        let qkv = self
            .qkv
            .forward(x)
            .view([batch, tokens, 3, self.heads, width / self.heads])
            .permute([2, 0, 3, 1, 4]);
        // The backward pass of `unbind` stacks three gradients. That of `select` would fill and add
        // three tensors of the whole size.
        <[Tensor; 3]>::try_from(qkv.unbind(0)).expect("three parts of qkv")
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let [q, k, v] = self.split(x);
        let none = None::<Tensor>;
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, none, 0.0, false, None, false);
        self.proj.forward(&y.transpose(1, 2).reshape(x.size()))
    }

    /// The attention weights, `[batch, heads, tokens, tokens]`. Rows sum to one.
    pub(super) fn weights(&self, x: &Tensor) -> Tensor {
        let [q, k, _] = self.split(x);
        let scale = (q.size()[3] as f64).sqrt();
        (q.matmul(&k.transpose(-2, -1)) / scale).softmax(-1, Kind::Float)
    }
}

impl Attention {
    /// The keys of all heads, one after another: `[batch, tokens, width]`.
    pub(super) fn keys(&self, x: &Tensor) -> Tensor {
        let [_, k, _] = self.split(x);
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
        let attention = Attention::new(&vars, 8, 2, Init::Xavier);
        let x = Tensor::randn([3, 5, 8], (Kind::Float, Device::Cpu));
        let [_, _, v] = attention.split(&x);
        let by_hand = attention.weights(&x).matmul(&v).transpose(1, 2).reshape([3, 5, 8]);
        let by_hand = attention.proj.forward(&by_hand);
        assert!(attention.forward(&x).allclose(&by_hand, 1e-5, 1e-6, false));
    }

    #[test]
    fn keys_are_those_of_the_heads_one_after_another() {
        let attention = Attention::new(&Vars::new(Device::Cpu), 8, 2, Init::Xavier);
        let x = Tensor::randn([3, 5, 8], (Kind::Float, Device::Cpu));
        let [_, k, _] = attention.split(&x);
        let keys = attention.keys(&x);
        assert_eq!(keys.size(), [3, 5, 8]);
        assert!(keys.get(1).get(4).narrow(0, 4, 4).equal(&k.get(1).get(1).get(4)));
    }
}
