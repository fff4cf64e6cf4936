//! Distillation: a student of any architecture learns the features of a trained, frozen teacher.
//!
//! lightly-ai/lightly-train, `distillationv3` at commit 8f5a75c4, which follows Beyer et al. 2021,
//! *Knowledge distillation: A good teacher is patient and consistent* (arXiv 2106.05237): teacher
//! and student see the same strongly augmented view, mixed with another image's. DINOv2's authors
//! also make their smaller models by distillation (Oquab et al. 2023, arXiv 2304.07193, section 5),
//! with DINOv2's own losses between the teacher and a vision transformer.
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_distill::{Distill, DistillConfig, Teacher, TeacherConfig};
//! use portolan_encoders::EncoderConfig;
//! use portolan_method::ImageMethod;
//! use portolan_tensor::Device;
//!
//! let config = TeacherConfig {
//!     file: "vit.safetensors".to_owned(),
//!     size: 32,
//!     mean: [0.5; 3],
//!     std: [0.25; 3],
//!     grayscale: false,
//!     encoder: EncoderConfig::named("vit_w16d2h2_patch8_32")?,
//! };
//! let student = EncoderConfig::named("resnet18-w4")?;
//! let teacher = Teacher::new(config, Device::Cpu)?; // copy the trained values into its tensors
//! let views = vec![presets::small_images(32)];
//! let distill = Distill::new(DistillConfig::default(), &student, teacher, views)?;
//! assert_eq!(distill.encoder().width(), 32);
//! # anyhow::Ok(())
//! ```
//!
//! Linear layers map the student's features to as many numbers as the teacher has. The global loss
//! compares each image with the others of the batch and of a queue: the student's features are to
//! be as similar to the teacher's features of other images as the teacher's own are. The local loss
//! does the same for the places of a feature map, within each image.

mod config;
mod entry;
mod teacher;

pub use config::DistillConfig;
pub use entry::METHOD;
pub use teacher::{Teacher, TeacherConfig};

use portolan_augment::ViewSpec;
use portolan_encoders::layers::Linear;
use portolan_encoders::{Encoder, EncoderConfig, build};
use portolan_losses::{distillation, l2_normalize};
use portolan_method::{
    Batch, ImageMethod, Method, Queue, Result, StepContext, StepLoss, validate_views,
};
use portolan_optim::ParamGroup;
use portolan_random::Purpose;
use portolan_tensor::{Kind, Tensor, Vars, at_least_f32, no_grad, prefixed};
use rand::RngExt;

use self::teacher::Preparation;

/// Distillation, ready to train.
#[derive(Debug)]
pub struct Distill {
    config: DistillConfig,
    views: Vec<ViewSpec>,
    student: Student,
    teacher: Teacher,
    preparation: Preparation,
    /// The teacher's features of earlier images.
    queue: Queue,
    /// Its features of this step's, enqueued once all losses are computed.
    fresh: Vec<Tensor>,
}

/// The student with a linear layer to the teacher's features and one to its feature map.
#[derive(Debug)]
struct Student {
    vars: Vars,
    encoder: Box<dyn Encoder>,
    global: Linear,
    local: Linear,
}

impl Student {
    fn new(encoder: &EncoderConfig, outputs: i64, vars: Vars) -> Result<Self> {
        let encoder = build(encoder, &(&vars / "encoder"))?;
        let inputs = encoder.width();
        Ok(Student {
            global: linear(&(&vars / "global"), inputs, outputs),
            local: linear(&(&vars / "local"), inputs, outputs),
            encoder,
            vars,
        })
    }
}

/// With the weights of a deviation of 0.02 (`init.trunc_normal_`) and PyTorch's usual bias.
fn linear(vars: &Vars, inputs: i64, outputs: i64) -> Linear {
    let float = (Kind::Float, vars.device());
    let bound = 1.0 / (inputs as f64).sqrt();
    let bias = Tensor::empty([outputs], float).uniform_(-bound, bound);
    Linear::of(vars, Tensor::randn([outputs, inputs], float) * 0.02, Some(bias))
}

