//! After training: metrics, images, `encoder.safetensors`, `report.json` and `report.html`.

use anyhow::Result;
use image::RgbImage;
use portolan_augment::cpu;
use portolan_data::{Dataset, Source};
use portolan_doctor::examine;
use portolan_evaluate::{Features, features, knn_predict, neighbors, pca, tsne};
use portolan_method::ImageMethod;
use portolan_metrics::{MetricsRow, read_metrics};
use portolan_random::{Purpose, stream};
use portolan_report::{self as report, counted};
use portolan_tensor::{Device, IndexOp, Precision, Tensor, device};
use portolan_train::{Outcome, correlations};
use std::collections::BTreeMap;
use std::path::Path;

use crate::config::RunConfig;
use crate::data::is_labeled;
use crate::encoder_source::eval_view;
use crate::encoder_source::run_encoder;
use crate::methods;
use crate::run::machine::most_memory;
use crate::run::published;
use crate::run::scores::{baselines, measure, with_baseline};
use crate::run::start::compare;

/// A note for runs that accumulate gradients.
pub(crate) const ACCUMULATION: &str =
    "gradients are accumulated: negatives and batch statistics come from micro-batches";
/// Points on the map; more would hide each other.
const MAP_POINTS: usize = 2_000;
/// Points on the map that show their image.
const MAP_IMAGES: usize = 120;
/// Rows of the galleries.
const ROWS: usize = 8;
/// Neighbors to show for each test image.
const SHOWN_NEIGHBORS: usize = 6;

/// The name of a precision, as in the settings.
pub(crate) fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::Fp32 => "fp32",
        Precision::Bf16 => "bf16",
    }
}

/// Writes all files of a finished run and prints a summary.
///
/// # Errors
/// If images cannot be read or files cannot be written.
pub(crate) fn write_report(
    config: &RunConfig,
    data: &Dataset,
    method: &dyn ImageMethod,
    outcome: &Outcome,
    folder: &Path,
    device: Device,
) -> Result<()> {
    run_encoder::write(method.encoder(), config, &folder.join(run_encoder::FILE))?;
    let peak_memory = most_memory(device); // of training, not of what follows
    let measured = if is_labeled(data) {
        Some(measure(method.encoder(), config, data, device)?)
    } else {
        None
    };
    let start = compare(config, data, method, measured.as_ref(), folder, device)?;
    let (knn, linear_probe) = match &measured {
        Some(measured) => {
            let (knn, probe) = with_baseline(measured, config, data, method, outcome, device)?;
            (Some(knn), Some(probe))
        }
        None => (None, None),
    };
    let summary = summarize(config, data, method, outcome, (knn, linear_probe), device);
    let baselines = if measured.is_some() { baselines(config, data)? } else { Vec::new() };
    let report = report::Report { start, baselines, peak_memory, ..summary };
    report.write(folder)?;

    let bank_and_test = measured.as_ref().map(|measured| (&measured.bank, &measured.test));
    let gallery = match bank_and_test {
        Some((bank, test)) => nearest(config, data, bank, test)?,
        None => Vec::new(),
    };
    let (map, layout) = match (bank_and_test, &data.test) {
        (Some((_, test)), Some(source)) => map(test, &**source)?,
        _ => {
            let view = eval_view(config, data);
            let precision = config.training.precision;
            let some = portolan_data::subset(data.train.clone(), MAP_POINTS);
            map(&features(method.encoder(), &*some, &view, device, precision)?, &*some)?
        }
    };
    let views = views(config, data);
    let metrics = read_metrics(&folder.join(portolan_metrics::FILE))?;
    let finding = examine(&doctor_run(config, &metrics)?);
    let page = report::Page {
        method_name: methods::find(&config.method)?.title,
        report: &report,
        metrics: &metrics,
        correlations: &correlations(folder)?,
        finding: finding.as_ref(),
        views: &views,
        neighbors: &gallery,
        map: &map,
        layout,
        classes: &data.classes,
        config_toml: &toml::to_string(config)?,
    };
    report::write_html(&page, folder)?;
    print_summary(&report, folder);
    Ok(())
}

/// The input of the doctor for a run with these settings.
///
/// # Errors
/// If the method is unknown.
pub(crate) fn doctor_run<'a>(
    config: &RunConfig,
    rows: &'a [MetricsRow],
) -> Result<portolan_doctor::Run<'a>> {
    let training = &config.training;
    let batch_size = training.batch_size / training.accumulate;
    Ok(portolan_doctor::Run { method: methods::find(&config.method)?.traits, batch_size, rows })
}

