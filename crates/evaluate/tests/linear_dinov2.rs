//! DINOv2's linear protocol from images to test scores.
#![allow(clippy::unwrap_used)]

use image::RgbImage;
use portolan_augment::presets;
use portolan_data::{ImageData, Source};
use portolan_encoders::{Vit, VitConfig};
use portolan_evaluate::{Finetuning, LinearDinov2, LinearDinov2Config, Scores, linear_dinov2};
use portolan_tensor::{Device, Precision, Vars, seed, tch};

/// Images of one color per class with a pattern per image. `shift` moves the labels only.
struct Colors {
    n: usize,
    shift: usize,
    labeled: bool,
}

impl Source for Colors {
    fn len(&self) -> usize {
        self.n
    }
    fn image(&self, index: usize) -> portolan_data::Result<ImageData> {
        let level = |channel: usize| if index % 3 == channel { 200 } else { 40 };
        let noise = |x: u32, y: u32| ((x * 7 + y * 13) * (index as u32 + 1) % 32) as u8;
        Ok(ImageData::Decoded(RgbImage::from_fn(16, 16, |x, y| {
            image::Rgb([0, 1, 2].map(|channel| level(channel) + noise(x, y)))
        })))
    }
    fn label(&self, index: usize) -> Option<u32> {
        self.labeled.then_some(((index + self.shift) % 3) as u32)
    }
    fn describe(&self, index: usize) -> String {
        format!("image {index}")
    }
}

fn probed(train: &Colors, test: &Colors) -> portolan_evaluate::Result<LinearDinov2> {
    tch::set_num_threads(1);
    seed(0);
    let config = VitConfig::named("vit_w16d2h2_patch4_16").unwrap();
    let vit = Vit::new(&config, &Vars::new(Device::Cpu)).unwrap();
    let view = presets::evaluation(16, 16);
    let on = Finetuning {
        train,
        train_view: &view,
        test,
        test_view: &view,
        classes: 3,
        device: Device::Cpu,
        precision: Precision::Fp32,
    };
    let config = LinearDinov2Config {
        epochs: 10,
        batch_size: 15,
        learning_rates: vec![0.0, 0.1],
        momentum: 0.9,
    };
    linear_dinov2(&vit, &on, &config, |_| ())
}

#[test]
fn the_classifier_is_chosen_on_training_images_alone() {
    let train = Colors { n: 90, shift: 0, labeled: true };
    let of = |shift| probed(&train, &Colors { n: 60, shift, labeled: true }).unwrap();
    let (right, wrong) = (of(0), of(1));
    assert_eq!((right.validation_images, right.batch_size, right.candidates.len()), (9, 15, 8));
    assert_eq!((&right.chosen, &right.candidates), (&wrong.chosen, &wrong.candidates));
    assert!(right.logits.equal(&wrong.logits), "labels of test images change nothing");
    assert_eq!(right.chosen.learning_rate, 0.1, "{:?}", right.candidates);
    assert!(right.chosen.validation_top1 > 0.9, "{:?}", right.candidates);
    let top1 = |of: &LinearDinov2| Scores::of(&of.logits, &of.labels).unwrap().top1;
    assert!(top1(&right) > 0.9 && top1(&wrong) < 0.1);
}

#[test]
fn images_without_labels_are_refused() {
    let train = Colors { n: 90, shift: 0, labeled: false };
    let error = probed(&train, &Colors { n: 9, shift: 0, labeled: true }).unwrap_err();
    assert!(error.to_string().contains("folder of its own"), "{error}");
}