impl Distill {
    /// Builds the student with initial values from libtorch's generator, on the device of the
    /// teacher. `views` is one view, which both see.
    ///
    /// # Errors
    /// When a setting is out of range or contradicts another; the message names it.
    pub fn new(
        config: DistillConfig,
        encoder: &EncoderConfig,
        teacher: Teacher,
        views: Vec<ViewSpec>,
    ) -> Result<Self> {
        config.validate()?;
        validate_views("distillation", &views, 1, encoder)?;
        let device = teacher.vars().device();
        let student = Student::new(encoder, teacher.width(), Vars::new(device))?;
        let queue = Queue::new(config.queue, teacher.width(), device);
        let preparation = Preparation::new(teacher.config(), &views[0], device);
        Ok(Distill { config, views, student, teacher, preparation, queue, fresh: Vec::new() })
    }

    /// Mixes each image with another of the batch (mixup, Zhang et al. 2017, arXiv 1710.09412), all
    /// by one share that is uniform between 0 and 1 (`_mixup_data`).
    fn mixed(&self, images: &Tensor, cx: &StepContext) -> Result<Tensor> {
        let share = cx.scalar_input(|cx| cx.rng(Purpose::Mixup, 0).random());
        let share = share.to_kind(images.kind());
        let all = cx.all_gather(images)?;
        let order = cx.shard(&cx.permutation(all.size()[0], 0), 0);
        let others = all.index_select(0, &order);
        Ok(&others + (images - &others) * share)
    }

    /// The student's map, projected and resized to the teacher's, as `[batch, places, dim]`.
    fn places(&self, map: &Tensor, like: &Tensor) -> Tensor {
        let projected = self.student.local.forward(&map.permute([0, 2, 3, 1]));
        let projected = projected.permute([0, 3, 1, 2]);
        let size = &like.size()[2..];
        if &projected.size()[2..] == size {
            return to_places(&projected);
        }
        to_places(&projected.upsample_bilinear2d(size, false, None, None))
    }
}

/// `[batch, dim, rows, columns]` to `[batch, places, dim]`.
fn to_places(map: &Tensor) -> Tensor {
    map.flatten(2, 3).transpose(1, 2)
}

impl Method for Distill {
    /// One group: the student and its linear layers.
    fn params(&self) -> Vec<ParamGroup> {
        vec![ParamGroup::all("student", prefixed("student", self.student.vars.parameters()))]
    }

    /// With the teacher, so that a run can be resumed without its file.
    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = prefixed("student", self.student.vars.state());
        state.extend(prefixed("teacher", self.teacher.vars().state()));
        state.extend(prefixed("queue", self.queue.state()));
        state
    }

    /// `training_step_impl` of `distillationv3.py`.
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        let images = batch.single()?;
        if cx.micro_batch == 0 {
            self.fresh.clear(); // of a step that came to nothing
        }
        let images = no_grad(|| self.mixed(images, cx))?;
        let (target, target_map) = self.teacher.features_and_map(&self.preparation.apply(&images));
        let (features, map) = self.student.encoder.features_and_map(&images, true);
        let output = self.student.global.forward(&features);
        let target = no_grad(|| l2_normalize(&at_least_f32(&target)));
        let batch_targets = no_grad(|| cx.all_gather(&target))?;
        let others = Tensor::cat(&[&batch_targets, &self.queue.keys()], 0);
        let DistillConfig { temperature, local_loss_scale, .. } = self.config;
        let global = distillation::global(&output, &target, &others, temperature)?;
        let mut metrics = vec![("global_loss", global.detach())];
        let loss = if local_loss_scale > 0.0 {
            let places = self.places(&map, &target_map);
            let local = distillation::local(&places, &to_places(&target_map), temperature)?;
            metrics.push(("local_loss", local.detach()));
            global + local * local_loss_scale
        } else {
            global
        };
        let output = no_grad(|| l2_normalize(&at_least_f32(&output)));
        let similarity =
            no_grad(|| (&output * &target).sum_dim_intlist([1i64].as_slice(), false, None::<Kind>));
        metrics.push(("teacher_similarity", similarity.mean(None::<Kind>)));
        self.fresh.push(batch_targets);
        Ok(StepLoss { loss, metrics, outputs: Some(output) })
    }

    /// This step's features enter the queue.
    fn after_update(&mut self, _cx: &StepContext) -> Result<()> {
        for targets in self.fresh.drain(..) {
            self.queue.enqueue(&targets);
        }
        Ok(())
    }
}

impl ImageMethod for Distill {
    fn views(&self) -> &[ViewSpec] {
        &self.views
    }

    fn encoder(&self) -> &dyn Encoder {
        &*self.student.encoder
    }

    fn project(&self, features: &Tensor) -> Option<Tensor> {
        Some(no_grad(|| self.student.global.forward(features)))
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
