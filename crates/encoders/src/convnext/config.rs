//! The settings of a ConvNeXt.

use portolan_tensor::Vars;
use serde::{Deserialize, Serialize};

use crate::{ConvNext, Encoder, Error, Family, Finetuned, Result};

/// The settings of a ConvNeXt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvNextConfig {
    /// The channels of the first stage. The others have 2, 4 and 8 times as many.
    pub width: i64,
    /// The number of blocks of each stage.
    pub depths: [i64; 4],
    /// The side of the stem's patches in pixels: 4 in the paper (section 2.3). With 2 or 1, the
    /// last map of a 32-px image has 2 or 4 pixels a side instead of one.
    #[serde(default = "paper_patch")]
    pub patch: i64,
    /// Whether the blocks' MLP is stored as 1×1 convolutions, as timm does for `atto` to `nano`. It
    /// computes the same.
    #[serde(default)]
    pub conv_mlp: bool,
    /// The initial value of LayerScale: 1e-6 in the paper (table 5).
    #[serde(default = "paper_layer_scale")]
    pub layer_scale: f64,
    /// Stochastic depth: the probability with which training skips the last block's branch. It
    /// grows linearly from 0 in the first block. 0.1 for `tiny` to 0.5 for `large` in the paper's
    /// supervised training (table 5), 0 by default.
    #[serde(default)]
    pub drop_path: f64,
}

fn paper_patch() -> i64 {
    4
}

fn paper_layer_scale() -> f64 {
    1e-6
}

/// Name, width, depths, whether the MLP is stored as convolutions: timm's `convnext.py`. From
/// `tiny`, they are the paper's (section 3).
const SIZES: [(&str, i64, [i64; 4], bool); 8] = [
    ("atto", 40, [2, 2, 6, 2], true),
    ("femto", 48, [2, 2, 6, 2], true),
    ("pico", 64, [2, 2, 6, 2], true),
    ("nano", 80, [2, 2, 8, 2], true),
    ("tiny", 96, [3, 3, 9, 3], false),
    ("small", 96, [3, 3, 27, 3], false),
    ("base", 128, [3, 3, 27, 3], false),
    ("large", 192, [3, 3, 27, 3], false),
];

impl ConvNextConfig {
    /// The ConvNeXt of this name, as timm writes it, with its usual settings: `convnext_tiny`, with
    /// `atto`, `femto`, `pico`, `nano`, `tiny`, `small`, `base` or `large`. Other sizes are written
    /// as `w32d2-2-6-2`: 32 channels and 2 blocks in the first stage.
    ///
    /// # Errors
    /// When the name has another form.
    pub fn named(name: &str) -> Result<Self> {
        let size = name.strip_prefix("convnext_");
        let (width, depths, conv_mlp) = size.and_then(of_size).ok_or_else(|| {
            let known = SIZES.map(|(size, ..)| size).join(", ");
            Error::UnknownName(format!(
                "`{name}` names no ConvNeXt; write convnext_tiny, with {known} or a size like \
                 w32d2-2-6-2"
            ))
        })?;
        Ok(ConvNextConfig { conv_mlp, ..Self::plain(width, depths) })
    }

    /// The ConvNeXt of this width and these depths, with the usual settings.
    pub fn plain(width: i64, depths: [i64; 4]) -> Self {
        ConvNextConfig {
            width,
            depths,
            patch: paper_patch(),
            conv_mlp: false,
            layer_scale: paper_layer_scale(),
            drop_path: 0.0,
        }
    }

    /// The channels of each stage.
    pub(super) fn widths(&self) -> [i64; 4] {
        [1, 2, 4, 8].map(|times| times * self.width)
    }
}

/// Width, depths and form of the MLP of `tiny` or `w32d2-2-6-2`.
fn of_size(size: &str) -> Option<(i64, [i64; 4], bool)> {
    let known = SIZES.iter().find(|(known, ..)| *known == size);
    if let Some(&(_, width, depths, conv_mlp)) = known {
        return Some((width, depths, conv_mlp));
    }
    let (width, depths) = size.strip_prefix('w')?.split_once('d')?;
    let depths: Option<Vec<i64>> = depths.split('-').map(|depth| depth.parse().ok()).collect();
    Some((width.parse().ok()?, depths?.try_into().ok()?, false))
}

impl Family for ConvNextConfig {
    fn parse(name: &str) -> Option<Result<Self>> {
        name.starts_with("convnext_").then(|| ConvNextConfig::named(name))
    }

    fn known_names() -> String {
        SIZES.map(|(size, ..)| format!("convnext_{size}")).join(", ")
    }

    fn name(&self) -> String {
        let &ConvNextConfig { width, depths, .. } = self;
        match SIZES.iter().find(|size| (size.1, size.2) == (width, depths)) {
            Some((size, ..)) => format!("convnext_{size}"),
            None => {
                format!("convnext_w{width}d{}", depths.map(|depth| depth.to_string()).join("-"))
            }
        }
    }

    fn size_keys(&self) -> &'static [&'static str] {
        &["width", "depths", "conv_mlp"]
    }

    fn validate(&self) -> Result<()> {
        let &ConvNextConfig { width, depths, patch, layer_scale, drop_path, .. } = self;
        let problem = if !(1..=1024).contains(&width) {
            format!("the encoder's width is {width}; it must be from 1 to 1024")
        } else if !depths.iter().all(|depth| (1..=100).contains(depth)) {
            format!("the encoder's depths are {depths:?}; each must be from 1 to 100")
        } else if !(1..=64).contains(&patch) {
            format!("the stem's patch is {patch}; it must be from 1 to 64 pixels")
        } else if !(0.0..=10.0).contains(&layer_scale) {
            format!("layer_scale is {layer_scale}; it must be from 0 to 10")
        } else if !(0.0..1.0).contains(&drop_path) {
            format!("drop_path is {drop_path}; it must be from 0 to below 1")
        } else {
            return Ok(());
        };
        Err(Error::Setting(problem))
    }

    fn build(&self, vars: &Vars) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(ConvNext::new(self, vars)?))
    }

    fn validate_size(&self, size: i64) -> Result<()> {
        let least = 8 * self.patch;
        if size >= least {
            return Ok(());
        }
        Err(Error::ImageSize(format!(
            "a ConvNeXt whose stem has patches of {} pixels needs images of at least {least}, and \
             a view has {size}; set encoder.patch to 2 or 1, or choose a larger view",
            self.patch
        )))
    }

    /// A block keeps 13 numbers for each channel of each pixel of its map: those after the
    /// convolution, its norm and the scale, the input, and twice the four times wider inner layer.
    fn activations(&self, side: f64) -> f64 {
        let stage = |(i, (depth, width)): (usize, (i64, i64))| {
            let pixels = (side / (self.patch << i) as f64).powi(2);
            13.0 * depth as f64 * width as f64 * pixels
        };
        self.depths.into_iter().zip(self.widths()).enumerate().map(stage).sum()
    }

    fn finetuned(&self, drop_path: f64, _class_token: bool) -> Option<Finetuned> {
        let config = ConvNextConfig { drop_path, ..self.clone() };
        Some(Finetuned { config: Box::new(config), dropped: None, added: None })
    }
}
