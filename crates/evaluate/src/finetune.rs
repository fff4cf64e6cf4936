//! Training the whole encoder on with labels.

use anyhow::{Result, ensure};
use portolan_augment::ViewSpec;
use portolan_data::Source;
use portolan_encoders::{Encoder, EncoderConfig, build, layers::Linear};
use portolan_optim::schedule::cosine_with_warmup;
use portolan_optim::{Decay, LrRule, Optimizer, OptimizerConfig, ParamGroup};
use portolan_random::{Purpose, stream};
use portolan_tensor::{
    Device, Kind, Precision, Tensor, Vars, channels_last, full_precision, io, no_grad, prefixed,
    upload,
};
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;

use crate::erase::erase;
use crate::features::{Features, features};
use crate::images::{Readable, drawn_images};
use crate::mix::{Mix, smoothed};

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
    /// The head's rate at the end, whatever the batch.
    pub last_rate: f64,
    /// What is left of a layer's rate in the layer below it.
    pub layer_decay: f64,
    /// How much of every target is spread over all classes.
    pub label_smoothing: f64,
    /// α of mixup (Zhang et al. 2017, arXiv 1710.09412); 0 for none.
    pub mixup: f64,
    /// α of cutmix (Yun et al. 2019, arXiv 1905.04899); 0 for none. With mixup, each comes half of the time.
    pub cutmix: f64,
    /// Images that are mixed with each other, by one draw.
    pub mixed_together: usize,
    /// Probability of random erasing (Zhong et al. 2017, arXiv 1708.04896).
    pub erasing: f64,
    /// Standard deviation of the head's weights at first, its biases being zero; none for PyTorch's default.
    pub head_std: Option<f64>,
    /// What moves the parameters.
    pub optimizer: OptimizerConfig,
}

impl FinetuneConfig {
    /// For a vision transformer, as MAE's authors fine-tune ViT-B (`FINETUNE.md` and `main_finetune.py` of
    /// facebookresearch/mae; table 9 of the paper has a rate of 1e-3, a decay of 0.75 and no erasing): a batch of
    /// 1,024, AdamW, a rate of 5e-4 that ends at 1e-6, each layer at 0.65 of the rate of the one above, label smoothing
    /// 0.1, mixup 0.8 and cutmix 1 among the 32 images of a GPU, erasing 0.25. 100 epochs there, 5 of them to warm
    /// up. The encoder is to be of the form that [`to_finetune`] gives it, the view
    /// [`finetuning`](portolan_augment::presets::finetuning).
    pub fn vit(epochs: u64) -> Self {
        FinetuneConfig {
            epochs,
            warmup_epochs: epochs / 20,
            batch_size: 1024,
            learning_rate: 5e-4,
            last_rate: 1e-6,
            layer_decay: 0.65,
            label_smoothing: 0.1,
            mixup: 0.8,
            cutmix: 1.0,
            mixed_together: 32,
            erasing: 0.25,
            head_std: Some(2e-5),
            optimizer: OptimizerConfig::Adamw {
                betas: [0.9, 0.999],
                eps: 1e-8,
                weight_decay: 0.05,
            },
        }
    }

    /// For a ResNet, as SimCLR has it (appendix B.5): SGD with Nesterov momentum, a rate of 0.05, crops and flips, no
    /// other regularization and no warm-up.
    pub fn resnet(epochs: u64) -> Self {
        FinetuneConfig {
            epochs,
            warmup_epochs: 0,
            batch_size: 256,
            learning_rate: 0.05,
            last_rate: 0.0,
            layer_decay: 1.0,
            label_smoothing: 0.0,
            mixup: 0.0,
            cutmix: 0.0,
            mixed_together: 256,
            erasing: 0.0,
            head_std: None,
            optimizer: OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 0.0, nesterov: true },
        }
    }

    fn validate(&self, images: usize) -> Result<()> {
        ensure!(self.epochs >= 1, "fine-tuning for 0 epochs changes nothing; choose at least 1");
        ensure!(
            (2..=images).contains(&self.batch_size),
            "fine-tuning wants batches of 2 to {images} images, the training split, and not of {}",
            self.batch_size
        );
        ensure!(self.mixed_together >= 1, "mixed_together is 0; at least one image shares a draw");
        Ok(())
    }

    /// The head's rate at a step of `total`: up from 0 in a straight line that reaches it after `warmup` steps, then half
    /// a cosine (`util/lr_sched.py`).
    fn rate(&self, step: u64, total: u64, warmup: u64) -> f64 {
        let base = self.learning_rate * self.batch_size as f64 / 256.0;
        match step < warmup {
            true => base * step as f64 / warmup as f64,
            false => cosine_with_warmup(step, total, warmup, 0.0, base, self.last_rate),
        }
    }

    fn head(&self, vars: &Vars, width: i64, classes: i64) -> Linear {
        let float = (Kind::Float, vars.device());
        match self.head_std {
            None => Linear::new(vars, width, classes, true),
            Some(std) => {
                let weight = Tensor::randn([classes, width], float) * std;
                Linear::of(vars, weight, Some(Tensor::zeros([classes], float)))
            }
        }
    }
}

