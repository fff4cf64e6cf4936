//! MAE's reconstructions as images, and their error compared with that of a plain fill.

use portolan_losses::{mae, mae::patchify, mae::unpatchify};
use portolan_method::{Result, StepContext};
use portolan_tensor::{Kind, Tensor, no_grad};

use crate::{Mae, MaeConfig, Painted};

/// Masked and reconstructed images: each `[batch, 3, size, size]`, normalized like the input.
#[derive(Debug)]
pub struct Reconstruction {
    /// The input of the encoder; hidden patches have the data set's mean color (zero).
    pub masked: Tensor,
    /// The decoder's prediction for all patches. Predictions for visible patches are poor, since
    /// the loss leaves them out.
    pub painted: Tensor,
    /// The prediction for the hidden patches, with the original visible patches.
    pub pasted: Tensor,
}

/// Mean squared errors on the hidden patches, in the space of the targets: scalars.
#[derive(Debug)]
pub struct Errors {
    /// The error of MAE's prediction.
    pub painted: Tensor,
    /// The error of filling all hidden patches of an image with the mean color of its visible ones.
    pub filled: Tensor,
}

impl Mae {
    /// The settings.
    pub fn config(&self) -> &MaeConfig {
        &self.config
    }

    /// Hides patches of `images`, `[batch, 3, size, size]`, normalized, and reconstructs them, in
    /// evaluation mode and without gradients.
    ///
    /// A network that was trained on normalized patches does not predict a patch's mean and
    /// deviation; these are taken from the original patch. (The authors' demo uses networks that
    /// were trained on plain pixels.)
    ///
    /// # Errors
    /// When the images are not of the encoder's size.
    pub fn reconstruct(&self, images: &Tensor, cx: &StepContext) -> Result<Reconstruction> {
        no_grad(|| {
            let Painted { mut pred, mask, .. } = self.paint(images, cx, /* train */ false)?;
            let patch = self.encoder.config().patch;
            let image =
                |patches: &Tensor| unpatchify(patches, patch, images.size()[2], images.size()[3]);
            let seen = patchify(images, patch)?;
            if self.config.normalize_patches {
                let mean = seen.mean_dim([-1i64].as_slice(), true, Kind::Float);
                let variance = seen.var_dim([-1i64].as_slice(), true, true);
                pred = pred * (variance + 1e-6).sqrt() + mean;
            }
            let hidden = mask.hidden.unsqueeze(-1);
            let visible: Tensor = 1.0 - &hidden;
            let masked = &seen * visible;
            let pasted = &masked + &pred * &hidden;
            Ok(Reconstruction {
                masked: image(&masked)?,
                painted: image(&pred)?,
                pasted: image(&pasted)?,
            })
        })
    }
}

impl Painted {
    /// The error of the prediction on the hidden patches, and that of a plain fill. Both are
    /// measured in the space of the targets: if these are normalized patches, the fill is computed
    /// from normalized patches too.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub fn errors(&self) -> Result<Errors> {
        let hidden = &self.mask.hidden;
        Ok(Errors {
            painted: mae(&self.pred, &self.target, hidden)?,
            filled: mae(&self.mean_of_visible(), &self.target, hidden)?,
        })
    }

    /// Every patch filled with the mean color of the image's visible patches: `[batch, patches,
    /// patch · patch · 3]`.
    fn mean_of_visible(&self) -> Tensor {
        let size = self.target.size();
        let colors = self.target.view([size[0], size[1], -1, 3]);
        let visible: Tensor = 1.0 - &self.mask.hidden;
        let visible = visible.view([size[0], size[1], 1, 1]);
        let among = [1i64, 2];
        let pixels = colors.size()[2] as f64;
        let count = visible.sum_dim_intlist(among.as_slice(), true, Kind::Float) * pixels;
        let mean = (&colors * visible).sum_dim_intlist(among.as_slice(), true, Kind::Float) / count;
        mean.expand_as(&colors).reshape(size)
    }
}
