//! Folders of transformers' BERT and GPT-2, such as those of `bert-base-uncased` and `gpt2`, and
//! of finished runs on text.

use portolan_encoders::TextConfig;
use portolan_tensor::{Kind, Tensor, io};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{OrDamaged, damaged, ensure};
use crate::{Error, Result};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// The architectures of text that are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFamily {
    /// BERT, which fills blanks.
    Bert,
    /// GPT-2, which predicts the next token.
    Gpt2,
}

impl TextFamily {
    /// The architecture that transformers calls by this `model_type`, if it is known here.
    pub fn of_model_type(name: &str) -> Option<Self> {
        match name {
            "bert" => Some(TextFamily::Bert),
            "gpt2" => Some(TextFamily::Gpt2),
            _ => None,
        }
    }
}

/// A text encoder that was found in a folder.
#[derive(Debug)]
pub struct LoadedText {
    /// Its architecture.
    pub family: TextFamily,
    /// Its settings.
    pub config: TextConfig,
    /// Its weights, on the CPU, with the names of `BertForMaskedLM` or `GPT2LMHeadModel`.
    tensors: BTreeMap<String, Tensor>,
}

impl LoadedText {
    /// Reads `config.json` and `model.safetensors` in a folder.
    ///
    /// # Errors
    /// When one is missing, or describes a network that would compute something else here.
    pub fn open(folder: &Path) -> Result<Self> {
        open(folder).map_err(|error| error.of(folder))
    }

    /// Copies the weights into a network's tensors, with the names of `BertForMaskedLM` or
    /// `GPT2LMHeadModel`. Returns false if there is no output layer, whose values then stay.
    ///
    /// # Errors
    /// When names or shapes differ.
    pub fn copy_into(&self, state: &[(String, Tensor)]) -> Result<bool> {
        let has_head = self.tensors.keys().any(|name| is_head(name));
        let is_there = |(name, _): &&(String, Tensor)| has_head || !is_head(name);
        let there: Vec<(String, Tensor)> = state
            .iter()
            .filter(is_there)
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect();
        io::copy_into(&there, &self.tensors)?;
        // GPT-2's output layer is its table of tokens.
        Ok(there.len() == state.len())
    }
}

/// Whether this is a tensor of BERT's output layer.
fn is_head(name: &str) -> bool {
    name.starts_with("cls.")
}

fn open(folder: &Path) -> Result<LoadedText> {
    let path = folder.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
    let described: Described = serde_json::from_str(&text)?;
    let model_type = described.model_type.as_deref().unwrap_or("none");
    let family = TextFamily::of_model_type(model_type).ok_or_else(|| {
        Error::Unsupported(format!(
            "its {CONFIG} has the model_type {model_type}; bert and gpt2 are supported"
        ))
    })?;
    let config = match family {
        TextFamily::Bert => described.bert()?,
        TextFamily::Gpt2 => described.gpt2()?,
    };
    let weights = folder.join(WEIGHTS);
    ensure(weights.exists(), || {
        Error::Missing(format!(
            "it has no {WEIGHTS}; where it has weights in another form, save them with \
             transformers' save_pretrained"
        ))
    })?;
    let (stored, _) = io::load(&weights)?;
    let tensors = named(family, stored);
    validate(family, &config, &tensors)?;
    Ok(LoadedText { family, config, tensors })
}

/// What matters of transformers' `BertConfig` and `GPT2Config`. What is not there has transformers'
/// default.
#[derive(Deserialize)]
struct Described {
    model_type: Option<String>,
    vocab_size: Option<i64>,
    hidden_size: Option<i64>,
    num_hidden_layers: Option<i64>,
    num_attention_heads: Option<i64>,
    intermediate_size: Option<i64>,
    hidden_act: Option<String>,
    max_position_embeddings: Option<i64>,
    type_vocab_size: Option<i64>,
    layer_norm_eps: Option<f64>,
    hidden_dropout_prob: Option<f64>,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
    n_positions: Option<i64>,
    n_embd: Option<i64>,
    n_layer: Option<i64>,
    n_head: Option<i64>,
    n_inner: Option<i64>,
    activation_function: Option<String>,
    layer_norm_epsilon: Option<f64>,
    resid_pdrop: Option<f64>,
    scale_attn_weights: Option<bool>,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
}

