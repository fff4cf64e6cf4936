//! The frozen encoder that is imitated.

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, build};
use portolan_method::{Result, ensure_setting};
use portolan_tensor::{Device, Kind, Tensor, Vars, no_grad};
use serde::{Deserialize, Serialize};

/// What the teacher is, and how images are prepared for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// Where its weights come from, for the record: [`Teacher::new`] does not read it.
    pub file: String,
    /// The side in pixels at which it gets the student's views. They are resized if theirs differs.
    pub size: i64,
    /// The mean that its preprocessing subtracts from each channel (of pixels from 0 to 1).
    pub mean: [f32; 3],
    /// The standard deviation by which its preprocessing divides each channel.
    pub std: [f32; 3],
    /// Whether it gets gray images.
    #[serde(default)]
    pub grayscale: bool,
    /// The network.
    pub encoder: EncoderConfig,
}

/// A frozen encoder, always in evaluation mode.
#[derive(Debug)]
pub struct Teacher {
    config: TeacherConfig,
    encoder: Box<dyn Encoder>,
    vars: Vars,
}

impl Teacher {
    /// Builds the network with random values. Copy the trained ones into [`Teacher::vars`].
    ///
    /// # Errors
    /// When a setting is out of range, or the encoder cannot take images of this size.
    pub fn new(config: TeacherConfig, device: Device) -> Result<Self> {
        let size = config.size;
        ensure_setting((1..=8192).contains(&size), || {
            format!("teacher.size is {size}; it must be from 1 to 8,192 pixels")
        })?;
        ensure_setting(config.std.iter().all(|std| *std > 0.0), || {
            format!("teacher.std is {:?}; a channel is divided by a positive number", config.std)
        })?;
        config.encoder.validate_size(size)?;
        let vars = Vars::new(device);
        let encoder = build(&config.encoder, &vars)?;
        for (_, parameter) in vars.parameters() {
            let _ = parameter.set_requires_grad(false);
        }
        Ok(Teacher { config, encoder, vars })
    }

    /// Its settings.
    pub fn config(&self) -> &TeacherConfig {
        &self.config
    }

    /// The network's tensors, with the names of torchvision or timm.
    pub fn vars(&self) -> &Vars {
        &self.vars
    }

    /// The number of features.
    pub fn width(&self) -> i64 {
        self.encoder.width()
    }

    /// The features of prepared images, `[batch, width]`, and their map, `[batch, width, rows,
    /// columns]`, without gradients.
    pub fn features_and_map(&self, images: &Tensor) -> (Tensor, Tensor) {
        no_grad(|| self.encoder.features_and_map(images, false))
    }
}

/// Turns images that are normalized for the student into what the teacher's preprocessing gives.
#[derive(Debug)]
pub(crate) struct Preparation {
    /// Mean and standard deviation of the student's images, if they differ from the teacher's or
    /// pixels are needed.
    own: Option<(Tensor, Tensor)>,
    luma: Option<Tensor>,
    mean: Tensor,
    std: Tensor,
    size: i64,
}

impl Preparation {
    /// For views like `view` on `device`. All constants are there before the first step, as a CUDA
    /// graph needs.
    pub(crate) fn new(teacher: &TeacherConfig, view: &ViewSpec, device: Device) -> Self {
        let &TeacherConfig { size, mean, std, grayscale, .. } = teacher;
        let channels =
            |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]).to_device(device);
        // A view without a normalization holds pixels.
        let own = view.normalization().unwrap_or(([0.0; 3], [1.0; 3]));
        let differs = grayscale || own != (mean, std);
        Preparation {
            own: differs.then(|| (channels(own.0), channels(own.1))),
            // ITU-R 601, as the augmentation
            luma: grayscale.then(|| channels([0.299, 0.587, 0.114])),
            mean: channels(mean),
            std: channels(std),
            size,
        }
    }

    /// `[batch, 3, h, w]` to `[batch, 3, size, size]`.
    pub(crate) fn apply(&self, images: &Tensor) -> Tensor {
        let mut x = images.shallow_clone();
        if let Some((mean, std)) = &self.own {
            x = x * std + mean;
            if let Some(luma) = &self.luma {
                x = (x * luma).sum_dim_intlist([1i64].as_slice(), true, None::<Kind>);
            }
            x = (x - &self.mean) / &self.std;
        }
        if x.size()[2..] == [self.size; 2] {
            return x;
        }
        x.internal_upsample_bilinear2d_aa([self.size; 2], false, None, None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_augment::presets;
    use portolan_encoders::{ResNetConfig, Stem};

    use super::*;

    fn config(size: i64, grayscale: bool) -> TeacherConfig {
        let resnet = ResNetConfig::named("resnet18-w4").unwrap();
        TeacherConfig {
            file: String::new(),
            size,
            mean: [0.5, 0.4, 0.3],
            std: [0.2, 0.1, 0.4],
            grayscale,
            encoder: ResNetConfig { stem: Stem::CifarStrided, ..resnet }.into(),
        }
    }

    fn prepared(config: &TeacherConfig, images: &Tensor, view: &ViewSpec) -> Tensor {
        Preparation::new(config, view, Device::Cpu).apply(images)
    }

    #[test]
    fn images_get_the_teacher_s_normalization_and_size() {
        let view = presets::moco_v2(8).with_normalization([0.1, 0.2, 0.3], [0.5, 0.25, 1.0]);
        let pixels = Tensor::rand([2, 3, 8, 8], (Kind::Float, Device::Cpu));
        let normalized = |mean: [f32; 3], std: [f32; 3]| {
            let of = |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]);
            (&pixels - of(mean)) / of(std)
        };
        let seen = normalized([0.1, 0.2, 0.3], [0.5, 0.25, 1.0]);
        let expected = normalized([0.5, 0.4, 0.3], [0.2, 0.1, 0.4]);
        let close = |a: &Tensor, b: &Tensor| a.allclose(b, 1e-4, 1e-5, false);
        assert!(close(&prepared(&config(8, false), &seen, &view), &expected));
        let larger = prepared(&config(32, false), &seen, &view);
        assert_eq!(larger.size(), [2, 3, 32, 32]);
        let teacher = Teacher::new(config(32, false), Device::Cpu).unwrap();
        let (features, map) = teacher.features_and_map(&larger);
        assert_eq!((features.size(), map.size()), (vec![2, 32], vec![2, 32, 2, 2]));
        assert!(!features.requires_grad());
        // Gray images have the same brightness in all channels.
        let gray = prepared(&config(8, true), &seen, &view);
        let back = |channel: i64, mean: f64, std: f64| gray.select(1, channel) * std + mean;
        assert!(close(&back(0, 0.5, 0.2), &back(2, 0.3, 0.4)));
    }

    #[test]
    fn the_same_normalization_and_size_change_nothing() {
        let view = presets::moco_v2(8).with_normalization([0.5, 0.4, 0.3], [0.2, 0.1, 0.4]);
        let images = Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu));
        assert!(prepared(&config(8, false), &images, &view).equal(&images));
    }

    #[test]
    fn a_teacher_that_makes_no_sense_is_refused_by_name() {
        let refused = |config| Teacher::new(config, Device::Cpu).err().unwrap().to_string();
        assert!(refused(config(0, false)).contains("teacher.size"));
        assert!(
            refused(TeacherConfig { std: [0.0; 3], ..config(8, false) }).contains("teacher.std")
        );
        let vit = EncoderConfig::named("vit_w8d1h1_patch16_32").unwrap();
        assert!(refused(TeacherConfig { encoder: vit, ..config(40, false) }).contains("patches"));
    }
}
