//! A made-up run with every part of a report. Its numbers are invented, and a note says so.

use image::{Rgb, RgbImage};
use portolan_doctor::{Finding, Problem};
use portolan_metrics::{MetricsRow, names};
use portolan_report::{
    Dataset, Knn, Layout, LinearProbe, MapPoint, Neighbor, Neighbors, Page, Published, Report,
    Skipped, SourceViews,
};

pub(crate) struct Sample {
    pub(crate) report: Report,
    pub(crate) metrics: Vec<MetricsRow>,
    pub(crate) finding: Finding,
    pub(crate) views: Vec<SourceViews>,
    pub(crate) neighbors: Vec<Neighbors>,
    pub(crate) map: Vec<MapPoint>,
    pub(crate) classes: Vec<String>,
    pub(crate) config: String,
}

impl Sample {
    pub(crate) fn page(&self) -> Page<'_> {
        Page {
            method_name: "MoCo",
            report: &self.report,
            metrics: &self.metrics,
            correlations: &[],
            finding: Some(&self.finding),
            views: &self.views,
            neighbors: &self.neighbors,
            map: &self.map,
            layout: Layout::Tsne,
            classes: &self.classes,
            config_toml: &self.config,
        }
    }
}

pub(crate) fn sample() -> Sample {
    let classes = "ball boat bottle car cup fish house leaf mushroom tree";
    Sample {
        report: report(),
        metrics: metrics(),
        finding: Finding {
            problem: Problem::Views,
            evidence: "the views of an image are <almost> the same".into(),
            remedy: "strengthen the views".into(),
        },
        views: (0..8)
            .map(|i| SourceViews {
                original: ball(32, i, 0.6),
                views: vec![ball(32, i + 1, 0.9), ball(32, i + 20, 0.8)],
            })
            .collect(),
        neighbors: (0..5).map(neighbors).collect(),
        map: map(2000),
        classes: classes.split(' ').map(str::to_owned).collect(),
        config: "method = \"moco\"\nencoder = \"resnet18-w16\"\n\n[moco]\ntemperature = 0.2\n\
                 queue = 4096\n"
            .to_owned(),
    }
}

pub(crate) fn report() -> Report {
    Report {
        method: "moco".into(),
        recipe: "shapes".into(),
        encoder: "resnet18-w16".into(),
        epochs: 40,
        batch_size: 256,
        seed: 0,
        dataset: Dataset {
            name: "shapes".into(),
            sha256: "3f5a9c0e".repeat(8),
            train: 10_000,
            test: 2_000,
            classes: 10,
        },
        device: "cpu".into(),
        precision: "fp32".into(),
        seconds: 512.0,
        images_per_second: 781.25,
        knn: Some(Knn {
            k: 20,
            temperature: 0.07,
            top1: 0.6875,
            best_over_epochs: 0.703_125,
            random_init_top1: 0.3125,
            random_init_as_built_top1: None,
            head_top1: None,
        }),
        peak_memory: None,
        linear_probe: Some(LinearProbe { top1: 0.75, random_init_top1: 0.4375 }),
        baselines: Vec::new(),
        start: None,
        published: vec![Published {
            source: "A benchmark that does not exist".into(),
            metric: "knn_best_over_epochs".into(),
            value: 0.8125,
            setting: "CIFAR-10, ResNet-18, 200 epochs, batch size 512".into(),
            comparable: false,
            differences: vec!["data".into(), "encoder".into(), "epochs".into()],
        }],
        parameters: 701_456,
        notes: vec!["Sample for the tests of the page: every number is invented.".into()],
        skipped: Skipped { count: 3, first: vec!["holiday/a.jpg".into(), "holiday/b.jpg".into()] },
        command: "portolan pretrain moco --recipe shapes --seed 0".into(),
        version: "0.1.0".into(),
        finished: "2026-11-22T19:45:00Z".into(),
    }
}

/// Curves of the usual forms, with noise from a fixed sequence.
pub(crate) fn metrics() -> Vec<MetricsRow> {
    let (steps, per_epoch) = (1560u64, 39);
    let mut rows = Vec::new();
    for step in (5..=steps).step_by(5) {
        let (t, noise) = (step as f64 / steps as f64, unit(step) - 0.5);
        let lr = if step < 100 {
            0.06 * step as f64 / 100.0
        } else {
            0.03 * (1.0 + (t * std::f64::consts::PI).cos())
        };
        let loss = 8.3 - 2.6 * (1.0 - (-4.0 * t).exp()) + 0.25 * noise;
        let values = [
            ("loss", loss),
            (names::LEARNING_RATE, lr),
            (names::IMAGES_PER_SECOND, 780.0 + 60.0 * noise),
            (names::GRADIENT_NORM, 1.5 - t + 0.4 * noise),
        ];
        let mut row = MetricsRow::new(step, (step as f64 / per_epoch as f64).ceil(), &values);
        if step % (5 * per_epoch) == 0 {
            row.insert(names::KNN_TOP1, 0.70 - 0.38 * (-3.5 * t).exp() + 0.02 * noise);
        }
        rows.push(row);
    }
    rows
}

fn neighbors(i: u32) -> Neighbors {
    let label = i as usize;
    let nearest = (0..8)
        .map(|n| {
            let other = (i + n) % 5 == 4;
            Neighbor {
                image: ball(32, i + 3 * n, 0.7),
                label: Some(if other { label + 2 } else { label }),
                similarity: 0.98 - 0.02 * f64::from(n),
            }
        })
        .collect();
    Neighbors {
        image: ball(32, i, 0.7),
        label: Some(label),
        predicted: Some(if i == 3 { 8 } else { label }),
        nearest,
    }
}

/// Ten clouds on a ring.
fn map(points: u64) -> Vec<MapPoint> {
    let spread = |n: u64| (unit(n) + unit(n + 1) + unit(n + 2) - 1.5) as f32;
    (0..points)
        .map(|i| {
            let class = (i % 10) as usize;
            let (sin, cos) = (class as f32 * 0.63).sin_cos();
            let radius = 1.4 + 0.25 * (class % 3) as f32;
            MapPoint {
                x: radius * 1.5 * cos + spread(i * 6),
                y: radius * sin + spread(i * 6 + 3),
                class: Some(class),
                image: i.is_multiple_of(17).then(|| ball(32, class as u32, 0.7)),
            }
        })
        .collect()
}

/// A lit ball before a quiet ground.
fn ball(side: u32, seed: u32, size: f64) -> RgbImage {
    let hue = |channel: u64| 0.35 + 0.6 * unit(u64::from(seed % 10) * 3 + channel);
    RgbImage::from_fn(side, side, |x, y| {
        let at = |v: u32| (2.0 * f64::from(v) + 1.0) / f64::from(side) - 1.0;
        let (x, y) = ((at(x) - 0.2 * unit(u64::from(seed))) / size, (at(y) + 0.1) / size);
        let height = 1.0 - x * x - y * y;
        let light = if height > 0.0 {
            0.25 + 0.75 * (0.6 * height.sqrt() - 0.5 * y - 0.3 * x).clamp(0.0, 1.0)
        } else {
            0.5 + 0.05 * y
        };
        Rgb([0, 1, 2].map(|c| {
            (255.0 * light * if height > 0.0 { hue(c) } else { 1.0 }).clamp(0.0, 255.0) as u8
        }))
    })
}

/// The n-th number in `0..1` of a fixed sequence.
fn unit(n: u64) -> f64 {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((x ^ (x >> 29)) >> 11) as f64 / (1u64 << 53) as f64
}
