//! DINOv2: self-distillation of images and masked patches.
//!
//! Oquab et al. 2023, *DINOv2: Learning Robust Visual Features without Supervision*, arXiv
//! 2304.07193.
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_dinov2::{Dinov2, Dinov2Config, HeadConfig};
//! use portolan_encoders::VitConfig;
//! use portolan_method::ImageMethod;
//! use portolan_tensor::Device;
//!
//! let vit = VitConfig {
//!     mask_token: true,
//!     layer_scale: 1e-5,
//!     ..VitConfig::named("vit_w32d2h2_patch8_64")?
//! };
//! let head = HeadConfig { hidden: 64, dim: 256, ..HeadConfig::default() };
//! let config = Dinov2Config { head, ..Dinov2Config::default() };
//! let views = presets::dino(64, 32, 4); // two global views, four local ones
//! let dinov2 = Dinov2::new(config, &vit.into(), views, Device::Cpu)?;
//! assert_eq!(dinov2.encoder().width(), 32);
//! # anyhow::Ok(())
//! ```
//!
//! A student learns to match a teacher, its own exponential moving average, in two ways. As in
//! DINO, its class tokens of all views of an image match those of the teacher's large (global)
//! views. As in iBOT, some patches of its global views are masked, and it matches the teacher's
//! tokens of these patches, which the teacher sees. The first loss gives features of whole images,
//! the second features of places. A third, KoLeo, spreads the class tokens of a batch. The encoder
//! that is evaluated is the teacher's.

mod config;
mod entry;
mod masks;
mod network;
mod targets;

pub use config::{Centering, Dinov2Config, HeadConfig};
pub use entry::METHOD;
pub use masks::Masks;

use masks::Masking;
use network::Network;
use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig};
use portolan_losses::{dinov2, ibot, koleo};
use portolan_method::{
    Batch, EmaUpdater, Error, GLOBAL_VIEWS, ImageMethod, Method, Result, StepContext, StepLoss,
    validate_multi_crop,
};
use portolan_metrics::names;
use portolan_optim::schedule::cosine_with_warmup;
use portolan_optim::{LrRule, ParamGroup, clip_grad_norm};
use portolan_tensor::{Device, Kind, Tensor, no_grad, prefixed};
use targets::Targets;

/// ε of KoLeo (`KoLeoLoss`).
const KOLEO_EPS: f64 = 1e-8;

/// DINOv2, ready to train.
#[derive(Debug)]
pub struct Dinov2 {
    config: Dinov2Config,
    views: Vec<ViewSpec>,
    masking: Option<Masking>,
    student: Network,
    teacher: Network,
    ema: EmaUpdater,
    class_targets: Targets,
    patch_targets: Targets,
}

impl Dinov2 {
    /// Builds student and teacher with initial values from libtorch's generator. `views` are two
    /// global views of one size, then any number of local ones, at most as large.
    ///
    /// # Errors
    /// When the encoder is not a vision transformer with a mask token, or a setting is out of range
    /// or contradicts another; the message names it.
    pub fn new(
        config: Dinov2Config,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        let EncoderConfig::Vit(vit) = encoder else {
            return Err(Error::Setting(format!(
                "DINOv2 masks the patches of a vision transformer, and {} has none; choose \
                 --encoder vit_small_patch16_224, for instance",
                encoder.name()
            )));
        };
        validate_multi_crop("DINOv2", &views, encoder)?;
        let masking = (config.ibot_loss_scale > 0.0).then(|| Masking {
            grid: (i64::from(views[0].size()) / vit.patch) as usize,
            probability: config.mask_probability,
            ratio: config.mask_ratio,
        });
        if masking.is_some() && !vit.mask_token {
            return Err(Error::Setting(
                "DINOv2 replaces masked patches by a mask token, and the encoder has none; set \
                 encoder.mask_token = true, or ibot_loss_scale = 0"
                    .to_owned(),
            ));
        }
        let student = Network::new(&config, vit, device)?;
        let teacher = Network::new(&config, vit, device)?;
        let ema = EmaUpdater::new(&student.vars, &teacher.vars)?;
        let targets = |head: HeadConfig| Targets::new(config.centering, head.dim, device);
        let class_targets = targets(config.head);
        let patch_targets = targets(config.own_ibot_head().unwrap_or(config.head));
        Ok(Dinov2 { config, views, masking, student, teacher, ema, class_targets, patch_targets })
    }

