//! Scores of segmentation and depth against torchmetrics and the formulas.
#![allow(clippy::unwrap_used)]

use anyhow::{Result, bail};
use portolan_evaluate::{DepthErrors, SegmentationCounts};
use portolan_tensor::Tensor;
use portolan_testing::golden::{self, Case, Tensors};

const TOLERANCE: f64 = 1e-5;

fn cases() -> Vec<Case> {
    golden::cases(env!("CARGO_MANIFEST_DIR"), "dense.safetensors")
}

fn computed(case: &Case) -> Result<Tensors> {
    let (predicted, truth) = (&case.tensors["in.predicted"], &case.tensors["in.truth"]);
    let one = |value: f64| Tensor::from_slice(&[value as f32]);
    let outputs = match case.kind() {
        "segmentation" => {
            let (classes, ignored) = (case.setting("classes")?, case.setting("ignore")?);
            let mut counts = SegmentationCounts::new(classes as i64, ignored as i64);
            // In two parts, as batches come.
            for (predicted, truth) in predicted.chunk(2, 0).iter().zip(truth.chunk(2, 0)) {
                counts.add(predicted, &truth)?;
            }
            let scores = counts.scores()?;
            let iou: Vec<f32> = scores.iou.iter().map(|iou| iou.unwrap_or(0.0) as f32).collect();
            vec![("iou", Tensor::from_slice(&iou)), ("mean_iou", one(scores.mean_iou))]
        }
        "depth" => {
            let mut errors = DepthErrors::default();
            for (predicted, truth) in predicted.chunk(2, 0).iter().zip(truth.chunk(2, 0)) {
                errors.add(predicted, &truth)?;
            }
            let scores = errors.scores()?;
            vec![
                ("rmse", one(scores.rmse)),
                ("abs_rel", one(scores.abs_rel)),
                ("delta1", one(scores.delta1)),
            ]
        }
        other => bail!("the golden case `{other}` is not known here"),
    };
    Ok(outputs.into_iter().map(|(name, x)| (format!("out.{name}"), x)).collect())
}

#[test]
fn golden_dense() {
    for case in cases() {
        golden::compare(&case.expected(), &computed(&case).unwrap(), TOLERANCE)
            .unwrap_or_else(|why| panic!("{}: {why:#}", case.name));
    }
}

#[test]
fn golden_dense_can_fail() {
    golden::would_fail(&cases(), TOLERANCE, computed);
}
