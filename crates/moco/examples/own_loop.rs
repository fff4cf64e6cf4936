//! MoCo in a training loop of one's own: no recipes, no loader, no checkpoints.
//!
//! `cargo run --release -p portolan-moco --example moco_own_loop`

use anyhow::Result;
use portolan_augment::presets;
use portolan_encoders::ResNetConfig;
use portolan_method::{Batch, ImageMethod, Method, StepContext};
use portolan_moco::{Moco, MocoConfig};
use portolan_optim::{Optimizer, OptimizerConfig};
use portolan_tensor::{Device, Kind, Tensor, seed};

pub(crate) fn main() -> Result<()> {
    seed(0);
    let device = Device::Cpu;
    let encoder = ResNetConfig { width: 8, ..ResNetConfig::named("resnet18")? }.into();
    let config = MocoConfig { queue: 256, momentum: 0.9, ..MocoConfig::v2() };
    let views = vec![presets::moco_v2(32), presets::moco_v2(32)];
    let mut moco = Moco::new(config, &encoder, views, device)?;
    let sgd = OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: false };
    let mut optimizer = Optimizer::new(sgd, 0.03, moco.params())?;

    // Sixteen images, and noise for views: put your own batches here.
    let images = Tensor::randn([16, 3, 32, 32], (Kind::Float, device));
    for step in 0..30 {
        let view = || &images + 0.1 * images.randn_like();
        let batch = Batch { inputs: vec![view(), view()], ids: (0..16).collect() };
        let cx = StepContext::new(step, 30, device);
        let out = moco.loss(&batch, &cx)?;
        optimizer.zero_grad()?;
        out.loss.backward();
        optimizer.step(0.03, 0.0)?;
        moco.after_update(&cx)?;
        let accuracy = out.metrics[0].1.double_value(&[]);
        println!("step {step:2}  loss {:.3}  found {accuracy:.2}", out.loss.double_value(&[]));
    }
    let features = moco.encoder().forward(&images, false);
    println!("features {:?}", features.size());
    Ok(())
}
