//! Weights and inputs by the formula in interop/golden/README.md.

use portolan_tensor::{Kind, Tensor, Vars, no_grad};

/// `unit(s, n)` of the README: n values of variance 1.
pub fn unit(s: u64, n: usize) -> Vec<f64> {
    let value = |j: usize| {
        let mut x = (s << 32).wrapping_add(j as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        3f64.sqrt() * (2.0 * (x >> 11) as f64 / 2f64.powi(53) - 1.0)
    };
    (0..n).map(value).collect()
}

/// Gives every entry of an encoder the value of the README.
pub fn fill(vars: &Vars, base: u64) {
    let mut state = vars.state();
    state.sort_by(|a, b| a.0.cmp(&b.0));
    for (i, (name, tensor)) in state.iter().enumerate() {
        if tensor.kind() == Kind::Int64 {
            continue;
        }
        let shape = tensor.size();
        let v = Tensor::from_slice(&unit(base + i as u64, tensor.numel())).view(&shape[..]);
        let scales = name.ends_with("weight") || name.ends_with("gamma");
        let value = if name.ends_with("running_var") {
            v.square() * 0.25 + 1.0
        } else if shape.len() == 1 && scales {
            v * 0.1 + 1.0
        } else if shape.len() == 1 {
            v * 0.1
        } else if name.ends_with("pos_embed") || name.ends_with("token") {
            v * 0.02
        } else {
            v * (2.0 / (tensor.numel() as f64 / shape[0] as f64)).sqrt()
        };
        no_grad(|| tensor.shallow_clone().copy_(&value));
    }
}

/// Images `[batch, 3, size, size]` in float32.
pub fn images(base: u64, batch: i64, size: i64) -> Tensor {
    Tensor::from_slice(&unit(base + 999, (batch * 3 * size * size) as usize))
        .to_kind(Kind::Float)
        .view([batch, 3, size, size])
}

/// The images of the README, `[batch, 3, height, width]`.
pub fn images_of(base: u64, batch: i64, [height, width]: [i64; 2]) -> Tensor {
    Tensor::from_slice(&unit(base + 999, (batch * 3 * height * width) as usize))
        .to_kind(Kind::Float)
        .view([batch, 3, height, width])
}
