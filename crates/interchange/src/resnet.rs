//! ResNets in files, with torchvision's names.

use portolan_encoders::{Arch, EncoderConfig, Family, ResNetConfig, Stem};

use crate::format::{Format, Python, Shapes, Timm, Weights};
use crate::{Error, Result};

pub(crate) const WEIGHTS: Weights = Weights {
    name: "ResNet",
    signs: &[["conv1.weight", "bn1.weight"], ["0.weight", "4.0.conv1.weight"]],
    parts: &["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"],
    rename: out_of_sequence,
    recognize,
};

/// The stages of a ResNet whose names a `Sequential` has replaced by numbers.
const IN_SEQUENCE: [(&str, &str); 6] = [
    ("0", "conv1"),
    ("1", "bn1"),
    ("4", "layer1"),
    ("5", "layer2"),
    ("6", "layer3"),
    ("7", "layer4"),
];

/// `4.0.conv1.weight` to `layer1.0.conv1.weight`.
fn out_of_sequence(name: &str) -> Option<String> {
    let (number, rest) = name.split_once('.')?;
    let (_, stage) = IN_SEQUENCE.iter().find(|(known, _)| *known == number)?;
    Some(format!("{stage}.{rest}"))
}

/// The ResNet with these shapes. A CIFAR stem is assumed to have a stride of 1.
fn recognize(shapes: &Shapes) -> Result<EncoderConfig> {
    let first = shapes.get("conv1.weight").map_or(&[][..], Vec::as_slice);
    let blocks = |stage: usize| {
        (0..).take_while(|i| shapes.contains_key(&format!("layer{stage}.{i}.conv1.weight"))).count()
    };
    let depths = [1, 2, 3, 4].map(blocks);
    let name = torchvision_name(shapes, depths, first.first().copied().unwrap_or(0));
    let Ok(usual) = ResNetConfig::named(&name) else {
        return Err(Error::Unsupported(format!(
            "it is {name}, which is not known here; known are {}",
            ResNetConfig::known_names()
        )));
    };
    let (width, stem) = match *first {
        [width, 3, 7, 7] => (width, Stem::Imagenet),
        [width, 3, 3, 3] => (width, Stem::Cifar),
        _ => {
            let message = format!("its first convolution is {first:?}; known here are 7×7 and 3×3");
            return Err(Error::Unsupported(message));
        }
    };
    Ok(ResNetConfig { width, stem, ..usual }.into())
}

/// torchvision's name of the ResNet with these numbers of blocks per stage and `width` channels in
/// the first convolution: `resnet101`, `wide_resnet50_2`, `resnext50_32x4d`. A ResNet that is wider
/// throughout, as SimCLR's, has no name of its own.
fn torchvision_name(shapes: &Shapes, depths: [usize; 4], width: i64) -> String {
    let bottleneck = shapes.contains_key("layer1.0.conv3.weight");
    let standard: &[[usize; 4]] = if bottleneck {
        &[[3, 4, 6, 3], [3, 4, 23, 3], [3, 8, 36, 3]]
    } else {
        &[[2, 2, 2, 2], [3, 4, 6, 3]]
    };
    if !standard.contains(&depths) {
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

impl Format for ResNetConfig {
    fn assume(&self, _prefix: &str) -> (EncoderConfig, Option<String>) {
        let note = "weights do not tell the first convolution's stride: 1 is assumed";
        (self.clone().into(), (self.stem == Stem::Cifar).then(|| note.to_owned()))
    }

    fn usual_size(&self) -> u32 {
        if self.stem == Stem::Imagenet { 224 } else { 32 }
    }

    fn min_numbers(&self) -> i64 {
        let of_width_one = match self.arch {
            Arch::ResNet18 => 2_700,
            Arch::ResNet34 => 5_100,
            Arch::ResNet50 => 5_700,
            Arch::ResNet101 => 10_300,
            Arch::ResNet152 => 14_100,
            Arch::WideResNet50 => 16_200,
            Arch::WideResNet101 => 30_400,
        };
        of_width_one * self.width * self.width
    }

    /// timm has neither the CIFAR stems nor other widths. It gets the name of the plain ResNet.
    fn timm(&self) -> Timm {
        let name = EncoderConfig::from(self.clone()).name();
        Timm {
            architecture: name.split('-').next().unwrap_or_default().to_owned(),
            global_pool: "avg",
            model_args: None,
            first_conv: "conv1",
            classifier: "fc",
        }
    }

    fn python(&self) -> Python {
        match self.stem {
            _ if self.width != 64 => {
                Python { timm: false, builder: "Portolan alone, since its width is scaled" }
            }
            Stem::Imagenet => Python { timm: true, builder: "timm or torchvision" },
            Stem::Cifar | Stem::CifarStrided => {
                Python { timm: false, builder: "torchvision, with conv1 and maxpool replaced" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The shapes that tell ResNets apart, with this 3×3 convolution in the first bottleneck;
    /// without one, of basic blocks.
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

    /// Channels as in torchvision's `resnet.py`:
    /// `width = int(planes * (base_width / 64.0)) * groups`.
    #[test]
    fn resnets_that_cannot_be_built_are_named() {
        let (deep, deeper, deepest) = ([3, 4, 6, 3], [3, 4, 23, 3], [3, 8, 36, 3]);
        for (name, depths, conv2) in [
            ("wide_resnet50_4", deep, [256, 256]),
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
            ("resnet101", 64, deeper, Some([64, 64])),
            ("resnet152", 64, deepest, Some([64, 64])),
            ("wide_resnet50_2", 64, deep, Some([128, 128])),
            ("wide_resnet101_2-w8", 8, deeper, Some([16, 16])),
        ] {
            assert_eq!(recognize(&resnet(width, depths, conv2)).unwrap().name(), name);
        }
    }
}