fn summarize(
    config: &RunConfig,
    data: &Dataset,
    method: &dyn ImageMethod,
    outcome: &Outcome,
    (knn, linear_probe): (Option<report::Knn>, Option<report::LinearProbe>),
    device: Device,
) -> report::Report {
    let training = &config.training;
    let published = config
        .published
        .iter()
        .map(|published| published::compare(published, config, data, outcome.rollbacks))
        .collect();
    let mut notes = Vec::new();
    if training.accumulate > 1 {
        notes.push(ACCUMULATION.to_owned());
    }
    if !config.init.is_empty() {
        notes.push(format!("training started from the encoder in {}", config.init));
    }
    if outcome.rollbacks > 0 {
        notes.push(format!(
            "training was rolled back {} after a bad loss or a collapse: it resumed from an \
             earlier checkpoint at half the learning rate",
            counted(outcome.rollbacks as usize, "time", "times")
        ));
    }
    let parameters = method.encoder().vars().parameters();
    report::Report {
        method: config.method.clone(),
        recipe: config.recipe.clone(),
        encoder: config.encoder.name(),
        epochs: training.epochs as usize,
        batch_size: training.batch_size,
        seed: config.seed,
        dataset: report::Dataset {
            name: data.name.clone(),
            sha256: data.sha256.clone(),
            train: data.pretraining().len(),
            test: data.test.as_ref().map_or(0, |test| test.len()),
            classes: data.classes.len(),
        },
        device: device::name(device),
        precision: precision_name(training.precision).to_owned(),
        seconds: outcome.seconds,
        images_per_second: outcome.images_per_second,
        knn,
        linear_probe,
        baselines: Vec::new(),
        start: None,
        published,
        peak_memory: None,
        parameters: parameters.iter().map(|(_, tensor)| tensor.numel() as u64).sum(),
        notes,
        skipped: report::Skipped {
            count: outcome.skipped.len(),
            first: outcome.skipped.iter().take(5).cloned().collect(),
        },
        command: std::env::args().collect::<Vec<_>>().join(" "),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        finished: report::now(),
    }
}

/// A few training images with their views in the first epoch.
fn views(config: &RunConfig, data: &Dataset) -> Vec<report::SourceViews> {
    let ids = spread(data.train.len(), ROWS);
    ids.filter_map(|id| {
        let original = decoded(&*data.train, id)?;
        let view = |(v, spec)| {
            let mut rng = stream(config.seed, Purpose::View, &[0, id as u64, v as u64]);
            cpu::preview(spec, &original, &mut rng)
        };
        let views = config.each_view().iter().enumerate().map(view).collect();
        Some(report::SourceViews { original, views })
    })
    .collect()
}

/// At most `some` indices, evenly spread over `0..n`.
fn spread(n: usize, some: usize) -> impl Iterator<Item = usize> {
    let some = some.min(n);
    (0..some).map(move |i| i * n / some)
}

/// `ROWS` indices of items with these labels, from as many classes as possible, sorted by class.
/// Takes the first item of each class (of evenly spread classes if there are more), then the
/// second, and so on.
fn of_each_class(labels: &[i64]) -> Vec<usize> {
    let mut classes: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (index, &label) in labels.iter().enumerate() {
        classes.entry(label).or_default().push(index);
    }
    let classes: Vec<Vec<usize>> = classes.into_values().collect();
    let mut chosen = Vec::new();
    let rounds = classes.iter().map(Vec::len).max().unwrap_or(0);
    for round in 0..rounds {
        let of_round: Vec<usize> =
            classes.iter().filter_map(|class| class.get(round)).copied().collect();
        chosen.extend(spread(of_round.len(), ROWS - chosen.len()).map(|i| of_round[i]));
        if chosen.len() == ROWS {
            break;
        }
    }
    chosen.sort_by_key(|&index| (labels[index], index));
    chosen
}

fn decoded(source: &dyn Source, id: usize) -> Option<RgbImage> {
    source.image(id).and_then(|image| image.decode()).ok()
}

