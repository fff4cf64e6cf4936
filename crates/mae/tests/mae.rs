//! MAE's steps, against what the paper says of them.
#![allow(clippy::unwrap_used)]

#[path = "../examples/own_loop.rs"]
mod own_loop;

use portolan_augment::presets;
use portolan_encoders::{EncoderConfig, Positions, VitConfig};
use portolan_losses::mae::patchify;
use portolan_mae::{Mae, MaeConfig};
use portolan_optim::OptimizerConfig;
use portolan_tensor::{Device, Kind, Tensor, no_grad, seed, tch};
use portolan_testing::trial::{self, Trial};

const CPU: Device = Device::Cpu;

fn vit() -> EncoderConfig {
    tch::set_num_threads(1);
    let config = VitConfig::named("vit_w16d2h2_patch4_16").unwrap();
    VitConfig { positions: Positions::SineCosine, ..config }.into()
}

fn mae(change: impl Fn(&mut MaeConfig)) -> Mae {
    let mut config =
        MaeConfig { decoder_width: 16, decoder_depth: 1, decoder_heads: 2, ..MaeConfig::default() };
    change(&mut config);
    Mae::new(config, &vit(), vec![presets::mae(16)], CPU).unwrap()
}

#[test]
fn masks_keep_a_quarter_and_differ_by_image_and_step() {
    let method = mae(|_| ());
    let mask = method.mask(64, 16, &trial::step(0, 9)).unwrap();
    assert_eq!(mask.keep.size(), [64, 4]);
    let hidden = mask.hidden.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
    assert_eq!(hidden, Tensor::full([64], 12.0, (Kind::Float, CPU)));
    // Kept and hidden are each other's complement.
    let kept_of_hidden = mask.hidden.gather(1, &mask.keep, false);
    assert_eq!(kept_of_hidden.max().double_value(&[]), 0.0);
    assert_ne!(mask.keep.get(0), mask.keep.get(1));
    assert_ne!(mask.keep, method.mask(64, 16, &trial::step(1, 9)).unwrap().keep);
    assert_eq!(mask.keep, method.mask(64, 16, &trial::step(0, 9)).unwrap().keep);
    // Every patch is kept about as often as any other.
    let often = mask.keep.flatten(0, 1).bincount(None::<Tensor>, 16);
    assert!(often.min().int64_value(&[]) >= 4, "{often:?}");
}

#[test]
fn what_is_hidden_from_the_encoder_does_not_reach_it() {
    seed(1);
    let method = mae(|_| ());
    let cx = trial::step(0, 1);
    let images = Tensor::randn([3, 3, 16, 16], (Kind::Float, CPU));
    let mask = method.mask(3, 16, &cx).unwrap();
    // Other noise in all hidden patches: [batch, patches] to a mask of pixels.
    let pixels = mask.hidden.view([3, 1, 4, 4]).upsample_nearest2d([16, 16], None, None);
    let other = &images + images.randn_like() * pixels;
    let pred = |images: &Tensor| no_grad(|| method.paint(images, &cx, true).unwrap().pred);
    assert_ne!(images, other);
    assert!(pred(&images).allclose(&pred(&other), 1e-5, 1e-6, false));
}

#[test]
fn each_patch_is_painted_in_its_place() {
    seed(2);
    let method = mae(|config| config.normalize_patches = false);
    let images = Tensor::randn([2, 3, 16, 16], (Kind::Float, CPU));
    let painted = method.paint(&images, &trial::step(0, 1), true).unwrap();
    assert_eq!(painted.target, patchify(&images, 4).unwrap());
    assert_eq!(painted.pred.size(), painted.target.size());
    // Shuffling and restoring leave the visible patches where they were.
    let mask = &painted.mask;
    let order = Tensor::arange(16, (Kind::Int64, CPU)).expand([2, 16], false);
    let seen = mask.restore.gather(1, &mask.keep, false);
    assert_eq!(
        seen,
        order.narrow(1, 0, 4),
        "visible patches come first, in the order they were drawn"
    );
}

#[test]
fn registers_stay_in_the_encoder() {
    let EncoderConfig::Vit(vit) = vit() else { panic!("a ViT") };
    let config =
        MaeConfig { decoder_width: 16, decoder_depth: 1, decoder_heads: 2, ..MaeConfig::default() };
    let vit = VitConfig { registers: 2, ..vit }.into();
    let method = Mae::new(config, &vit, vec![presets::mae(16)], CPU).unwrap();
    let images = Tensor::randn([2, 3, 16, 16], (Kind::Float, CPU));
    let painted = method.paint(&images, &trial::step(0, 1), true).unwrap();
    assert_eq!(painted.pred.size(), painted.target.size());
}

