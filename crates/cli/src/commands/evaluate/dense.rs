//! The protocols that score pixels and boxes: `linear-dense` and `lost`.

use anyhow::{Context, Result, ensure};
use portolan_data::{DenseDataset, image_source};
use portolan_encoders::{Encoder, build};
use portolan_evaluate::{
    Area, LinearDense, SegmentationScores, dense_images, discover_objects, recalibrate,
};
use portolan_report::{ProtocolResult, counted};
use portolan_tensor::{Device, Vars, seed, upload};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

use super::metrics::percent;
use crate::args::{EvaluateArgs, Protocol};
use crate::data::print_notes;
use crate::encoder_source::EncoderSource;
use crate::run::dense_probe::probe;

/// Images per pass of LOST.
const BATCH: usize = 100;
/// Images with which the batch norms of an untrained encoder are recalibrated.
const RECALIBRATION: usize = 5_000;

/// The result of a protocol, as printed and written.
pub(super) struct DenseResult {
    /// The protocol and its settings.
    pub(super) protocol: String,
    /// The main score with its name.
    pub(super) headline: String,
    /// The other scores.
    pub(super) details: String,
    /// The object in `evaluation.json`.
    pub(super) json: Value,
}

impl DenseResult {
    pub(super) fn to_report(&self) -> ProtocolResult {
        ProtocolResult {
            protocol: self.protocol.clone(),
            top1: self.headline.clone(),
            details: self.details.clone(),
            confusion: None,
        }
    }
}

/// Runs the protocols that score pixels or boxes, and prints their results. Calls `written` with
/// all results so far after each.
///
/// # Errors
/// If one of them fails.
pub(super) fn dense_protocols(
    args: &EvaluateArgs,
    trained: &EncoderSource,
    device: Device,
    written: impl Fn(&[DenseResult]) -> Result<()>,
) -> Result<Vec<DenseResult>> {
    let mut results = Vec::new();
    for protocol in &args.protocol {
        let source = args.data.as_ref();
        let new = match protocol {
            Protocol::LinearDense => linear_dense(trained, source, args.dense_steps, device)?,
            Protocol::Lost => lost(trained, source, device)?,
            _ => continue,
        };
        println!("{:<44} {} {}", new.protocol, new.headline, new.details);
        results.push(new);
        written(&results)?;
    }
    Ok(results)
}

/// The scores of a dense probe in `evaluation.json`.
#[derive(Serialize)]
struct DenseScores {
    mean_iou: Option<f64>,
    per_class: Option<Vec<ClassScore>>,
    /// In meters.
    rmse: Option<f64>,
    abs_rel: Option<f64>,
    delta1: Option<f64>,
    trained_on: usize,
    scored: usize,
    /// Those of the same network before training.
    untrained: Option<Box<DenseScores>>,
}

#[derive(Serialize)]
struct ClassScore {
    class: String,
    /// `null` for a class that is neither true nor predicted in any test image.
    iou: Option<f64>,
}

impl DenseScores {
    fn of(found: &LinearDense, classes: &[String]) -> Self {
        let depth = found.depth.as_ref();
        let per_class = |scores: &SegmentationScores| {
            let pairs = classes.iter().zip(&scores.iou);
            pairs.map(|(class, &iou)| ClassScore { class: class.clone(), iou }).collect()
        };
        DenseScores {
            mean_iou: found.segmentation.as_ref().map(|scores| scores.mean_iou),
            per_class: found.segmentation.as_ref().map(per_class),
            rmse: depth.map(|scores| scores.rmse),
            abs_rel: depth.map(|scores| scores.abs_rel),
            delta1: depth.map(|scores| scores.delta1),
            trained_on: found.trained_on,
            scored: found.scored,
            untrained: None,
        }
    }

    /// The scores after the main one, each with that of the untrained encoder.
    fn parts(&self) -> Vec<String> {
        let before = |of: fn(&DenseScores) -> Option<f64>, say: &dyn Fn(f64) -> String| {
            let value = self.untrained.as_deref().and_then(of);
            value.map_or_else(String::new, |value| format!(" (untrained {})", say(value)))
        };
        let share = |value: f64| percent(value);
        let number = |value: f64| format!("{value:.3}");
        let mut parts = Vec::new();
        if let Some(mean_iou) = self.mean_iou {
            let before = before(|scores| scores.mean_iou, &share);
            parts.push(format!("mean IoU {} %{before}", share(mean_iou)));
        }
        if let Some(rmse) = self.rmse {
            let before = before(|scores| scores.rmse, &number);
            parts.push(format!("RMSE {} m{before}", number(rmse)));
        }
        if let Some(abs_rel) = self.abs_rel {
            let before = before(|scores| scores.abs_rel, &number);
            parts.push(format!("AbsRel {}{before}", number(abs_rel)));
        }
        if let Some(delta1) = self.delta1 {
            let before = before(|scores| scores.delta1, &share);
            parts.push(format!("δ1 {} %{before}", share(delta1)));
        }
        parts
    }
}

