#![allow(clippy::unwrap_used)]
use portolan_tensor::Device;

use super::*;

fn config() -> TextConfig {
    TextConfig { vocabulary: 11, positions: 12, width: 16, depth: 2, heads: 4, dropout: 0.0 }
}

fn ids() -> Tensor {
    Tensor::arange(16, (Kind::Int64, Device::Cpu)).view([2, 8]).remainder(11)
}

fn networks() -> (Bert, Gpt) {
    portolan_tensor::seed(0);
    let vars = || Vars::new(Device::Cpu);
    (Bert::new(&config(), &vars()).unwrap(), Gpt::new(&config(), &vars()).unwrap())
}

#[test]
fn a_later_token_changes_no_earlier_hidden_state_of_gpt() {
    let (bert, gpt) = networks();
    let changed = ids();
    let _ = changed.narrow(1, 5, 1).fill_(10);
    for train in [false, true] {
        let of =
            |network: &dyn TextEncoder, ids: &Tensor| network.hidden(ids, None, train).unwrap();
        let (before, after) = (of(&gpt, &ids()), of(&gpt, &changed));
        assert!(before.narrow(1, 0, 5).equal(&after.narrow(1, 0, 5)), "to the bit");
        assert!(!before.narrow(1, 5, 1).equal(&after.narrow(1, 5, 1)));
        let (before, after) = (of(&bert, &ids()), of(&bert, &changed));
        assert!(!before.narrow(1, 0, 5).equal(&after.narrow(1, 0, 5)), "bert sees all");
    }
}

#[test]
fn tokens_one_at_a_time_give_the_hidden_states_of_all_at_once() {
    let (_, gpt) = networks();
    let all = gpt.hidden(&ids(), None, false).unwrap();
    let mut cache = KeyValueCache::default();
    let mut found = vec![gpt.next_hidden(&ids().narrow(1, 0, 3), &mut cache).unwrap()];
    for i in 3..8 {
        found.push(gpt.next_hidden(&ids().narrow(1, i, 1), &mut cache).unwrap());
    }
    assert_eq!(cache.tokens(), 8);
    assert!(Tensor::cat(&found, 1).allclose(&all, 1e-5, 1e-6, false));
    let error = gpt.next_hidden(&ids(), &mut cache).unwrap_err().to_string();
    assert!(error.contains("16") && error.contains("12"), "{error}");
}

#[test]
fn padding_changes_nothing() {
    let (bert, gpt) = networks();
    let mask = Tensor::ones([2, 8], (Kind::Bool, Device::Cpu));
    let _ = mask.narrow(1, 6, 2).fill_(0);
    let padded = ids();
    let _ = padded.narrow(1, 6, 2).fill_(3);
    for network in [&bert as &dyn TextEncoder, &gpt] {
        let short = network.hidden(&ids().narrow(1, 0, 6), None, false).unwrap();
        let long = network.hidden(&padded, Some(&mask), false).unwrap();
        assert!(long.narrow(1, 0, 6).allclose(&short, 1e-5, 1e-6, false));
        let (of_short, of_long) =
            (mean_of_tokens(&short, None), mean_of_tokens(&long, Some(&mask)));
        assert!(of_long.allclose(&of_short, 1e-5, 1e-6, false));
    }
}

#[test]
fn attention_weights_sum_to_one_and_leave_out_what_is_not_seen() {
    let (bert, gpt) = networks();
    let mask = Tensor::ones([2, 8], (Kind::Bool, Device::Cpu));
    let _ = mask.narrow(1, 6, 2).fill_(0);
    let of_gpt = gpt.last_attention(&ids(), None).unwrap();
    let of_bert = bert.last_attention(&ids(), Some(&mask)).unwrap();
    for weights in [&of_gpt, &of_bert] {
        let sums = weights.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
        assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-5);
    }
    assert_eq!(of_gpt.triu(1).abs().max().double_value(&[]), 0.0);
    assert_eq!(of_bert.narrow(3, 6, 2).abs().max().double_value(&[]), 0.0);
}

#[test]
fn initial_values_are_those_of_transformers() {
    let config = TextConfig { width: 64, vocabulary: 500, ..config() };
    let vars = Vars::new(Device::Cpu);
    let _gpt = Gpt::new(&config, &vars).unwrap();
    let state = vars.state();
    let std = |name: &str| {
        let (_, tensor) = state.iter().find(|(n, _)| n == name).unwrap();
        tensor.std(false).double_value(&[])
    };
    assert!((std("transformer.wte.weight") - 0.02).abs() < 1e-3);
    // 0.02 / √(2 · depth): initializer_range and `_init_weights` of `modeling_gpt2.py`.
    assert!((std("transformer.h.1.mlp.c_proj.weight") - 0.01).abs() < 1e-3);
    assert_eq!(std("transformer.h.0.attn.c_attn.bias"), 0.0);
}

#[test]
fn settings_and_tokens_out_of_range_are_refused() {
    let of =
        |config: TextConfig| Bert::new(&config, &Vars::new(Device::Cpu)).unwrap_err().to_string();
    assert!(of(TextConfig { heads: 3, ..config() }).contains("heads is 3"));
    assert!(of(TextConfig { depth: 0, ..config() }).contains("depth is 0"));
    assert!(of(TextConfig { dropout: 1.0, ..config() }).contains("dropout"));
    let long = Tensor::zeros([1, 13], (Kind::Int64, Device::Cpu));
    let (bert, gpt) = networks();
    for network in [&bert as &dyn TextEncoder, &gpt] {
        let error = network.hidden(&long, None, false).unwrap_err().to_string();
        assert!(error.contains("13 tokens") && error.contains("12 positions"), "{error}");
    }
}
