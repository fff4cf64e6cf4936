#![allow(clippy::unwrap_used)]

use portolan_augment::presets;
use portolan_data::{DenseItem, DenseSource, Error as DataError, Options, open_dense};
use portolan_encoders::{EncoderConfig, build};
use portolan_tensor::{seed, tch};

use super::*;

fn encoder(name: &str) -> Box<dyn Encoder> {
    tch::set_num_threads(1);
    seed(0);
    build(&EncoderConfig::named(name).unwrap(), &Vars::new(Device::Cpu)).unwrap()
}

fn shapes() -> portolan_data::DenseDataset {
    let options = Options { train: 60, test: 30, ..Options::default() };
    open_dense("shapes", &options).unwrap()
}

fn probed(
    encoder: &dyn Encoder,
    train: &dyn DenseSource,
    test: &dyn DenseSource,
    classes: usize,
    has_depth: bool,
    steps: u64,
) -> Result<(LinearDense, Vec<Vec<f64>>)> {
    let view = presets::evaluation(32, 32).with_normalization([0.5; 3], [0.2; 3]);
    let (device, precision) = (Device::Cpu, Precision::Fp32);
    let on = DenseTask { train, test, view: &view, classes, has_depth, device, precision };
    let mut losses = Vec::new();
    let result = linear_dense(encoder, &on, steps, |_, of| losses.push(of.to_vec()))?;
    Ok((result, losses))
}

#[test]
fn an_untrained_encoder_already_tells_objects_from_background() {
    for name in ["vit_w16d1h2_patch4_32", "resnet18-w4"] {
        let (encoder, data) = (encoder(name), shapes());
        let (found, losses) = probed(&*encoder, &*data.train, &*data.test, 11, true, 60).unwrap();
        let segmentation = found.segmentation.unwrap();
        let depth = found.depth.unwrap();
        assert_eq!((found.trained_on, found.scored, segmentation.iou.len()), (60, 30, 11));
        // Guessing among 11 classes gives less than 0.1.
        assert!(segmentation.iou[0].unwrap() > 0.3, "{name}: {segmentation:?}");
        // The middle of the bins everywhere, 1.5 m, would be off by 1.4 m.
        assert!(depth.rmse < 1.3, "{name}: {depth:?}");
        for task in 0..2 {
            assert!(losses[9][task] < losses[1][task], "{name}: {losses:?}");
        }
    }
}

#[test]
fn a_task_that_the_data_does_not_have_is_not_scored() {
    let (encoder, data) = (encoder("vit_w16d1h2_patch4_32"), shapes());
    let (found, losses) = probed(&*encoder, &*data.train, &*data.test, 11, false, 4).unwrap();
    assert!(found.segmentation.is_some() && found.depth.is_none() && losses[0].len() == 1);
    let (found, _) = probed(&*encoder, &*data.train, &*data.test, 0, true, 4).unwrap();
    assert!(found.segmentation.is_none() && found.depth.is_some());
    let nothing = probed(&*encoder, &*data.train, &*data.test, 0, false, 4).unwrap_err();
    assert!(nothing.to_string().contains("masks"), "{nothing}");
}

/// Every third item is damaged; none has a depth.
struct Damaged(portolan_data::DenseDataset);

impl DenseSource for Damaged {
    fn len(&self) -> usize {
        self.0.train.len()
    }
    fn item(&self, index: usize) -> portolan_data::Result<DenseItem> {
        if index.is_multiple_of(3) {
            return Err(DataError::Damaged("it is cut short".to_owned()));
        }
        Ok(DenseItem { depth: None, ..self.0.train.item(index)? })
    }
    fn describe(&self, index: usize) -> String {
        format!("item {index}")
    }
}

#[test]
fn damaged_items_are_skipped_and_named() {
    let encoder = encoder("vit_w16d1h2_patch4_32");
    let damaged = Damaged(shapes());
    let (found, _) = probed(&*encoder, &damaged, &damaged, 11, false, 4).unwrap();
    assert_eq!((found.trained_on, found.scored, found.skipped.len()), (40, 40, 40));
    assert_eq!(found.skipped[1], "item 3: it is cut short");
    let why = probed(&*encoder, &damaged, &damaged, 0, true, 4).unwrap_err().to_string();
    assert!(why.contains("depth"), "{why}");
}

#[test]
fn the_learning_rate_rises_then_falls_to_nothing() {
    let at = |step| share_of_rate(step, 1000);
    assert!(at(0) < 0.03 && at(37) > 0.95 && at(999) < 0.002 && (at(499) - 0.5).abs() < 0.01);
    assert!((0..10).all(|step| share_of_rate(step, 10) > 0.0));
}

#[test]
fn heads_predict_what_they_were_scored_on() {
    let (encoder, data) = (encoder("vit_w16d1h2_patch4_32"), shapes());
    let (found, _) = probed(&*encoder, &*data.train, &*data.test, 11, true, 4).unwrap();
    let view = presets::evaluation(32, 32).with_normalization([0.5; 3], [0.2; 3]);
    let indices: Vec<usize> = (0..30).collect();
    let read = dense_images(&*data.test, &indices, &view).unwrap();
    let predicted = found.heads.predict(&*encoder, &read.x).unwrap();
    let mut counts = SegmentationCounts::new(11, NO_CLASS);
    counts.add(&predicted.classes.unwrap(), &read.labels()).unwrap();
    assert_eq!(counts.scores().unwrap(), found.segmentation.unwrap());
    assert_eq!(predicted.depth.unwrap().size(), [30, 32, 32]);
}
