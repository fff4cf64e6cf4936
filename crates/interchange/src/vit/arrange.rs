//! Brings the tensors of a vision transformer into the form in which timm keeps them: queries, keys
//! and values in one matrix, the two halves of SwiGLU in another.

use portolan_tensor::{Kind, Tensor};
use std::collections::BTreeMap;

use crate::error::{OrDamaged, damaged, ensure};
use crate::{Error, Result};

type Tensors = BTreeMap<String, Tensor>;

/// Joins what timm joins. Names are those of [`super::names::rename`].
///
/// # Errors
/// When parts are missing or do not fit, or positions are of another kind than any known here.
pub(super) fn arrange(tensors: &mut Tensors) -> Result<()> {
    let rotary = !tensors.contains_key("pos_embed");
    with_usual_shapes(tensors)?;
    if let Some(periods) = tensors.remove("rope.periods") {
        validate_periods(&periods)?;
    }
    for i in 0.. {
        let block = format!("blocks.{i}");
        if !tensors.contains_key(&format!("{block}.norm1.weight")) {
            break;
        }
        join_qkv(tensors, &block)?;
        split_masked_bias(tensors, &block)?;
        for part in ["weight", "bias"] {
            join(
                tensors,
                &format!("{block}.mlp.fc1.{part}"),
                &[format!("{block}.mlp.gate.{part}"), format!("{block}.mlp.up.{part}")],
            )?;
        }
        for scale in [1, 2].into_iter().filter(|_| rotary) {
            if let Some(values) = tensors.remove(&format!("{block}.ls{scale}.gamma")) {
                tensors.insert(format!("{block}.gamma_{scale}"), values);
            }
        }
    }
    Ok(())
}

/// CLIP's class token and positions, and the mask tokens of all, in timm's and DINOv2's shapes.
fn with_usual_shapes(tensors: &mut Tensors) -> Result<()> {
    let rows = |tensor: &Tensor| tensor.size().last().copied().unwrap_or(0).max(1);
    for (name, shape) in
        [("cls_token", [1, 1].as_slice()), ("pos_embed", &[1, -1]), ("mask_token", &[1])]
    {
        let Some(tensor) = tensors.get_mut(name) else { continue };
        let shape: Vec<i64> = shape.iter().copied().chain([rows(tensor)]).collect();
        *tensor = tensor.f_reshape(&shape).or_damaged(format!("`{name}` has an unusual shape"))?;
    }
    Ok(())
}

/// DINOv3's files hold the wavelengths of its rotary positions, in bfloat16.
fn validate_periods(periods: &Tensor) -> Result<()> {
    let count = periods.numel() as i64;
    let exponents = Tensor::arange(count, (Kind::Float, periods.device())) / count as f64;
    let usual = (exponents * 100f64.ln()).exp();
    let off = (periods.f_view([-1])? / usual - 1.0).abs().max().double_value(&[]);
    ensure(off < 0.01, || {
        Error::Unsupported(
            "its rotary positions have other wavelengths than DINOv3's encoders, which alone are \
             known here"
                .to_owned(),
        )
    })
}

/// Joins tensors along their first dimension, if the first of them is there.
fn join(tensors: &mut Tensors, name: &str, parts: &[String]) -> Result<()> {
    let there =
        parts.iter().filter(|part| tensors.contains_key(*part)).cloned().collect::<Vec<_>>();
    // Without a gate, transformers' `up_proj` is timm's `fc1`.
    if there.is_empty() {
        return Ok(());
    }
    let parts: Vec<Tensor> = there.iter().filter_map(|part| tensors.remove(part)).collect();
    let joined =
        Tensor::f_cat(&parts, 0).or_damaged(format!("the parts of `{name}` do not fit"))?;
    ensure(tensors.insert(name.to_owned(), joined).is_none(), || {
        damaged(format!("it has `{name}` as a whole and in parts"))
    })
}

/// Joins queries, keys and values, and their biases unless the keys have none.
fn join_qkv(tensors: &mut Tensors, block: &str) -> Result<()> {
    let parts = |end: &str| ["q", "k", "v"].map(|part| format!("{block}.attn.{part}.{end}"));
    let has = |tensors: &Tensors, end: &str| parts(end).map(|name| tensors.contains_key(&name));
    let complete = match (has(tensors, "weight"), has(tensors, "bias")) {
        ([false, false, false], [false, false, false]) => return Ok(()),
        ([true, true, true], [true, true, true] | [false, false, false]) => true,
        ([true, true, true], [true, false, true]) => false,
        _ => {
            return Err(damaged(format!(
                "`{block}` has some of queries, keys and values and their biases, but not all"
            )));
        }
    };
    join(tensors, &format!("{block}.attn.qkv.weight"), &parts("weight"))?;
    if complete {
        return join(tensors, &format!("{block}.attn.qkv.bias"), &parts("bias"));
    }
    for part in ["q", "v"] {
        let name = format!("{block}.attn.{part}.bias");
        let bias = tensors.remove(&name).or_damaged(format!("there is no `{name}`"))?;
        tensors.insert(format!("{block}.attn.{part}_bias"), bias);
    }
    Ok(())
}

