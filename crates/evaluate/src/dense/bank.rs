//! The training images of a dense probe, with their patch features.

use portolan_encoders::Encoder;
use portolan_tensor::{Device, Kind, Tensor, upload};
use std::collections::BTreeMap;

use super::features::{PatchFeatures, patch_features};
use super::images::{DenseImages, dense_images};
use super::task::DenseTask;
use crate::error::{Error, Result};

/// Features and maps are kept up to this many bytes; beyond, images are read at every epoch.
const KEPT_BYTES: usize = 2 << 30;
/// Images per pass when features are kept.
const PART: usize = 64;

/// Features and maps of the same images.
pub(super) struct Examples {
    pub(super) features: PatchFeatures,
    /// `[n, side, side]`, int16.
    pub(super) classes: Tensor,
    /// `[n, side, side]`.
    pub(super) depth: Tensor,
}

/// The training images.
pub(super) struct Bank<'a> {
    encoder: &'a dyn Encoder,
    on: &'a DenseTask<'a>,
    /// The images that can be read.
    pub(super) ids: Vec<usize>,
    pub(super) skipped: Vec<String>,
    /// The greatest depth, in meters.
    pub(super) farthest: f64,
    /// All of them, if they fit, and the row of each image.
    kept: Option<(Examples, BTreeMap<usize, i64>)>,
}

impl<'a> Bank<'a> {
    /// Reads every image once.
    pub(super) fn of(encoder: &'a dyn Encoder, on: &'a DenseTask<'a>) -> Result<Self> {
        let indices: Vec<usize> = (0..on.train.len()).collect();
        let (mut ids, mut skipped, mut farthest) = (Vec::new(), Vec::new(), 0f64);
        let mut parts: Option<Vec<Examples>> = Some(Vec::new());
        let mut bytes = 0;
        for part in indices.chunks(PART) {
            let read = dense_images(on.train, part, on.view)?;
            skipped.extend(read.skipped.iter().cloned());
            if read.ids.is_empty() {
                continue;
            }
            farthest = farthest.max(read.depth.max().double_value(&[]));
            ids.extend(read.ids.iter().copied());
            let Some(kept) = &mut parts else { continue };
            let examples = examples(encoder, on, &read, Device::Cpu)?;
            bytes += examples.bytes();
            kept.push(examples);
            if bytes > KEPT_BYTES {
                parts = None;
            }
        }
        if ids.is_empty() {
            return Err(Error::Images(match skipped.first() {
                Some(first) => {
                    format!(
                        "none of the {} training images can be read; the first: {first}",
                        skipped.len()
                    )
                }
                None => "there is no image to train on".to_owned(),
            }));
        }
        if on.has_depth && farthest <= 0.0 {
            return Err(Error::Images("no pixel to train on has a depth: all are 0".to_owned()));
        }
        let rows = ids.iter().enumerate().map(|(row, &id)| (id, row as i64)).collect();
        let kept = parts.map(|parts| (joined(&parts), rows));
        Ok(Bank { encoder, on, ids, skipped, farthest, kept })
    }

    /// One image, for the shapes of its features.
    pub(super) fn first(&self) -> Result<Examples> {
        let gone = || Error::Images("an image can no longer be read".to_owned());
        self.batch(&self.ids[..1])?.ok_or_else(gone)
    }

    /// These images, on the device; `None` if none of them can be read any longer.
    pub(super) fn batch(&self, ids: &[usize]) -> Result<Option<Examples>> {
        if let Some((all, rows)) = &self.kept {
            let rows: Vec<i64> = ids.iter().map(|id| rows[id]).collect();
            return Ok(Some(all.rows(&Tensor::from_slice(&rows), self.on.device)));
        }
        let read = dense_images(self.on.train, ids, self.on.view)?;
        if read.ids.is_empty() {
            return Ok(None);
        }
        examples(self.encoder, self.on, &read, self.on.device).map(Some)
    }
}

/// The features of images and their maps, on `device`.
fn examples(
    encoder: &dyn Encoder,
    on: &DenseTask,
    read: &DenseImages,
    device: Device,
) -> Result<Examples> {
    let features = patch_features(encoder, &read.x, on.device, on.precision)?;
    let features = PatchFeatures {
        map: features.map.to_device(device),
        class_token: features.class_token.map(|token| token.to_device(device)),
    };
    let (classes, depth) = (read.classes.to_device(device), read.depth.to_device(device));
    Ok(Examples { features, classes, depth })
}

fn joined(parts: &[Examples]) -> Examples {
    let all =
        |of: fn(&Examples) -> &Tensor| Tensor::cat(&parts.iter().map(of).collect::<Vec<_>>(), 0);
    let tokens: Option<Vec<&Tensor>> =
        parts.iter().map(|part| part.features.class_token.as_ref()).collect();
    Examples {
        features: PatchFeatures {
            map: all(|part| &part.features.map),
            class_token: tokens.map(|tokens| Tensor::cat(&tokens, 0)),
        },
        classes: all(|part| &part.classes),
        depth: all(|part| &part.depth),
    }
}

impl Examples {
    fn rows(&self, rows: &Tensor, device: Device) -> Examples {
        let of = |x: &Tensor| upload(&x.index_select(0, rows), device);
        Examples {
            features: PatchFeatures {
                map: of(&self.features.map),
                class_token: self.features.class_token.as_ref().map(of),
            },
            classes: of(&self.classes),
            depth: of(&self.depth),
        }
    }

    fn bytes(&self) -> usize {
        let tensors = [Some(&self.features.map), self.features.class_token.as_ref()];
        let maps = [Some(&self.classes), Some(&self.depth)];
        let all = tensors.into_iter().chain(maps).flatten();
        all.map(|x| x.numel() * if x.kind() == Kind::Int16 { 2 } else { 4 }).sum()
    }
}
