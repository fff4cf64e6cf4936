//! The settings of a ResNet.

use portolan_tensor::Vars;
use serde::{Deserialize, Serialize};

use crate::{Encoder, Error, Family, ResNet, Result};

/// The depth of a ResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// Basic blocks, 2-2-2-2 (He et al. 2015, arXiv:1512.03385, table 1).
    ResNet18,
    /// Basic blocks, 3-4-6-3.
    ResNet34,
    /// Bottleneck blocks, 3-4-6-3, with the stride on the 3×3 convolution as in torchvision.
    ResNet50,
    /// Bottleneck blocks, 3-4-23-3.
    ResNet101,
    /// Bottleneck blocks, 3-8-36-3.
    ResNet152,
    /// ResNet-50 whose bottlenecks are twice as wide inside (Zagoruyko and Komodakis 2016,
    /// arXiv:1605.07146, table 8), and as wide outside.
    #[serde(rename = "wide_resnet50_2")]
    WideResNet50,
    /// ResNet-101 with such bottlenecks.
    #[serde(rename = "wide_resnet101_2")]
    WideResNet101,
}

/// The blocks of a ResNet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// The number of blocks of each stage.
    pub(super) depths: [i64; 4],
    /// For bottleneck blocks, how many times as wide as the stage they are inside; `None` for basic
    /// blocks.
    pub(super) bottleneck: Option<i64>,
}

impl Arch {
    pub(super) fn layout(self) -> Layout {
        let (depths, bottleneck) = match self {
            Arch::ResNet18 => ([2, 2, 2, 2], None),
            Arch::ResNet34 => ([3, 4, 6, 3], None),
            Arch::ResNet50 => ([3, 4, 6, 3], Some(1)),
            Arch::ResNet101 => ([3, 4, 23, 3], Some(1)),
            Arch::ResNet152 => ([3, 8, 36, 3], Some(1)),
            Arch::WideResNet50 => ([3, 4, 6, 3], Some(2)),
            Arch::WideResNet101 => ([3, 4, 23, 3], Some(2)),
        };
        Layout { depths, bottleneck }
    }
}

/// The first layers of a ResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// A 7×7 convolution of stride 2 and a 3×3 max pooling of stride 2, for 224 px.
    Imagenet,
    /// A 3×3 convolution of stride 1 and no pooling, for 32 px (SimCLR, appendix B.9).
    Cifar,
    /// A 3×3 convolution of stride 2 and no pooling: a quarter of the CIFAR stem's cost, for CPUs.
    CifarStrided,
}

/// The settings of a ResNet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// The depth.
    pub arch: Arch,
    /// The channels of the first stage; 64 in the paper. The others have 2, 4 and 8 times as many.
    pub width: i64,
    /// The first layers.
    pub stem: Stem,
    /// Whether each residual branch starts at zero, so that blocks start as the identity (Goyal et
    /// al. 2017, arXiv:1706.02677, section 5.1).
    pub zero_init_residual: bool,
    /// The number of groups into which a batch is split for batch statistics; 1 is the usual batch
    /// norm. MoCo's CIFAR-10 demo simulates the 8 GPUs of its shuffled batch norm with 8.
    pub batch_norm_splits: i64,
}

/// torchvision's names.
const NAMES: [(&str, Arch); 7] = [
    ("resnet18", Arch::ResNet18),
    ("resnet34", Arch::ResNet34),
    ("resnet50", Arch::ResNet50),
    ("resnet101", Arch::ResNet101),
    ("resnet152", Arch::ResNet152),
    ("wide_resnet50_2", Arch::WideResNet50),
    ("wide_resnet101_2", Arch::WideResNet101),
];

impl ResNetConfig {
    /// The ResNet of this name with its usual settings: `resnet18`, `resnet34`, `resnet50`,
    /// `resnet101`, `resnet152`, `wide_resnet50_2` or `wide_resnet101_2`, with `-w16` appended for
    /// another width of the first stage.
    ///
    /// # Errors
    /// When no ResNet has this name.
    pub fn named(name: &str) -> Result<Self> {
        let (base, width) = match name.split_once("-w") {
            Some((base, width)) => {
                let width = width.parse().map_err(|error| {
                    Error::UnknownName(format!(
                        "the width in `{name}` is not a number; write {base}-w16: {error}"
                    ))
                })?;
                (base, width)
            }
            None => (name, 64),
        };
        let (_, arch) = NAMES
            .iter()
            .find(|(known, _)| *known == base)
            .ok_or_else(|| Error::UnknownName(format!("there is no ResNet `{base}`")))?;
        Ok(ResNetConfig {
            arch: *arch,
            width,
            stem: Stem::Imagenet,
            zero_init_residual: false,
            batch_norm_splits: 1,
        })
    }
}

impl Family for ResNetConfig {
    fn parse(name: &str) -> Option<Result<Self>> {
        let base = name.split("-w").next().unwrap_or_default();
        NAMES.iter().any(|(known, _)| *known == base).then(|| ResNetConfig::named(name))
    }

    fn known_names() -> String {
        let names = NAMES.map(|(name, _)| name);
        format!("{}, each also narrower or wider as in {}-w16", names.join(", "), names[0])
    }

    fn name(&self) -> String {
        let base = NAMES.iter().find(|(_, arch)| *arch == self.arch).map_or("", |(name, _)| name);
        match self.width {
            64 => base.to_owned(),
            width => format!("{base}-w{width}"),
        }
    }

    fn size_keys(&self) -> &'static [&'static str] {
        &["arch", "width"]
    }

    fn validate(&self) -> Result<()> {
        let &ResNetConfig { width, batch_norm_splits, .. } = self;
        if !(1..=1024).contains(&width) {
            let message = format!("the encoder's width is {width}; it must be from 1 to 1024");
            return Err(Error::Setting(message));
        }
        if batch_norm_splits < 1 {
            let message =
                format!("batch_norm_splits is {batch_norm_splits}; 1 is the usual batch norm");
            return Err(Error::Setting(message));
        }
        Ok(())
    }

    fn build(&self, vars: &Vars) -> Result<Box<dyn Encoder>> {
        self.validate()?;
        Ok(Box::new(ResNet::new(self, vars)))
    }

    fn batch_norm_splits(&self) -> i64 {
        self.batch_norm_splits
    }

    /// A ResNet-18 of width 64 keeps some 20 million numbers at 224 px, a ResNet-50 some 4 times as
    /// many. The others have as many activations relative to ResNet-50 as timm's
    /// `results/benchmark-infer-amp-nhwc-pt210-cu121-rtx3090.csv` counts.
    fn activations(&self, side: f64) -> f64 {
        let depth = match self.arch {
            Arch::ResNet18 => 1.0,
            Arch::ResNet34 => 1.7,
            Arch::ResNet50 => 4.0,
            Arch::ResNet101 => 5.8,
            Arch::ResNet152 => 8.1,
            Arch::WideResNet50 => 5.2,
            Arch::WideResNet101 => 7.6,
        };
        let stem = match self.stem {
            Stem::Imagenet => 1.0,
            Stem::CifarStrided => 4.0,
            Stem::Cifar => 16.0,
        };
        2e7 * depth * stem * self.width as f64 / 64.0 * (side / 224.0).powi(2)
    }
}
