//! ConvNeXts in files, with timm's names or their authors'.

use portolan_encoders::{ConvNextConfig, EncoderConfig};
use serde_json::json;

use crate::error::{OrDamaged, ensure};
use crate::format::{Format, Python, Shapes, Timm, Weights};
use crate::{Error, Result};

pub(crate) const WEIGHTS: Weights = Weights {
    name: "ConvNeXt",
    signs: &[
        ["stem.0.weight", "stages.0.blocks.0.conv_dw.weight"],
        ["downsample_layers.0.0.weight", "stages.0.0.dwconv.weight"],
    ],
    parts: &["stem", "stages", "head.norm"],
    rename: from_authors,
    recognize,
};

/// The name of timm for one of the authors' `convnext.py`, which DINOv3's ConvNeXts have too:
/// `stages.0.1.pwconv1.bias` to `stages.0.blocks.1.mlp.fc1.bias`.
fn from_authors(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (path, rest) = match parts[..] {
        ["downsample_layers", "0", layer, ..] => (format!("stem.{layer}"), &parts[3..]),
        ["downsample_layers", stage, layer, ..] => {
            (format!("stages.{stage}.downsample.{layer}"), &parts[3..])
        }
        ["stages", stage, block, layer, ..] if is_number(block) => {
            let layer = match layer {
                "dwconv" => "conv_dw",
                "pwconv1" => "mlp.fc1",
                "pwconv2" => "mlp.fc2",
                same => same,
            };
            (format!("stages.{stage}.blocks.{block}.{layer}"), &parts[4..])
        }
        ["norm", ..] => ("head.norm".to_owned(), &parts[1..]),
        _ => return None,
    };
    Some(std::iter::once(path.as_str()).chain(rest.iter().copied()).collect::<Vec<_>>().join("."))
}

/// The ConvNeXt with these shapes.
fn recognize(shapes: &Shapes) -> Result<EncoderConfig> {
    let shape = |name: &str| shapes.get(name).or_damaged(format!("the ConvNeXt has no `{name}`"));
    let unsupported = |what: String| Error::Unsupported(format!("{what}; such are not known here"));
    let stem = shape("stem.0.weight")?;
    let (width, patch) = match stem[..] {
        [width, 3, patch, across] if patch == across => (width, patch),
        _ => return Err(unsupported(format!("its stem has the unusual shape {stem:?}"))),
    };
    ensure(shape("stem.1.weight")?[..] == [width], || {
        unsupported("it is a ConvNeXt whose stem has overlapping convolutions".to_owned())
    })?;
    ensure(!shapes.contains_key("stages.0.blocks.0.mlp.grn.weight"), || {
        unsupported("it is a ConvNeXt V2, whose blocks have a response normalization".to_owned())
    })?;
    ensure(!shapes.contains_key("stages.0.downsample.0.weight"), || {
        unsupported("it is a ConvNeXt whose first stage shrinks the map".to_owned())
    })?;
    let depth = |stage: usize| {
        let has = |i: &i64| shapes.contains_key(&format!("stages.{stage}.blocks.{i}.norm.weight"));
        (0..).take_while(has).count() as i64
    };
    let conv_mlp = shape("stages.0.blocks.0.mlp.fc1.weight")?.len() == 4;
    let plain = ConvNextConfig::plain(width, [0, 1, 2, 3].map(depth));
    Ok(ConvNextConfig { patch, conv_mlp, ..plain }.into())
}

impl Format for ConvNextConfig {
    fn assume(&self, _prefix: &str) -> (EncoderConfig, Option<String>) {
        (self.clone().into(), None)
    }

    fn usual_size(&self) -> u32 {
        if self.patch >= 4 { 224 } else { 32 }
    }

    fn min_numbers(&self) -> i64 {
        let blocks = self.depths.iter().zip([1, 2, 4, 8]);
        blocks.map(|(depth, times)| 8 * depth * (times * self.width).pow(2)).sum()
    }

    fn timm(&self) -> Timm {
        let widths = [1, 2, 4, 8].map(|times| times * self.width);
        Timm {
            architecture: "convnext_tiny".to_owned(),
            global_pool: "avg",
            model_args: Some(json!({
                "depths": self.depths, "dims": widths, "patch_size": self.patch,
                "conv_mlp": self.conv_mlp,
            })),
            first_conv: "stem.0",
            classifier: "head.fc",
        }
    }

    /// With a patch of 2, timm shrinks the map in the first stage too.
    fn python(&self) -> Python {
        match self.patch {
            2 => Python { timm: false, builder: "timm with a patch of 1, and stem[0] replaced" },
            _ => Python { timm: true, builder: "timm" },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_encoders::{Family, build};
    use portolan_tensor::{Device, Vars};

    use super::*;

    fn shapes(config: &ConvNextConfig) -> Shapes {
        let vars = Vars::new(Device::Cpu);
        build(&config.clone().into(), &vars).unwrap();
        vars.state().into_iter().map(|(name, tensor)| (name, tensor.size())).collect()
    }

    fn small() -> ConvNextConfig {
        ConvNextConfig::plain(8, [1, 2, 1, 1])
    }

    #[test]
    fn a_convnext_is_known_by_its_shapes() {
        for config in [
            small(),
            ConvNextConfig { patch: 2, ..small() },
            ConvNextConfig { conv_mlp: true, ..small() },
            ConvNextConfig::named("convnext_atto").unwrap(),
        ] {
            let shapes = shapes(&config);
            assert_eq!(recognize(&shapes).unwrap(), config.clone().into());
            let numbers: i64 = shapes.values().map(|shape| shape.iter().product::<i64>()).sum();
            assert!(config.min_numbers() <= numbers, "{}", config.name());
        }
    }

    #[test]
    fn other_convnexts_are_refused_by_name() {
        for (added, shape, word) in [
            ("stem.1.weight", vec![8, 8, 3, 3], "overlapping"),
            ("stages.0.blocks.0.mlp.grn.weight", vec![32], "V2"),
            ("stages.0.downsample.0.weight", vec![8], "first stage"),
        ] {
            let mut shapes = shapes(&small());
            shapes.insert(added.to_owned(), shape);
            let error = recognize(&shapes).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn the_authors_names_become_timm_s() {
        for (theirs, timm) in [
            ("downsample_layers.0.0.weight", "stem.0.weight"),
            ("downsample_layers.2.1.bias", "stages.2.downsample.1.bias"),
            ("stages.3.2.dwconv.weight", "stages.3.blocks.2.conv_dw.weight"),
            ("stages.3.2.pwconv2.bias", "stages.3.blocks.2.mlp.fc2.bias"),
            ("stages.3.2.gamma", "stages.3.blocks.2.gamma"),
            ("norm.weight", "head.norm.weight"),
        ] {
            assert_eq!(from_authors(theirs).unwrap(), timm);
        }
        assert_eq!(from_authors("stages.3.blocks.2.gamma"), None);
    }
}
