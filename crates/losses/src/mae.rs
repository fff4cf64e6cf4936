//! The loss of masked autoencoders: He et al., *Masked Autoencoders Are Scalable Vision Learners*,
//! 2021, arXiv:2111.06377, section 3 ("Reconstruction target").

use portolan_tensor::{Kind, Tensor};

use crate::validate;
use crate::{Error, Result};

/// The mean squared error over the masked patches.
///
/// ℓ = mean over masked patches of the mean over a patch's numbers of (pred − target)²
///
/// `pred`, `target`: `[batch, patches, numbers]`; `mask`: `[batch, patches]`, 1 for a masked patch
/// and 0 for a visible one. The target is [`patchify`] of the images; the paper's best results use
/// [`normalize_patches`] of it. The gradient flows into `pred` alone, and only through masked
/// patches. The loss of a mask of zeros is NaN.
///
/// # Errors
/// When the shapes do not fit.
pub fn mae(pred: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    validate::same_shape(("pred", pred), ("target", target))?;
    let (shape, mask_shape) = (pred.size(), mask.size());
    if shape.len() != 3 || shape[..2] != mask_shape {
        return Err(Error::Shape(format!(
            "`pred` has the shape {shape:?} and `mask` {mask_shape:?}; [batch, patches, numbers] \
             and [batch, patches] are needed"
        )));
    }
    validate::in_float([pred, target, mask], |[pred, target, mask]| {
        let mask = mask.detach();
        let errors = (pred - target.detach()).square();
        let patch_errors = errors.mean_dim([-1i64].as_slice(), false, None::<Kind>);
        (patch_errors * &mask).sum(None::<Kind>) / mask.sum(None::<Kind>)
    })
}

/// Cuts images into square patches of `patch` pixels a side, row by row.
///
/// `images`: `[batch, channels, height, width]`. Returns
/// `[batch, patches, patch · patch · channels]`, a patch's numbers ordered by row, then column,
/// then channel.
///
/// # Errors
/// When the images do not have four dimensions or `patch` does not divide height and width.
pub fn patchify(images: &Tensor, patch: i64) -> Result<Tensor> {
    let shape = images.size();
    let &[batch, channels, height, width] = shape.as_slice() else {
        let message =
            format!("`images` must be [batch, channels, height, width], but is {shape:?}");
        return Err(Error::Shape(message));
    };
    if patch <= 0 || height % patch != 0 || width % patch != 0 {
        let message =
            format!("patches of {patch} pixels do not tile images of {height} by {width}");
        return Err(Error::Shape(message));
    }
    let (rows, columns) = (height / patch, width / patch);
    Ok(images
        .reshape([batch, channels, rows, patch, columns, patch])
        .permute([0, 2, 4, 3, 5, 1])
        .reshape([batch, rows * columns, patch * patch * channels]))
}

/// The inverse of [`patchify`]: images of `height` by `width` pixels.
///
/// `patches`: `[batch, patches, patch · patch · channels]`. Returns
/// `[batch, channels, height, width]`.
///
/// # Errors
/// When the patches do not tile such images.
pub fn unpatchify(patches: &Tensor, patch: i64, height: i64, width: i64) -> Result<Tensor> {
    let shape = patches.size();
    let &[batch, count, numbers] = shape.as_slice() else {
        let message = format!("`patches` must be [batch, patches, numbers], but is {shape:?}");
        return Err(Error::Shape(message));
    };
    let fits = patch > 0
        && height % patch == 0
        && width % patch == 0
        && count == (height / patch) * (width / patch)
        && numbers % (patch * patch) == 0;
    if !fits {
        return Err(Error::Shape(format!(
            "patches of the shape {shape:?}, {patch} pixels wide, do not tile images of {height} \
             by {width}"
        )));
    }
    let (rows, columns) = (height / patch, width / patch);
    let channels = numbers / (patch * patch);
    Ok(patches
        .reshape([batch, rows, columns, patch, patch, channels])
        .permute([0, 5, 1, 3, 2, 4])
        .reshape([batch, channels, height, width]))
}

/// Normalizes every patch to mean zero and (unbiased) variance one. 1e-6 is added to the variance,
/// so that a uniform patch becomes zeros.
///
/// `patches`: `[batch, patches, numbers]`, with at least two numbers per patch.
///
/// # Errors
/// When `patches` has another shape.
pub fn normalize_patches(patches: &Tensor) -> Result<Tensor> {
    let shape = patches.size();
    if shape.len() != 3 || shape[2] < 2 {
        return Err(Error::Shape(format!(
            "`patches` must be [batch, patches, numbers] with two numbers or more, but is {shape:?}"
        )));
    }
    validate::in_float([patches], |[patches]| {
        let mean = patches.mean_dim([-1i64].as_slice(), true, None::<Kind>);
        let variance = patches.var_dim([-1i64].as_slice(), true, true);
        (patches - mean) / (variance + 1e-6).sqrt()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_tensor::Device;

    use super::*;

    #[test]
    fn images_that_were_cut_up_come_back() {
        let images = Tensor::arange(2 * 3 * 4 * 6, (Kind::Float, Device::Cpu)).view([2, 3, 4, 6]);
        let patches = patchify(&images, 2).unwrap();
        assert_eq!(unpatchify(&patches, 2, 4, 6).unwrap(), images);
        assert!(unpatchify(&patches, 2, 6, 6).is_err());
        assert!(unpatchify(&patches, 3, 4, 6).is_err());
    }
}
