//! One whole step of MoCo: both views forward, backward, update, momentum encoder, queue.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use portolan_augment::presets;
use portolan_encoders::{ResNetConfig, Stem};
use portolan_method::{Batch, Method, StepContext};
use portolan_moco::{Moco, MocoConfig};
use portolan_optim::{Optimizer, OptimizerConfig};
use portolan_tensor::{Device, Kind, Tensor};

/// Images of a step of the `shapes` recipe.
const BATCH: i64 = 128;

fn moco_step(c: &mut Criterion) {
    let mut group = c.benchmark_group("step");
    group.sample_size(10).throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("moco resnet18-w16 strided, 32 px, batch 128", |b| {
        let encoder = ResNetConfig {
            stem: Stem::CifarStrided,
            ..ResNetConfig::named("resnet18-w16").expect("a known encoder")
        }
        .into();
        let config = MocoConfig { queue: 1024, momentum: 0.99, ..MocoConfig::v2() };
        let views = vec![presets::small_images(32); 2];
        let mut moco = Moco::new(config, &encoder, views, Device::Cpu).expect("valid settings");
        let sgd = OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 5e-4, nesterov: false };
        let mut optimizer = Optimizer::new(sgd, 0.06, moco.params()).expect("valid settings");
        let view = || Tensor::randn([BATCH, 3, 32, 32], (Kind::Float, Device::Cpu));
        let batch = Batch { inputs: vec![view(), view()], ids: (0..BATCH as usize).collect() };
        let mut step = 0;
        b.iter(|| {
            let cx = StepContext::new(step, 1, Device::Cpu);
            let loss = moco.loss(&batch, &cx).expect("a fitting batch").loss;
            optimizer.zero_grad().expect("gradients on one device");
            loss.backward();
            optimizer.step(0.06, 0.0).expect("a valid rate");
            moco.after_update(&cx).expect("an update");
            step += 1;
        });
    });
    group.finish();
}

criterion_group!(benches, moco_step);
criterion_main!(benches);
