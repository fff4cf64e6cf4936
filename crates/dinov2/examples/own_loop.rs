//! DINOv2 in a training loop of one's own: no recipes, no loader, no checkpoints.
//!
//! `cargo run --release -p portolan-dinov2 --example dinov2_own_loop`

use anyhow::Result;
use portolan_augment::presets;
use portolan_dinov2::{Dinov2, Dinov2Config, HeadConfig};
use portolan_encoders::VitConfig;
use portolan_method::{Batch, ImageMethod, Method, StepContext};
use portolan_optim::{Decay, Optimizer, OptimizerConfig};
use portolan_tensor::{Device, Kind, Tensor, seed};

pub(crate) fn main() -> Result<()> {
    seed(0);
    let device = Device::Cpu;
    let vit = VitConfig {
        mask_token: true,
        layer_scale: 0.1, // 1e-5 in the paper, for larger encoders and longer runs
        ..VitConfig::named("vit_w32d2h2_patch4_32")?
    };
    let head = HeadConfig { layers: 2, hidden: 64, bottleneck: 32, dim: 256 };
    let config = Dinov2Config { head, ..Dinov2Config::default() };
    let mut method = Dinov2::new(config, &vit.into(), presets::dino(32, 16, 2), device)?;
    let adamw = OptimizerConfig::Adamw { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.04 };
    let groups = Decay::Matrices.apply(method.params());
    let mut optimizer = Optimizer::new(adamw, 1e-3, groups)?;

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
        optimizer.step(1e-3, cx.epochs_done())?;
        method.after_update(&cx)?;
        println!("step {step:2}  loss {:.3}", out.loss.double_value(&[]));
    }
    let features = method.encoder().forward(&images, false);
    println!("features {:?}", features.size());
    Ok(())
}