/// DINOv3's `mask_k_bias`: a mask that takes the keys' third of the bias away.
fn split_masked_bias(tensors: &mut Tensors, block: &str) -> Result<()> {
    let Some(mask) = tensors.remove(&format!("{block}.attn.qkv.bias_mask")) else { return Ok(()) };
    let name = format!("{block}.attn.qkv.bias");
    let bias = tensors.remove(&name).or_damaged(format!("there is no `{name}` to mask"))?;
    let thirds = |tensor: &Tensor| tensor.f_chunk(3, 0).ok().filter(|parts| parts.len() == 3);
    let (Some(masks), Some(biases)) = (thirds(&mask), thirds(&bias)) else {
        return Err(damaged(format!("`{name}` and its mask have unusual shapes")));
    };
    for (mask, kept) in masks.iter().zip([1.0, 0.0, 1.0]) {
        ensure(mask.eq(kept).all().int64_value(&[]) == 1, || {
            Error::Unsupported(format!("`{name}` is masked otherwise than in DINOv3's encoders"))
        })?;
    }
    tensors.insert(format!("{block}.attn.q_bias"), biases[0].shallow_clone());
    tensors.insert(format!("{block}.attn.v_bias"), biases[2].shallow_clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_tensor::Device;

    use super::*;

    fn named(tensors: &[(&str, Tensor)]) -> Tensors {
        tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())).collect()
    }

    fn full(shape: &[i64], value: f64) -> Tensor {
        Tensor::full(shape, value, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn parts_are_joined_in_order() {
        let mut tensors = named(&[
            ("pos_embed", full(&[5, 2], 0.0)),
            ("cls_token", full(&[2], 0.0)),
            ("mask_token", full(&[1, 1, 2], 0.0)),
            ("blocks.0.norm1.weight", full(&[2], 1.0)),
            ("blocks.0.attn.v.weight", full(&[2, 2], 3.0)),
            ("blocks.0.attn.k.weight", full(&[2, 2], 2.0)),
            ("blocks.0.attn.q.weight", full(&[2, 2], 1.0)),
            ("blocks.0.attn.q.bias", full(&[2], 1.0)),
            ("blocks.0.attn.v.bias", full(&[2], 3.0)),
            ("blocks.0.mlp.up.weight", full(&[4, 2], 2.0)),
            ("blocks.0.mlp.gate.weight", full(&[4, 2], 1.0)),
            ("blocks.0.mlp.up.bias", full(&[4], 2.0)),
            ("blocks.0.mlp.gate.bias", full(&[4], 1.0)),
        ]);
        arrange(&mut tensors).unwrap();
        let first = |name: &str, row| tensors[name].get(row).flatten(0, -1).double_value(&[0]);
        let rows: Vec<f64> = (0..6).map(|i| first("blocks.0.attn.qkv.weight", i)).collect();
        assert_eq!(rows, [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!(tensors["blocks.0.mlp.fc1.weight"].size(), [8, 2]);
        assert_eq!(
            (first("blocks.0.mlp.fc1.weight", 0), first("blocks.0.mlp.fc1.weight", 7)),
            (1.0, 2.0)
        );
        assert_eq!(tensors["blocks.0.attn.v_bias"], full(&[2], 3.0));
        assert_eq!(tensors["cls_token"].size(), [1, 1, 2]);
        assert_eq!(tensors["pos_embed"].size(), [1, 5, 2]);
        assert_eq!(tensors["mask_token"].size(), [1, 2]);
    }

    #[test]
    fn a_masked_bias_loses_the_keys_part_and_another_mask_is_refused() {
        let with = |mask: [f64; 3]| {
            let mask = Tensor::cat(&mask.map(|value| full(&[2], value)), 0);
            let mut tensors = named(&[
                ("cls_token", full(&[1, 1, 2], 0.0)),
                ("rope.periods", Tensor::from_slice(&[1.0f32, 9.9999])),
                ("blocks.0.norm1.weight", full(&[2], 1.0)),
                ("blocks.0.ls1.gamma", full(&[2], 1.0)),
                ("blocks.0.attn.qkv.bias", Tensor::arange(6, (Kind::Float, Device::Cpu))),
                ("blocks.0.attn.qkv.bias_mask", mask),
            ]);
            arrange(&mut tensors).map(|()| tensors)
        };
        let tensors = with([1.0, 0.0, 1.0]).unwrap();
        assert_eq!(tensors["blocks.0.attn.v_bias"], Tensor::from_slice(&[4f32, 5.0]));
        let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
        let expected = ["attn.q_bias", "attn.v_bias", "gamma_1", "norm1.weight"];
        assert_eq!(names[..4], expected.map(|name| format!("blocks.0.{name}")));
        for mask in [[1.0, 1.0, 1.0], [1.0, 0.0, f64::NAN]] {
            assert!(with(mask).unwrap_err().to_string().contains("masked"));
        }
    }

    #[test]
    fn what_is_incomplete_is_refused() {
        let mut tensors = named(&[
            ("pos_embed", full(&[1, 5, 2], 0.0)),
            ("blocks.0.norm1.weight", full(&[2], 1.0)),
            ("blocks.0.attn.q.weight", full(&[2, 2], 1.0)),
        ]);
        assert!(arrange(&mut tensors).unwrap_err().to_string().contains("not all"));
        let mut tensors = named(&[("rope.periods", full(&[4], 3.0))]);
        assert!(arrange(&mut tensors).unwrap_err().to_string().contains("wavelengths"));
    }
}
