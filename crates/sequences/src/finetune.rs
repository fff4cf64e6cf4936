//! Fine-tuning of a text encoder: training all of it with labels.

use portolan_encoders::TextEncoder;
use portolan_method::{Error, Result, ensure_setting};
use portolan_optim::{Decay, Optimizer, OptimizerConfig, ParamGroup, clip_grad_norm};
use portolan_random::{Purpose, stream};
use portolan_tensor::{Device, Kind, Reduction, Tensor, Vars, no_grad, prefixed};
use rand::seq::SliceRandom;

use crate::Sequences;
use crate::features::{features, passage_features};

/// The settings of fine-tuning.
#[derive(Clone, Debug, PartialEq)]
pub struct FinetuneConfig {
    /// Passes over the labeled passages. 3, among the 2 to 4 of BERT's appendix A.3.
    pub epochs: u64,
    /// Passages per step. 32, among the 16 and 32 of appendix A.3.
    pub batch_size: usize,
    /// The highest learning rate. 5e-5, the highest of appendix A.3: half of that of pretraining.
    pub learning_rate: f64,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        FinetuneConfig { epochs: 3, batch_size: 32, learning_rate: 5e-5 }
    }
}

/// The share of the steps in which the rate rises (`warmup_proportion` of `run_classifier.py`).
const WARMUP: f64 = 0.1;
/// `clip_by_global_norm` of `optimization.py`.
const CLIP: f64 = 1.0;

/// Trains `encoder` and a linear layer on its features, the mean over tokens, to tell passages of
/// these classes apart. Returns the logits of the `test` passages, `[n, classes]`, on the CPU.
/// Changes the encoder. Calls `on_epoch` with each epoch's index and mean loss.
///
/// The paper reads the class token; the mean over tokens is what the linear probe reads, so that
/// the two can be compared, and what there is in GPT.
///
/// # Errors
/// When a setting is out of range, passages and labels differ in number, or the loss is not finite.
pub fn finetune(
    encoder: &dyn TextEncoder,
    train: (&Sequences, &[i64]),
    test: &Sequences,
    classes: i64,
    config: &FinetuneConfig,
    device: Device,
    mut on_epoch: impl FnMut(u64, f64),
) -> Result<Tensor> {
    let (sequences, labels) = train;
    let count = labels.len();
    ensure_setting(config.epochs > 0 && config.learning_rate > 0.0, || {
        "epochs and learning_rate of fine-tuning must be above 0".to_owned()
    })?;
    ensure_setting(count == sequences.len() && count > 0 && config.batch_size > 0, || {
        format!("{} passages have {count} labels; each needs one", sequences.len())
    })?;
    let vars = Vars::new(device);
    let width = encoder.config().width;
    let float = (Kind::Float, device);
    let weight = vars.parameter("weight", Tensor::zeros([classes, width], float));
    let bias = vars.parameter("bias", Tensor::zeros([classes], float));
    let head = |x: &Tensor| x.linear(&weight, Some(&bias));
    let parameters = || {
        let of_head = prefixed("head", vars.parameters());
        encoder.vars().parameters().into_iter().chain(of_head).collect::<Vec<_>>()
    };
    let clipped: Vec<Tensor> = parameters().into_iter().map(|(_, tensor)| tensor).collect();
    let groups = Decay::Matrices.apply(vec![ParamGroup::all("all", parameters())]);
    let mut optimizer = Optimizer::new(adamw(), config.learning_rate, groups)?;
    let batch_size = config.batch_size.min(count);
    let per_epoch = count / batch_size;
    let total = (config.epochs as usize * per_epoch) as f64;
    let mut step = 0.0;
    for epoch in 0..config.epochs {
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut stream(0, Purpose::Order, &[epoch]));
        let mut losses = Vec::new();
        for which in order.chunks_exact(batch_size) {
            let x = passage_features(encoder, sequences, which, device, /* train */ true)?;
            let truth: Vec<i64> = which.iter().map(|&i| labels[i]).collect();
            let truth = Tensor::from_slice(&truth).to_device(device);
            let none = None::<&Tensor>;
            let loss = head(&x).cross_entropy_loss(&truth, none, Reduction::Mean, -100, 0.0);
            optimizer.zero_grad()?;
            loss.backward();
            let _norm = clip_grad_norm(&clipped, CLIP)?;
            optimizer.step(config.learning_rate * rate(step / total), epoch as f64)?;
            losses.push(loss.detach());
            step += 1.0;
        }
        let loss = Tensor::stack(&losses, 0).mean(Kind::Double).double_value(&[]);
        if !loss.is_finite() {
            return Err(Error::Other(
                format!("fine-tuning diverged in epoch {}: its loss is {loss}", epoch + 1).into(),
            ));
        }
        on_epoch(epoch, loss);
    }
    let x = features(encoder, test, device)?;
    Ok(no_grad(|| head(&x.to_device(device)).to_device(Device::Cpu)))
}

/// BERT's: `AdamWeightDecayOptimizer` of `optimization.py`.
fn adamw() -> OptimizerConfig {
    OptimizerConfig::Adamw { betas: [0.9, 0.999], eps: 1e-6, weight_decay: 0.01 }
}

/// The part of the highest rate after this share of the steps: it rises, then falls to zero, both
/// linearly (`optimization.py`).
fn rate(share: f64) -> f64 {
    (share / WARMUP).min((1.0 - share) / (1.0 - WARMUP))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_encoders::{Bert, TextConfig};
    use portolan_tensor::seed;

    #[test]
    fn it_tells_apart_what_only_the_order_of_tokens_tells() {
        seed(0);
        let config =
            TextConfig { vocabulary: 8, positions: 4, width: 16, depth: 1, heads: 2, dropout: 0.0 };
        let encoder = Bert::new(&config, &Vars::new(Device::Cpu)).unwrap();
        let passages: Vec<Vec<u32>> = (0..40).map(|i| vec![1, 4 + i % 2, 5 - i % 2, 2]).collect();
        let labels: Vec<i64> = (0..40).map(|i| i % 2).collect();
        let sequences = Sequences::new(passages, Some(0));
        let settings = FinetuneConfig { epochs: 30, batch_size: 8, learning_rate: 3e-3 };
        let train = (&sequences, &labels[..]);
        let mut losses = Vec::new();
        let on_epoch = |_, loss| losses.push(loss);
        let logits =
            finetune(&encoder, train, &sequences, 2, &settings, Device::Cpu, on_epoch).unwrap();
        let found = Vec::<i64>::try_from(logits.argmax(1, false)).unwrap();
        assert_eq!(found, labels, "{losses:?}");
    }

    #[test]
    fn the_rate_rises_and_falls() {
        assert_eq!([rate(0.0), rate(0.05), rate(0.1), rate(1.0)], [0.0, 0.5, 1.0, 0.0]);
    }

    #[test]
    fn each_passage_needs_a_label() {
        let config =
            TextConfig { vocabulary: 8, positions: 4, width: 8, depth: 1, heads: 2, dropout: 0.0 };
        let encoder = Bert::new(&config, &Vars::new(Device::Cpu)).unwrap();
        let sequences = Sequences::new(vec![vec![1, 2], vec![3, 2]], Some(0));
        let usual = FinetuneConfig::default();
        let of =
            finetune(&encoder, (&sequences, &[0]), &sequences, 2, &usual, Device::Cpu, |_, _| {});
        assert!(of.unwrap_err().to_string().contains("2 passages have 1 labels"));
    }
}