    /// The masks of a batch's global views; `None` without the loss of masked patches.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn masks(&self, images: i64, cx: &StepContext) -> Result<Option<Masks>> {
        self.masking.map(|masking| masking.draw(images, cx)).transpose()
    }

    /// The targets of the class tokens, `[2 · batch, K]`, and of the masked patches, `[rows, K]`,
    /// and the teacher's class tokens. It sees the whole images, in evaluation mode.
    fn targets(
        &mut self,
        global: &Tensor,
        masks: Option<&Masks>,
        temperature: &Tensor,
    ) -> Result<(Tensor, Option<Tensor>, Tensor)> {
        let [class, patches] = self.teacher.tokens(global, None, false)?;
        let outputs = self.teacher.head.forward(&class, false);
        let all = Tensor::ones([class.size()[0]], (Kind::Float, class.device()));
        let of_class = self.class_targets.of(&outputs, &all, temperature)?;
        let of_patches = masks.map(|masks| {
            let outputs = self.teacher.masked_patches(&patches, masks);
            self.patch_targets.of(&outputs, &masks.counted(), temperature)
        });
        Ok((of_class, of_patches.transpose()?, class))
    }

    /// The student's outputs for the class tokens of all views, `[views, batch, K]`, given those of
    /// the global views.
    fn class_outputs(&self, global: &Tensor, local: &[Tensor], frozen: bool) -> Result<Tensor> {
        let mut tokens = encode(frozen, || self.student.class_tokens(local, true))?;
        tokens.insert(0, global.shallow_clone());
        let outputs = self.student.head.forward(&Tensor::cat(&tokens, 0), true);
        Ok(outputs.view([self.views.len() as i64, -1, outputs.size()[1]]))
    }

    fn validate_batch(&self, batch: &Batch) -> Result<()> {
        batch.validate()?;
        if batch.inputs.len() == self.views.len() {
            return Ok(());
        }
        Err(Error::Batch(format!(
            "DINOv2 was set up for {} views of an image, and was handed {}",
            self.views.len(),
            batch.inputs.len()
        )))
    }
}

impl Method for Dinov2 {
    /// The rates of the encoder's layers decay towards the input (`get_params_groups_with_decay`).
    /// The heads' last layers are frozen at first, and so is the encoder where its heads are new.
    /// Biases, norms and LayerScale are one-dimensional, so that a recipe's `decay = "matrices"`
    /// leaves them without weight decay.
    fn params(&self) -> Vec<ParamGroup> {
        let encoder = &self.student.encoder;
        let mut groups: Vec<ParamGroup> = Vec::new();
        for (name, param) in encoder.vars().parameters() {
            let top = encoder.config().depth + 1;
            let layer = encoder.layer_of(&name).map_or(top, |layer| layer as i64);
            let decay = self.config.layer_decay.powi((top - layer) as i32);
            let mut rate = self.config.encoder_rate * decay;
            if name.starts_with("patch_embed") {
                rate *= self.config.patch_embed_rate;
            }
            let entry = (format!("student.encoder.{name}"), param);
            match groups.iter_mut().find(|group| group.lr == LrRule::Scaled(rate)) {
                Some(group) => group.params.push(entry),
                None => groups.push(ParamGroup {
                    lr: LrRule::Scaled(rate),
                    frozen_epochs: self.config.freeze_encoder,
                    ..ParamGroup::all(format!("encoder at {rate:.3}"), vec![entry])
                }),
            }
        }
        let heads = self.student.vars.parameters().into_iter();
        let heads = heads.filter(|(name, _)| !name.starts_with("encoder."));
        let (last, rest): (Vec<_>, Vec<_>) =
            heads.partition(|(name, _)| name.contains("last_layer"));
        groups.push(ParamGroup::all("heads", prefixed("student", rest)));
        groups.push(ParamGroup {
            frozen_epochs: self.config.freeze_last_layer as f64,
            ..ParamGroup::all("last_layers", prefixed("student", last))
        });
        groups
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = prefixed("student", self.student.vars.state());
        state.extend(prefixed("teacher", self.teacher.vars.state()));
        state.push(("center".to_owned(), self.class_targets.center.shallow_clone()));
        state.push(("ibot_center".to_owned(), self.patch_targets.center.shallow_clone()));
        state
    }

    /// `SSLMetaArch.forward_backward`.
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        self.validate_batch(batch)?;
        if cx.micro_batch == 0 {
            self.class_targets.start_step();
            self.patch_targets.start_step();
        }
        let images = batch.inputs[0].size()[0];
        let (global, local) = batch.inputs.split_at(GLOBAL_VIEWS);
        let global = Tensor::cat(global, 0);
        let masks = self.masks(images, cx)?;
        let config = self.config.clone();
        let temperature =
            cx.scalar_input(move |cx| config.teacher_temperature(cx.step, cx.steps_per_epoch));
        let (class_targets, patch_targets, features) =
            no_grad(|| self.targets(&global, masks.as_ref(), &temperature))?;