/// A few test images of different classes with their nearest training images.
fn nearest(
    config: &RunConfig,
    data: &Dataset,
    bank: &Features,
    test: &Features,
) -> Result<Vec<report::Neighbors>> {
    let Some(source) = &data.test else { return Ok(Vec::new()) };
    let Some(labels) = &bank.labels else { return Ok(Vec::new()) };
    let rows = of_each_class(&Vec::<i64>::try_from(test.labels()?)?);
    let rows: Vec<i64> = rows.into_iter().map(|row| row as i64).collect();
    let queries = test.x.index_select(0, &Tensor::from_slice(&rows));
    let (similarities, indices) = neighbors(&bank.x, &queries, SHOWN_NEIGHBORS)?;
    let classes = data.classes.len() as i64;
    let predicted = knn_predict(&bank.x, labels, &queries, classes, &config.evaluation.knn)?;
    let mut gallery = Vec::new();
    for (i, &row) in rows.iter().enumerate() {
        let id = test.ids[row as usize];
        let Some(image) = decoded(&**source, id) else { continue };
        let near = |n: i64| {
            let id = bank.ids[indices.i((i as i64, n)).int64_value(&[]) as usize];
            Some(report::Neighbor {
                image: decoded(&*data.train, id)?,
                label: data.train.label(id).map(|label| label as usize),
                similarity: similarities.i((i as i64, n)).double_value(&[]),
            })
        };
        gallery.push(report::Neighbors {
            image,
            label: source.label(id).map(|label| label as usize),
            predicted: Some(predicted.int64_value(&[i as i64]) as usize),
            nearest: (0..indices.size()[1]).filter_map(near).collect(),
        });
    }
    Ok(gallery)
}

/// The features projected to two dimensions; some points with their image.
fn map(
    features: &Features,
    source: &dyn Source,
) -> Result<(Vec<report::MapPoint>, report::Layout)> {
    // Spread over all images: the first images of a folder belong to its first classes.
    let rows: Vec<i64> = spread(features.ids.len(), MAP_POINTS).map(|row| row as i64).collect();
    let x = features.x.index_select(0, &Tensor::from_slice(&rows));
    let n = rows.len() as i64;
    let (points, layout) = match tsne(&x)? {
        Some(points) => (points, report::Layout::Tsne),
        None => (pca(&x, 2)?, report::Layout::PrincipalComponents),
    };
    let has_image = |i: i64| report::in_even_sample(i as usize, MAP_IMAGES as f64 / n as f64);
    let point = |i: i64| {
        let row = rows[i as usize];
        report::MapPoint {
            x: points.double_value(&[i, 0]) as f32,
            y: points.double_value(&[i, 1]) as f32,
            class: features.labels.as_ref().map(|labels| labels.int64_value(&[row]) as usize),
            image: has_image(i).then(|| decoded(source, features.ids[row as usize])).flatten(),
        }
    };
    Ok(((0..n).map(point).collect(), layout))
}

/// Prints the results next to the published ones.
fn print_summary(report: &report::Report, folder: &Path) {
    let percent = |value: f64| format!("{:.1} %", 100.0 * value);
    println!();
    println!(
        "{} in {:.0} s, {:.0} images/s",
        counted(report.epochs, "epoch", "epochs"),
        report.seconds,
        report.images_per_second
    );
    if let Some(knn) = &report.knn {
        let untrained = percent(knn.random_init_top1);
        println!("kNN (k = {})      {}   untrained {untrained}", knn.k, percent(knn.top1));
        if let Some(head) = knn.head_top1 {
            println!("  of the head     {}   on the outputs that the loss compares", percent(head));
        }
    }
    if let Some(probe) = &report.linear_probe {
        let untrained = percent(probe.random_init_top1);
        println!("linear probe      {}   untrained {untrained}", percent(probe.top1));
    }
    for report::Baseline { name, knn_top1 } in &report.baselines {
        println!("{name:17} {} by kNN", percent(*knn_top1));
    }
    if let Some(start) = &report.start {
        println!("start             {}", start.verdict);
    }
    for published in &report.published {
        println!("published         {}   {}", percent(published.value), published.source);
        if published.comparable {
            println!("                  comparable with this run")
        } else {
            println!("                  not comparable: {}", published.differences.join("; "));
        }
    }
    if report.skipped.count > 0 {
        let count = counted(report.skipped.count, "image", "images");
        println!(
            "{count} could not be read and were skipped, the first: {}",
            report.skipped.first[0]
        );
    }
    println!("report            {}", folder.join("report.html").display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn galleries_have_one_image_per_class() {
        // A test split with class folders: 40 images of each of ten classes, and one image of an
        // eleventh.
        let labels: Vec<i64> = (0..400).map(|i| i / 40).chain([10]).collect();
        let classes = |labels: &[i64]| -> Vec<i64> {
            of_each_class(labels).into_iter().map(|index| labels[index]).collect()
        };
        assert_eq!(classes(&labels), [0, 1, 2, 4, 5, 6, 8, 9]);
        // Most of the images are of one class.
        let labels = [vec![0; 50], vec![1, 2, 1, 2, 2]].concat();
        assert_eq!(of_each_class(&labels), [0, 1, 2, 50, 52, 51, 53, 54]);
        assert_eq!(of_each_class(&[3, 3, 3]), [0, 1, 2]);
        assert!(of_each_class(&[]).is_empty());
    }
}
