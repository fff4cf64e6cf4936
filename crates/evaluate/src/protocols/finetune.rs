//! Fine-tuning: training the whole encoder with labels.

use portolan_augment::ViewSpec;
use portolan_data::Source;
use portolan_encoders::{Encoder, EncoderConfig};
use portolan_optim::{Decay, LrRule, Optimizer, ParamGroup};
use portolan_random::{Purpose, stream};
use portolan_tensor::{
    Device, Kind, Precision, Tensor, Vars, channels_last, full_precision, io, no_grad, prefixed,
    upload,
};
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::fmt;

use self::erase::erase;
use self::mix::{Mix, smoothed};
use crate::error::{Error, Result};
use crate::features::{Features, features};
use crate::images::{LoadedImages, each_batch};

mod config;
mod erase;
mod mix;

pub use config::FinetuneConfig;

/// Prepares the encoder for fine-tuning. A vision transformer of `config` becomes
/// [`Family::finetuned`](portolan_encoders::Family::finetuned) with stochastic depth up to
/// 0.1 (`FINETUNE.md`, `--drop_path 0.1`) and the weights of `encoder`. So does a ConvNeXt. A
/// ResNet stays as it is. With `class_token` a vision transformer is classified by its class token
/// (`main_finetune.py`, `--cls_token`), otherwise by the mean of its patches.
///
/// # Errors
/// When `encoder` was not built from `config`.
pub fn to_finetune(
    encoder: Box<dyn Encoder>,
    config: &EncoderConfig,
    class_token: bool,
) -> Result<Box<dyn Encoder>> {
    let Some(finetuned) = config.finetuned(0.1, class_token) else { return Ok(encoder) };
    let network =
        finetuned.config.build(&Vars::new(encoder.vars().device())).map_err(Error::dependency)?;
    let mut weights: BTreeMap<String, Tensor> = encoder.vars().state().into_iter().collect();
    let mut state = network.vars().state();
    let under = |name: &str, prefix: Option<&str>| prefix.is_some_and(|it| name.starts_with(it));
    weights.retain(|name, _| !under(name, finetuned.dropped));
    state.retain(|(name, _)| !under(name, finetuned.added));
    io::copy_into(&state, &weights).map_err(Error::dependency)?;
    Ok(network)
}

/// Labeled images to train on and to score on, and where to train. For fine-tuning and for DINOv2's
/// linear protocol.
pub struct Finetuning<'a> {
    /// Labeled images to train on.
    pub train: &'a dyn Source,
    /// The view of training images.
    pub train_view: &'a ViewSpec,
    /// Labeled images to score on.
    pub test: &'a dyn Source,
    /// The view of test images.
    pub test_view: &'a ViewSpec,
    /// Number of classes.
    pub classes: i64,
    /// The encoder's device.
    pub device: Device,
    /// Arithmetic of its passes.
    pub precision: Precision,
}

impl fmt::Debug for Finetuning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finetuning")
            .field("train", &self.train.len())
            .field("test", &self.test.len())
            .field("classes", &self.classes)
            .field("device", &self.device)
            .field("precision", &self.precision)
            .finish_non_exhaustive()
    }
}

