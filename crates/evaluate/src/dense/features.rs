//! The features of patches, for heads that classify pixels.

use portolan_augment::ViewSpec;
use portolan_data::Source;
use portolan_encoders::Encoder;
use portolan_tensor::{Device, Kind, Precision, Tensor, channels_last, no_grad, upload};

use crate::error::{Error, Result};
use crate::images::images;

/// Pixels per forward pass.
const BATCH_PIXELS: usize = 1 << 20;

/// The features of a frozen encoder at each place of a grid.
#[derive(Debug)]
pub struct PatchFeatures {
    /// `[n, width, rows, columns]`, float32: the patch tokens of a vision transformer after its
    /// last norm, or the last feature map of a convolutional network.
    pub map: Tensor,
    /// `[n, width]`: the class token after the last norm, if there is one.
    pub class_token: Option<Tensor>,
}

/// The patch features of normalized images `[n, 3, height, width]`, on `device`, from one pass in
/// evaluation mode without gradients.
///
/// # Errors
/// When the patch does not divide the images, or the features are not finite
/// ([`Error::NotFinite`]).
pub fn patch_features(
    encoder: &dyn Encoder,
    images: &Tensor,
    device: Device,
    precision: Precision,
) -> Result<PatchFeatures> {
    let x = channels_last(&upload(images, device));
    let found = no_grad(|| precision.run(device, || of(encoder, &x))).map_err(Error::dependency)?;
    let (map, class_token) = found?;
    let float = |x: Tensor| x.to_kind(Kind::Float).contiguous();
    let map = float(map);
    // The sum is finite only if all are.
    if !map.sum(Kind::Double).double_value(&[]).is_finite() {
        return Err(Error::NotFinite);
    }
    Ok(PatchFeatures { map, class_token: class_token.map(float) })
}

fn of(encoder: &dyn Encoder, x: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
    let Some(vit) = encoder.as_vit() else {
        return Ok((encoder.feature_map(x, /* train */ false), None));
    };
    let tokens = vit.tokens(x, None, /* train */ false).map_err(Error::dependency)?;
    let patch = vit.config().patch;
    let (rows, columns) = (x.size()[2] / patch, x.size()[3] / patch);
    let patches = tokens.narrow(1, vit.prefix_tokens(), rows * columns);
    let map = patches.transpose(1, 2).reshape([-1, encoder.width(), rows, columns]);
    Ok((map, Some(tokens.select(1, 0))))
}

/// The patch features of the images of a source that could be read.
#[derive(Debug)]
pub struct EmbeddedPatches {
    /// `[n, rows · columns, width]`, float32 on the CPU: the patches row by row.
    pub x: Tensor,
    /// The rows of the grid of patches.
    pub rows: i64,
    /// Its columns.
    pub columns: i64,
    /// The indices of these images in the source.
    pub ids: Vec<usize>,
    /// The items that could not be read, each as `location: reason`, in order.
    pub skipped: Vec<String>,
}

/// The [`patch_features`] of all images of `source`, which have to fit into memory.
///
/// # Errors
/// When no image can be read, the view is invalid, or the features are not finite.
pub fn embed_patches(
    encoder: &dyn Encoder,
    source: &dyn Source,
    view: &ViewSpec,
    device: Device,
    precision: Precision,
) -> Result<EmbeddedPatches> {
    let indices: Vec<usize> = (0..source.len()).collect();
    let batch = (BATCH_PIXELS / (view.size() as usize).pow(2).max(1)).clamp(1, 256);
    let (mut blocks, mut grid) = (Vec::new(), (0, 0));
    let (mut ids, mut skipped) = (Vec::new(), Vec::new());
    for part in indices.chunks(batch) {
        let read = images(source, part, view)?;
        if !read.ids.is_empty() {
            let map = patch_features(encoder, &read.x, device, precision)?.map;
            grid = (map.size()[2], map.size()[3]);
            blocks.push(map.flatten(2, 3).transpose(1, 2).contiguous().to_device(Device::Cpu));
        }
        ids.extend(read.ids);
        skipped.extend(read.skipped);
    }
    if ids.is_empty() {
        return Err(Error::Images(match skipped.first() {
            Some(first) => format!("none of the images can be read; the first: {first}"),
            None => "there is no image to embed".to_owned(),
        }));
    }
    let (rows, columns) = grid;
    Ok(EmbeddedPatches { x: Tensor::cat(&blocks, 0), rows, columns, ids, skipped })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_augment::presets;
    use portolan_data::{Options, open};
    use portolan_encoders::{EncoderConfig, build};
    use portolan_tensor::{Vars, tch};

    #[test]
    fn patches_come_row_by_row_and_their_mean_is_the_pooled_feature() {
        tch::set_num_threads(1);
        let shapes = open("shapes", &Options { train: 12, test: 5, ..Options::default() }).unwrap();
        let view = presets::evaluation(32, 32).with_normalization([0.5; 3], [0.2; 3]);
        let of = |name: &str| {
            let config = EncoderConfig::named(name).unwrap();
            let encoder = build(&config, &Vars::new(Device::Cpu)).unwrap();
            let (device, precision) = (Device::Cpu, Precision::Fp32);
            let found = embed_patches(&*encoder, &*shapes.train, &view, device, precision).unwrap();
            let indices: Vec<usize> = (0..12).collect();
            let x = images(&*shapes.train, &indices, &view).unwrap().x;
            (
                found,
                no_grad(|| encoder.forward(&x, false)),
                no_grad(|| encoder.feature_map(&x, false)),
            )
        };
        let (resnet, pooled, _) = of("resnet18-w4");
        assert_eq!((resnet.x.size()[0], resnet.ids.len()), (12, 12));
        let mean = resnet.x.mean_dim([1i64].as_slice(), false, Kind::Float);
        assert!(mean.allclose(&pooled, 1e-4, 1e-5, false));
        let (vit, _, map) = of("vit_w8d1h2_patch4_32");
        assert_eq!((vit.x.size(), vit.rows, vit.columns), (vec![12, 64, 8], 8, 8));
        let third_row = vit.x.get(5).get(2 * 8 + 3);
        assert!(third_row.allclose(&map.get(5).select(1, 2).select(1, 3), 1e-5, 1e-6, false));
    }
}
