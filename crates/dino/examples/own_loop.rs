//! DINO in a training loop of one's own: no recipes, no loader, no checkpoints.
//!
//! `cargo run --release -p portolan-dino --example dino_own_loop`

use anyhow::Result;
use portolan_augment::presets;
use portolan_dino::{Dino, DinoConfig};
use portolan_encoders::VitConfig;
use portolan_method::{Batch, ImageMethod, Method, StepContext};
use portolan_optim::{Optimizer, OptimizerConfig};
use portolan_tensor::{Device, Kind, Tensor, seed};

pub(crate) fn main() -> Result<()> {
    seed(0);
    let device = Device::Cpu;
    let encoder = VitConfig::named("vit_w32d2h2_patch8_32")?.into();
    let config = DinoConfig { hidden: 64, bottleneck: 32, dim: 256, ..DinoConfig::default() };
    let mut method = Dino::new(config, &encoder, presets::dino(32, 16, 2), device)?;
    let sgd = OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: false };
    let mut optimizer = Optimizer::new(sgd, 0.03, method.params())?;

    // Sixteen images, and noise for views: put your own batches here.
    let images = Tensor::randn([16, 3, 32, 32], (Kind::Float, device));
    for step in 0..30 {
        // Two global views, and two local ones of half the side.
        let view = || -> Tensor { &images + 0.1 * images.randn_like() };
        let local = || view().avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None);
        let batch =
            Batch { inputs: vec![view(), view(), local(), local()], ids: (0..16).collect() };
        let cx = StepContext::new(step, 30, device).with_epoch(1);
        let out = method.loss(&batch, &cx)?;
        optimizer.zero_grad()?;
        out.loss.backward();
        method.before_update(&cx)?;
        optimizer.step(0.03, cx.epochs_done())?;
        method.after_update(&cx)?;
        println!("step {step:2}  loss {:.3}", out.loss.double_value(&[]));
    }
    let features = method.encoder().forward(&images, false);
    println!("features {:?}", features.size());
    Ok(())
}