/// The dense probe of the encoder and of the same network before training.
///
/// # Errors
/// If the data has neither masks nor depth maps, or cannot be read.
fn linear_dense(
    trained: &EncoderSource,
    source: Option<&String>,
    steps: u64,
    device: Device,
) -> Result<DenseResult> {
    let data = dense_data(trained, source)?;
    let encoder = trained.build(&trained.config, device)?;
    let found = probe(trained, &*encoder, &data, steps, device, "trained")?;
    let mut scores = DenseScores::of(&found, &data.classes);
    let before = untrained(trained, &data, device)?;
    let before = probe(trained, &*before, &data, steps, device, "untrained")?;
    scores.untrained = Some(Box::new(DenseScores::of(&before, &data.classes)));
    let protocol = format!("linear layer on patches, {}", counted(steps as usize, "step", "steps"));
    let mut parts = scores.parts().into_iter();
    let headline = parts.next().unwrap_or_default();
    let mut details = parts.collect::<Vec<_>>().join("  ");
    if let Some(classes) = &scores.per_class {
        details += &per_class(classes);
    }
    let json = json!({ "protocol": protocol, "linear_dense": scores });
    Ok(DenseResult { protocol, headline, details, json })
}

/// Opens the data and prints what there is to know about it.
fn dense_data(trained: &EncoderSource, source: Option<&String>) -> Result<DenseDataset> {
    let size = i64::from(trained.preprocessing.size);
    trained.config.validate_size(size).context("in the evaluation")?;
    let data = trained.dense_data(source)?;
    print_notes(&data.notes);
    println!(
        "data  {}: {} for training, {} for testing, {}{}",
        data.name,
        counted(data.train.len(), "image", "images"),
        data.test.len(),
        counted(data.classes.len(), "class", "classes"),
        if data.has_depth { " and depth" } else { "" }
    );
    Ok(data)
}

/// The same network before training, with batch norms recalibrated on the training images.
fn untrained(
    trained: &EncoderSource,
    data: &DenseDataset,
    device: Device,
) -> Result<Box<dyn Encoder>> {
    seed(trained.seed);
    let encoder = build(&trained.config, &Vars::new(device))?;
    if !trained.config.is_transformer() {
        let images = image_source(Arc::clone(&data.train));
        recalibrate(
            &*encoder,
            &*images,
            &trained.eval_view(),
            device,
            RECALIBRATION,
            trained.seed,
        )?;
    }
    Ok(encoder)
}

/// The classes from the best to the worst, at most 21 of them (as many as Pascal VOC has).
fn per_class(classes: &[ClassScore]) -> String {
    const SHOWN: usize = 21;
    let mut known: Vec<(&str, f64)> =
        classes.iter().filter_map(|score| Some((score.class.as_str(), score.iou?))).collect();
    known.sort_by(|a, b| b.1.total_cmp(&a.1));
    let shown = known.iter().take(SHOWN);
    let shown: Vec<String> =
        shown.map(|(class, iou)| format!("{class} {}", percent(*iou))).collect();
    let rest = known.len().saturating_sub(SHOWN);
    let rest = if rest > 0 { format!(", and {rest} more") } else { String::new() };
    format!("  per class: {}{rest}", shown.join(", "))
}

/// CorLoc of LOST on the test images of `shapes`, whose masks give the true boxes.
///
/// # Errors
/// If the encoder is not a vision transformer, or other data is asked for.
fn lost(trained: &EncoderSource, source: Option<&String>, device: Device) -> Result<DenseResult> {
    let data = dense_data(trained, source)?;
    ensure!(
        data.single_objects,
        "{} has no boxes of single objects, which CorLoc needs; give --data shapes (`portolan \
         dense` draws the objects that it finds in any images)",
        data.name
    );
    let encoder = trained.build(&trained.config, device)?;
    let (found, images) = found_objects(trained, &*encoder, &data, device)?;
    let before = untrained(trained, &data, device)?;
    let (before, _) = found_objects(trained, &*before, &data, device)?;
    let share = |found: usize| found as f64 / images as f64;
    let protocol = format!("LOST, {}", counted(images, "image", "images"));
    let json = json!({
        "protocol": protocol,
        "lost": { "corloc": share(found), "images": images, "untrained_corloc": share(before) },
    });
    let headline = format!("CorLoc {} %", percent(share(found)));
    let details = format!("(untrained {})", percent(share(before)));
    Ok(DenseResult { protocol, headline, details, json })
}

/// The number of test images whose object is found, and of all of them.
fn found_objects(
    trained: &EncoderSource,
    encoder: &dyn Encoder,
    data: &DenseDataset,
    device: Device,
) -> Result<(usize, usize)> {
    let vit = encoder.as_vit().with_context(|| {
        format!(
            "LOST needs the keys of a vision transformer, and {} has none",
            trained.config.name()
        )
    })?;
    let view = trained.eval_view();
    let indices: Vec<usize> = (0..data.test.len()).collect();
    let (mut found, mut images) = (0, 0);
    for part in indices.chunks(BATCH) {
        let read = dense_images(&*data.test, part, &view)?;
        let objects = discover_objects(vit, &upload(&read.x, device))?;
        for (i, object) in objects.iter().enumerate() {
            let Some(truth) = Area::around(&read.classes.get(i as i64).gt(0))? else { continue };
            images += 1;
            found += usize::from(object.area.scaled(vit.config().patch).finds(&truth));
        }
    }
    ensure!(images > 0, "there is no test image with an object");
    Ok((found, images))
}
