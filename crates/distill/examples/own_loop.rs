//! Distillation in a training loop of one's own: no recipes, no loader, no checkpoints.
//!
//! `cargo run --release -p portolan-distill --example distill_own_loop`

use anyhow::Result;
use portolan_augment::presets;
use portolan_distill::{Distill, DistillConfig, Teacher, TeacherConfig};
use portolan_encoders::{EncoderConfig, ResNetConfig};
use portolan_method::{Batch, ImageMethod, Method, StepContext};
use portolan_optim::{Optimizer, OptimizerConfig};
use portolan_tensor::{Device, Kind, Tensor, seed};

pub(crate) fn main() -> Result<()> {
    seed(0);
    let device = Device::Cpu;
    let student = ResNetConfig { width: 8, ..ResNetConfig::named("resnet18")? }.into();
    let config = TeacherConfig {
        file: "random".to_owned(),
        size: 32,
        mean: [0.5; 3],
        std: [0.25; 3],
        grayscale: false,
        encoder: EncoderConfig::named("vit_w32d2h2_patch8_32")?,
    };
    // A trained encoder's values belong into `teacher.vars()`: see the crate portolan-interchange.
    let teacher = Teacher::new(config, device)?;
    let config = DistillConfig { queue: 64, ..DistillConfig::default() };
    let mut method = Distill::new(config, &student, teacher, vec![presets::small_images(32)])?;
    let adamw = OptimizerConfig::Adamw { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 1e-6 };
    let mut optimizer = Optimizer::new(adamw, 2e-3, method.params())?;

    // Sixteen images, and noise for views: put your own batches here.
    let images = Tensor::randn([16, 3, 32, 32], (Kind::Float, device));
    for step in 0..30 {
        let view = &images + 0.1 * images.randn_like();
        let batch = Batch { inputs: vec![view], ids: (0..16).collect() };
        let cx = StepContext::new(step, 30, device).with_epoch(1);
        let out = method.loss(&batch, &cx)?;
        optimizer.zero_grad()?;
        out.loss.backward();
        method.before_update(&cx)?;
        optimizer.step(2e-3, cx.epochs_done())?;
        method.after_update(&cx)?;
        println!("step {step:2}  loss {:.3}", out.loss.double_value(&[]));
    }
    let features = method.encoder().forward(&images, false);
    println!("features {:?}", features.size());
    Ok(())
}
