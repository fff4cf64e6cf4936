//! Evaluation freezes encoders, leaks no labels, and handles unreadable and unlabeled images.
#![allow(clippy::unwrap_used)]

use anyhow::Result;
use image::RgbImage;
use portolan_augment::{ViewSpec, presets};
use portolan_data::{ImageData, Source};
use portolan_encoders::{Encoder, EncoderConfig, build};
use portolan_evaluate::{
    Features, FinetuneConfig, Finetuning, KnnConfig, Scores, color_histogram, features, finetune,
    images, knn_top1, linear_probe_top1, pixels, recalibrate,
};
use portolan_random::{Purpose, stream};
use portolan_tensor::{Device, Kind, Precision, Tensor, Vars, seed};
use rand::seq::SliceRandom;

const CPU: Device = Device::Cpu;
const KNN: KnnConfig = KnnConfig { k: 5, temperature: 0.07 };

/// Images with a color and position per class, and a pattern per image.
struct Colors {
    n: usize,
    classes: usize,
    bad: Vec<usize>,
    labeled: bool,
}

impl Source for Colors {
    fn len(&self) -> usize {
        self.n
    }
    fn image(&self, index: usize) -> portolan_data::Result<ImageData> {
        if self.bad.contains(&index) {
            return Err(portolan_data::Error::Other("cut short".into()));
        }
        let class = (index % self.classes) as u32;
        let image = RgbImage::from_fn(16, 16, |x, y| {
            let noise = ((x * 7 + y * 13) * (index as u32 + 1)) % 32;
            let there = x / 4 == class;
            image::Rgb([
                if there { 190 + noise } else { noise } as u8,
                (class * 60 + noise) as u8,
                noise as u8,
            ])
        });
        Ok(ImageData::Decoded(image))
    }
    fn label(&self, index: usize) -> Option<u32> {
        self.labeled.then_some((index % self.classes) as u32)
    }
    fn describe(&self, index: usize) -> String {
        format!("image {index}")
    }
}

fn colors(n: usize, bad: &[usize]) -> Colors {
    Colors { n, classes: 4, bad: bad.to_vec(), labeled: true }
}

fn view() -> ViewSpec {
    presets::evaluation(16, 16)
}

/// The same encoder every time. All tests share libtorch's generator, so nothing else here draws
/// from it.
fn encoder() -> Box<dyn Encoder> {
    seed(1);
    let config = EncoderConfig::named("resnet18-w4").unwrap();
    build(&config, &Vars::new(CPU)).unwrap()
}

fn of(encoder: &dyn Encoder, source: &dyn Source) -> Result<Features> {
    Ok(features(encoder, source, &view(), CPU, Precision::Fp32)?)
}

/// Everything of an encoder that could change: each tensor's name and values, whether it requires
/// gradients, and its gradient.
fn everything(encoder: &dyn Encoder) -> Vec<(String, Tensor, bool, Option<Tensor>)> {
    let state = encoder.vars().state().into_iter();
    state
        .map(|(name, t)| {
            let gradient = t.grad();
            let gradient = gradient.defined().then(|| gradient.copy());
            (name, t.detach().copy(), t.requires_grad(), gradient)
        })
        .collect()
}

#[test]
fn a_frozen_encoder_is_frozen() {
    let encoder = encoder();
    // As in the middle of training: with gradients and recorded statistics.
    let all: Vec<usize> = (0..8).collect();
    let images = images(&colors(8, &[]), &all, &view()).unwrap().x;
    encoder.forward(&images, true).square().sum(Kind::Float).backward();
    let before = everything(&*encoder);
    assert!(
        before.iter().any(|(name, t, _, _)| name.ends_with("tracked") && t.int64_value(&[]) == 1)
    );
    assert!(before.iter().any(|(_, _, _, gradient)| gradient.is_some()));

    let (bank, test) = (colors(40, &[]), colors(12, &[]));
    for precision in [Precision::Fp32, Precision::Bf16] {
        let of = |source| features(&*encoder, source, &view(), CPU, precision).unwrap();
        let (bank, test) = (of(&bank), of(&test));
        assert!(!bank.x.requires_grad());
        linear_probe_top1(&bank, &test, 4).unwrap();
        knn_top1(&bank, &test, 4, &KNN).unwrap();
    }
    assert_eq!(everything(&*encoder), before);
    // Training still works afterwards.
    encoder.forward(&images, true).sum(Kind::Float).backward();
    assert_ne!(everything(&*encoder), before, "the comparison sees a change");
}

