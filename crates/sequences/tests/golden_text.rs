//! BERT and GPT-2 against transformers: names, shapes, hidden states, logits, losses and gradients.
//! Weights come from the formula in interop/golden/README.md.
#![allow(clippy::unwrap_used)]

use anyhow::{Result, bail};
use portolan_bert::{Bert, BertConfig};
use portolan_encoders::TextConfig;
use portolan_gpt::Gpt;
use portolan_method::{Batch, Method, StepContext, TextMethod, Vocabulary};
use portolan_tensor::{Device, Kind, Tensor, Vars};
use portolan_testing::formula::fill;
use portolan_testing::golden::{self, Case, Tensors, compare, would_fail};
use serde_json::Value;
use std::collections::BTreeMap;

const TOLERANCE: f64 = 1e-4;
/// Tied to the table of token embeddings and to `cls.predictions.bias`.
const TIED: [&str; 3] =
    ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "lm_head.weight"];

fn cases() -> Vec<Case> {
    golden::cases(env!("CARGO_MANIFEST_DIR"), "text.safetensors")
}

fn config(case: &Case) -> TextConfig {
    let of = |name: &str| case.setting(name).unwrap() as i64;
    TextConfig {
        vocabulary: of("vocabulary"),
        positions: of("positions"),
        width: of("width"),
        depth: of("layers"),
        heads: of("heads"),
        dropout: 0.0,
    }
}

fn bert(encoder: &TextConfig) -> Bert {
    let size = encoder.vocabulary;
    let vocabulary = Vocabulary { size, mask: Some(0), special: vec![0], continues: vec![] };
    Bert::new(BertConfig::default(), encoder, &vocabulary, Device::Cpu).unwrap()
}

fn gpt(encoder: &TextConfig) -> Gpt {
    Gpt::new(encoder, Device::Cpu).unwrap()
}

fn grad(vars: &Vars, name: &str) -> Tensor {
    vars.parameters().into_iter().find(|(known, _)| known == name).unwrap().1.grad()
}

fn computed(case: &Case) -> Result<Tensors> {
    let encoder = config(case);
    let base = case.setting("base")? as u64;
    let input = |name: &str| case.tensors[&format!("in.{name}")].shallow_clone();
    let ids = input("ids");
    let [hidden, logits, loss, position_grad] = match case.kind() {
        "bert" => {
            let bert = bert(&encoder);
            fill(bert.vars(), base);
            let mask = input("attention").to_kind(Kind::Bool);
            let loss = bert.loss_of(&ids, Some(&mask), &input("labels"))?;
            loss.backward();
            let hidden = bert.encoder().hidden(&ids, Some(&mask), false)?;
            let logits = bert.logits(&ids, Some(&mask))?;
            let position_grad = grad(bert.vars(), "bert.embeddings.position_embeddings.weight");
            [hidden, logits, loss, position_grad]
        }
        "gpt2" => {
            let mut gpt = gpt(&encoder);
            fill(gpt.vars(), base);
            let batch = Batch { inputs: vec![ids.shallow_clone()], ids: vec![] };
            let loss = gpt.loss(&batch, &StepContext::new(0, 1, Device::Cpu))?.loss;
            loss.backward();
            let hidden = gpt.encoder().hidden(&ids, None, false)?;
            let position_grad = grad(gpt.vars(), "transformer.wpe.weight");
            [hidden, gpt.logits(&ids)?, loss, position_grad]
        }
        kind => bail!("the golden case `{kind}` is not known here"),
    };
    let found = [
        ("out.hidden", hidden),
        ("out.logits", logits),
        ("out.loss", loss.view([1])),
        ("out.position_grad", position_grad),
    ];
    Ok(found.map(|(name, x)| (name.to_owned(), x.detach())).into())
}

#[test]
fn golden_text() {
    for case in cases() {
        let found = computed(&case).unwrap();
        compare(&case.expected(), &found, TOLERANCE).unwrap_or_else(|error| {
            panic!("{}: {error:#}", case.name);
        });
    }
}

#[test]
fn golden_text_would_notice_wrong_values() {
    would_fail(&cases(), TOLERANCE, computed);
}

#[test]
fn golden_text_names_are_those_of_transformers() {
    let Some(path) = golden::path(env!("CARGO_MANIFEST_DIR"), "encoder_keys2.json") else { return };
    let all: BTreeMap<String, Value> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in cases() {
        let encoder = config(&case);
        let state = match case.kind() {
            "bert" => bert(&encoder).state(),
            _ => gpt(&encoder).state(),
        };
        let found: BTreeMap<String, Vec<i64>> =
            state.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        let mut expected: BTreeMap<String, Vec<i64>> =
            serde_json::from_value(all[&case.name].clone()).unwrap();
        expected.retain(|name, _| !TIED.contains(&name.as_str()));
        assert_eq!(found, expected);
    }
}
