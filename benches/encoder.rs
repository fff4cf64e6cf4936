//! ResNet-18 on images of 32 px on the CPU, on all of libtorch's threads, in images per second:
//! with the CIFAR stem, and in the narrow form with the strided stem that the recipe `shapes`
//! trains.
//!
//! A vision transformer on all patches and on the quarter that MAE leaves visible, beside them.
//!
//! `cargo bench -p portolan-benches --bench encoder`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use portolan_encoders::{Encoder, ResNetConfig, Stem, Vit, VitConfig, build};
use portolan_tensor::{Device, Kind, Tensor, Vars, no_grad};
use std::hint::black_box;

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

fn wide(c: &mut Criterion) {
    measure(c, "resnet18, CIFAR stem", 64, Stem::Cifar);
}

fn narrow(c: &mut Criterion) {
    measure(c, "resnet18-w16, strided CIFAR stem", 16, Stem::CifarStrided);
}

/// Times a pass in evaluation mode without gradients, and one in training mode with its backward
/// pass.
fn measure(c: &mut Criterion, name: &str, width: i64, stem: Stem) {
    let named = ResNetConfig::named("resnet18").expect("resnet18 is a known encoder");
    let config = ResNetConfig { width, stem, ..named }.into();
    let encoder = build(&config, &Vars::new(Device::Cpu)).expect("the config is a possible one");
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    for batch in [64, 256] {
        let images = Tensor::randn([batch, 3, 32, 32], FLOAT);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("forward", batch), |bencher| {
            bencher.iter(|| no_grad(|| black_box(encoder.forward(&images, false))));
        });
        group.bench_function(BenchmarkId::new("forward and backward", batch), |bencher| {
            bencher.iter(|| forward_and_backward(&*encoder, &images));
        });
    }
    group.finish();
}

fn forward_and_backward(encoder: &dyn Encoder, images: &Tensor) {
    for (_, mut parameter) in encoder.vars().parameters() {
        parameter.zero_grad();
    }
    encoder.forward(images, true).square().mean(Kind::Float).backward();
}

/// Blocks over 64 patches, and over the 16 that a mask ratio of 0.75 leaves (He et al. 2021,
/// section 3).
fn masked(c: &mut Criterion) {
    let config = VitConfig::named("vit_tiny_patch4_32").expect("a known encoder");
    let vit = Vit::new(&config, &Vars::new(Device::Cpu)).expect("the config is a possible one");
    let mut group = c.benchmark_group("vit_tiny_patch4_32, batch 64, forward and backward");
    group.sample_size(10).throughput(Throughput::Elements(64));
    for visible in [64, 16] {
        let patches = Tensor::randn([64, visible, config.width], FLOAT);
        group.bench_function(BenchmarkId::new("patches", visible), |bencher| {
            bencher.iter(|| {
                for (_, mut parameter) in vit.vars().parameters() {
                    parameter.zero_grad();
                }
                let tokens = vit.encode(&patches, true).expect("learned positions");
                tokens.square().mean(Kind::Float).backward();
            });
        });
    }
    group.finish();
}

criterion_group!(encoder, wide, narrow, masked);
criterion_main!(encoder);
