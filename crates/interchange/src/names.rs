//! Which of a file's tensors are the encoder's, and what they are called here.
//!
//! The authors' files hold more than an encoder: heads, momentum encoders, queues, optimizers. Whatever surrounds it, a ResNet
//! is recognized by its first convolution and a transformer by its patches; what precedes their names is the prefix.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;

/// Shapes by name.
pub(crate) type Shapes = BTreeMap<String, Vec<i64>>;

/// What is taken of a file.
pub(crate) struct Chosen {
    /// What stands before the encoder's names: `state_dict.module.encoder_q.` in MoCo's files.
    pub(crate) prefix: String,
    /// The names as torchvision and timm have them, and those in the file.
    pub(crate) names: BTreeMap<String, String>,
    /// What is left: part and number of tensors.
    pub(crate) left_out: Vec<(String, usize)>,
}

/// Where a file holds several encoders: the one that its authors evaluate, first. MoCo's linear classifier takes `encoder_q`, MoCo v3's
/// `base_encoder`, BYOL's the online network; DINO's and DINOv2's take the teacher.
const PREFERRED: [&str; 4] = ["teacher", "base_encoder", "encoder_q", "online"];
const LAST: [&str; 5] = ["momentum", "encoder_k", "target", "student", "ema"];

/// Parts of a network that are no part of its encoder: heads, MAE's decoder, MoCo's queue.
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

/// The stages of a ResNet that was put into a `Sequential` and lost its names so.
const IN_SEQUENCE: [(&str, &str); 6] = [
    ("0", "conv1"),
    ("1", "bn1"),
    ("4", "layer1"),
    ("5", "layer2"),
    ("6", "layer3"),
    ("7", "layer4"),
];

/// Finds the encoder among a file's tensors.
///
/// # Errors
/// When there is none, or it has tensors whose meaning is not known here.
pub(crate) fn choose(shapes: &Shapes) -> Result<Chosen> {
    let prefix = shapes
        .iter()
        .filter_map(|(name, shape)| prefix_of_encoder(name, shape, shapes))
        .min_by_key(|prefix| rank(prefix))
        .context(
            "it holds no encoder that is known here: neither a ResNet (conv1.weight, bn1.weight) nor a vision transformer \
             (patch_embed.proj.weight, cls_token)",
        )?
        .to_owned();
    let in_sequence = shapes.contains_key(&format!("{prefix}4.0.conv1.weight"));
    let mut names = BTreeMap::new();
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    for name in shapes.keys() {
        let Some(rest) = name.strip_prefix(&prefix) else {
            *left_out.entry(part_beside(name, &prefix)).or_default() += 1;
            continue;
        };
        let ours = if in_sequence { out_of_sequence(rest) } else { without_chunk(rest) };
        let part = ours.split('.').next().unwrap_or_default();
        if is_encoders(part) {
            if let Some(other) = names.insert(ours, name.clone()) {
                bail!("its tensors `{other}` and `{name}` would be one and the same");
            }
        } else if HEADS.contains(&part) || part.starts_with("decoder_") {
            *left_out.entry(format!("{prefix}{part}")).or_default() += 1;
        } else {
            bail!(
                "its encoder has the tensor `{name}`, which has no place in a plain ResNet or vision transformer; such \
                 encoders are not known here"
            );
        }
    }
    Ok(Chosen { prefix, names, left_out: left_out.into_iter().collect() })
}

/// What precedes the encoder whose first weights these are, if they are an encoder's.
fn prefix_of_encoder<'a>(name: &'a str, shape: &[i64], shapes: &Shapes) -> Option<&'a str> {
    if shape.len() != 4 || shape[1] != 3 {
        return None;
    }
    let starts = [
        ("patch_embed.proj.weight", "cls_token"),
        ("conv1.weight", "bn1.weight"),
        ("0.weight", "4.0.conv1.weight"),
    ];
    starts.into_iter().find_map(|(first, sibling)| {
        let prefix = name.strip_suffix(first)?;
        let whole = prefix.is_empty() || prefix.ends_with('.');
        (whole && shapes.contains_key(&format!("{prefix}{sibling}"))).then_some(prefix)
    })
}

/// The smaller, the rather.
fn rank(prefix: &str) -> (bool, usize, usize) {
    let preferred =
        PREFERRED.iter().position(|word| prefix.contains(word)).unwrap_or(PREFERRED.len());
    (LAST.iter().any(|word| prefix.contains(word)), preferred, prefix.len())
}

fn is_encoders(part: &str) -> bool {
    matches!(
        part,
        "conv1"
            | "bn1"
            | "layer1"
            | "layer2"
            | "layer3"
            | "layer4"
            | "cls_token"
            | "pos_embed"
            | "patch_embed"
            | "blocks"
            | "norm"
    )
}

/// `4.0.conv1.weight` to `layer1.0.conv1.weight`.
fn out_of_sequence(rest: &str) -> String {
    let (number, behind) = rest.split_once('.').unwrap_or((rest, ""));
    match IN_SEQUENCE.iter().find(|(known, _)| *known == number) {
        Some((_, stage)) => format!("{stage}.{behind}"),
        None => rest.to_owned(),
    }
}

/// `blocks.0.5.norm1.weight`, as DINOv2 trains (its blocks lie in chunks and keep their numbers), to `blocks.5.norm1.weight`.
fn without_chunk(rest: &str) -> String {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = rest.split('.').collect();
    match parts[..] {
        ["blocks", chunk, block, ..] if is_number(chunk) && is_number(block) => {
            format!("blocks.{}", parts[2..].join("."))
        }
        _ => rest.to_owned(),
    }
}

/// The part that a tensor outside the encoder belongs to: its name up to where it leaves the encoder's.
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
        choose(&shapes(names)).unwrap().prefix
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
        let chosen = choose(&of).unwrap();
        let left: Vec<&str> = chosen.left_out.iter().map(|(part, _)| part.as_str()).collect();
        assert_eq!(
            left,
            [
                "optimizer",
                "state_dict.module.encoder_k",
                "state_dict.module.encoder_q.fc",
                "state_dict.module.queue"
            ]
        );
        assert_eq!(chosen.names["conv1.weight"], "state_dict.module.encoder_q.conv1.weight");
    }

    #[test]
    fn sequences_and_chunks_get_their_names_back() {
        let chosen = choose(&shapes(&[
            "backbone.0.weight",
            "backbone.1.weight",
            "backbone.4.0.conv1.weight",
        ]))
        .unwrap();
        assert_eq!(chosen.names["layer1.0.conv1.weight"], "backbone.4.0.conv1.weight");
        let chosen = choose(&shapes(&[
            "teacher.backbone.patch_embed.proj.weight",
            "teacher.backbone.cls_token",
            "teacher.backbone.blocks.1.7.norm1.weight",
        ]))
        .unwrap();
        assert!(chosen.names.contains_key("blocks.7.norm1.weight"));
    }

    #[test]
    fn what_changes_the_network_is_not_left_out_silently() {
        let of = shapes(&["patch_embed.proj.weight", "cls_token", "register_tokens"]);
        assert!(choose(&of).err().unwrap().to_string().contains("`register_tokens`"));
        assert!(choose(&shapes(&["a", "b.c"])).is_err());
    }
}
