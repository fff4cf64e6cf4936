//! What MAE paints, as images to look at and as an error to hold against a plain fill.

use portolan_losses::{mae, mae::patchify, mae::unpatchify};
use portolan_method::{Result, StepContext};
use portolan_tensor::{Kind, Tensor, no_grad};

use crate::{Mae, MaeConfig, Painted};

/// Images with patches hidden and painted: each `[batch, 3, size, size]`, normalized as the images
/// are.
#[derive(Debug)]
pub struct Reconstruction {
    /// What the encoder saw; hidden patches have the data set's mean color (zero).
    pub masked: Tensor,
    /// The decoder's painting of every patch, seen ones included: those cost nothing in training,
    /// and look it.
    pub painted: Tensor,
    /// The painting with the visible patches put back.
    pub pasted: Tensor,
}

/// Mean squared errors on the hidden patches, in the space of the targets: scalars.
#[derive(Debug)]
pub struct Errors {
    /// Of what MAE paints.
    pub painted: Tensor,
    /// Of painting all hidden patches of an image in the mean color of its visible ones.
    pub filled: Tensor,
}

impl Mae {
    /// What it was set to.
    pub fn config(&self) -> &MaeConfig {
        &self.config
    }

    /// Hides patches of `images`, `[batch, 3, size, size]`, normalized, and paints them, without
    /// training.
    ///
    /// A network that was trained on normalized patches says nothing of a patch's mean and
    /// deviation: these are taken from the true patch. (The authors' demo shows networks that were
    /// trained on plain pixels.)
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
    /// The prediction's error on the hidden patches beside that of a plain fill. Both are measured
    /// in the space of the targets: where those are normalized patches, so is the fill made of
    /// normalized patches.
    ///
    /// # Errors
    /// When the shapes do not fit one another.
    pub fn errors(&self) -> Result<Errors> {
        let hidden = &self.mask.hidden;
        Ok(Errors {
            painted: mae(&self.pred, &self.target, hidden)?,
            filled: mae(&self.mean_of_visible(), &self.target, hidden)?,
        })
    }

    /// Every patch in the mean color of the image's visible ones: `[batch, patches, patch · patch ·
    /// 3]`.
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
