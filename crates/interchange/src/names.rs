//! Which of a file's tensors are the encoder's, and their usual names.
//!
//! Checkpoints hold more than an encoder: heads, momentum encoders, queues, optimizers. The encoder
//! is found by its first layer. What precedes that layer's usual name in the file is the prefix.

use std::collections::BTreeMap;

use crate::error::damaged;
use crate::family::FAMILIES;
use crate::format::{Shapes, Weights};
use crate::{Error, Result};

/// The tensors of a file that are its encoder's.
pub(crate) struct Selected {
    /// What precedes the encoder's names: `state_dict.module.encoder_q.` in MoCo's files.
    pub(crate) prefix: String,
    /// The names of torchvision or timm, and those in the file.
    pub(crate) names: BTreeMap<String, String>,
    /// The parts that are not used, and their numbers of tensors.
    pub(crate) left_out: Vec<(String, usize)>,
}

/// Of several encoders in a file, the one that its authors evaluate is preferred: `encoder_q` of
/// MoCo, `base_encoder` of MoCo v3, the online network of BYOL, the teacher of DINO and DINOv2.
const PREFERRED: [&str; 4] = ["teacher", "base_encoder", "encoder_q", "online"];
const LAST: [&str; 5] = ["momentum", "encoder_k", "target", "student", "ema"];

/// Parts beside an encoder that it does not need: heads, MAE's mask token, MoCo's queue.
const HEADS: [&str; 13] = [
    "fc",
    "head",
    "heads",
    "projector",
    "predictor",
    "projection",
    "projection_head",
    "prediction_head",
    "classifier",
    "mask_token",
    "queue",
    "queue_ptr",
    "center",
];

/// Finds the encoder among a file's tensors.
///
/// # Errors
/// When there is none, or it has tensors whose meaning is not known here.
pub(crate) fn select(shapes: &Shapes) -> Result<Selected> {
    let (prefix, family) = shapes
        .iter()
        .filter_map(|(name, shape)| prefix_of_encoder(name, shape, shapes))
        .min_by_key(|(prefix, _)| rank(prefix))
        .ok_or_else(unknown_encoder)?;
    let prefix = prefix.to_owned();
    let mut names = BTreeMap::new();
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    for name in shapes.keys() {
        let Some(rest) = name.strip_prefix(&prefix) else {
            *left_out.entry(part_beside(name, &prefix)).or_default() += 1;
            continue;
        };
        let usual = (family.rename)(rest).unwrap_or_else(|| rest.to_owned());
        let part = usual.split('.').next().unwrap_or_default();
        if family.parts.iter().any(|part| is_within(&usual, part)) {
            if let Some(other) = names.insert(usual, name.clone()) {
                let message =
                    format!("its tensors `{other}` and `{name}` would be one and the same");
                return Err(damaged(message));
            }
        } else if HEADS.contains(&part) || part.starts_with("decoder_") {
            *left_out.entry(format!("{prefix}{part}")).or_default() += 1;
        } else {
            return Err(Error::Unsupported(format!(
                "its encoder has the tensor `{name}`, which has no place in a plain {}; such \
                 encoders are not known here",
                family.name
            )));
        }
    }
    Ok(Selected { prefix, names, left_out: left_out.into_iter().collect() })
}

/// Whether the tensor of this name is in the module `part`.
fn is_within(name: &str, part: &str) -> bool {
    name.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn unknown_encoder() -> Error {
    let known = FAMILIES.each_ref().map(|family| {
        let [first, sibling] = family.signs[0];
        format!("a {} ({first}, {sibling})", family.name)
    });
    let known = known.join(" nor ");
    Error::Unsupported(format!("it holds no encoder that is known here: neither {known}"))
}

/// The prefix and the family of the encoder whose first layer this is; `None` if it is no encoder's
/// first layer.
fn prefix_of_encoder<'a>(
    name: &'a str,
    shape: &[i64],
    shapes: &Shapes,
) -> Option<(&'a str, &'static Weights)> {
    if shape.len() != 4 || shape[1] != 3 {
        return None;
    }
    let signs = FAMILIES.iter().flat_map(|family| family.signs.iter().map(move |it| (family, it)));
    signs.into_iter().find_map(|(family, [first, sibling])| {
        let prefix = name.strip_suffix(first)?;
        let whole = prefix.is_empty() || prefix.ends_with('.');
        (whole && shapes.contains_key(&format!("{prefix}{sibling}"))).then_some((prefix, family))
    })
}

