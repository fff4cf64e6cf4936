//! Which encoder it is, by the shapes of its weights.

use anyhow::{Context, Result, bail, ensure};
use portolan_encoders::{Arch, EncoderConfig, ResNetConfig, Stem, VitConfig};

use crate::names::Shapes;

/// The encoder with these shapes (by torchvision's or timm's names). What shapes do not say is taken as usual: 64 numbers a head of
/// attention, the class token as feature, a CIFAR stem's stride of 1.
///
/// # Errors
/// When it is none that Portolan can build.
pub(crate) fn recognise(shapes: &Shapes) -> Result<EncoderConfig> {
    match shapes.get("conv1.weight") {
        Some(first) => resnet(shapes, first),
        None => vit(shapes),
    }
}

fn resnet(shapes: &Shapes, first: &[i64]) -> Result<EncoderConfig> {
    let blocks = |stage: usize| {
        (0..).take_while(|i| shapes.contains_key(&format!("layer{stage}.{i}.conv1.weight"))).count()
    };
    let depths = [1, 2, 3, 4].map(blocks);
    let bottleneck = shapes.contains_key("layer1.0.conv3.weight");
    let arch = match (depths, bottleneck) {
        ([2, 2, 2, 2], false) => Arch::ResNet18,
        ([3, 4, 6, 3], false) => Arch::ResNet34,
        ([3, 4, 6, 3], true) => Arch::ResNet50,
        _ => bail!(
            "it is a ResNet with {depths:?} {} a stage; known here are ResNet-18, 34 and 50",
            if bottleneck { "bottlenecks" } else { "blocks" }
        ),
    };
    let (width, stem) = match *first {
        [width, 3, 7, 7] => (width, Stem::Imagenet),
        [width, 3, 3, 3] => (width, Stem::Cifar),
        _ => bail!("its first convolution is {first:?}; known here are 7×7 and 3×3"),
    };
    Ok(ResNetConfig { arch, width, stem, zero_init_residual: false, batch_norm_splits: 1 }.into())
}

fn vit(shapes: &Shapes) -> Result<EncoderConfig> {
    let of =
        |name: &str| shapes.get(name).with_context(|| format!("the transformer has no `{name}`"));
    let projection = of("patch_embed.proj.weight")?;
    let positions = of("pos_embed")?;
    let (&[width, 3, patch, across], &[1, tokens, numbers]) = (&projection[..], &positions[..])
    else {
        bail!("its patches or positions have unusual shapes: {projection:?}, {positions:?}")
    };
    ensure!(
        patch == across && numbers == width && (1..=1 << 14).contains(&width),
        "its patches and positions do not fit each other: {projection:?}, {positions:?}"
    );
    let side = ((tokens - 1) as f64).sqrt().round() as i64;
    ensure!(
        side * side + 1 == tokens,
        "it has {tokens} positions, which are no square grid of patches and one class token"
    );
    let depth = (0..)
        .take_while(|i| shapes.contains_key(&format!("blocks.{i}.norm1.weight")))
        .count() as i64;
    ensure!(
        of("blocks.0.mlp.fc1.weight")?.first() == Some(&(4 * width)),
        "its blocks' inner width is not four times the outer; such transformers are not known here"
    );
    let heads = (width / 64).max(1);
    Ok(VitConfig::plain([width, depth, heads], patch, side * patch).into())
}

/// How many numbers an encoder has at the least: that of its matrices and positions, without what is small.
pub(crate) fn least_numbers(encoder: &EncoderConfig) -> i64 {
    match encoder {
        EncoderConfig::Resnet(resnet) => {
            let of_width_one = match resnet.arch {
                Arch::ResNet18 => 2_700,
                Arch::ResNet34 => 5_100,
                Arch::ResNet50 => 5_700,
            };
            of_width_one * resnet.width * resnet.width
        }
        EncoderConfig::Vit(vit) => {
            let tokens = (vit.image / vit.patch).pow(2) + 1;
            12 * vit.depth * vit.width * vit.width + tokens * vit.width
        }
    }
}