/// Trains `encoder` and a linear layer on its features. Returns the features of the test images and
/// their logits, `[n, classes]`. Changes the encoder. Calls `on_epoch` with each epoch's index and
/// mean loss.
///
/// # Errors
/// When a setting is out of range, images or labels are missing, or the loss is not finite.
pub fn finetune(
    encoder: &dyn Encoder,
    on: &Finetuning,
    config: &FinetuneConfig,
    mut on_epoch: impl FnMut(u64, f64),
) -> Result<(Features, Tensor)> {
    config.validate(on.train.len())?;
    let head_vars = Vars::new(on.device);
    let head = config.head(&head_vars, encoder.width(), on.classes);
    let mut groups = encoder_groups(encoder, config.layer_decay);
    groups.push(ParamGroup::all("head", prefixed("head", head_vars.parameters())));
    let groups = Decay::Matrices.apply(groups);
    let mut optimizer = Optimizer::new(config.optimizer.clone(), config.learning_rate, groups)
        .map_err(Error::dependency)?;
    let per_epoch = (on.train.len() / config.batch_size) as u64;
    let (total, warmup) = (config.epochs * per_epoch, config.warmup_epochs * per_epoch);
    for epoch in 0..config.epochs {
        let mut losses = Vec::new();
        let mut order: Vec<usize> = (0..on.train.len()).collect();
        order.shuffle(&mut stream(0, Purpose::Order, &[epoch]));
        let batches = order.chunks_exact(config.batch_size);
        each_batch(on.train, batches, on.train_view, epoch + 1, |read| {
            let (x, targets) = mixed(&read, on, config, epoch, losses.len() as u64)?;
            optimizer.zero_grad().map_err(Error::dependency)?;
            let logits = on
                .precision
                .run(on.device, || head.forward(&encoder.forward(&x, true)))
                .map_err(Error::dependency)?;
            let loss = full_precision(on.device, || {
                let log_p = logits.to_kind(Kind::Float).log_softmax(-1, Kind::Float);
                -(targets * log_p).sum_dim_intlist(-1, false, Kind::Float).mean(Kind::Float)
            })
            .map_err(Error::dependency)?;
            loss.backward();
            let step = epoch * per_epoch + losses.len() as u64;
            let learning_rate = config.learning_rate_at(step, total, warmup);
            optimizer.step(learning_rate, epoch as f64).map_err(Error::dependency)?;
            losses.push(loss.detach());
            Ok(())
        })?;
        let loss = Tensor::stack(&losses, 0).mean(Kind::Double).double_value(&[]);
        if !loss.is_finite() {
            return Err(Error::Diverged(format!(
                "fine-tuning diverged in epoch {}: its loss is {loss}",
                epoch + 1
            )));
        }
        on_epoch(epoch, loss);
    }
    let test = features(encoder, on.test, on.test_view, on.device, on.precision)?;
    let logits = no_grad(|| head.forward(&test.x.to_device(on.device)).to_device(Device::Cpu));
    Ok((test, logits))
}

/// The encoder's parameters, one group per layer, each with the learning rate of the layer above
/// times `decay` (BEiT: Bao et al. 2021, arXiv 2106.08254; MAE's `lr_decay.py`). Everything except
/// a transformer's blocks and the patch embedding counts as the top layer. Class token and
/// positions have their own group without weight decay (timm's `no_weight_decay`).
fn encoder_groups(encoder: &dyn Encoder, decay: f64) -> Vec<ParamGroup> {
    let parameters = encoder.vars().parameters();
    let layers = parameters.iter().filter_map(|(name, _)| encoder.layer_of(name));
    let top = layers.max().map_or(0, |top| top + 1);
    let group = |name: String, depth: usize| {
        let mut group = ParamGroup::all(name, Vec::new());
        group.lr = LrRule::Scaled(decay.powi((top - depth) as i32));
        group
    };
    let mut tokens = group("tokens".to_owned(), 0);
    tokens.weight_decay = false;
    let mut groups: Vec<ParamGroup> =
        (0..=top).map(|depth| group(format!("layer {depth}"), depth)).collect();
    for (name, tensor) in parameters {
        let depth = encoder.layer_of(&name).unwrap_or(top);
        let group = if encoder.no_weight_decay(&name) { &mut tokens } else { &mut groups[depth] };
        group.params.push((name, tensor));
    }
    groups.push(tokens);
    groups.retain(|group| !group.params.is_empty());
    groups
}

