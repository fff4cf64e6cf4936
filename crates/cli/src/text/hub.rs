//! The files that let transformers open a run's folder: `AutoModelForMaskedLM`,
//! `AutoModelForCausalLM` and `AutoTokenizer`.

use anyhow::Result;
use portolan_tensor::io;
use portolan_text::Tokens;
use serde_json::{Map, Value, json};
use std::path::Path;

use super::config::TextRunConfig;
use super::masks;

/// Writes `config.json` and `tokenizer_config.json`, beside the `model.safetensors` and
/// `tokenizer.json` of a run.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write(config: &TextRunConfig, tokens: &Tokens, folder: &Path) -> Result<()> {
    let files = [
        ("config.json", model(config, tokens)),
        ("tokenizer_config.json", tokenizer(config, tokens)),
    ];
    for (name, value) in files {
        let text = serde_json::to_string_pretty(&value)?;
        io::write_atomic(&folder.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// transformers' `BertConfig` or `GPT2Config`.
fn model(config: &TextRunConfig, tokens: &Tokens) -> Value {
    let encoder = config.encoder.with_vocabulary(tokens.size() as i64);
    if masks(config) {
        json!({
            "model_type": "bert",
            "architectures": ["BertForMaskedLM"],
            "vocab_size": encoder.vocabulary,
            "hidden_size": encoder.width,
            "num_hidden_layers": encoder.depth,
            "num_attention_heads": encoder.heads,
            "intermediate_size": encoder.hidden(),
            "hidden_act": "gelu",
            "max_position_embeddings": encoder.positions,
            "type_vocab_size": 2,
            "layer_norm_eps": 1e-12,
            "initializer_range": 0.02,
            "hidden_dropout_prob": encoder.dropout,
            "attention_probs_dropout_prob": encoder.dropout,
            "pad_token_id": tokens.padding(),
        })
    } else {
        json!({
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": encoder.vocabulary,
            "n_positions": encoder.positions,
            "n_embd": encoder.width,
            "n_layer": encoder.depth,
            "n_head": encoder.heads,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "initializer_range": 0.02,
            "resid_pdrop": encoder.dropout,
            "embd_pdrop": encoder.dropout,
            "attn_pdrop": encoder.dropout,
            "bos_token_id": tokens.end_of_text(),
            "eos_token_id": tokens.end_of_text(),
        })
    }
}

/// transformers' settings of a tokenizer: the names of the special tokens that it has.
fn tokenizer(config: &TextRunConfig, tokens: &Tokens) -> Value {
    let mut found = Map::new();
    found.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
    found.insert("model_max_length".to_owned(), json!(config.encoder.positions));
    let named = [
        ("pad_token", "[PAD]"),
        ("unk_token", "[UNK]"),
        ("cls_token", "[CLS]"),
        ("sep_token", "[SEP]"),
        ("mask_token", "[MASK]"),
        ("bos_token", "<|endoftext|>"),
        ("eos_token", "<|endoftext|>"),
    ];
    for (kind, token) in named.into_iter().filter(|(_, token)| tokens.id(token).is_some()) {
        found.insert(kind.to_owned(), json!(token));
    }
    Value::Object(found)
}
