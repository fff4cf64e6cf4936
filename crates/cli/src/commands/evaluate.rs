//! `portolan evaluate`: evaluates a trained encoder with published protocols.

mod dense;
mod finetuned;
mod linear_dinov2;
mod linear_dinov2_table;
mod metrics;
mod passages;
mod subject;

use anyhow::{Result, ensure};
use portolan_encoders::Encoder;
use portolan_evaluate::{
    Features, LinearConfig, LinearProbe, Shots, features_of_draw, knn_votes, linear_sweep, low_shot,
};
use portolan_report::{ProtocolResult, counted, write_evaluation};
use portolan_tensor::{Tensor, io};
use std::path::Path;
use std::process::ExitCode;

use self::dense::{DenseResult, dense_protocols};
use self::finetuned::{FINETUNED, OF_LABELS, check, finetuned, scratch};
use self::linear_dinov2::linear_dinov2;
use self::metrics::ProtocolMetrics;
use self::subject::Subject;

use crate::args::{EvaluateArgs, Protocol};
use crate::data::{is_labeled, print_notes, warn_about_skipped};
use crate::encoder_source::EncoderSource;
use crate::run::scores::both_splits;
use crate::run::setup::set_up;
use crate::text::is_text;

/// The file of metrics in the folder of the run or next to the encoder file.
const FILE: &str = "evaluation.json";

/// The values of k that papers report (DINO, section 4.1), in addition to that of the run.
const NEIGHBORS: [usize; 4] = [10, 20, 100, 200];

pub(crate) fn evaluate(args: &EvaluateArgs) -> Result<ExitCode> {
    if is_text(&args.encoder.of) {
        return passages::evaluate(args);
    }
    check(args)?;
    let device = set_up(&args.device.name, args.threads.count)?.device;
    let trained = EncoderSource::open(&args.encoder.of, args.encoder.name.as_deref())?;
    let of = args.encoder.of.display().to_string();
    let path = args.out.clone().unwrap_or_else(|| trained.output_path(FILE));
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
            Protocol::LinearDinov2 => vec![linear_dinov2(&subject, &*encoder)?],
            Protocol::LowShot => low_shots(&subject)?,
            Protocol::Finetune => finetuned(&subject)?,
            Protocol::Scratch => scratch(&subject)?,
            // These have run.
            Protocol::LinearDense | Protocol::Lost => continue,
        };
        new.iter().for_each(|metrics| metrics.print(&subject.data.classes));
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
    ProtocolMetrics::of(protocol, votes, test.labels()?)
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
    let usual = LinearConfig::default();
    let config = LinearConfig { epochs: on.args.linear_epochs.unwrap_or(usual.epochs), ..usual };
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
        results.push(ProtocolMetrics {
            protocol,
            labels: None,
            top1,
            deviation: Some(deviation),
            scores: None,
            linear_dinov2: None,
        });
    }
    Ok(results)
}

fn fewest_of_a_class(bank: &Features) -> Result<usize> {
    let counts: Vec<i64> = Vec::try_from(bank.labels()?.bincount::<Tensor>(None, 0))?;
    Ok(counts.into_iter().filter(|&images| images > 0).min().unwrap_or(0) as usize)
}

/// Prints the gap between fine-tuning and the linear probe. It is wide for MAE and narrow for
/// contrastive methods.
fn print_gap(results: &[ProtocolMetrics]) {
    let whole = |name: &str, start: &str| name.starts_with(start) && !name.contains(OF_LABELS);
    let of = |start| results.iter().find(|metrics| whole(&metrics.protocol, start));
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
