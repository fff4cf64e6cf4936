//! Gradients agree between layouts, precisions and recomputation. libtorch's generator is global,
//! so that this is one test in a process of its own.
#![allow(clippy::unwrap_used)]

use portolan_encoders::{EncoderConfig, ResNetConfig, Stem, VitConfig, build};
use portolan_tensor::{Device, Kind, Precision, Tensor, Vars, channels_last, seed, tch};

const CPU: Device = Device::Cpu;

/// The gradients of all parameters, one after the other.
fn gradients(config: &EncoderConfig, precision: Precision, last: bool) -> Tensor {
    seed(4);
    let vars = Vars::new(CPU);
    let encoder = build(config, &vars).unwrap();
    let images = Tensor::randn([16, 3, 32, 32], (Kind::Float, CPU));
    let images = if last { channels_last(&images) } else { images };
    let target = Tensor::randn([16, encoder.width()], (Kind::Float, CPU));
    let features = precision.run(CPU, || encoder.forward(&images, true)).unwrap();
    (features.to_kind(Kind::Float) * target).sum(Kind::Float).backward();
    let all: Vec<Tensor> =
        vars.parameters().into_iter().map(|(_, x)| x.grad().reshape([-1])).collect();
    Tensor::cat(&all, 0)
}

/// The distance of two vectors, relative to the norm of the first.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    ((a - b).norm() / a.norm()).double_value(&[])
}

#[test]
fn gradients_agree_between_layouts_precisions_and_recomputation() {
    tch::set_num_threads(1);
    let resnet =
        ResNetConfig { stem: Stem::Cifar, ..ResNetConfig::named("resnet18-w8").unwrap() }.into();
    let vit = VitConfig { drop_path: 0.5, ..VitConfig::named("vit_w16d3h2_patch4_32").unwrap() };
    let again = VitConfig { recompute: true, ..vit.clone() }.into();
    let vit = vit.into();

    let plain = gradients(&resnet, Precision::Fp32, false);
    let other_layout = gradients(&resnet, Precision::Fp32, true);
    // With channels last, libtorch's batch norm sums in float32 instead of float64. That changes
    // values by parts in a million, and gradients by up to a hundredth where a value crosses zero
    // at a ReLU.
    let off = apart(&plain, &other_layout);
    assert!(off < 0.05, "{off}");
    // bfloat16 has eight bits, so that values are off by 0.2 % on average. In the ResNet many
    // values cross zero at a ReLU; the transformer has none.
    for (config, most) in [(&resnet, 0.5), (&vit, 0.02)] {
        let (fp32, bf16) =
            (gradients(config, Precision::Fp32, true), gradients(config, Precision::Bf16, true));
        let off = apart(&fp32, &bf16);
        assert!((1e-4..most).contains(&off), "{}: {off}", config.name());
    }
    for precision in [Precision::Fp32, Precision::Bf16] {
        let (kept, recomputed) =
            (gradients(&vit, precision, false), gradients(&again, precision, false));
        assert!(kept.equal(&recomputed), "{precision:?}");
    }
}