impl Described {
    fn bert(&self) -> Result<TextConfig> {
        let width = self.hidden_size.unwrap_or(768);
        let is = |what: &str, found: String, wanted: &str| refuse(what, &found, wanted);
        is("hidden_act", text(&self.hidden_act, "gelu"), "gelu")?;
        let positions = text(&self.position_embedding_type, "absolute");
        is("position_embedding_type", positions, "absolute")?;
        let hidden = self.intermediate_size.unwrap_or(3072);
        is("intermediate_size", hidden.to_string(), &(4 * width).to_string())?;
        is("type_vocab_size", self.type_vocab_size.unwrap_or(2).to_string(), "2")?;
        let eps = self.layer_norm_eps.unwrap_or(1e-12);
        is("layer_norm_eps", format!("{eps:e}"), "1e-12")?;
        is("is_decoder", self.is_decoder.to_string(), "false")?;
        Ok(TextConfig {
            vocabulary: self.vocab_size.unwrap_or(30522),
            positions: self.max_position_embeddings.unwrap_or(512),
            width,
            depth: self.num_hidden_layers.unwrap_or(12),
            heads: self.num_attention_heads.unwrap_or(12),
            dropout: self.hidden_dropout_prob.unwrap_or(0.1),
        })
    }

    fn gpt2(&self) -> Result<TextConfig> {
        let width = self.n_embd.unwrap_or(768);
        let is = |what: &str, found: String, wanted: &str| refuse(what, &found, wanted);
        is("activation_function", text(&self.activation_function, "gelu_new"), "gelu_new")?;
        let hidden = self.n_inner.unwrap_or(4 * width);
        is("n_inner", hidden.to_string(), &(4 * width).to_string())?;
        let eps = self.layer_norm_epsilon.unwrap_or(1e-5);
        is("layer_norm_epsilon", format!("{eps:e}"), "1e-5")?;
        let scaled = self.scale_attn_weights.unwrap_or(true);
        is("scale_attn_weights", scaled.to_string(), "true")?;
        let by_layer = self.scale_attn_by_inverse_layer_idx;
        is("scale_attn_by_inverse_layer_idx", by_layer.to_string(), "false")?;
        Ok(TextConfig {
            vocabulary: self.vocab_size.unwrap_or(50257),
            positions: self.n_positions.unwrap_or(1024),
            width,
            depth: self.n_layer.unwrap_or(12),
            heads: self.n_head.unwrap_or(12),
            dropout: self.resid_pdrop.unwrap_or(0.1),
        })
    }
}

fn text(found: &Option<String>, default: &str) -> String {
    found.clone().unwrap_or_else(|| default.to_owned())
}

/// Refuses what would make the network compute something else.
fn refuse(what: &str, found: &str, wanted: &str) -> Result<()> {
    ensure(found == wanted, || {
        Error::Unsupported(format!(
            "its {CONFIG} has {what} {found}, which is not supported; {wanted} is"
        ))
    })
}

/// The tensors that the networks here have, by their names here: a folder of the body alone has no
/// `bert.` or `transformer.` in front, old ones call a norm's weight and bias gamma and beta, and
/// some hold constants, a pooler, or the output layer a second time.
fn named(family: TextFamily, stored: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let prefix = match family {
        TextFamily::Bert => "bert.",
        TextFamily::Gpt2 => "transformer.",
    };
    let unused = |name: &str| {
        name.contains("pooler.")
            || name.starts_with("cls.seq_relationship.")
            || name.starts_with("cls.predictions.decoder.")
            || name == "lm_head.weight"
            || name.ends_with("position_ids")
            || name.ends_with(".attn.bias")
            || name.ends_with(".attn.masked_bias")
    };
    let known = stored.into_iter().filter(|(name, _)| !unused(name));
    let renamed = known.map(|(name, tensor)| {
        let name = name.replace("LayerNorm.gamma", "LayerNorm.weight");
        let name = name.replace("LayerNorm.beta", "LayerNorm.bias");
        let whole = name.starts_with(prefix) || is_head(&name);
        let name = if whole { name } else { format!("{prefix}{name}") };
        (name, tensor.to_kind(Kind::Float))
    });
    renamed.collect()
}

