//! The names of vision transformers, as timm writes them. A name is data: [`super::config`] gives
//! it settings.

/// What a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Width, depth and heads.
    pub(super) size: [i64; 3],
    /// Whether the size's name ends in `_plus`: DINOv3's with SwiGLU.
    pub(super) plus: bool,
    /// The side of a patch in pixels.
    pub(super) patch: i64,
    /// The side of the images in pixels that positions are for.
    pub(super) image: i64,
    /// Whose transformer it is.
    pub(super) kind: Kind,
}

/// Whose transformer it is, as far as that changes the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The one of the paper: `vit_small_patch16_224`.
    Plain,
    /// DINOv2's, with this number of registers: `vit_small_patch14_reg4_dinov2`.
    Dinov2 { registers: i64 },
    /// DINOv3's: `vit_small_patch16_dinov3`.
    Dinov3,
    /// DeiT III's: `deit3_small_patch16_224`.
    Deit3,
    /// The image tower of CLIP: `vit_base_patch16_clip_224`, or as OpenAI trained it,
    /// `vit_base_patch16_clip_quickgelu_224`.
    Clip { quick_gelu: bool },
}

/// Name, width, depth, heads: Ti and S of Touvron et al. 2020 (arXiv:2012.12877, table 1), B, L and
/// H of Dosovitskiy et al. 2020 (table 1), M of Touvron et al. 2022 (arXiv:2204.07118), g of Oquab
/// et al. 2023 (arXiv:2304.07193, table 16).
const SIZES: [(&str, [i64; 3]); 7] = [
    ("tiny", [192, 12, 3]),
    ("small", [384, 12, 6]),
    ("medium", [512, 12, 8]),
    ("base", [768, 12, 12]),
    ("large", [1024, 24, 16]),
    ("huge", [1280, 32, 16]),
    ("giant", [1536, 40, 24]),
];

/// The side in pixels of the images of DINOv2's positions, and timm's for DINOv3.
pub(super) const DINOV2_IMAGE: i64 = 518;
const DINOV3_IMAGE: i64 = 256;

/// The heads of DINOv3's `huge_plus`, of which there is no other huge one.
const HUGE_PLUS: [i64; 3] = [1280, 32, 20];

/// The form of a name, for messages.
pub(super) const FORM: &str = "write vit_small_patch16_224, with tiny, small, medium, base, large, \
                               huge or a size like w128d6h4, or one of timm's names of DINOv2, \
                               DINOv3, DeiT III and CLIP, such as vit_small_patch14_reg4_dinov2, \
                               vit_small_patch16_dinov3, deit3_small_patch16_224 and \
                               vit_base_patch16_clip_224";

/// The first names of the list of those that are known.
pub(super) fn known() -> String {
    let plain = ["tiny", "small", "base", "large"].map(|size| format!("vit_{size}_patch16_224"));
    format!(
        "{}, also with other patches and images, vit_small_patch14_dinov2, \
         vit_small_patch14_reg4_dinov2, vit_small_patch16_dinov3, deit3_small_patch16_224, \
         vit_base_patch16_clip_224 and their other sizes",
        plain.join(", ")
    )
}

/// Whether a name is of this family, well formed or not.
pub(super) fn is_of_family(name: &str) -> bool {
    name.starts_with("vit_") || name.starts_with("deit3_")
}

