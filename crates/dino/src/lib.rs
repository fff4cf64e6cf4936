//! DINO: self-distillation without labels.
//!
//! Caron et al. 2021, *Emerging Properties in Self-Supervised Vision Transformers*, arXiv
//! 2104.14294.
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_dino::{Dino, DinoConfig};
//! use portolan_encoders::VitConfig;
//! use portolan_method::ImageMethod;
//! use portolan_tensor::Device;
//!
//! let encoder = VitConfig::named("vit_w32d2h2_patch8_64")?.into();
//! let config = DinoConfig { hidden: 64, dim: 256, ..DinoConfig::default() };
//! let views = presets::dino(64, 32, 4); // two global views, four local ones
//! let dino = Dino::new(config, &encoder, views, Device::Cpu)?;
//! assert_eq!(dino.encoder().width(), 32);
//! # anyhow::Ok(())
//! ```
//!
//! A student learns to match the output of a teacher for another view of the image. The teacher is
//! an exponential moving average of the student. It sees only the large (global) views, while the
//! student also sees small (local) ones, which encourages local-to-global correspondence. The
//! outputs are distributions over K prototypes that are learned without labels. Two opposite
//! operations on the teacher's outputs prevent a collapse: centering spreads them, and a low
//! temperature sharpens them. The encoder that is evaluated is the teacher's, because it is better
//! than the student's throughout training (section 5.2).

mod config;
mod entry;

pub use config::DinoConfig;
pub use entry::METHOD;

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, build};
use portolan_losses::dino;
use portolan_method::{
    Batch, DinoHead, EmaUpdater, Error, GLOBAL_VIEWS, ImageMethod, Method, Result, StepContext,
    StepLoss, validate_multi_crop,
};
use portolan_metrics::names;
use portolan_optim::{ParamGroup, clip_each_grad, schedule::momentum_cosine};
use portolan_tensor::{Device, Kind, Tensor, Vars, at_least_f32, no_grad, prefixed};

/// An encoder and its head: g_θs or g_θt.
#[derive(Debug)]
struct Network {
    vars: Vars,
    encoder: Box<dyn Encoder>,
    head: DinoHead,
}

impl Network {
    fn new(config: &DinoConfig, encoder: &EncoderConfig, device: Device) -> Result<Self> {
        let vars = Vars::new(device);
        let encoder = build(encoder, &(&vars / "encoder"))?;
        let head = DinoHead::new(&(&vars / "head"), encoder.width(), &config.head());
        Ok(Network { vars, encoder, head })
    }

    /// The outputs of the views, `[views, batch, dim]`, and the encoder's features, `[views ·
    /// batch, width]`. Consecutive views of one size share a forward pass of the encoder.
    fn forward(&self, views: &[Tensor]) -> (Tensor, Tensor) {
        let mut features = Vec::new();
        for group in views.chunk_by(|a, b| a.size() == b.size()) {
            features.push(self.encoder.forward(&Tensor::cat(group, 0), true));
        }
        let features = Tensor::cat(&features, 0);
        let outputs = self.head.forward(&features, true);
        (outputs.view([views.len() as i64, -1, outputs.size()[1]]), features)
    }
}

/// DINO, ready to train.
#[derive(Debug)]
pub struct Dino {
    config: DinoConfig,
    views: Vec<ViewSpec>,
    student: Network,
    teacher: Network,
    ema: EmaUpdater,
    /// The center C, `[dim]`.
    center: Tensor,
    /// The teacher's outputs of this step, which update the center after the step.
    outputs: Vec<Tensor>,
}

impl Dino {
    /// Builds student and teacher with initial values from libtorch's generator. `views` are two
    /// global views of one size, then any number of local ones, at most as large.
    ///
    /// # Errors
    /// When a setting is out of range or contradicts another; the message names it.
    pub fn new(
        config: DinoConfig,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        validate_multi_crop("DINO", &views, encoder)?;
        let student = Network::new(&config, encoder, device)?;
        let teacher = Network::new(&config, &without_drop_path(encoder), device)?;
        let ema = EmaUpdater::new(&student.vars, &teacher.vars)?;
        let center = Tensor::zeros([config.dim], (Kind::Float, device));
        Ok(Dino { config, views, student, teacher, ema, center, outputs: Vec::new() })
    }
}

