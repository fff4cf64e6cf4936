//! Colorization: Zhang, Isola, Efros 2016, *Colorful Image Colorization*, arXiv 1603.08511, as a
//! classification of quantized colors with class rebalancing.

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, build, layers::Linear};
use portolan_method::{
    Batch, Error, ImageMethod, Method, Result, StepContext, StepLoss, ensure_setting,
    validate_views,
};
use portolan_optim::ParamGroup;
use portolan_tensor::{
    Device, Kind, Tensor, Vars, at_least_f32, full_precision, no_grad, prefixed,
};
use serde::{Deserialize, Serialize};

use crate::lab::{cells, lab, xyz_of_rgb};

/// The settings of colorization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorizationConfig {
    /// Side of the grid of predicted colors: a quarter of the image's side (authors'
    /// `train_val.prototxt`), 56 for 224. It must be a multiple of the side of the encoder's last
    /// feature map.
    pub grid: i64,
    /// Side of a cell of the grid over a* and b*: 10 (section 2.1), which makes 261 classes here
    /// and 313 there.
    pub cell: f64,
    /// Width of the layer between the encoder's feature map and the predictions.
    pub hidden: i64,
    /// λ, the weight of the uniform distribution in class rebalancing: 0.5 (section 2.2). At 1 all
    /// colors have the same weight; lower values give rare colors more.
    pub uniform: f64,
    /// The momentum of the running frequency of each color: 0.99, about the last 100 steps. At
    /// first the frequency is the plain mean over all steps so far, so that it describes the images
    /// from the first step on. The paper counts colors on ImageNet beforehand (section 2.2);
    /// counting during training needs no extra pass over the data.
    pub prior_momentum: f64,
}

impl Default for ColorizationConfig {
    fn default() -> Self {
        ColorizationConfig { grid: 56, cell: 10.0, hidden: 256, uniform: 0.5, prior_momentum: 0.99 }
    }
}

/// Colorization, ready to train.
#[derive(Debug)]
pub struct Colorization {
    config: ColorizationConfig,
    views: Vec<ViewSpec>,
    /// The mean and deviation that the view was normalized by, each `[1, 3, 1, 1]`.
    mean: Tensor,
    std: Tensor,
    /// The weights of red, green and blue in the luminance, `[1, 3, 1, 1]`.
    luminance: Tensor,
    /// sRGB to XYZ, as [`lab`] takes it.
    xyz_of_rgb: Tensor,
    /// The center of each class's cell, `[classes, 2]`.
    cells: Tensor,
    /// p, the running frequency of each class, `[classes]`; uniform until the first step is
    /// counted.
    prior: Tensor,
    encoder: Box<dyn Encoder>,
    /// Side of the encoder's last feature map.
    map: i64,
    head_vars: Vars,
    spread: Linear,
    guess: Linear,
    /// The class frequencies of this step's micro-batches.
    counted: Vec<Tensor>,
}

