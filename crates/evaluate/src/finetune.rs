//! Training the whole encoder on with labels.

use anyhow::{Result, ensure};
use portolan_augment::ViewSpec;
use portolan_data::Source;
use portolan_encoders::{Encoder, layers::Linear};
use portolan_optim::schedule::cosine_with_warmup;
use portolan_optim::{Decay, LrRule, Optimizer, OptimizerConfig, ParamGroup};
use portolan_random::{Purpose, Stream, stream};
use portolan_tensor::{
    Device, Kind, Precision, Tensor, Vars, channels_last, full_precision, no_grad, prefixed, upload,
};
use rand::RngExt;
use rand::seq::SliceRandom;
use std::sync::mpsc::sync_channel;

use crate::features::{Features, features};
use crate::images::{Readable, drawn_images};

/// How the encoder is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct FinetuneConfig {
    /// Passes over the images.
    pub epochs: u64,
    /// Epochs in which the rate rises.
    pub warmup_epochs: u64,
    /// Images of a step.
    pub batch_size: usize,
    /// The learning rate of the head, for a batch of 256.
    pub learning_rate: f64,
    /// What is left of a layer's rate in the layer below it.
    pub layer_decay: f64,
    /// How much of every target is spread over all classes.
    pub label_smoothing: f64,
    /// α of mixup (Zhang et al. 2017, arXiv 1710.09412); 0 for none.
    pub mixup: f64,
    /// What moves the parameters.
    pub optimizer: OptimizerConfig,
}

impl FinetuneConfig {
    /// For a vision transformer, as MAE has it (appendix A.2, table 9): AdamW, a rate of 5e-4, each layer at
    /// 0.75 of the rate of the one above, label smoothing 0.1, mixup 0.8. Its cutmix and RandAugment are left out, and its
    /// stochastic depth of 0.1 is the encoder's to be built with. 100 epochs there, 5 of them to warm up.
    pub fn vit(epochs: u64) -> Self {
        FinetuneConfig {
            epochs,
            warmup_epochs: epochs / 20,
            batch_size: 256,
            learning_rate: 5e-4,
            layer_decay: 0.75,
            label_smoothing: 0.1,
            mixup: 0.8,
            optimizer: OptimizerConfig::Adamw {
                betas: [0.9, 0.999],
                eps: 1e-8,
                weight_decay: 0.05,
            },
        }
    }

    /// For a ResNet, as SimCLR has it (appendix B.5): SGD with Nesterov momentum, a rate of 0.05, crops and flips, no
    /// other regularisation and no warm-up.
    pub fn resnet(epochs: u64) -> Self {
        FinetuneConfig {
            epochs,
            warmup_epochs: 0,
            batch_size: 256,
            learning_rate: 0.05,
            layer_decay: 1.0,
            label_smoothing: 0.0,
            mixup: 0.0,
            optimizer: OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 0.0, nesterov: true },
        }
    }

    fn check(&self, images: usize) -> Result<()> {
        ensure!(self.epochs >= 1, "fine-tuning for 0 epochs changes nothing; choose at least 1");
        ensure!(
            (2..=images).contains(&self.batch_size),
            "fine-tuning wants batches of 2 to {images} images, the training split, and not of {}",
            self.batch_size
        );
        Ok(())
    }
}

/// Where fine-tuning reads, and on what it works.
pub struct Finetuning<'a> {
    /// Labelled images to train on.
    pub train: &'a dyn Source,
    /// How they are seen in training.
    pub train_view: &'a ViewSpec,
    /// Images to score on.
    pub test: &'a dyn Source,
    /// How they are seen.
    pub test_view: &'a ViewSpec,
    /// Number of classes.
    pub classes: i64,
    /// Where the encoder lies.
    pub device: Device,
    /// Arithmetic of its passes.
    pub precision: Precision,
}