impl Named {
    /// What the name says; `None` if it has another form.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.split('_').collect();
        let (&first, rest) = parts.split_first()?;
        let (&size, rest) = rest.split_first()?;
        let plus = rest.first() == Some(&"plus");
        let (&patch, rest) = rest.get(usize::from(plus)..)?.split_first()?;
        let number = |text: &str| text.parse::<i64>().ok();
        let (kind, image) = match (first, rest) {
            ("vit", [image]) if *image != "dinov2" && *image != "dinov3" => {
                (Kind::Plain, number(image)?)
            }
            ("deit3", [image]) => (Kind::Deit3, number(image)?),
            ("vit", ["dinov2", image @ ..]) => {
                (Kind::Dinov2 { registers: 0 }, other(image, DINOV2_IMAGE)?)
            }
            ("vit", [registers, "dinov2", image @ ..]) => {
                let registers = number(registers.strip_prefix("reg")?)?;
                (Kind::Dinov2 { registers }, other(image, DINOV2_IMAGE)?)
            }
            ("vit", ["dinov3", image @ ..]) => (Kind::Dinov3, other(image, DINOV3_IMAGE)?),
            ("vit", ["clip", image]) => (Kind::Clip { quick_gelu: false }, number(image)?),
            ("vit", ["clip", "quickgelu", image]) => {
                (Kind::Clip { quick_gelu: true }, number(image)?)
            }
            _ => return None,
        };
        let size = match (size, plus) {
            ("huge", true) => HUGE_PLUS,
            _ => SIZES
                .iter()
                .find(|(known, _)| *known == size)
                .map(|(_, size)| *size)
                .or_else(|| parse_size(size))?,
        };
        let patch = number(patch.strip_prefix("patch")?)?;
        (!plus || kind == Kind::Dinov3).then_some(Named { size, plus, patch, image, kind })
    }

    /// The name that says this.
    pub(super) fn name(&self) -> String {
        let &Named { size, plus, patch, image, kind } = self;
        let [width, depth, heads] = size;
        let huge_plus = (plus && size == HUGE_PLUS).then_some("huge");
        let known = SIZES.iter().find(|(_, known)| *known == size).map(|(name, _)| *name);
        let size =
            huge_plus.or(known).map_or_else(|| format!("w{width}d{depth}h{heads}"), str::to_owned);
        let plus = if plus { "_plus" } else { "" };
        let or_default = |default: i64| match image {
            image if image == default => String::new(),
            image => format!("_{image}"),
        };
        match kind {
            Kind::Plain => format!("vit_{size}_patch{patch}_{image}"),
            Kind::Deit3 => format!("deit3_{size}_patch{patch}_{image}"),
            Kind::Dinov2 { registers: 0 } => {
                format!("vit_{size}_patch{patch}_dinov2{}", or_default(DINOV2_IMAGE))
            }
            Kind::Dinov2 { registers } => {
                format!("vit_{size}_patch{patch}_reg{registers}_dinov2{}", or_default(DINOV2_IMAGE))
            }
            Kind::Dinov3 => {
                format!("vit_{size}{plus}_patch{patch}_dinov3{}", or_default(DINOV3_IMAGE))
            }
            Kind::Clip { quick_gelu: false } => format!("vit_{size}_patch{patch}_clip_{image}"),
            Kind::Clip { quick_gelu: true } => {
                format!("vit_{size}_patch{patch}_clip_quickgelu_{image}")
            }
        }
    }

    /// Whether it is DINOv2's g, which has SwiGLU.
    pub(super) fn is_giant(&self) -> bool {
        self.size == [1536, 40, 24]
    }
}

/// The images that a name ends with, or the default ones.
fn other(image: &[&str], default: i64) -> Option<i64> {
    match image {
        [] => Some(default),
        [image] => image.parse().ok(),
        _ => None,
    }
}

/// `w128d6h4` to 128, 6, 4.
fn parse_size(text: &str) -> Option<[i64; 3]> {
    let (width, rest) = text.strip_prefix('w')?.split_once('d')?;
    let (depth, heads) = rest.split_once('h')?;
    Some([width.parse().ok()?, depth.parse().ok()?, heads.parse().ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            "vit_tiny_patch16_224",
            "vit_w64d3h2_patch4_32",
            "vit_small_patch14_dinov2",
            "vit_giant_patch14_reg4_dinov2",
            "vit_w64d3h2_patch4_reg2_dinov2_32",
            "vit_small_patch16_dinov3",
            "vit_huge_plus_patch16_dinov3",
            "vit_small_plus_patch16_dinov3_224",
            "deit3_medium_patch16_224",
            "vit_base_patch16_clip_224",
            "vit_large_patch14_clip_quickgelu_336",
        ] {
            assert_eq!(Named::parse(name).map(|named| named.name()).as_deref(), Some(name));
        }
    }

    #[test]
    fn other_names_are_none() {
        for name in [
            "vit_tiny_patch16",
            "vit_tiny_16_224",
            "vit_vast_patch16_224",
            "vit_small_patch14_reg_dinov2",
            "vit_small_plus_patch14_dinov2",
            "vit_small_patch16_dinov3_256_256",
            "deit3_small_patch16",
            "vit_base_patch16_clip",
            "vit",
        ] {
            assert_eq!(Named::parse(name), None, "{name}");
        }
    }
}