#[test]
fn rotary_positions_are_refused_by_name() {
    let vit = EncoderConfig::named("vit_w16d2h2_patch4_dinov3_16").unwrap();
    let refused = Mae::new(MaeConfig::default(), &vit, vec![presets::mae(16)], CPU);
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("dinov3") && message.contains("rotary"), "{message}");
}

#[test]
fn what_was_seen_is_pasted_as_it_was_and_hidden_patches_are_painted() {
    seed(4);
    let method = mae(|_| ());
    let cx = trial::step(0, 1);
    let images = Tensor::randn([2, 3, 16, 16], (Kind::Float, CPU)) + 3.0;
    let shown = method.reconstruct(&images, &cx).unwrap();
    let mask = method.mask(2, 16, &cx).unwrap();
    let hidden = mask.hidden.view([2, 1, 4, 4]).upsample_nearest2d([16, 16], None, None);
    let seen: Tensor = 1.0 - &hidden;
    assert_eq!(shown.masked, &images * &seen);
    assert_eq!(&shown.pasted * &seen, &images * &seen);
    assert!((&shown.pasted * &hidden).allclose(&(&shown.painted * &hidden), 1e-6, 1e-6, false));
    // Painted in normalized patches, and shown with each patch's own mean and deviation.
    let patches = patchify(&shown.painted, 4).unwrap();
    let painted = no_grad(|| method.paint(&images, &cx, false).unwrap());
    let correlation = |a: &Tensor, b: &Tensor| {
        let rows = Tensor::stack(&[a.get(0).get(0), b.get(0).get(0)], 0);
        rows.corrcoef().double_value(&[0, 1])
    };
    assert!(correlation(&patches, &painted.pred) > 0.999);
    assert!(patches.mean(Kind::Float).double_value(&[]) > 1.0);
    let larger = Tensor::zeros([2, 3, 32, 32], (Kind::Float, CPU));
    let error = method.reconstruct(&larger, &cx).err().unwrap().to_string();
    assert!(error.contains("images of 16 pixels"), "{error}");
}

#[test]
fn the_plain_fill_is_the_mean_color_of_what_is_visible() {
    let method = mae(|config| config.normalize_patches = false);
    // Every visible patch is (1, 2, 3) and every hidden one two more: whatever is filled in is off
    // by two.
    let cx = trial::step(0, 1);
    let hidden = method.mask(2, 16, &cx).unwrap().hidden;
    let hidden = hidden.view([2, 1, 4, 4]).upsample_nearest2d([16, 16], None, None);
    let color = Tensor::from_slice(&[1f32, 2.0, 3.0]).view([1, 3, 1, 1]);
    let painted = no_grad(|| method.paint(&(hidden * 2.0 + color), &cx, false).unwrap());
    let errors = painted.errors().unwrap();
    assert!((errors.filled.double_value(&[]) - 4.0).abs() < 1e-4);
    let by_hand = portolan_losses::mae(&painted.pred, &painted.target, &painted.mask.hidden);
    assert_eq!(errors.painted, by_hand.unwrap());
}

#[test]
fn a_few_steps_learn_to_paint() {
    seed(3);
    let mut method = mae(|config| {
        (config.mask_ratio, config.normalize_patches) = (0.5, false);
        (config.decoder_width, config.decoder_depth) = (32, 2);
    });
    let optimizer = OptimizerConfig::Adamw { betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.05 };
    let trial = Trial { noise: 0.1, optimizer, ..Trial::new(200, 1e-2) };
    let shown = trial.run(&mut method);
    assert!(shown.loss < 0.7 * shown.first_loss, "{shown:?}");
    assert!(shown.metrics["explained"] > 0.2, "{shown:?}");
}

#[test]
fn the_example_runs() {
    tch::set_num_threads(1);
    own_loop::main().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let refused = |config: MaeConfig, encoder: &EncoderConfig, size| {
        Mae::new(config, encoder, vec![presets::mae(size)], CPU).err().unwrap().to_string()
    };
    let default = MaeConfig::default;
    let all = refused(MaeConfig { mask_ratio: 1.0, ..default() }, &vit(), 16);
    assert!(all.contains("mask_ratio is 1"), "{all}");
    let nearly = refused(MaeConfig { mask_ratio: 0.99, ..default() }, &vit(), 16);
    assert!(nearly.contains("leaves 0 of 16"), "{nearly}");
    let resnet = EncoderConfig::named("resnet18").unwrap();
    assert!(refused(default(), &resnet, 16).contains("vision transformer"));
    assert!(refused(default(), &vit(), 20).contains("make them equal"));
    assert!(refused(default(), &vit(), 18).contains("patches of 4"));
    let heads = MaeConfig { decoder_heads: 3, ..default() };
    assert!(refused(heads, &vit(), 16).contains("decoder_heads"));
}