        let mask = masks.as_ref().map(|masks| &masks.mask);
        let frozen = cx.epochs_done() < self.config.freeze_encoder;
        let [class, patches] = encode(frozen, || self.student.tokens(&global, mask, true))?;
        let config = &self.config;
        let mut terms: Vec<(&'static str, Tensor, f64)> = Vec::new();
        let mut metrics = vec![(names::DUPLICATES, duplicates(&batch.inputs[0], cx)?)];
        if config.dino_loss_scale > 0.0 {
            let outputs = self.class_outputs(&class, local, frozen)?;
            let global_views = GLOBAL_VIEWS as i64;
            let loss = dinov2::class_token(
                &outputs.narrow(0, 0, global_views),
                &outputs.narrow(0, global_views, local.len() as i64),
                &class_targets.view([global_views, images, -1]),
                config.student_temperature,
            )?;
            let entropy = no_grad(|| entropy(&class_targets));
            let largest = (config.head.dim as f64).ln();
            metrics.push((names::TEACHER_STUDENT_DIVERGENCE, loss.total.detach() - &entropy));
            metrics.push((names::TEACHER_ENTROPY, entropy / largest));
            terms.push((names::DINO_LOSS, loss.total, config.dino_loss_scale));
        }
        if let (Some(masks), Some(targets)) = (&masks, &patch_targets) {
            let outputs = self.student.masked_patches(&patches, masks);
            let loss = ibot(&outputs, targets, &masks.weights, config.student_temperature)?;
            terms.push((names::IBOT_LOSS, loss, config.ibot_loss_scale));
        }
        if config.koleo_loss_scale > 0.0 {
            // Within a global view: the two views of an image are not spread.
            let views = class.chunk(GLOBAL_VIEWS as i64, 0);
            let each = views.iter().map(|view| Ok(koleo(&cx.all_gather(view)?, KOLEO_EPS)?));
            let each = each.collect::<Result<Vec<Tensor>>>()?;
            let mean = Tensor::stack(&each, 0).mean(None::<Kind>);
            let scale = config.koleo_loss_scale * GLOBAL_VIEWS as f64;
            terms.push((names::KOLEO_LOSS, mean, scale));
        }
        let scaled = terms.iter().map(|(_, term, scale)| term * *scale);
        let loss = scaled.reduce(|a, b| a + b).expect("checked settings have a loss");
        metrics.extend(terms.iter().map(|(name, term, _)| (*name, term.detach())));
        Ok(StepLoss { loss, metrics, outputs: Some(features) })
    }

    /// Clips the gradients of the encoder and of each head by their own common norm.
    fn before_update(&mut self, _cx: &StepContext) -> Result<()> {
        if self.config.clip == 0.0 {
            return Ok(());
        }
        for part in ["encoder", "head", "ibot_head"] {
            let params = (&self.student.vars / part).parameters();
            let _ = clip_grad_norm(params.iter().map(|(_, param)| param), self.config.clip)?;
        }
        Ok(())
    }

    /// Updates the teacher, whose momentum rises to 1 along a cosine, and the centers.
    fn after_update(&mut self, cx: &StepContext) -> Result<()> {
        let first = self.config.momentum;
        let momentum =
            move |cx: &StepContext| cosine_with_warmup(cx.step, cx.total_steps, 0, 0.0, first, 1.0);
        self.ema.update(&cx.scalar_input(momentum))?;
        self.class_targets.update_center(self.config.center_momentum, cx)?;
        self.patch_targets.update_center(self.config.center_momentum, cx)
    }
}

impl ImageMethod for Dinov2 {
    fn views(&self) -> &[ViewSpec] {
        &self.views
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.teacher.encoder
    }
}

/// Runs the student's encoder, without gradients while it is frozen.
fn encode<T>(frozen: bool, tokens: impl FnOnce() -> T) -> T {
    if frozen { no_grad(tokens) } else { tokens() }
}

/// The mean entropy of distributions `[rows, K]`, in nats: 0 when each is a single prototype, ln K
/// when each is uniform.
fn entropy(targets: &Tensor) -> Tensor {
    let log_p = targets.clamp_min(f64::from(f32::MIN_POSITIVE)).log();
    -(targets * log_p).sum_dim_intlist([-1i64].as_slice(), false, None::<Kind>).mean(None::<Kind>)
}

/// The share of images whose view equals that of another image of the whole batch, pixel for pixel.
/// KoLeo pushes equal features apart without limit.
fn duplicates(view: &Tensor, cx: &StepContext) -> Result<Tensor> {
    no_grad(|| {
        let pixels = view.flatten(1, -1);
        // Two images have the same sum, each pixel with a weight of its own, when they are equal.
        let weights = Tensor::arange(pixels.size()[1], (pixels.kind(), pixels.device())).sin();
        let sums = (pixels * weights).sum_dim_intlist([1i64].as_slice(), false, None::<Kind>);
        let all = cx.all_gather(&sums)?;
        let equal = sums.unsqueeze(1).eq_tensor(&all.unsqueeze(0));
        let found = equal.sum_dim_intlist([1i64].as_slice(), false, Kind::Int64).gt(1);
        Ok(StepLoss::fraction(&found))
    })
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
struct Readme;