impl Colorization {
    /// Builds encoder and head with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When a setting is out of range or contradicts another; the message names it.
    pub fn new(
        config: ColorizationConfig,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        validate_views("colorization", &views, 1, encoder)?;
        ensure_setting(config.cell >= 2.0 && config.cell <= 100.0, || {
            format!("cell is {}; it must be from 2 to 100 (10 in the paper)", config.cell)
        })?;
        ensure_setting(config.hidden >= 1, || "hidden must be at least 1".to_owned())?;
        for (name, value) in
            [("uniform", config.uniform), ("prior_momentum", config.prior_momentum)]
        {
            ensure_setting((0.0..=1.0).contains(&value), || {
                format!("{name} is {value}; it must be from 0 to 1")
            })?;
        }
        let (mean, std) = views[0]
            .normalization()
            .ok_or_else(|| Error::Views("the view has no normalization".to_owned()))?;
        let channels =
            |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]).to_device(device);
        let size = i64::from(views[0].size());
        let encoder = build(encoder, &Vars::new(device))?;
        let probe = Tensor::zeros([1, 3, size, size], (Kind::Float, device));
        let map = no_grad(|| encoder.feature_map(&probe, false)).size()[2];
        ensure_setting(
            config.grid >= map && config.grid % map == 0 && size % config.grid == 0,
            || {
                format!(
                    "a grid of {} places fits neither the encoder's map of {map} nor the view of \
                     {size} pixels; choose a multiple of {map} that divides {size}",
                    config.grid
                )
            },
        )?;
        let cells = cells(config.cell).to_device(device);
        let classes = cells.size()[0];
        let head_vars = Vars::new(device);
        let fine = config.grid / map;
        Ok(Colorization {
            spread: Linear::new(
                &(&head_vars / "spread"),
                encoder.width(),
                config.hidden * fine * fine,
                true,
            ),
            guess: Linear::new(&(&head_vars / "guess"), config.hidden, classes, true),
            prior: Tensor::full([classes], 1.0 / classes as f64, (Kind::Float, device)),
            mean: channels(mean),
            std: channels(std),
            luminance: channels([0.299, 0.587, 0.114]),
            xyz_of_rgb: xyz_of_rgb().to_device(device),
            config,
            views,
            cells,
            encoder,
            map,
            head_vars,
            counted: Vec::new(),
        })
    }

    /// The input of the encoder: the view in gray, normalized like the view. It equals the result
    /// of a view's `grayscale`, so that evaluation can use the same input (`evaluation.grayscale`).
    fn gray(&self, rgb: &Tensor) -> Tensor {
        let luminance =
            (rgb * &self.luminance).sum_dim_intlist([1i64].as_slice(), true, None::<Kind>);
        (luminance - &self.mean) / &self.std
    }

    /// The class of each grid position's mean color, `[batch · grid · grid]`: the nearest cell.
    /// (The paper uses soft labels over the five nearest.)
    fn classes(&self, rgb: &Tensor) -> Tensor {
        let grid = self.config.grid;
        let ab = lab(&rgb.clamp(0.0, 1.0).to_kind(Kind::Float), &self.xyz_of_rgb)
            .narrow(1, 1, 2)
            .adaptive_avg_pool2d([grid, grid]);
        let ab = ab.permute([0, 2, 3, 1]).reshape([-1, 2]);
        Tensor::cdist(&ab, &self.cells, 2.0, None::<i64>).argmin(1, false)
    }

    /// w ∝ 1 / ((1 − λ) p + λ / Q), scaled so that its expectation under p is one (equation 4).
    fn weights(&self) -> Tensor {
        let lambda = self.config.uniform;
        let even = lambda / self.prior.size()[0] as f64;
        let weights = (&self.prior * (1.0 - lambda) + even).reciprocal();
        let mean = (&weights * &self.prior).sum(None::<Kind>);
        weights / mean
    }

    /// The logits of every grid position, `[batch · grid · grid, classes]`. Each position of the
    /// feature map predicts all grid positions that it covers.
    fn guesses(&self, images: &Tensor) -> Tensor {
        // [batch, map, map, width]
        let map = self.encoder.feature_map(images, true).permute([0, 2, 3, 1]);
        let fine = self.config.grid / self.map;
        let (batch, side, grid) = (map.size()[0], self.map, self.config.grid);
        let spread = self
            .spread
            .forward(&map)
            .relu()
            .view([batch, side, side, fine, fine, -1])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([batch * grid * grid, -1]);
        self.guess.forward(&spread)
    }
}

impl Method for Colorization {
    fn params(&self) -> Vec<ParamGroup> {
        let mut params = prefixed("encoder", self.encoder.vars().parameters());
        params.extend(prefixed("head", self.head_vars.parameters()));
        vec![ParamGroup::all("network", params)]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = prefixed("encoder", self.encoder.vars().state());
        state.extend(prefixed("head", self.head_vars.state()));
        state.push(("prior".to_owned(), self.prior.shallow_clone()));
        state
    }

    /// Equations 2 and 3: the cross-entropy of each position's color, with larger weights for rare
    /// colors.
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        if cx.micro_batch == 0 {
            self.counted.clear(); // of a step that came to nothing
        }
        let (rgb, classes) = no_grad(|| -> Result<_> {
            let rgb = batch.single()? * &self.std + &self.mean;
            let classes = full_precision(cx.device, || self.classes(&rgb))?;
            Ok((rgb, classes))
        })?;
        let logits = at_least_f32(&self.guesses(&self.gray(&rgb)));
        let loss = full_precision(cx.device, || {
            let log_p = logits.log_softmax(1, None::<Kind>);
            let own = -log_p.gather(1, &classes.unsqueeze(1), false).squeeze_dim(1);
            (own * self.weights().index_select(0, &classes)).mean(None::<Kind>)
        })?;
        let right = no_grad(|| logits.argmax(1, false).eq_tensor(&classes));
        // Not bincount, which waits for the device to find the largest class.
        let ones = classes.ones_like().to_kind(self.prior.kind());
        let count = self.prior.zeros_like().scatter_add(0, &classes, &ones);
        self.counted.push(count / classes.size()[0] as f64);
        Ok(StepLoss {
            loss,
            metrics: vec![("task_top1", StepLoss::fraction(&right))],
            outputs: None,
        })
    }

    /// Updates p with this step's frequencies: the mean over all steps so far, later a running
    /// mean. A running mean alone would depend on its uniform start for hundreds of steps, and the
    /// weights would drift with it.
    fn after_update(&mut self, cx: &StepContext) -> Result<()> {
        let micro_batches = self.counted.len() as f64;
        let Some(sum) = self.counted.drain(..).reduce(|a, b| a + b) else { return Ok(()) };
        let share = cx.mean(&(sum / micro_batches))?;
        let least = 1.0 - self.config.prior_momentum;
        let weight = cx.scalar_input(move |cx| least.max(1.0 / (cx.step + 1) as f64));
        let _ = self.prior.lerp_tensor_(&share, &weight);
        Ok(())
    }
}