/// Only the student has stochastic depth, as in the authors' code.
fn without_drop_path(encoder: &EncoderConfig) -> EncoderConfig {
    let mut encoder = encoder.clone();
    match &mut encoder {
        EncoderConfig::Vit(config) => config.drop_path = 0.0,
        EncoderConfig::ConvNext(config) => config.drop_path = 0.0,
        EncoderConfig::Resnet(_) => (),
    }
    encoder
}

impl Method for Dino {
    /// The last layer is frozen at first, which "helps training" (authors' code).
    fn params(&self) -> Vec<ParamGroup> {
        let all = prefixed("student", self.student.vars.parameters()).into_iter();
        let (last, rest): (Vec<_>, Vec<_>) = all.partition(|(name, _)| name.contains("last_layer"));
        let mut last = ParamGroup::all("last_layer", last);
        last.frozen_epochs = self.config.freeze_last_layer as f64;
        vec![ParamGroup::all("student", rest), last]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = prefixed("student", self.student.vars.state());
        state.extend(prefixed("teacher", self.teacher.vars.state()));
        state.push(("center".to_owned(), self.center.shallow_clone()));
        state
    }

    /// Algorithm 1 with multi-crop (equation 3).
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        batch.validate()?;
        if cx.micro_batch == 0 {
            self.outputs.clear(); // of a step that came to nothing
        }
        if batch.inputs.len() != self.views.len() {
            return Err(Error::Batch(format!(
                "DINO was set up for {} views of an image, and was handed {}",
                self.views.len(),
                batch.inputs.len()
            )));
        }
        let (teacher, features) = no_grad(|| self.teacher.forward(&batch.inputs[..GLOBAL_VIEWS]));
        let (student, _) = self.student.forward(&batch.inputs);
        let config = self.config.clone();
        let temperature = cx.scalar_input(move |cx| config.teacher_temperature(cx.epoch));
        let loss =
            dino(&student, &teacher, &self.center, self.config.student_temperature, &temperature)?;
        let entropy = no_grad(|| entropy(&teacher, &self.center, &temperature));
        let divergence = loss.detach() - &entropy;
        let largest = (self.config.dim as f64).ln();
        self.outputs.push(teacher);
        Ok(StepLoss {
            loss,
            metrics: vec![
                (names::TEACHER_ENTROPY, entropy / largest),
                (names::TEACHER_STUDENT_DIVERGENCE, divergence),
            ],
            outputs: Some(features),
        })
    }

    /// Clips the gradient of each parameter by its own norm.
    fn before_update(&mut self, _cx: &StepContext) -> Result<()> {
        if self.config.clip == 0.0 {
            return Ok(());
        }
        let params = self.student.vars.parameters();
        Ok(clip_each_grad(params.iter().map(|(_, param)| param), self.config.clip)?)
    }

    /// Updates the teacher, where λ rises from its initial value to 1 (section 3.1), then the
    /// center (equation 4).
    fn after_update(&mut self, cx: &StepContext) -> Result<()> {
        let first = self.config.momentum;
        let momentum = move |cx: &StepContext| momentum_cosine(cx.step, cx.total_steps, first, 1.0);
        self.ema.update(&cx.scalar_input(momentum))?;
        // All processes have equally many images, so the mean of their means is the batch's mean.
        let outputs: Vec<Tensor> =
            self.outputs.drain(..).map(|views| views.flatten(0, 1)).collect();
        let own =
            at_least_f32(&Tensor::cat(&outputs, 0)).mean_dim([0i64].as_slice(), true, None::<Kind>);
        let mean = cx.mean(&own)?.unsqueeze(0);
        Ok(portolan_losses::dino::update_center(
            &mut self.center,
            &mean,
            self.config.center_momentum,
        )?)
    }
}

impl ImageMethod for Dino {
    fn views(&self) -> &[ViewSpec] {
        &self.views
    }

    fn encoder(&self) -> &dyn Encoder {
        &*self.teacher.encoder
    }
}

/// The mean entropy of the teacher's distributions, in nats: 0 when each is a single prototype, ln
/// K when each is uniform.
fn entropy(teacher: &Tensor, center: &Tensor, temperature: &Tensor) -> Tensor {
    let logits = (teacher.to_kind(Kind::Float) - center) / temperature;
    let log_p = logits.log_softmax(-1, Kind::Float);
    -(log_p.exp() * log_p).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float).mean(Kind::Float)
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
struct Readme;
