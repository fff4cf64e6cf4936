//! Settings of fine-tuning.

use portolan_encoders::layers::Linear;
use portolan_optim::OptimizerConfig;
use portolan_optim::schedule::cosine_with_warmup;
use portolan_tensor::{Kind, Tensor, Vars};

use crate::error::{Error, Result};

/// How the encoder is fine-tuned.
#[derive(Clone, Debug, PartialEq)]
pub struct FinetuneConfig {
    /// Passes over the images.
    pub epochs: u64,
    /// Epochs of warm-up.
    pub warmup_epochs: u64,
    /// Images per step.
    pub batch_size: usize,
    /// The learning rate of the head, for a batch of 256.
    pub learning_rate: f64,
    /// The head's learning rate at the end, whatever the batch size.
    pub final_learning_rate: f64,
    /// The learning rate of each layer, as a share of that of the layer above.
    pub layer_decay: f64,
    /// The share of each target that is spread over all classes.
    pub label_smoothing: f64,
    /// α of mixup (Zhang et al. 2017, arXiv 1710.09412); 0 turns it off.
    pub mixup: f64,
    /// α of cutmix (Yun et al. 2019, arXiv 1905.04899); 0 turns it off. With mixup, each is used
    /// half of the time.
    pub cutmix: f64,
    /// How many images are mixed with each other by one draw.
    pub mixed_together: usize,
    /// Probability of random erasing (Zhong et al. 2017, arXiv 1708.04896).
    pub erasing: f64,
    /// Standard deviation of the head's initial weights, with biases of zero; `None` for PyTorch's
    /// default.
    pub head_std: Option<f64>,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
}

impl FinetuneConfig {
    /// For a vision transformer, as MAE's authors fine-tune ViT-B: `FINETUNE.md` and
    /// `main_finetune.py` of facebookresearch/mae. Table 9 of the paper differs, with a learning
    /// rate of 1e-3, a layer decay of 0.75 and no erasing.
    ///
    /// A batch of 1,024, AdamW, a learning rate of 5e-4 that ends at 1e-6, layer decay 0.65, label
    /// smoothing 0.1, mixup 0.8 and cutmix 1 among the 32 images of a GPU, and erasing 0.25. The
    /// authors train for 100 epochs, 5 of them warm-up. Prepare the encoder with
    /// [`to_finetune`](crate::to_finetune), and use the view
    /// [`finetuning`](portolan_augment::presets::finetuning).
    #[must_use]
    pub fn vit(epochs: u64) -> Self {
        FinetuneConfig {
            epochs,
            warmup_epochs: epochs / 20,
            batch_size: 1024,
            learning_rate: 5e-4,
            final_learning_rate: 1e-6,
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

    /// For a ResNet, as in SimCLR (appendix B.5): SGD with Nesterov momentum, a learning rate of
    /// 0.05, crops and flips, no other regularization and no warm-up.
    #[must_use]
    pub fn resnet(epochs: u64) -> Self {
        FinetuneConfig {
            epochs,
            warmup_epochs: 0,
            batch_size: 256,
            learning_rate: 0.05,
            final_learning_rate: 0.0,
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

    pub(super) fn validate(&self, images: usize) -> Result<()> {
        let problem = if self.epochs < 1 {
            "fine-tuning for 0 epochs changes nothing; choose at least 1".to_owned()
        } else if !(2..=images).contains(&self.batch_size) {
            format!(
                "fine-tuning needs batches of 2 to {images} images, the size of the training \
                 split, and not of {}",
                self.batch_size
            )
        } else if self.mixed_together < 1 {
            "mixed_together is 0; at least one image shares a draw".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Setting(problem))
    }

    /// The head's learning rate at a step of `total`: linear warm-up from 0 over `warmup` steps,
    /// then half a cosine (`util/lr_sched.py`).
    pub(super) fn learning_rate_at(&self, step: u64, total: u64, warmup: u64) -> f64 {
        let base = self.learning_rate * self.batch_size as f64 / 256.0;
        if step < warmup {
            base * step as f64 / warmup as f64
        } else {
            cosine_with_warmup(step, total, warmup, 0.0, base, self.final_learning_rate)
        }
    }

    /// A new head on features of this width.
    pub(super) fn head(&self, vars: &Vars, width: i64, classes: i64) -> Linear {
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

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_tensor::Device;

    #[test]
    fn a_vit_is_trained_as_in_finetune_md() {
        let config = FinetuneConfig::vit(100);
        // --blr 5e-4 at a batch of 1,024; --warmup_epochs 5; --min_lr 1e-6. Ten steps an epoch.
        let at = |step| config.learning_rate_at(step, 1000, 50);
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
}