impl ImageMethod for Colorization {
    fn views(&self) -> &[ViewSpec] {
        &self.views
    }

    fn encoder(&self) -> &dyn Encoder {
        &*self.encoder
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_augment::presets;
    use portolan_testing::trial;

    fn colorization(grid: i64) -> Result<Colorization> {
        let encoder = EncoderConfig::named("resnet18-w4").unwrap();
        let config = ColorizationConfig { grid, hidden: 4, ..ColorizationConfig::default() };
        Colorization::new(config, &encoder, vec![presets::mae(64)], Device::Cpu)
    }

    #[test]
    fn the_encoder_sees_no_color() {
        let task = colorization(8).unwrap();
        let rgb = Tensor::rand([2, 3, 64, 64], (Kind::Float, Device::Cpu));
        let gray = task.gray(&rgb) * &task.std + &task.mean;
        let spread = gray.amax(1, false) - gray.amin(1, false);
        assert!(spread.max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn a_place_has_the_class_of_its_color() {
        let task = colorization(4).unwrap();
        let mut rgb = Tensor::full([1, 3, 64, 64], 0.5, (Kind::Float, Device::Cpu));
        let red = Tensor::from_slice(&[1f32, 0.0, 0.0]).view([3, 1, 1]);
        rgb.get(0).narrow(1, 0, 16).narrow(2, 48, 16).copy_(&red.expand([3, 16, 16], false));
        let cells = task.cells.index_select(0, &task.classes(&rgb));
        let at = |place: i64| [cells.double_value(&[place, 0]), cells.double_value(&[place, 1])];
        assert_eq!(at(3), [80.0, 70.0], "red is at a* 80.1, b* 67.2");
        assert_eq!(at(4), [0.0, 0.0]);
        let _ = rgb.zero_();
    }

    #[test]
    fn rare_colors_weigh_more_and_the_mean_is_one() {
        let mut task = colorization(4).unwrap();
        let _ = task.prior.zero_();
        let _ = task.prior.get(0).fill_(0.9);
        let _ = task.prior.get(1).fill_(0.1);
        let weights = task.weights();
        assert!(weights.double_value(&[1]) > 5.0 * weights.double_value(&[0]));
        let mean = (&weights * &task.prior).sum(Kind::Float).double_value(&[]);
        assert!((mean - 1.0).abs() < 1e-5);
    }

    #[test]
    fn the_prior_is_the_mean_of_the_steps_so_far_then_a_running_mean() {
        let mut task = colorization(4).unwrap();
        task.config.prior_momentum = 0.6;
        let classes = task.prior.size()[0];
        let share_of = |class: i64| {
            let share = Tensor::zeros([classes], (Kind::Float, Device::Cpu));
            let _ = share.get(class).fill_(1.0);
            share
        };
        // Weights of the new share: 1, 1/2, then 0.4, which is above 1/3.
        for (step, shares, after) in [
            (0, vec![share_of(0)], [1.0, 0.0, 0.0]),
            (1, vec![share_of(1)], [0.5, 0.5, 0.0]),
            (2, vec![share_of(1), share_of(2)], [0.3, 0.5, 0.2]), // two micro-batches
        ] {
            task.counted = shares;
            task.after_update(&trial::step(step, 3)).unwrap();
            let found: Vec<f64> = (0..3).map(|class| task.prior.double_value(&[class])).collect();
            assert!(found.iter().zip(after).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        }
    }

    #[test]
    fn a_grid_that_fits_nothing_is_refused() {
        let message = colorization(7).err().unwrap().to_string();
        assert!(message.contains("grid of 7") && message.contains("64"), "{message}");
    }
}