/// Trains `encoder` and a linear layer on its features, and returns the features of the test images with the votes,
/// `[n, classes]`. The encoder is another one afterwards. `say` is told each epoch's number and mean loss.
///
/// # Errors
/// When images or labels are missing, or the loss is no number.
pub fn finetune(
    encoder: &dyn Encoder,
    on: &Finetuning,
    config: &FinetuneConfig,
    mut say: impl FnMut(u64, f64),
) -> Result<(Features, Tensor)> {
    config.check(on.train.len())?;
    let head_vars = Vars::new(on.device);
    let head = Linear::new(&head_vars, encoder.width(), on.classes, true);
    let mut groups = encoder_groups(encoder, config.layer_decay);
    groups.push(ParamGroup::all("head", prefixed("head", head_vars.parameters())));
    let rate = config.learning_rate * config.batch_size as f64 / 256.0;
    let mut optimizer =
        Optimizer::new(config.optimizer.clone(), rate, Decay::Matrices.apply(groups))?;
    let per_epoch = (on.train.len() / config.batch_size) as u64;
    let (total, warmup) = (config.epochs * per_epoch, config.warmup_epochs * per_epoch);
    for epoch in 0..config.epochs {
        let mut losses = Vec::new();
        each_batch(on, epoch, config.batch_size, |read| {
            let (x, targets) = mixed(&read, on, config, epoch, losses.len() as u64)?;
            optimizer.zero_grad()?;
            let logits =
                on.precision.run(on.device, || head.forward(&encoder.forward(&x, true)))?;
            let loss = full_precision(on.device, || {
                let log_p = logits.to_kind(Kind::Float).log_softmax(-1, Kind::Float);
                -(targets * log_p).sum_dim_intlist(-1, false, Kind::Float).mean(Kind::Float)
            })?;
            loss.backward();
            let step = epoch * per_epoch + losses.len() as u64;
            optimizer.step(cosine_with_warmup(step, total, warmup, 0.0, rate, 0.0), epoch)?;
            losses.push(loss.detach());
            Ok(())
        })?;
        let loss = Tensor::stack(&losses, 0).mean(Kind::Double).double_value(&[]);
        ensure!(
            loss.is_finite(),
            "fine-tuning diverged in epoch {}: its loss is {loss}",
            epoch + 1
        );
        say(epoch, loss);
    }
    let test = features(encoder, on.test, on.test_view, on.device, on.precision)?;
    let votes = no_grad(|| head.forward(&test.x.to_device(on.device)).to_device(Device::Cpu));
    Ok((test, votes))
}

/// The encoder's parameters, a group a layer, the rate of each that of the layer above times `decay` (BEiT: Bao et al.
/// 2021, arXiv 2106.08254; MAE's `lr_decay.py`). Everything but a transformer's blocks and what is below them counts as
/// the top.
fn encoder_groups(encoder: &dyn Encoder, decay: f64) -> Vec<ParamGroup> {
    let parameters = encoder.vars().parameters();
    let layer = |name: &str| -> Option<usize> {
        let below = ["cls_token", "pos_embed", "patch_embed"];
        if below.iter().any(|start| name.starts_with(start)) {
            return Some(0);
        }
        let block = name.strip_prefix("blocks.")?.split('.').next()?.parse::<usize>().ok()?;
        Some(block + 1)
    };
    let top = parameters.iter().filter_map(|(name, _)| layer(name)).max().map_or(0, |top| top + 1);
    let mut groups: Vec<ParamGroup> = (0..=top)
        .map(|depth| {
            let mut group = ParamGroup::all(format!("layer {depth}"), Vec::new());
            group.lr = LrRule::Scaled(decay.powi((top - depth) as i32));
            group
        })
        .collect();
    for (name, tensor) in parameters {
        let depth = layer(&name).unwrap_or(top);
        groups[depth].params.push((name, tensor));
    }
    groups.retain(|group| !group.params.is_empty());
    groups
}