/// The encoder in the form in which it is fine-tuned ([`Family::finetuned`](portolan_encoders::Family)),
/// with the weights of `encoder` and stochastic depth up to 0.1 (MAE's `FINETUNE.md`, `--drop_path 0.1`).
///
/// # Errors
/// When `encoder` is not of `config`.
pub fn to_finetune(encoder: Box<dyn Encoder>, config: &EncoderConfig) -> Result<Box<dyn Encoder>> {
    let Some(finetuned) = config.finetuned(0.1) else { return Ok(encoder) };
    let network = build(&finetuned.config, &Vars::new(encoder.vars().device()))?;
    let mut weights: BTreeMap<String, Tensor> = encoder.vars().state().into_iter().collect();
    let mut state = network.vars().state();
    weights.retain(|name, _| !name.starts_with(finetuned.dropped));
    state.retain(|(name, _)| !name.starts_with(finetuned.added));
    io::copy_into(&state, &weights)?;
    Ok(network)
}

/// Where fine-tuning reads, and on what it works.
pub struct Finetuning<'a> {
    /// Labeled images to train on.
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
    config.validate(on.train.len())?;
    let head_vars = Vars::new(on.device);
    let head = config.head(&head_vars, encoder.width(), on.classes);
    let mut groups = encoder_groups(encoder, config.layer_decay);
    groups.push(ParamGroup::all("head", prefixed("head", head_vars.parameters())));
    let groups = Decay::Matrices.apply(groups);
    let mut optimizer = Optimizer::new(config.optimizer.clone(), config.learning_rate, groups)?;
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
            optimizer.step(config.rate(step, total, warmup), epoch)?;
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
/// 2021, arXiv 2106.08254; MAE's `lr_decay.py`). Layers are those of [`Encoder::layer_of`]. Parameters without weight
/// decay ([`Encoder::no_weight_decay`]) have a group of their own.
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

/// The images of a step, in part erased, and what is to be said of them, `[n, classes]`, smoothed; both mixed among as
/// many images as share a draw.
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
            "fine-tuning needs batches of labeled images; put each class's into a folder of its own"
        )
    };
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
    use portolan_encoders::{Positions, VitConfig};

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
    fn a_vit_is_trained_as_in_finetune_md() {
        let config = FinetuneConfig::vit(100);
        // --blr 5e-4 at a batch of 1,024; --warmup_epochs 5; --min_lr 1e-6. Ten steps an epoch.
        let at = |step| config.rate(step, 1000, 50);
        assert_eq!([at(0), at(25)], [0.0, 1e-3]);
        assert!((at(50) - 2e-3).abs() < 1e-12);
        assert!((at(525) - (1e-6 + (2e-3 - 1e-6) / 2.0)).abs() < 1e-12, "halfway down");
        assert!((1e-6..1.1e-6).contains(&at(999)), "{}", at(999));
        assert_eq!((config.layer_decay, config.mixup, config.cutmix), (0.65, 0.8, 1.0));
        assert_eq!((config.warmup_epochs, config.erasing), (5, 0.25));
        portolan_tensor::seed(0);
        let vars = Vars::new(Device::Cpu);
        config.head(&vars, 64, 100);
        let [(_, weight), (_, bias)] = &vars.parameters()[..] else { panic!("weight and bias") };
        let std = weight.square().mean(Kind::Double).double_value(&[]).sqrt();
        assert!((std / 2e-5 - 1.0).abs() < 0.05, "{std}");
        assert_eq!(bias.abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn what_pretraining_left_fixed_is_trained_and_begins_as_it_was() {
        let vit = VitConfig {
            positions: Positions::SineCosine,
            frozen_patches: true,
            ..VitConfig::plain([8, 2, 2], 4, 16)
        };
        let config = EncoderConfig::from(vit);
        let pretrained = build(&config, &Vars::new(Device::Cpu)).unwrap();
        let before: BTreeMap<_, _> = pretrained.vars().state().into_iter().collect();
        let encoder = to_finetune(pretrained, &config).unwrap();
        let trained: BTreeMap<_, _> = encoder.vars().parameters().into_iter().collect();
        for name in ["pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "cls_token"] {
            assert_eq!(trained[name].detach(), before[name].detach(), "{name}");
        }
        assert!(trained.contains_key("fc_norm.weight") && !trained.contains_key("norm.weight"));
        assert!(encoder.vars().buffers().is_empty());
    }
}
