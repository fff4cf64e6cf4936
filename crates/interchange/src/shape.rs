//! Which encoder it is, by the shapes of its weights.

use anyhow::{Context, Result, bail, ensure};
use portolan_encoders::{Arch, EncoderConfig, ResNetConfig, Stem, VitConfig};

use crate::names::Shapes;

/// The encoder with these shapes (by torchvision's or timm's names). What shapes do not say is taken as usual: 64 numbers a head of
/// attention, the class token as feature, a CIFAR stem's stride of 1.
///
/// # Errors
/// When it is none that Portolan can build.
pub(crate) fn recognize(shapes: &Shapes) -> Result<EncoderConfig> {
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
    let arch = match &*resnet_name(shapes, depths, first.first().copied().unwrap_or(0)) {
        "resnet18" => Arch::ResNet18,
        "resnet34" => Arch::ResNet34,
        "resnet50" => Arch::ResNet50,
        name => bail!(
            "it is {name}, which is not known here; known are resnet18, resnet34 and resnet50, of any width"
        ),
    };
    let (width, stem) = match *first {
        [width, 3, 7, 7] => (width, Stem::Imagenet),
        [width, 3, 3, 3] => (width, Stem::Cifar),
        _ => bail!("its first convolution is {first:?}; known here are 7×7 and 3×3"),
    };
    Ok(ResNetConfig { arch, width, stem, zero_init_residual: false, batch_norm_splits: 1 }.into())
}

/// torchvision's name of the ResNet with so many blocks a stage and so many channels before the first: `resnet101`, `wide_resnet50_2`,
/// `resnext50_32x4d`. Wider all over, as SimCLR's, is no other name.
fn resnet_name(shapes: &Shapes, depths: [usize; 4], width: i64) -> String {
    let bottleneck = shapes.contains_key("layer1.0.conv3.weight");
    let standard = match bottleneck {
        true => [[3, 4, 6, 3], [3, 4, 23, 3], [3, 8, 36, 3]].contains(&depths),
        false => [[2, 2, 2, 2], [3, 4, 6, 3]].contains(&depths),
    };
    if !standard {
        let blocks = if bottleneck { "bottlenecks" } else { "blocks" };
        return format!("a ResNet with {depths:?} {blocks} a stage");
    }
    let layers = 2 + depths.iter().sum::<usize>() * if bottleneck { 3 } else { 2 };
    // The 3×3 convolution of the first bottleneck: its channels, and those of each of its groups.
    let inner = match shapes.get("layer1.0.conv2.weight").map(Vec::as_slice) {
        Some(&[inner, group, 3, 3]) if bottleneck && width > 0 && group > 0 => Some((inner, group)),
        _ => None,
    };
    match inner {
        Some((inner, group)) if group < inner => {
            format!("resnext{layers}_{}x{group}d", inner / group)
        }
        Some((inner, _)) if inner > width => format!("wide_resnet{layers}_{}", inner / width),
        _ => format!("resnet{layers}"),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The shapes that tell ResNets apart, with this 3×3 convolution in the first bottleneck (none: blocks of two layers).
    fn resnet(width: i64, depths: [usize; 4], conv2: Option<[i64; 2]>) -> Shapes {
        let mut shapes = Shapes::from([("conv1.weight".to_owned(), vec![width, 3, 7, 7])]);
        for (stage, blocks) in depths.into_iter().enumerate() {
            for block in 0..blocks {
                shapes
                    .insert(format!("layer{}.{block}.conv1.weight", stage + 1), vec![64, 64, 1, 1]);
            }
        }
        if let Some([inner, group]) = conv2 {
            shapes.insert("layer1.0.conv2.weight".to_owned(), vec![inner, group, 3, 3]);
            shapes.insert("layer1.0.conv3.weight".to_owned(), vec![256, inner, 1, 1]);
        }
        shapes
    }

    /// Channels as in torchvision's `resnet.py`: `width = int(planes * (base_width / 64.0)) * groups`.
    #[test]
    fn resnets_that_cannot_be_built_are_named() {
        let (deep, deeper, deepest) = ([3, 4, 6, 3], [3, 4, 23, 3], [3, 8, 36, 3]);
        for (name, depths, conv2) in [
            ("resnet101", deeper, [64, 64]),
            ("resnet152", deepest, [64, 64]),
            ("wide_resnet50_2", deep, [128, 128]),
            ("wide_resnet101_2", deeper, [128, 128]),
            ("resnext50_32x4d", deep, [128, 4]),
            ("resnext101_32x8d", deeper, [256, 8]),
            ("resnext101_64x4d", deeper, [256, 4]),
        ] {
            let error = recognize(&resnet(64, depths, Some(conv2))).unwrap_err().to_string();
            assert!(error.starts_with(&format!("it is {name}, which is not known")), "{error}");
        }
        let error = recognize(&resnet(64, [1, 1, 1, 1], None)).unwrap_err().to_string();
        assert!(error.contains("[1, 1, 1, 1] blocks a stage"), "{error}");
        for (name, width, depths, conv2) in [
            ("resnet18", 64, [2, 2, 2, 2], None),
            ("resnet34-w16", 16, deep, None),
            ("resnet50", 64, deep, Some([64, 64])),
            ("resnet50-w128", 128, deep, Some([128, 128])),
        ] {
            assert_eq!(recognize(&resnet(width, depths, conv2)).unwrap().name(), name);
        }
    }
}
