//! An encoder and its projection head, which most methods train together.

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, HeadNorm, ProjectionHead, build};
use portolan_tensor::{Device, Tensor, Vars};

use crate::{Error, Result, ensure_setting};

/// An encoder f and a projection head g: z = g(f(x)).
#[derive(Debug)]
pub struct EncoderWithHead {
    /// The tensors of both: `encoder.…` and `head.…`.
    pub vars: Vars,
    /// The encoder f, which is kept after training.
    pub encoder: Box<dyn Encoder>,
    /// The projection head g, which is dropped after training.
    pub head: ProjectionHead,
}

impl EncoderWithHead {
    /// Builds both with initial values from libtorch's generator. `widths` maps the width of the
    /// encoder's features to the widths of the head's layers: `|width| vec![width, 128]` is a
    /// hidden layer as wide as the features, then 128 outputs. For `norm` and `last_bias` see
    /// [`ProjectionHead::new`].
    ///
    /// # Errors
    /// When `encoder` is invalid, or a layer of the head has no width.
    pub fn new(
        encoder: &EncoderConfig,
        widths: impl Fn(i64) -> Vec<i64>,
        norm: HeadNorm,
        last_bias: bool,
        device: Device,
    ) -> Result<Self> {
        let vars = Vars::new(device);
        let splits = encoder.batch_norm_splits();
        let encoder = build(encoder, &(&vars / "encoder"))?;
        let mut all = vec![encoder.width()];
        all.extend(widths(encoder.width()));
        ensure_setting(all.len() >= 2 && all.iter().all(|width| *width >= 1), || {
            format!(
                "the head's layers are {:?} wide; there must be one at least, each of one \
                 number or more",
                &all[1..]
            )
        })?;
        let head = ProjectionHead::new(&(&vars / "head"), &all, norm, last_bias, splits);
        Ok(EncoderWithHead { vars, encoder, head })
    }

    /// The projections z of a training batch, not normalized: `[batch, 3, h, w]` to `[batch, dim]`.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        self.head.forward(&self.encoder.forward(images, true), true)
    }

    /// The head's outputs for features `[n, width]`, in evaluation mode and without gradients.
    pub fn project(&self, features: &Tensor) -> Tensor {
        portolan_tensor::no_grad(|| self.head.forward(features, false))
    }
}

/// Checks that there are `wanted` views, each of a size that the encoder accepts.
///
/// # Errors
/// When the number differs, or a transformer's patches do not divide a view.
pub fn validate_views(
    method: &str,
    views: &[ViewSpec],
    wanted: usize,
    encoder: &EncoderConfig,
) -> Result<()> {
    let (n, s) = (views.len(), if wanted == 1 { "" } else { "s" });
    if n != wanted {
        return Err(Error::Views(format!("{method} wants {wanted} view{s} of an image, not {n}")));
    }
    Ok(views.iter().try_for_each(|view| encoder.validate_size(i64::from(view.size())))?)
}

/// The number of global views in multi-crop. They come first, and the teacher sees only these.
pub const GLOBAL_VIEWS: usize = 2;

/// Checks the views of a method with multi-crop (DINO, section 3.1): two global views of one size,
/// then any number of local ones, at most as large.
///
/// # Errors
/// When they are other views, or a transformer's patches do not divide one.
pub fn validate_multi_crop(
    method: &str,
    views: &[ViewSpec],
    encoder: &EncoderConfig,
) -> Result<()> {
    if views.len() < GLOBAL_VIEWS {
        return Err(Error::Views(format!(
            "{method} wants two global views of an image and any number of local ones, not \
             {} in all",
            views.len()
        )));
    }
    let (global, other) = (views[0].size(), views[1].size());
    if global != other {
        return Err(Error::Views(format!(
            "{method}'s first two views are the global ones and must be of one size, not \
             {global} and {other} pixels"
        )));
    }
    for local in &views[GLOBAL_VIEWS..] {
        if local.size() > global {
            return Err(Error::Views(format!(
                "a local view of {} pixels is larger than the global ones of {global}; make \
                 it smaller",
                local.size()
            )));
        }
    }
    Ok(views.iter().try_for_each(|view| encoder.validate_size(i64::from(view.size())))?)
}
