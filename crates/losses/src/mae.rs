//! The objective of masked autoencoders: He et al., *Masked Autoencoders Are Scalable Vision Learners*,
//! 2021, arXiv:2111.06377, section 3 ("Reconstruction target").

use crate::check;
use anyhow::{Result, ensure};
use portolan_tensor::{Kind, Tensor};

/// The mean squared error of the hidden patches.
///
/// ℓ = mean over hidden patches of the mean over a patch's numbers of (pred − target)²
///
/// `pred`, `target`: `[batch, patches, numbers]`; `mask`: `[batch, patches]`, 1 where a patch was hidden
/// from the encoder and 0 where it was seen. The target is [`patchify`] of the images, and for the
/// paper's best results [`normalize_patches`] of that. The gradient flows into `pred` alone, and only
/// through hidden patches. A mask that hides nothing gives NaN.
///
/// # Errors
/// When the shapes do not fit.
pub fn mae(pred: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    check::same_shape(("pred", pred), ("target", target))?;
    let (shape, mask_shape) = (pred.size(), mask.size());
    ensure!(
        shape.len() == 3 && shape[..2] == mask_shape,
        "`pred` has the shape {shape:?} and `mask` {mask_shape:?}; [batch, patches, numbers] and \
         [batch, patches] are needed"
    );
    check::in_float([pred, target, mask], |[pred, target, mask]| {
        let mask = mask.detach();
        let errors = (pred - target.detach()).square();
        let patch_errors = errors.mean_dim([-1i64].as_slice(), false, None::<Kind>);
        (patch_errors * &mask).sum(None::<Kind>) / mask.sum(None::<Kind>)
    })
}

/// The images cut into square patches of `patch` pixels a side, row by row.
///
/// `images`: `[batch, channels, height, width]`. Returns `[batch, patches, patch · patch · channels]`;
/// the numbers of a patch are ordered by row, then column, then channel.
///
/// # Errors
/// When the images are not of four dimensions or `patch` does not divide height and width.
pub fn patchify(images: &Tensor, patch: i64) -> Result<Tensor> {
    let shape = images.size();
    let &[batch, channels, height, width] = shape.as_slice() else {
        anyhow::bail!("`images` must be [batch, channels, height, width], but is {shape:?}");
    };
    ensure!(
        patch > 0 && height % patch == 0 && width % patch == 0,
        "patches of {patch} pixels do not tile images of {height} by {width}"
    );
    let (rows, columns) = (height / patch, width / patch);
    Ok(images
        .reshape([batch, channels, rows, patch, columns, patch])
        .permute([0, 2, 4, 3, 5, 1])
        .reshape([batch, rows * columns, patch * patch * channels]))
}

/// The images that [`patchify`] cut up, of `height` by `width` pixels.
///
/// `patches`: `[batch, patches, patch · patch · channels]`. Returns `[batch, channels, height, width]`.
///
/// # Errors
/// When so many patches do not tile such images.
pub fn unpatchify(patches: &Tensor, patch: i64, height: i64, width: i64) -> Result<Tensor> {
    let shape = patches.size();
    let &[batch, count, numbers] = shape.as_slice() else {
        anyhow::bail!("`patches` must be [batch, patches, numbers], but is {shape:?}");
    };
    ensure!(
        patch > 0
            && height % patch == 0
            && width % patch == 0
            && count == (height / patch) * (width / patch)
            && numbers % (patch * patch) == 0,
        "patches of the shape {shape:?}, {patch} pixels wide, do not tile images of {height} by {width}"
    );
    let (rows, columns) = (height / patch, width / patch);
    let channels = numbers / (patch * patch);
    Ok(patches
        .reshape([batch, rows, columns, patch, patch, channels])
        .permute([0, 5, 1, 3, 2, 4])
        .reshape([batch, channels, height, width]))
}

/// Every patch with mean zero and (unbiased) variance one; 1e-6 is added to the variance, so that a
/// plain patch becomes zeros.
///
/// `patches`: `[batch, patches, numbers]`, with at least two numbers a patch.
///
/// # Errors
/// When `patches` is not such a tensor.
pub fn normalize_patches(patches: &Tensor) -> Result<Tensor> {
    let shape = patches.size();
    ensure!(
        shape.len() == 3 && shape[2] >= 2,
        "`patches` must be [batch, patches, numbers] with two numbers or more, but is {shape:?}"
    );
    check::in_float([patches], |[patches]| {
        let mean = patches.mean_dim([-1i64].as_slice(), true, None::<Kind>);
        let variance = patches.var_dim([-1i64].as_slice(), true, true);
        (patches - mean) / (variance + 1e-6).sqrt()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_tensor::Device;

    #[test]
    fn images_that_were_cut_up_come_back() {
        let images = Tensor::arange(2 * 3 * 4 * 6, (Kind::Float, Device::Cpu)).view([2, 3, 4, 6]);
        let patches = patchify(&images, 2).unwrap();
        assert_eq!(unpatchify(&patches, 2, 4, 6).unwrap(), images);
        assert!(unpatchify(&patches, 2, 6, 6).is_err());
        assert!(unpatchify(&patches, 3, 4, 6).is_err());
    }
}
