//! The views of the papers, each as its authors' code has them.
//!
//! All normalize by ImageNet's mean and standard deviation (SimCLR's authors only scale to 0 to 1).
//! For other data, use [`ViewSpec::with_normalization`].

use crate::ops::{Interpolation, RandAugment};
use crate::spec::{Op, ViewSpec, default_ratio};

pub use crate::ops::{IMAGENET_MEAN, IMAGENET_STD};

/// MoCo v1 (He et al. 2020, arXiv:1911.05722): InstDisc's augmentation, with grayscale *before* a
/// jitter that is always applied and turns hue by up to 0.4. `main_moco.py` without `--aug-plus`,
/// at 224 px.
pub fn moco_v1(size: u32) -> ViewSpec {
    view(vec![
        crop(size, [0.2, 1.0], Interpolation::Bilinear),
        Op::Grayscale { p: 0.2 },
        Op::ColorJitter { p: 1.0, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.4 },
        Op::HorizontalFlip { p: 0.5 },
    ])
}

/// MoCo v2 (Chen et al. 2020, arXiv:2003.04297): SimCLR's operations with a jitter half as strong.
/// `main_moco.py --aug-plus`, at 224 px.
///
/// That code uses PIL's approximation of a Gaussian blur, which has no kernel width. Here the
/// Gaussian is exact, and a kernel of 23 pixels covers more than five standard deviations.
pub fn moco_v2(size: u32) -> ViewSpec {
    view(vec![
        crop(size, [0.2, 1.0], Interpolation::Bilinear),
        Op::ColorJitter { p: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
        Op::Grayscale { p: 0.2 },
        Op::GaussianBlur { p: 0.5, sigma: [0.1, 2.0], kernel: 23 },
        Op::HorizontalFlip { p: 0.5 },
    ])
}

/// SimCLR (Chen et al. 2020, arXiv:2002.05709, appendix A) at color strength 1: crops from 0.08,
/// resized bicubically, and a blur whose kernel is a tenth of the view's side. `data_util.py` of
/// the authors' code, at 224 px. Resizing antialiases here, but not there.
pub fn simclr(size: u32) -> ViewSpec {
    let kernel = size / 10 / 2 * 2 + 1; // a tenth of the side, made odd as the authors' code does
    view(vec![
        crop(size, [0.08, 1.0], Interpolation::Bicubic),
        Op::HorizontalFlip { p: 0.5 },
        Op::ColorJitter { p: 0.8, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 },
        Op::Grayscale { p: 0.2 },
        Op::GaussianBlur { p: 0.5, sigma: [0.1, 2.0], kernel },
    ])
}

/// BYOL (Grill et al. 2020, arXiv:2006.07733, appendix B, table 6): its two views differ. The first
/// is always blurred and never solarized; the second is blurred one time in ten and solarized one
/// time in five. Barlow Twins (section 2.2) and MoCo v3 use the same; VICReg (appendix C.1) blurs
/// and solarizes both views alike.
pub fn byol(size: u32) -> [ViewSpec; 2] {
    [(1.0, 0.0), (0.1, 0.2)].map(|(blur, solarize)| {
        view(vec![
            crop(size, [0.08, 1.0], Interpolation::Bicubic),
            Op::HorizontalFlip { p: 0.5 },
            Op::ColorJitter { p: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1 },
            Op::Grayscale { p: 0.2 },
            Op::GaussianBlur { p: blur, sigma: [0.1, 2.0], kernel: 23 },
            Op::Solarize { p: solarize, threshold: 128 },
        ])
    })
}

/// DINO (Caron et al. 2021, arXiv:2104.14294, section 3.2 and `DataAugmentationDINO`): BYOL's two
/// views as the global ones, with at least 0.4 of the area, then `locals` small ones with at most
/// 0.4. At 224 and 96 px; the published ViT-S has 0.25 instead of 0.4.
pub fn dino(global: u32, local: u32, locals: usize) -> Vec<ViewSpec> {
    let cut = |view: &ViewSpec, size, scale| {
        let mut ops = view.ops.clone();
        ops[0] = crop(size, scale, Interpolation::Bicubic);
        ViewSpec { ops }
    };
    let [first, second] = byol(global);
    let mut views = vec![cut(&first, global, [0.4, 1.0]), cut(&second, global, [0.4, 1.0])];
    let mut small = cut(&first, local, [0.05, 0.4]);
    small.ops[4] = Op::GaussianBlur { p: 0.5, sigma: [0.1, 2.0], kernel: 23 };
    views.extend(vec![small; locals]);
    views
}

/// MAE (He et al. 2021, arXiv:2111.06377; the scale is from `main_pretrain.py`): a crop of at least
/// a fifth of the area, and a flip.
pub fn mae(size: u32) -> ViewSpec {
    view(vec![crop(size, [0.2, 1.0], Interpolation::Bicubic), Op::HorizontalFlip { p: 0.5 }])
}

/// The views that benchmarks of small images agree on, at 32 px: SimCLR's operations at half its
/// color strength and without blur.
///
/// - The MoCo authors' CIFAR-10 demonstration (`colab/moco_cifar10_demo.ipynb`), which normalizes
///   by mean 0.4914, 0.4822, 0.4465 and standard deviation 0.2023, 0.1994, 0.2010.
/// - lightly's CIFAR-10 benchmark at commit 42a6a924,
///   `SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0)`, with this normalization.
/// - SimCLR itself on CIFAR-10 (appendix B.9), except for its bicubic resizing.
pub fn small_images(size: u32) -> ViewSpec {
    view(vec![
        crop(size, [0.08, 1.0], Interpolation::Bilinear),
        Op::HorizontalFlip { p: 0.5 },
        Op::ColorJitter { p: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
        Op::Grayscale { p: 0.2 },
    ])
}

/// Fine-tuning with labels (`create_transform` of timm, as MAE's `util/datasets.py` calls it):
/// crops from 0.08, flips, RandAugment of magnitude 9 ± 0.5. The trainer erases at random after the
/// normalization.
pub fn finetuning(size: u32) -> ViewSpec {
    view(vec![
        crop(size, [0.08, 1.0], Interpolation::Bicubic),
        Op::HorizontalFlip { p: 0.5 },
        Op::RandAugment(RandAugment::timm()),
    ])
}

/// The view for evaluation, without anything random: the short side is resized to `resize`, then
/// the middle `size` pixels are kept. torchvision uses 256 and 224 for ImageNet. `evaluation(size,
/// size)` leaves images of `size` pixels as they are.
pub fn evaluation(resize: u32, size: u32) -> ViewSpec {
    view(vec![Op::CenterCrop { resize, size, interpolation: Interpolation::Bilinear }])
}

fn crop(size: u32, scale: [f64; 2], interpolation: Interpolation) -> Op {
    Op::RandomResizedCrop { size, scale, ratio: default_ratio(), interpolation }
}

/// These operations, then ImageNet's normalization.
fn view(mut ops: Vec<Op>) -> ViewSpec {
    ops.push(Op::Normalize { mean: IMAGENET_MEAN, std: IMAGENET_STD });
    ViewSpec { ops }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_at_every_size() {
        for size in [1, 8, 32, 96, 224] {
            let all = [
                moco_v1(size),
                moco_v2(size),
                simclr(size),
                small_images(size),
                mae(size),
                finetuning(size),
                evaluation(size, size),
            ];
            let all = all.into_iter().chain(byol(size)).chain(dino(size, size, 1));
            for spec in all {
                spec.validate().unwrap();
                assert_eq!(spec.size(), size);
            }
        }
    }

    #[test]
    fn simclr_blurs_by_a_tenth_of_the_side() {
        let kernel = |size| match simclr(size).ops[4] {
            Op::GaussianBlur { kernel, .. } => kernel,
            ref other => panic!("{other:?} is not the blur"),
        };
        assert_eq!((kernel(32), kernel(96), kernel(224)), (3, 9, 23));
    }

    #[test]
    fn dinos_global_views_come_first() {
        let views = dino(224, 96, 8);
        let sizes: Vec<u32> = views.iter().map(ViewSpec::size).collect();
        assert_eq!(sizes, [224, 224, 96, 96, 96, 96, 96, 96, 96, 96]);
        let solarized = |view: &ViewSpec| {
            view.ops.iter().any(|op| matches!(op, Op::Solarize { p, .. } if *p > 0.0))
        };
        assert_eq!(views.iter().filter(|view| solarized(view)).count(), 1, "the second alone");
    }
}
