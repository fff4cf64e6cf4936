//! `portolan evaluate`: evaluates a trained encoder with published protocols.

mod dense;

use anyhow::{Context, Result, ensure};
use portolan_data::Dataset;
use portolan_encoders::{Encoder, build};
use portolan_evaluate::{
    Features, FinetuneConfig, Finetuning, LinearConfig, LinearProbe, Scores, Shots,
    features_of_draw, finetune, knn_votes, linear_sweep, low_shot, to_finetune,
};
use portolan_report::{ProtocolResult, counted, write_evaluation};
use portolan_tensor::{Device, Tensor, Vars, io, seed};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

use self::dense::{DenseResult, dense_protocols};
use crate::args::{EvaluateArgs, Protocol};
use crate::data::{is_labeled, print_notes, warn_about_skipped};
use crate::encoder_source::EncoderSource;
use crate::run::scores::both_splits;
use crate::run::setup::set_up;

/// The file of metrics in the folder of the run or next to the encoder file.
const FILE: &str = "evaluation.json";

/// The values of k that papers report (DINO, section 4.1), in addition to that of the run.
const NEIGHBORS: [usize; 4] = [10, 20, 100, 200];

/// The metrics of one protocol, as printed and written.
#[derive(Serialize)]
struct ProtocolMetrics {
    /// The protocol and its settings.
    protocol: String,
    top1: f64,
    /// Standard deviation over several draws of labeled images.
    deviation: Option<f64>,
    scores: Option<Scores>,
}

impl ProtocolMetrics {
    /// The metrics after the accuracy: deviation, interval and top-5.
    fn details(&self) -> String {
        let mut parts = Vec::new();
        if let Some(deviation) = self.deviation {
            parts.push(format!("± {}", percent(deviation)));
        }
        if let Some(scores) = &self.scores {
            let [low, high] = scores.interval;
            parts.push(format!("({} to {})", percent(low), percent(high)));
            parts.extend(scores.top5.map(|top5| format!("top-5 {} %", percent(top5))));
        }
        parts.join("  ")
    }

