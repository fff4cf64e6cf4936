//! Pictures of the correlation matrix that a method's loss compares with the identity.

use anyhow::{Context, Result};
use image::GrayImage;
use portolan_method::Method;
use portolan_tensor::{Device, Kind, Tensor, distributed};
use std::path::Path;

/// The folder of pictures in a run's folder.
const FOLDER: &str = "correlation";
/// Pictures of a run.
const PICTURES: u64 = 5;

/// Whether a picture is due after `step` of `total` steps: after the first one, the last one, and
/// three between.
fn is_due(step: u64, total: u64) -> bool {
    (0..PICTURES).any(|i| step == (i * total / (PICTURES - 1)).max(1))
}

/// Draws the matrix of the last loss, if a picture is due after `step` of `total` steps.
pub(crate) fn draw(method: &dyn Method, run: &Path, step: u64, total: u64) -> Result<()> {
    if !is_due(step, total) || distributed::rank() > 0 {
        return Ok(());
    }
    let Some(matrix) = method.correlation() else { return Ok(()) };
    let folder = run.join(FOLDER);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let path = folder.join(format!("step-{step:08}.png"));
    picture(&matrix)?.save(&path).with_context(|| format!("cannot write {}", path.display()))
}

/// The matrix as a picture: 0 is white, 1 and −1 are black.
fn picture(matrix: &Tensor) -> Result<GrayImage> {
    let shades: Tensor = (1.0 - matrix.abs().clamp(0.0, 1.0)) * 255.0;
    let shades = shades.round().to_kind(Kind::Uint8).to_device(Device::Cpu).flatten(0, -1);
    let side = matrix.size()[0] as u32;
    GrayImage::from_raw(side, side, Vec::try_from(shades)?).context("the matrix is not square")
}

/// The pictures in the folder of a run, each with the steps that were done: black is 1 or −1, white
/// is 0. None if the method's loss has no such matrix.
///
/// # Errors
/// When a picture cannot be read.
pub fn correlations(run: &Path) -> Result<Vec<(u64, GrayImage)>> {
    let folder = run.join(FOLDER);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let step = path.file_stem().and_then(|it| it.to_str()?.strip_prefix("step-")?.parse().ok());
        let Some(step) = step else { continue };
        let image =
            image::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        found.push((step, image.to_luma8()));
    }
    found.sort_by_key(|(step, _)| *step);
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn there_are_five_pictures_of_a_run() {
        let due = |total| (1..=total).filter(|&step| is_due(step, total)).collect::<Vec<u64>>();
        assert_eq!(due(468), [1, 117, 234, 351, 468]);
        assert_eq!(due(2), [1, 2]);
    }

    #[test]
    fn what_is_far_from_zero_is_dark() {
        let matrix = Tensor::from_slice2(&[[1.0f32, 0.2], [-1.0, 0.0]]);
        assert_eq!(picture(&matrix).unwrap().into_raw(), [0, 204, 0, 255]);
    }
}