#[test]
fn features_are_the_encoder_s_in_the_order_of_the_source() {
    let (encoder, source) = (encoder(), colors(11, &[0, 4]));
    let all = of(&*encoder, &source).unwrap();
    assert_eq!(all.ids, [1, 2, 3, 5, 6, 7, 8, 9, 10]);
    assert_eq!(all.skipped, ["image 0: cut short", "image 4: cut short"]);
    assert_eq!(Vec::<i64>::try_from(all.labels.unwrap()).unwrap(), [1, 2, 3, 1, 2, 3, 0, 1, 2]);
    assert_eq!((all.x.size(), all.x.kind()), (vec![9, encoder.width()], Kind::Float));
    let alone = images(&source, &[7], &view()).unwrap();
    let expected = encoder.forward(&alone.x, false);
    assert!(all.x.narrow(0, 5, 1).allclose(&expected, 1e-5, 1e-6, false));
}

#[test]
fn what_cannot_be_measured_is_an_error_with_a_remedy() {
    let encoder = encoder();
    let complaint =
        |n: usize, bad: &[usize]| of(&*encoder, &colors(n, bad)).unwrap_err().to_string();
    assert!(
        complaint(2, &[0, 1])
            .contains("none of the 2 images can be read; the first: image 0: cut short")
    );
    assert!(complaint(0, &[]).contains("no image"));

    let bank = of(&*encoder, &colors(8, &[])).unwrap();
    let flat = of(&*encoder, &Colors { labeled: false, ..colors(8, &[]) }).unwrap();
    for (bank, test) in [(&bank, &flat), (&flat, &bank)] {
        let knn = knn_top1(bank, test, 4, &KNN).unwrap_err().to_string();
        let probe = linear_probe_top1(bank, test, 4).unwrap_err().to_string();
        assert!(knn.contains("no labels") && probe.contains("no labels"), "{knn}; {probe}");
    }
    let large = KnnConfig { k: 9, ..KNN };
    let error = knn_top1(&bank, &bank, 4, &large).unwrap_err().to_string();
    assert!(error.contains("k = 9") && error.contains("choose k = 8 or less"), "{error}");
    assert!(knn_top1(&bank, &bank, 3, &KNN).unwrap_err().to_string().contains("from 0 to 3"));
    assert!(linear_probe_top1(&bank, &bank, 3).is_err());
    let none = KnnConfig { temperature: 0.0, ..KNN };
    assert!(knn_top1(&bank, &bank, 4, &none).unwrap_err().to_string().contains("temperature"));
}

#[test]
fn an_encoder_that_diverged_is_named() {
    let encoder = encoder();
    let _ =
        portolan_tensor::no_grad(|| encoder.vars().state()[0].1.shallow_clone().fill_(f64::NAN));
    assert!(of(&*encoder, &colors(4, &[])).unwrap_err().to_string().contains("not finite"));
}

