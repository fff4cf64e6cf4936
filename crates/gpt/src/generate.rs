//! Continues a passage.

use portolan_encoders::{KeyValueCache, TextEncoder};
use portolan_method::{Error, Result, Sampling};
use portolan_random::{Purpose, stream};
use portolan_tensor::{Device, Kind, Tensor, no_grad};
use rand::RngExt;

use crate::Gpt;

impl Gpt {
    /// The `count` tokens that follow `prompt`. The network sees as many tokens as it has
    /// positions: when these are full, the older half is forgotten.
    ///
    /// # Errors
    /// When the prompt is empty, or a setting or token is out of range.
    pub fn generate(&self, prompt: &[i64], count: usize, how: &Sampling) -> Result<Vec<i64>> {
        let config = self.body.config();
        let outside = |id: &&i64| !(0..config.vocabulary).contains(*id);
        if prompt.is_empty() || prompt.iter().find(outside).is_some() {
            return Err(Error::Setting(format!(
                "a prompt has at least one token, all below {}",
                config.vocabulary
            )));
        }
        if !(how.temperature >= 0.0 && how.temperature.is_finite()) {
            return Err(Error::Setting(format!(
                "temperature is {}; it must be 0 or more",
                how.temperature
            )));
        }
        let positions = config.positions as usize;
        let mut random = stream(how.seed, Purpose::Generation, &[]);
        let mut all = prompt.to_vec();
        let mut cache = KeyValueCache::default();
        let mut unread = all.len().saturating_sub(positions);
        for _ in 0..count {
            if cache.tokens() as usize + (all.len() - unread) > positions {
                cache = KeyValueCache::default();
                unread = all.len() - positions.div_ceil(2);
            }
            let scores = self.next_scores(&all[unread..], &mut cache)?;
            unread = all.len();
            all.push(choose(&scores, how, random.random()));
        }
        Ok(all.split_off(prompt.len()))
    }

    /// The scores `[vocabulary]` of the token after these, which follow those in the cache.
    fn next_scores(&self, ids: &[i64], cache: &mut KeyValueCache) -> Result<Vec<f64>> {
        let device = self.vars().device();
        let ids = Tensor::from_slice(ids).unsqueeze(0).to_device(device);
        let hidden = self.body.next_hidden(&ids, cache)?;
        let last = hidden.get(0).get(-1);
        let scores = no_grad(|| self.body.logits(&last)).to_device(Device::Cpu);
        Ok(Vec::<f64>::try_from(scores.to_kind(Kind::Double))
            .map_err(portolan_tensor::Error::from)?)
    }
}

/// The token whose share of the probability holds `draw`, between 0 and 1.
fn choose(scores: &[f64], how: &Sampling, draw: f64) -> i64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    if how.temperature == 0.0 {
        return order[0] as i64;
    }
    if how.top_k > 0 {
        order.truncate(how.top_k);
    }
    let best = scores[order[0]];
    let weight = |&id: &usize| ((scores[id] - best) / how.temperature).exp();
    let mut left = draw * order.iter().map(weight).sum::<f64>();
    for id in &order {
        left -= weight(id);
        if left < 0.0 {
            return *id as i64;
        }
    }
    // Rounding left a rest: the last token that is possible.
    order.iter().rfind(|id| weight(id) > 0.0).map_or(order[0], |id| *id) as i64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_encoders::TextConfig;

    use super::*;

    fn gpt() -> Gpt {
        portolan_tensor::seed(0);
        let encoder =
            TextConfig { vocabulary: 9, positions: 6, width: 8, depth: 2, heads: 2, dropout: 0.0 };
        Gpt::new(&encoder, Device::Cpu).unwrap()
    }

    #[test]
    fn the_cache_changes_no_token() {
        let gpt = gpt();
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        let found = gpt.generate(&[1, 2], 4, &greedy).unwrap();
        let mut all = vec![1, 2];
        for token in found {
            let ids = Tensor::from_slice(&all).unsqueeze(0);
            let scores = gpt.logits(&ids).unwrap().get(0).get(-1);
            assert_eq!(scores.argmax(0, false).int64_value(&[]), token);
            all.push(token);
        }
    }

    #[test]
    fn it_goes_on_past_the_positions_and_repeats_with_its_seed() {
        let gpt = gpt();
        let how = Sampling { temperature: 1.0, top_k: 0, seed: 3 };
        let first = gpt.generate(&[1; 10], 30, &how).unwrap();
        assert_eq!(first.len(), 30);
        assert_eq!(first, gpt.generate(&[1; 10], 30, &how).unwrap());
        assert_ne!(first, gpt.generate(&[1; 10], 30, &Sampling { seed: 4, ..how }).unwrap());
        assert!(gpt.generate(&[], 3, &how).is_err() && gpt.generate(&[9], 3, &how).is_err());
    }

    #[test]
    fn temperature_and_top_k_shape_the_draws() {
        let scores = [0.0, 2f64.ln(), f64::NEG_INFINITY, 1f64.ln()];
        let plain = Sampling { temperature: 1.0, top_k: 0, seed: 0 };
        let of = |draw, how: &Sampling| choose(&scores, how, draw);
        // Token 1 has one half, tokens 0 and 3 a quarter each, token 2 nothing.
        assert_eq!([0.0, 0.49, 0.51, 0.74, 0.76, 1.0].map(|d| of(d, &plain)), [1, 1, 0, 0, 3, 3]);
        let first = Sampling { top_k: 1, ..plain };
        assert_eq!([0.0, 0.99].map(|draw| of(draw, &first)), [1, 1]);
        let cold = Sampling { temperature: 0.5, ..plain };
        // 4 : 1 : 1.
        assert_eq!([0.66, 0.67].map(|draw| of(draw, &cold)), [1, 0]);
    }
}
