//! Rotation prediction: Gidaris, Singh, Komodakis 2018, *Unsupervised Representation Learning by
//! Predicting Image Rotations*, arXiv 1803.07728.

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, build, layers::Linear};
use portolan_method::{Batch, ImageMethod, Method, Result, StepContext, StepLoss, validate_views};
use portolan_optim::ParamGroup;
use portolan_tensor::{
    Device, Kind, Reduction, Tensor, Vars, at_least_f32, full_precision, no_grad, prefixed,
};

/// Quarter turns to tell apart (section 2.2).
const TURNS: i64 = 4;

/// Rotation prediction, ready to train. It has no settings.
#[derive(Debug)]
pub struct Rotation {
    views: Vec<ViewSpec>,
    encoder: Box<dyn Encoder>,
    classifier: Linear,
    classifier_vars: Vars,
}

impl Rotation {
    /// Builds encoder and classifier with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When `encoder` is invalid, or there is not exactly one view.
    pub fn new(encoder: &EncoderConfig, views: Vec<ViewSpec>, device: Device) -> Result<Self> {
        validate_views("rotation prediction", &views, 1, encoder)?;
        let encoder = build(encoder, &Vars::new(device))?;
        let classifier_vars = Vars::new(device);
        let classifier = Linear::new(&classifier_vars, encoder.width(), TURNS, true);
        Ok(Rotation { views, encoder, classifier, classifier_vars })
    }
}

/// All four rotations of every image, `[4 · batch, 3, size, size]`, and the number of quarter turns
/// of each. They share a batch, which the paper found to matter (section 3.1, "Implementation
/// details").
fn all_turns(images: &Tensor) -> (Tensor, Tensor) {
    let turned: Vec<Tensor> = (0..TURNS).map(|k| images.rot90(k, [2, 3])).collect();
    let turns = Tensor::arange(TURNS, (Kind::Int64, images.device()));
    (Tensor::cat(&turned, 0), turns.repeat_interleave_self_int(images.size()[0], None, None))
}

impl Method for Rotation {
    fn params(&self) -> Vec<ParamGroup> {
        let mut params = prefixed("encoder", self.encoder.vars().parameters());
        params.extend(prefixed("classifier", self.classifier_vars.parameters()));
        vec![ParamGroup::all("network", params)]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = prefixed("encoder", self.encoder.vars().state());
        state.extend(prefixed("classifier", self.classifier_vars.state()));
        state
    }

    /// Equations 2 and 3.
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        let (images, turns) = all_turns(batch.single()?);
        let logits = self.classifier.forward(&self.encoder.forward(&images, true));
        let logits = at_least_f32(&logits);
        let loss = full_precision(cx.device, || {
            logits.cross_entropy_loss(&turns, None::<Tensor>, Reduction::Mean, -100, 0.0)
        })?;
        let right = no_grad(|| logits.argmax(1, false).eq_tensor(&turns));
        Ok(StepLoss {
            loss,
            metrics: vec![("task_top1", StepLoss::fraction(&right))],
            outputs: None,
        })
    }
}

impl ImageMethod for Rotation {
    fn views(&self) -> &[ViewSpec] {
        &self.views
    }

    fn encoder(&self) -> &dyn Encoder {
        &*self.encoder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_comes_in_all_four_turns() {
        let images = Tensor::arange(2 * 3 * 2 * 2, (Kind::Float, Device::Cpu)).view([2, 3, 2, 2]);
        let (turned, turns) = all_turns(&images);
        assert_eq!(turned.size(), [8, 3, 2, 2]);
        assert_eq!(turns, Tensor::from_slice(&[0i64, 0, 1, 1, 2, 2, 3, 3]));
        // Pixels 0 1 / 2 3 turned a quarter to the left are 1 3 / 0 2.
        let expected = Tensor::from_slice(&[1f32, 3.0, 0.0, 2.0]).view([2, 2]);
        assert_eq!(turned.get(2).get(0), expected);
        assert_eq!(turned.get(0), images.get(0));
    }
}
