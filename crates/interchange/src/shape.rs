//! Which encoder it is, by the shapes of its weights.

use anyhow::{Context, Result, bail, ensure};
use portolan_encoders::{
    Arch, EncoderConfig, Init, Pool, Positions, ResNetConfig, Stem, VitConfig,
};

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
    let stem = match first[2] {
        7 => Stem::Imagenet,
        3 => Stem::Cifar,
        side => bail!("its first convolution is {side}×{side}; known here are 7×7 and 3×3"),
    };
    let width = first[0];
    Ok(ResNetConfig { arch, width, stem, zero_init_residual: false, batch_norm_splits: 1 }.into())
}

fn vit(shapes: &Shapes) -> Result<EncoderConfig> {
    let of =
        |name: &str| shapes.get(name).with_context(|| format!("the transformer has no `{name}`"));
    let projection = of("patch_embed.proj.weight")?;
    let (width, patch) = (projection[0], projection[3]);
    let positions = of("pos_embed")?;
    let ([1, tokens, _], true) = (&positions[..], projection[2] == patch) else {
        bail!("its patches or positions have unusual shapes: {projection:?}, {positions:?}")
    };
    let side = ((tokens - 1) as f64).sqrt().round() as i64;
    ensure!(
        side * side + 1 == *tokens,
        "it has {tokens} positions, which are no square grid of patches and one class token"
    );
    let depth = (0..)
        .take_while(|i| shapes.contains_key(&format!("blocks.{i}.norm1.weight")))
        .count() as i64;
    ensure!(
        of("blocks.0.mlp.fc1.weight")?[0] == 4 * width,
        "its blocks' inner width is not four times the outer; such transformers are not known here"
    );
    Ok(VitConfig {
        width,
        depth,
        heads: (width / 64).max(1),
        patch,
        image: side * patch,
        pool: Pool::ClassToken,
        positions: Positions::Learned,
        frozen_patches: false,
        drop_path: 0.0,
        init: Init::Normal,
        recompute: false,
    }
    .into())
}