/// The encoder with the smallest rank is used.
fn rank(prefix: &str) -> (bool, usize, usize) {
    let preferred =
        PREFERRED.iter().position(|word| prefix.contains(word)).unwrap_or(PREFERRED.len());
    (LAST.iter().any(|word| prefix.contains(word)), preferred, prefix.len())
}

/// The part that a tensor outside the encoder belongs to: its name up to the first component in
/// which it differs from the encoder's.
fn part_beside(name: &str, prefix: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let shared = parts.iter().zip(prefix.split('.')).take_while(|(a, b)| **a == *b).count();
    parts[..=shared.min(parts.len() - 1)].join(".")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shapes(names: &[&str]) -> Shapes {
        let shape = |name: &str| match name {
            name if name.ends_with("conv1.weight")
                && !name.contains("layer")
                && !name.contains("4.0") =>
            {
                vec![64, 3, 7, 7]
            }
            name if name.ends_with("proj.weight") || name.ends_with("0.weight") => {
                vec![64, 3, 7, 7]
            }
            _ => vec![64],
        };
        names.iter().map(|name| ((*name).to_owned(), shape(name))).collect()
    }

    fn prefix(names: &[&str]) -> String {
        select(&shapes(names)).unwrap().prefix
    }

    #[test]
    fn of_several_encoders_the_one_is_taken_that_its_authors_evaluate() {
        let resnet =
            |prefix: &str| [format!("{prefix}conv1.weight"), format!("{prefix}bn1.weight")];
        let two = |a: &str, b: &str| {
            let names = [resnet(a), resnet(b)].concat();
            prefix(&names.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let moco = "state_dict.module.encoder_q.";
        assert_eq!(two("state_dict.module.encoder_k.", moco), moco);
        assert_eq!(two("student.module.backbone.", "teacher.backbone."), "teacher.backbone.");
        assert_eq!(two("backbone_momentum.", "backbone."), "backbone.");
        assert_eq!(two("target_network.", "online_network."), "online_network.");
    }

    #[test]
    fn what_is_left_out_is_told_by_its_part() {
        let of = shapes(&[
            "state_dict.module.encoder_q.conv1.weight",
            "state_dict.module.encoder_q.bn1.weight",
            "state_dict.module.encoder_q.fc.0.weight",
            "state_dict.module.encoder_k.bn1.weight",
            "state_dict.module.queue",
            "optimizer.lars.momentum",
        ]);
        let selected = select(&of).unwrap();
        let left: Vec<&str> = selected.left_out.iter().map(|(part, _)| part.as_str()).collect();
        assert_eq!(
            left,
            [
                "optimizer",
                "state_dict.module.encoder_k",
                "state_dict.module.encoder_q.fc",
                "state_dict.module.queue"
            ]
        );
        assert_eq!(selected.names["conv1.weight"], "state_dict.module.encoder_q.conv1.weight");
    }

    #[test]
    fn sequences_and_chunks_get_their_names_back() {
        let selected = select(&shapes(&[
            "backbone.0.weight",
            "backbone.1.weight",
            "backbone.4.0.conv1.weight",
        ]))
        .unwrap();
        assert_eq!(selected.names["layer1.0.conv1.weight"], "backbone.4.0.conv1.weight");
        let selected = select(&shapes(&[
            "teacher.backbone.patch_embed.proj.weight",
            "teacher.backbone.cls_token",
            "teacher.backbone.blocks.1.7.norm1.weight",
        ]))
        .unwrap();
        assert!(selected.names.contains_key("blocks.7.norm1.weight"));
    }

    #[test]
    fn a_convnext_keeps_its_last_norm_and_leaves_its_classifier() {
        let (stem, sibling) = ("downsample_layers.0.0.weight", "stages.0.0.dwconv.weight");
        let selected = select(&shapes(&[stem, sibling, "norm.bias", "head.weight"])).unwrap();
        assert_eq!(selected.names["head.norm.bias"], "norm.bias");
        assert_eq!(selected.left_out, [("head".to_owned(), 1)]);
        let (stem, sibling) = ("stem.0.weight", "stages.0.blocks.0.conv_dw.weight");
        let timm = [stem, sibling, "head.norm.bias", "head.fc.weight"];
        let selected = select(&shapes(&timm)).unwrap();
        assert_eq!(selected.names["head.norm.bias"], "head.norm.bias");
        assert_eq!(selected.left_out, [("head".to_owned(), 1)]);
    }

    #[test]
    fn what_changes_the_network_is_not_left_out_silently() {
        let of = shapes(&["patch_embed.proj.weight", "cls_token", "register_tokens"]);
        assert!(select(&of).err().unwrap().to_string().contains("`register_tokens`"));
        assert!(select(&shapes(&["a", "b.c"])).is_err());
    }
}