/// The images of a step with random erasing, and their smoothed targets, `[n, classes]`, both mixed
/// within groups of images that share a draw.
fn mixed(
    read: &LoadedImages,
    on: &Finetuning,
    config: &FinetuneConfig,
    epoch: u64,
    step: u64,
) -> Result<(Tensor, Tensor)> {
    let labels: Option<Vec<i64>> =
        read.ids.iter().map(|&id| on.train.label(id).map(i64::from)).collect();
    let labels = labels.filter(|labels| labels.len() >= 2).ok_or(Error::Unlabeled(
        "fine-tuning needs batches of labeled images; put each class's into a folder of its own",
    ))?;
    let targets = smoothed(&labels, on.classes, config.label_smoothing);
    let mut random = stream(0, Purpose::Mixup, &[epoch, step]);
    erase(&read.x, config.erasing, &mut random);
    let sides = [read.x.size()[2], read.x.size()[3]];
    let each = config.mixed_together as i64;
    let (mut mixed_x, mut mixed_targets) = (Vec::new(), Vec::new());
    for (x, targets) in read.x.split(each, 0).iter().zip(targets.split(each, 0)) {
        let (x, targets) = match Mix::draw(config.mixup, config.cutmix, sides, &mut random) {
            Some(mix) => (mix.images(x), mix.targets(&targets, sides)),
            None => (x.shallow_clone(), targets),
        };
        mixed_x.push(x);
        mixed_targets.push(targets);
    }
    let (x, targets) = (Tensor::cat(&mixed_x, 0), Tensor::cat(&mixed_targets, 0));
    Ok((channels_last(&upload(&x, on.device)), upload(&targets, on.device)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_encoders::build;
    use portolan_encoders::{Pool, Positions, VitConfig};

    #[test]
    fn deeper_layers_of_a_vit_move_less() {
        let config = EncoderConfig::named("vit_w8d2h2_patch4_32").unwrap();
        let encoder = build(&config, &Vars::new(Device::Cpu)).unwrap();
        let groups = encoder_groups(&*encoder, 0.5);
        let rates: Vec<LrRule> = groups.iter().map(|group| group.lr).collect();
        assert_eq!(rates, [0.125, 0.25, 0.5, 1.0, 0.125].map(LrRule::Scaled));
        let decays: Vec<bool> = groups.iter().map(|group| group.weight_decay).collect();
        assert_eq!(decays, [true, true, true, true, false]);
        let names = |n: usize| groups[n].params.iter().map(|(name, _)| name.as_str());
        assert_eq!(names(4).collect::<Vec<_>>(), ["cls_token", "pos_embed"]);
        assert!(names(0).any(|n| n == "patch_embed.proj.weight"));
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
    fn what_pretraining_froze_is_trained_from_its_old_values() {
        let vit = VitConfig {
            positions: Positions::SineCosine,
            frozen_patches: true,
            ..VitConfig::plain([8, 2, 2], 4, 16)
        };
        let config = EncoderConfig::from(vit);
        let pretrained = build(&config, &Vars::new(Device::Cpu)).unwrap();
        let before: BTreeMap<_, _> = pretrained.vars().state().into_iter().collect();
        let by_class_token = {
            let same = build(&config, &Vars::new(Device::Cpu)).unwrap();
            to_finetune(same, &config, true).unwrap()
        };
        let encoder = to_finetune(pretrained, &config, false).unwrap();
        let trained: BTreeMap<_, _> = encoder.vars().parameters().into_iter().collect();
        for name in ["pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "cls_token"] {
            assert_eq!(trained[name].detach(), before[name].detach(), "{name}");
        }
        assert!(trained.contains_key("fc_norm.weight") && !trained.contains_key("norm.weight"));
        assert!(encoder.vars().buffers().is_empty());
        let trained: BTreeMap<_, _> = by_class_token.vars().parameters().into_iter().collect();
        assert!(trained.contains_key("norm.weight") && !trained.contains_key("fc_norm.weight"));
        assert_eq!(by_class_token.as_vit().unwrap().config().pool, Pool::ClassToken);
    }
}
