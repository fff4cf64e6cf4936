//! The names of a vision transformer's tensors in the files of others.
//!
//! Usual are timm's. Parts that timm joins have names of their own here, until
//! [`super::arrange`] joins them: `attn.q`, `attn.k`, `attn.v`, `mlp.gate`, `mlp.up`.

/// The first layer, and a tensor beside it, in the files of timm and of most authors; of
/// transformers' `Dinov2Model`, `DINOv3ViTModel` and `CLIPVisionModel`; and of OpenAI's CLIP.
pub(super) const SIGNS: &[[&str; 2]] = &[
    ["patch_embed.proj.weight", "cls_token"],
    ["embeddings.patch_embeddings.projection.weight", "embeddings.cls_token"],
    ["embeddings.patch_embeddings.weight", "embeddings.cls_token"],
    ["embeddings.patch_embedding.weight", "embeddings.class_embedding"],
    ["conv1.weight", "class_embedding"],
];

/// Beginnings of names, and the usual ones.
const OUTSIDE: [(&str, &str); 21] = [
    ("register_tokens", "reg_token"), // DINOv2's authors
    ("storage_tokens", "reg_token"),  // DINOv3's authors
    ("rope_embed.periods", "rope.periods"),
    ("embeddings.cls_token", "cls_token"), // transformers: DINOv2 and DINOv3
    ("embeddings.mask_token", "mask_token"),
    ("embeddings.register_tokens", "reg_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("embeddings.patch_embeddings.", "patch_embed.proj."),
    ("layernorm.", "norm."),
    ("embeddings.class_embedding", "cls_token"), // transformers: CLIP
    ("embeddings.position_embedding.weight", "pos_embed"),
    ("embeddings.position_ids", "position_ids"),
    ("embeddings.patch_embedding.", "patch_embed.proj."),
    ("pre_layrnorm.", "norm_pre."),
    ("post_layernorm.", "norm."),
    ("class_embedding", "cls_token"), // OpenAI's CLIP
    ("positional_embedding", "pos_embed"),
    ("conv1.", "patch_embed.proj."),
    ("ln_pre.", "norm_pre."),
    ("ln_post.", "norm."),
];

/// What precedes a block's number.
const BLOCKS: [&str; 6] = [
    "blocks.",
    "encoder.layer.",
    "encoder.layers.",
    "model.layer.",
    "layer.",
    "transformer.resblocks.",
];

/// Beginnings of names within a block, and the usual ones.
const INSIDE: [(&str, &str); 34] = [
    ("attention.attention.query.", "attn.q."), // transformers, as it stores DINOv2
    ("attention.attention.key.", "attn.k."),
    ("attention.attention.value.", "attn.v."),
    ("attention.output.dense.", "attn.proj."),
    ("mlp.weights_in.", "mlp.fc1."),
    ("mlp.weights_out.", "mlp.fc2."),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
    ("attention.q_proj.", "attn.q."), // transformers since 5, as in memory; DINOv3
    ("attention.k_proj.", "attn.k."),
    ("attention.v_proj.", "attn.v."),
    ("attention.o_proj.", "attn.proj."),
    ("mlp.gate_proj.", "mlp.gate."),
    ("mlp.up_proj.", "mlp.up."),
    ("mlp.down_proj.", "mlp.fc2."),
    ("self_attn.q_proj.", "attn.q."), // transformers: CLIP
    ("self_attn.k_proj.", "attn.k."),
    ("self_attn.v_proj.", "attn.v."),
    ("self_attn.out_proj.", "attn.proj."),
    ("layer_norm1.", "norm1."),
    ("layer_norm2.", "norm2."),
    ("attn.in_proj_", "attn.qkv."), // OpenAI's CLIP
    ("attn.out_proj.", "attn.proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
    ("ln_1.", "norm1."),
    ("ln_2.", "norm2."),
    ("mlp.w12.", "mlp.fc1."), // DINOv2's authors, SwiGLU
    ("mlp.w1.", "mlp.gate."), // DINOv3's authors, SwiGLU
    ("mlp.w2.", "mlp.up."),
    ("mlp.w3.", "mlp.fc2."),
    ("mlp.fc1_g.", "mlp.gate."), // timm: DINOv3, SwiGLU
    ("mlp.fc1_x.", "mlp.up."),
    ("gamma_", "ls"), // timm: DINOv3; the authors of DeiT III
];

/// The usual name of a tensor; `None` if it has it.
pub(super) fn rename(name: &str) -> Option<String> {
    if let Some((number, inside)) = in_block(name) {
        let usual = replaced(inside, &INSIDE).unwrap_or_else(|| inside.to_owned());
        // `ls1` of `gamma_1`.
        let usual =
            if usual.len() == 3 && usual.starts_with("ls") { usual + ".gamma" } else { usual };
        let usual = format!("blocks.{number}.{usual}");
        return (usual != name).then_some(usual);
    }
    replaced(name, &OUTSIDE)
}

fn replaced(name: &str, table: &[(&str, &str)]) -> Option<String> {
    table.iter().find_map(|(theirs, usual)| Some(format!("{usual}{}", name.strip_prefix(theirs)?)))
}

/// The number of the block and the name within it: 5 and `norm1.weight` of `blocks.5.norm1.weight`,
/// and of `blocks.0.5.norm1.weight`, since DINOv2's training code puts blocks into chunks, in which
/// they keep their numbers.
fn in_block(name: &str) -> Option<(&str, &str)> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    BLOCKS.iter().find_map(|blocks| {
        let (number, inside) = name.strip_prefix(blocks)?.split_once('.')?;
        let chunked = inside.split_once('.').filter(|(block, _)| is_number(block));
        is_number(number).then(|| chunked.unwrap_or((number, inside)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_become_timms() {
        for (theirs, usual) in [
            ("blocks.1.7.norm1.weight", Some("blocks.7.norm1.weight")),
            ("blocks.7.norm1.weight", None),
            ("pos_embed", None),
            ("register_tokens", Some("reg_token")),
            ("blocks.3.mlp.w12.bias", Some("blocks.3.mlp.fc1.bias")),
            ("blocks.3.gamma_2", Some("blocks.3.ls2.gamma")),
            ("blocks.3.ls2.gamma", None),
            ("encoder.layer.2.attention.attention.key.bias", Some("blocks.2.attn.k.bias")),
            ("encoder.layer.2.attention.o_proj.weight", Some("blocks.2.attn.proj.weight")),
            ("encoder.layer.2.layer_scale1.lambda1", Some("blocks.2.ls1.gamma")),
            ("layer.11.mlp.gate_proj.weight", Some("blocks.11.mlp.gate.weight")),
            ("encoder.layers.0.self_attn.out_proj.bias", Some("blocks.0.attn.proj.bias")),
            ("transformer.resblocks.4.attn.in_proj_weight", Some("blocks.4.attn.qkv.weight")),
            ("transformer.resblocks.4.ln_2.bias", Some("blocks.4.norm2.bias")),
            ("embeddings.patch_embeddings.projection.bias", Some("patch_embed.proj.bias")),
            ("embeddings.patch_embedding.weight", Some("patch_embed.proj.weight")),
        ] {
            assert_eq!(rename(theirs).as_deref(), usual, "{theirs}");
        }
    }
}