#[test]
fn recalibration_changes_only_batch_statistics_and_is_reproducible() {
    let source = colors(20, &[3]);
    let recalibrated = |seed| {
        let encoder = encoder();
        recalibrate(&*encoder, &source, &view(), CPU, 50, seed).unwrap();
        encoder
    };
    let (untouched, first, again, other) =
        (encoder(), recalibrated(0), recalibrated(0), recalibrated(1));
    let state = |encoder: &dyn Encoder| encoder.vars().state();
    for (i, (name, before)) in state(&*untouched).iter().enumerate() {
        let (_, after) = &state(&*first)[i];
        let statistic = name.contains("running") || name.ends_with("tracked");
        assert_eq!(before != after, statistic, "{name}");
        assert_eq!(after, &state(&*again)[i].1, "{name}");
        assert!(after.requires_grad() != statistic && !after.grad().defined(), "{name}");
    }
    assert_ne!(state(&*first)[3].1, state(&*other)[3].1, "another seed draws other images");
    let error = recalibrate(&*untouched, &colors(2, &[0, 1]), &view(), CPU, 4, 0).unwrap_err();
    assert!(error.to_string().contains("none of the"), "{error}");
}

#[test]
fn test_labels_are_used_only_to_count() {
    let (bank, test) = (colors(200, &[]), colors(200, &[]));
    let (bank, mut test) = (pixels(&bank, &view()).unwrap(), pixels(&test, &view()).unwrap());
    let score = |test: &Features| {
        [knn_top1(&bank, test, 4, &KNN).unwrap(), linear_probe_top1(&bank, test, 4).unwrap()]
    };
    assert!(score(&test).iter().all(|&top1| top1 > 0.95), "{:?}", score(&test));
    let mut labels = Vec::<i64>::try_from(test.labels.take().unwrap()).unwrap();
    labels.shuffle(&mut stream(2, Purpose::Subset, &[]));
    test.labels = Some(Tensor::from_slice(&labels));
    // Chance is 0.25, its standard deviation 0.03.
    assert!(score(&test).iter().all(|&top1| (0.13..0.37).contains(&top1)), "{:?}", score(&test));
}

#[test]
fn fine_tuning_learns_and_moves_the_whole_encoder() {
    portolan_tensor::tch::set_num_threads(1);
    let (train, test) = (colors(96, &[5]), colors(80, &[]));
    let encoder = encoder();
    let before: Vec<Tensor> = encoder.vars().parameters().iter().map(|(_, x)| x.copy()).collect();
    let view = view();
    let on = Finetuning {
        train: &train,
        train_view: &view,
        test: &test,
        test_view: &view,
        classes: 4,
        device: CPU,
        precision: Precision::Fp32,
    };
    let config = FinetuneConfig { batch_size: 16, mixup: 0.8, ..FinetuneConfig::resnet(6) };
    let mut losses = Vec::new();
    let (seen, votes) = finetune(&*encoder, &on, &config, |_, loss| losses.push(loss)).unwrap();
    assert!(losses.len() == 6 && losses[5] < losses[0], "{losses:?}");
    let top1 = Scores::of(&votes, seen.labels().unwrap()).unwrap().top1;
    assert!(top1 > 0.6, "{top1}");
    let after = encoder.vars().parameters();
    assert!(before.iter().zip(&after).all(|(a, (_, b))| a != b), "a parameter kept still");
    let unlabeled = Colors { labeled: false, ..colors(96, &[]) };
    let error = finetune(&*encoder, &Finetuning { train: &unlabeled, ..on }, &config, |_, _| ());
    assert!(error.unwrap_err().to_string().contains("labeled images"));
}

#[test]
fn color_histograms_see_colors_and_not_places() {
    let source = Colors { classes: 1, ..colors(2, &[]) };
    let histogram = color_histogram(&source).unwrap().x;
    assert_eq!(histogram.size(), [2, 64]);
    let total = histogram.sum_dim_intlist(1, false, Kind::Float);
    assert!(total.allclose(&Tensor::ones([2], (Kind::Float, CPU)), 1e-5, 1e-5, false));
    // A quarter of each image is bright red with little green and blue: bin (2 or 3, 0, 0).
    let red = histogram.get(0).double_value(&[2 * 16]) + histogram.get(0).double_value(&[3 * 16]);
    assert!((red - 0.25).abs() < 1e-5, "{red}");
    assert!((histogram.get(0).double_value(&[0]) - 0.75).abs() < 1e-5);
}