    fn to_report(&self) -> ProtocolResult {
        ProtocolResult {
            protocol: self.protocol.clone(),
            top1: format!("{} %", percent(self.top1)),
            details: self.details(),
            confusion: self.scores.as_ref().and_then(|scores| scores.confusion.clone()),
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// The encoder and the data that all protocols evaluate.
struct Subject<'a> {
    args: &'a EvaluateArgs,
    trained: EncoderSource,
    data: Dataset,
    device: Device,
    bank: Features,
    test: Features,
    classes: i64,
}

pub(crate) fn evaluate(args: &EvaluateArgs) -> Result<ExitCode> {
    let device = set_up(&args.device.name, None)?.device;
    let trained = EncoderSource::open(&args.encoder.of, args.encoder.name.as_deref())?;
    let (of, path) = (args.encoder.of.display().to_string(), trained.output_path(FILE));
    let page = path.with_extension("html");
    let on_pixels = dense_protocols(args, &trained, device, |results| {
        write_results(&of, &path, &[], results, &[])
    })?;
    if on_pixels.len() == args.protocol.len() {
        println!("all metrics: {} and {}", page.display(), path.display());
        return Ok(ExitCode::SUCCESS);
    }
    let data = trained.data(args.data.as_ref())?;
    print_notes(&data.notes);
    ensure!(
        is_labeled(&data),
        "{} has no labeled test split; give --data with train/ and test/ folders that have one \
         folder for each class",
        data.name
    );
    let encoder = trained.build(&trained.config, device)?;
    let (bank, test) =
        both_splits(&*encoder, &data, &trained.eval_view(), device, trained.precision)?;
    println!(
        "data  {}: {} for training, {} for testing",
        data.name,
        counted(bank.ids.len(), "image", "images"),
        test.ids.len()
    );
    warn_about_skipped(&bank);
    warn_about_skipped(&test);
    let classes = data.classes.len() as i64;
    let subject = Subject { args, trained, data, device, bank, test, classes };
    let mut results: Vec<ProtocolMetrics> = Vec::new();
    for protocol in &args.protocol {
        let new = match protocol {
            Protocol::Knn => knn(&subject)?,
            Protocol::Linear => vec![linear(&subject)?],
            Protocol::LinearSgd => linear_sgd(&subject, &*encoder)?,
            Protocol::LowShot => low_shots(&subject)?,
            Protocol::Finetune => finetuned(&subject)?,
            // These have run.
            Protocol::LinearDense | Protocol::Lost => continue,
        };
        new.iter().for_each(|metrics| print_metrics(metrics, &subject.data));
        results.extend(new);
        // Write after each protocol: a later one may take hours and fail.
        write_results(&of, &path, &results, &on_pixels, &subject.data.classes)?;
    }
    print_gap(&results);
    println!("all metrics and confusion matrices: {} and {}", page.display(), path.display());
    Ok(ExitCode::SUCCESS)
}

/// Writes all results so far to `path`, and to the page beside it.
fn write_results(
    of: &str,
    path: &Path,
    results: &[ProtocolMetrics],
    on_pixels: &[DenseResult],
    classes: &[String],
) -> Result<()> {
    let of_images = results.iter().map(serde_json::to_value);
    let all = of_images.chain(on_pixels.iter().map(|result| Ok(result.json.clone())));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    io::write_atomic(path, serde_json::to_string(&all)?.as_bytes())?;
    let of_images = results.iter().map(ProtocolMetrics::to_report);
    let rows: Vec<ProtocolResult> =
        of_images.chain(on_pixels.iter().map(DenseResult::to_report)).collect();
    write_evaluation(of, classes, &rows, &path.with_extension("html"))?;
    Ok(())
}

fn metrics(protocol: String, votes: &Tensor, test: &Features) -> Result<ProtocolMetrics> {
    let scores = Scores::of(votes, test.labels()?)?;
    Ok(ProtocolMetrics { protocol, top1: scores.top1, deviation: None, scores: Some(scores) })
}

fn knn(on: &Subject) -> Result<Vec<ProtocolMetrics>> {
    let own = &on.trained.knn;
    let mut ks: Vec<usize> =
        NEIGHBORS.into_iter().filter(|&k| k <= on.bank.ids.len() && k != own.k).collect();
    ks.push(own.k);
    ks.sort_unstable();
    let (bank, labels) = (&on.bank.x, on.bank.labels()?);
    let votes = knn_votes(bank, labels, &on.test.x, on.classes, &ks, own.temperature)?;
    let name = |k: &usize| format!("kNN, k = {k}, temperature {}", own.temperature);
    ks.iter().zip(&votes).map(|(k, votes)| metrics(name(k), votes, &on.test)).collect()
}

const LINEAR: &str = "linear probe, L-BFGS";

fn linear(on: &Subject) -> Result<ProtocolMetrics> {
    let probe = LinearProbe::fit(&on.bank.x, on.bank.labels()?, on.classes)?;
    metrics(LINEAR.to_owned(), &probe.logits(&on.test.x)?, &on.test)
}

fn linear_sgd(on: &Subject, encoder: &dyn Encoder) -> Result<Vec<ProtocolMetrics>> {
    let config = LinearConfig { epochs: on.args.linear_epochs, ..LinearConfig::default() };
    let view = on.trained.training_view();
    let plain = |_| Ok(on.bank.x.shallow_clone());
    let augmented = |epoch| {
        let precision = on.trained.precision;
        let seen =
            features_of_draw(encoder, &*on.data.train, &view, epoch + 1, on.device, precision)?;
        ensure!(
            seen.ids == on.bank.ids,
            "an image can no longer be read; run the evaluation again"
        );
        Ok(seen.x)
    };
    let of = |how: &str, swept: Result<portolan_evaluate::LinearSweep>| {
        let swept = swept?;
        let epochs = counted(config.epochs as usize, "epoch", "epochs");
        let name = format!("linear layer, SGD, {epochs}{how}, rate {}", swept.learning_rate);
        metrics(name, &swept.logits, &on.test)
    };
    Ok(vec![
        of("", linear_sweep(&on.bank, plain, &on.test, on.classes, &config))?,
        of(
            " with crops and flips",
            linear_sweep(&on.bank, augmented, &on.test, on.classes, &config),
        )?,
    ])
}

fn low_shots(on: &Subject) -> Result<Vec<ProtocolMetrics>> {
    let fewest = fewest_of_a_class(&on.bank)?;
    let some = [1, 5, 10].into_iter().filter(|&n| n <= fewest).map(Shots::PerClass);
    let mut results = Vec::new();
    for shots in [Shots::Share(0.01), Shots::Share(0.1)].into_iter().chain(some) {
        let draws = low_shot(&on.bank, &on.test, on.classes, shots)?;
        let (top1, deviation) = draws.mean_and_deviation();
        let name = match shots {
            Shots::Share(share) => format!("linear probe, {:.0} % of the labels", 100.0 * share),
            Shots::PerClass(n) => format!("linear probe, {n} of each class"),
        };
        let protocol = format!("{name} ({})", counted(draws.labeled, "image", "images"));
        results.push(ProtocolMetrics { protocol, top1, deviation: Some(deviation), scores: None });
    }
    Ok(results)
}

fn fewest_of_a_class(bank: &Features) -> Result<usize> {
    let counts: Vec<i64> = Vec::try_from(bank.labels()?.bincount::<Tensor>(None, 0))?;
    Ok(counts.into_iter().filter(|&images| images > 0).min().unwrap_or(0) as usize)
}

const FINETUNED: &str = "fine-tuned";

fn finetuned(on: &Subject) -> Result<Vec<ProtocolMetrics>> {
    let epochs = on.args.finetune_epochs;
    let (config, images) = (&on.trained.config, on.bank.ids.len());
    let recipe = if config.is_transformer() {
        FinetuneConfig::vit(epochs)
    } else {
        FinetuneConfig::resnet(epochs)
    };
    // MAE's settings do not suit fewer than 32 steps per epoch, or images too small to erase a
    // third.
    let most = if config.is_transformer() { images / 32 } else { images };
    let recipe = FinetuneConfig {
        batch_size: recipe.batch_size.min(most.max(2)),
        erasing: if on.trained.has_small_images() { 0.0 } else { recipe.erasing },
        ..recipe
    };
    seed(on.trained.seed);
    let pretrained = to_finetune(on.trained.build(config, on.device)?, config)?;
    let trained_for = counted(epochs as usize, "epoch", "epochs");
    let name = format!("{FINETUNED}, {trained_for}");
    let after = finetuned_one(on, &*pretrained, &recipe, name)?;
    let untrained = to_finetune(build(config, &Vars::new(on.device))?, config)?;
    let name = format!("from scratch, {trained_for}");
    let scratch = finetuned_one(on, &*untrained, &recipe, name)?;
    Ok(vec![after, scratch])
}

fn finetuned_one(
    on: &Subject,
    encoder: &dyn Encoder,
    recipe: &FinetuneConfig,
    name: String,
) -> Result<ProtocolMetrics> {
    let [train_view, test_view] = on.trained.finetuning_views();
    let work = Finetuning {
        train: &*on.data.train,
        train_view: &train_view,
        test: &**on.data.test.as_ref().context("the data has no test split")?,
        test_view: &test_view,
        classes: on.classes,
        device: on.device,
        precision: on.trained.precision,
    };
    let log = |epoch, loss| eprintln!("{name}: epoch {}  loss {loss:.4}", epoch + 1);
    let (test, votes) = finetune(encoder, &work, recipe, log)?;
    metrics(name.clone(), &votes, &test)
}

fn print_metrics(metrics: &ProtocolMetrics, data: &Dataset) {
    let mut line = format!("{:<52} {:>5} %", metrics.protocol, percent(metrics.top1));
    line += &format!(" {}", metrics.details());
    if let Some((truth, taken_for, images)) =
        metrics.scores.as_ref().and_then(Scores::most_confused)
    {
        let (truth, taken_for) = (&data.classes[truth], &data.classes[taken_for]);
        line += &format!("  most confused: {truth} predicted as {taken_for} ({images})");
    }
    println!("{}", line.trim_end());
}

/// Prints the gap between fine-tuning and the linear probe. It is wide for MAE and narrow for
/// contrastive methods.
fn print_gap(results: &[ProtocolMetrics]) {
    let of = |start: &str| results.iter().find(|metrics| metrics.protocol.starts_with(start));
    let (Some(linear), Some(finetuned)) = (of(LINEAR), of(FINETUNED)) else { return };
    let gap = 100.0 * (finetuned.top1 - linear.top1);
    if gap > 0.0 {
        println!(
            "fine-tuning is {gap:.1} points above the linear probe: the encoder has this much \
             information that a linear layer cannot read"
        )
    } else {
        println!("fine-tuning is not better than the linear probe after this many epochs")
    }
}