/// Checks that the tables have the sizes of the config, before a network of these sizes is built:
/// a config may name one that would take all memory.
fn validate(
    family: TextFamily,
    config: &TextConfig,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let [tokens, positions, layers] = match family {
        TextFamily::Bert => [
            "bert.embeddings.word_embeddings.weight",
            "bert.embeddings.position_embeddings.weight",
            "bert.encoder.layer.",
        ],
        TextFamily::Gpt2 => ["transformer.wte.weight", "transformer.wpe.weight", "transformer.h."],
    };
    for (name, rows) in [(tokens, config.vocabulary), (positions, config.positions)] {
        let found = tensors.get(name).or_damaged(format!("its {WEIGHTS} has no {name}"))?.size();
        ensure(found == [rows, config.width], || {
            damaged(format!(
                "its {CONFIG} says that {name} is [{rows}, {}], and it is {found:?}",
                config.width
            ))
        })?;
    }
    let number = |name: &str| name.strip_prefix(layers)?.split('.').next()?.parse::<i64>().ok();
    let depth = tensors.keys().filter_map(|name| number(name)).max().map_or(0, |last| last + 1);
    ensure(depth == config.depth, || {
        damaged(format!("its {CONFIG} has {} blocks, and {WEIGHTS} {depth}", config.depth))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_encoders::{Bert, Gpt, TextEncoder};
    use portolan_tensor::{Device, Vars, seed};
    use serde_json::{Value, json};

    fn config() -> TextConfig {
        TextConfig { vocabulary: 11, positions: 6, width: 8, depth: 2, heads: 2, dropout: 0.1 }
    }

    fn write(folder: &Path, described: &Value, tensors: &[(String, Tensor)]) {
        std::fs::write(folder.join(CONFIG), described.to_string()).unwrap();
        io::save(&folder.join(WEIGHTS), tensors, &BTreeMap::new()).unwrap();
    }

    fn bert() -> Value {
        json!({
            "model_type": "bert", "vocab_size": 11, "max_position_embeddings": 6, "hidden_size": 8,
            "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        })
    }

    /// The state of a body as a folder of another age has it.
    fn renamed(state: Vec<(String, Tensor)>, by: &[(&str, &str)]) -> Vec<(String, Tensor)> {
        let name = |name: String| by.iter().fold(name, |name, (from, to)| name.replace(from, to));
        state.into_iter().map(|(it, tensor)| (name(it), tensor)).collect()
    }

    #[test]
    fn the_names_of_old_and_of_bare_folders_are_read() {
        seed(0);
        let folder = tempfile::tempdir().unwrap();
        let old = Bert::new(&config(), &Vars::new(Device::Cpu)).unwrap();
        let names = [("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")];
        let mut state = renamed(old.vars().state(), &names);
        let extra = Tensor::zeros([8], (Kind::Float, Device::Cpu));
        for name in ["bert.pooler.dense.bias", "cls.seq_relationship.bias"] {
            state.push((name.to_owned(), extra.shallow_clone()));
        }
        write(folder.path(), &bert(), &state);
        let loaded = LoadedText::open(folder.path()).unwrap();
        assert_eq!((loaded.family, &loaded.config), (TextFamily::Bert, &config()));
        let new = Bert::new(&config(), &Vars::new(Device::Cpu)).unwrap();
        assert!(loaded.copy_into(&new.vars().state()).unwrap(), "no output layer is wanted");
        assert!(old.vars().state() == new.vars().state());

        let gpt = Gpt::new(&config(), &Vars::new(Device::Cpu)).unwrap();
        let mut state = renamed(gpt.vars().state(), &[("transformer.", "")]);
        state.push(("h.0.attn.bias".to_owned(), extra));
        let described = json!({
            "model_type": "gpt2", "vocab_size": 11, "n_positions": 6, "n_embd": 8, "n_layer": 2,
            "n_head": 2,
        });
        write(folder.path(), &described, &state);
        let loaded = LoadedText::open(folder.path()).unwrap();
        let new = Gpt::new(&config(), &Vars::new(Device::Cpu)).unwrap();
        loaded.copy_into(&new.vars().state()).unwrap();
        assert!(gpt.vars().state() == new.vars().state());
    }

    #[test]
    fn another_network_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let state = Bert::new(&config(), &Vars::new(Device::Cpu)).unwrap().vars().state();
        let refused = |key: &str, value: Value| {
            let mut described = bert();
            described[key] = value;
            write(folder.path(), &described, &state);
            let error = LoadedText::open(folder.path()).unwrap_err();
            std::error::Error::source(&error).unwrap().to_string()
        };
        assert!(refused("hidden_act", json!("relu")).contains("hidden_act relu"));
        assert!(refused("layer_norm_eps", json!(1e-5)).contains("layer_norm_eps 1e-5"));
        assert!(refused("model_type", json!("t5")).contains("t5; bert and gpt2"));
        assert!(refused("vocab_size", json!(1_000_000_000)).contains("[1000000000, 8]"));
        assert!(refused("num_hidden_layers", json!(3)).contains("3 blocks"));
        std::fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
        std::fs::write(folder.path().join(CONFIG), bert().to_string()).unwrap();
        let error = LoadedText::open(folder.path()).unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains(WEIGHTS));
    }
}