/// Hands `work` an epoch's batches in an order drawn by lot, while the next is prepared.
fn each_batch(
    on: &Finetuning,
    epoch: u64,
    batch_size: usize,
    mut work: impl FnMut(Readable) -> Result<()>,
) -> Result<()> {
    let mut order: Vec<usize> = (0..on.train.len()).collect();
    order.shuffle(&mut stream(0, Purpose::Order, &[epoch]));
    std::thread::scope(|scope| {
        let (sender, batches) = sync_channel(1);
        scope.spawn(move || {
            for part in order.chunks_exact(batch_size) {
                // Nobody listens any more once a step has failed.
                if sender.send(drawn_images(on.train, part, on.train_view, epoch + 1)).is_err() {
                    return;
                }
            }
        });
        batches.into_iter().try_for_each(|read| work(read?))
    })
}

/// The images of a step and what is to be said of them, `[n, classes]`: smoothed, and mixed with those of the batch in
/// reverse (timm's mixup, by one share for all).
fn mixed(
    read: &Readable,
    on: &Finetuning,
    config: &FinetuneConfig,
    epoch: u64,
    step: u64,
) -> Result<(Tensor, Tensor)> {
    let labels: Option<Vec<i64>> =
        read.ids.iter().map(|&id| on.train.label(id).map(i64::from)).collect();
    let labels = labels.filter(|labels| labels.len() >= 2);
    let Some(labels) = labels else {
        anyhow::bail!(
            "fine-tuning needs batches of labelled images; put each class's into a folder of its own"
        )
    };
    let targets = Tensor::from_slice(&labels).one_hot(on.classes).to_kind(Kind::Float);
    let spread = config.label_smoothing;
    let targets = targets * (1.0 - spread) + spread / on.classes as f64;
    let (x, targets) = match config.mixup > 0.0 {
        true => {
            let share = beta(config.mixup, &mut stream(0, Purpose::Mixup, &[epoch, step]));
            let mix = |x: &Tensor| x * share + x.flip([0]) * (1.0 - share);
            (mix(&read.x), mix(&targets))
        }
        false => (read.x.shallow_clone(), targets),
    };
    Ok((channels_last(&upload(&x, on.device)), upload(&targets, on.device)))
}

/// A draw from Beta(α, α) (Jöhnk 1964).
fn beta(alpha: f64, random: &mut Stream) -> f64 {
    loop {
        let mut power = || random.random::<f64>().powf(1.0 / alpha);
        let (x, y) = (power(), power());
        if x + y > 0.0 && x + y <= 1.0 {
            return x / (x + y);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_encoders::{EncoderConfig, build};

    #[test]
    fn deeper_layers_of_a_vit_move_less() {
        let config = EncoderConfig::named("vit_w8d2h2_patch4_32").unwrap();
        let encoder = build(&config, &Vars::new(Device::Cpu)).unwrap();
        let groups = encoder_groups(&*encoder, 0.5);
        let rates: Vec<LrRule> = groups.iter().map(|group| group.lr).collect();
        assert_eq!(rates, [0.125, 0.25, 0.5, 1.0].map(LrRule::Scaled));
        let names = |n: usize| groups[n].params.iter().map(|(name, _)| name.as_str());
        assert!(
            names(0).any(|name| name == "cls_token")
                && names(0).any(|n| n == "patch_embed.proj.weight")
        );
        assert!(names(2).all(|name| name.starts_with("blocks.1.")));
        assert!(names(3).all(|name| name.starts_with("norm")));
        let all: usize = groups.iter().map(|group| group.params.len()).sum();
        assert_eq!(all, encoder.vars().parameters().len());
    }

    #[test]
    fn a_resnet_is_one_group() {
        let config = EncoderConfig::named("resnet18-w4").unwrap();
        let encoder = build(&config, &Vars::new(Device::Cpu)).unwrap();
        assert_eq!(encoder_groups(&*encoder, 0.5).len(), 1);
    }

    #[test]
    fn shares_of_mixup_follow_beta() {
        let mut random = stream(0, Purpose::Mixup, &[0]);
        let draws: Vec<f64> = (0..20_000).map(|_| beta(0.8, &mut random)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        assert!((variance - 1.0 / (4.0 * 2.6)).abs() < 0.003, "1 / (4 (2 α + 1)), and {variance}");
    }
}
