//! The evaluation of a text encoder: classifiers of passages, for each kind of label.

use anyhow::{Result, bail, ensure};
use portolan_evaluate::knn_votes;
use portolan_method::TextMethod;
use portolan_report::{ProtocolResult, counted, write_evaluation};
use portolan_sequences::{FinetuneConfig, features, finetune};
use portolan_tensor::{Device, Tensor, io};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

use super::FILE;
use super::finetuned::FINETUNED;
use super::metrics::ProtocolMetrics;
use crate::args::{EvaluateArgs, Protocol};
use crate::data::print_notes;
use crate::run::setup::set_up;
use crate::text::{Labeled, Labels, Model};

/// Neighbors and temperature of kNN, as for images.
const NEIGHBORS: (usize, f64) = (20, 0.07);

/// A network, and passages with labels.
struct Subject<'a> {
    args: &'a EvaluateArgs,
    model: &'a Model,
    passages: &'a Labeled,
    /// The features of the passages to fit classifiers to, and of those that are held out.
    features: [Tensor; 2],
    device: Device,
}

pub(super) fn evaluate(args: &EvaluateArgs) -> Result<ExitCode> {
    let of_text = |protocol: &Protocol| {
        use Protocol::{Finetune, Knn, Linear, Scratch};
        matches!(protocol, Knn | Linear | Finetune | Scratch)
    };
    ensure!(
        args.protocol.iter().all(of_text),
        "the protocols of text are knn, linear, finetune and scratch"
    );
    ensure!(args.save_finetuned.is_none(), "--save-finetuned is for encoders of images");
    ensure!(args.labels == [1.0] && !args.class_token, "--labels and --class-token are for images");
    let device = set_up(&args.device.name, args.threads.count)?.device;
    let folder = &args.encoder.of;
    let model = Model::open(folder, device)?;
    let prepared = model.prepare(args.data.as_deref())?;
    print_notes(&prepared.notes);
    let passages = &Labeled::of(&prepared)?;
    ensure!(
        !passages.labels.is_empty(),
        "{} has no labels; give --data with a folder for each class",
        prepared.corpus.name
    );
    println!(
        "data  {}: {} to fit classifiers to, {} held out",
        prepared.corpus.name,
        counted(passages.train.len(), "passage", "passages"),
        passages.test.len()
    );
    let encoder = model.method().encoder();
    let of = |passages| features(encoder, passages, device);
    let features = [of(&passages.train)?, of(&passages.test)?];
    let subject = Subject { args, model: &model, passages, features, device };
    let mut all = Vec::new();
    for labels in &passages.labels {
        println!("\n{} ({})", labels.kind, counted(labels.classes.len(), "class", "classes"));
        let mut results = Vec::new();
        for protocol in &args.protocol {
            let metrics = ProtocolMetrics {
                labels: Some(labels.kind.clone()),
                ..subject.metrics(labels, *protocol)?
            };
            metrics.print(&labels.classes);
            all.push(serde_json::to_value(&metrics)?);
            results.push(metrics);
            write(args, &all, labels, &results)?;
        }
    }
    println!("\nall metrics: {}, and a page beside it for each label", path_of(args).display());
    Ok(ExitCode::SUCCESS)
}

fn path_of(args: &EvaluateArgs) -> PathBuf {
    args.out.clone().unwrap_or_else(|| args.encoder.of.join(FILE))
}

/// Writes all results so far, and the page of one kind of label.
fn write(
    args: &EvaluateArgs,
    all: &[Value],
    labels: &Labels,
    results: &[ProtocolMetrics],
) -> Result<()> {
    let path = path_of(args);
    io::write_atomic(&path, serde_json::to_string(all)?.as_bytes())?;
    let rows: Vec<ProtocolResult> = results.iter().map(ProtocolMetrics::to_report).collect();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let page = path.with_file_name(format!("{stem}-{}.html", labels.kind));
    let of = format!("{} by {}", args.encoder.of.display(), labels.kind);
    write_evaluation(&of, &labels.classes, &rows, &page)?;
    Ok(())
}

impl Subject<'_> {
    fn metrics(&self, labels: &Labels, protocol: Protocol) -> Result<ProtocolMetrics> {
        let [train, test] = &self.features;
        let (name, scores) = match protocol {
            Protocol::Knn => {
                let (k, temperature) = NEIGHBORS;
                let truth = Tensor::from_slice(&labels.train);
                let classes = labels.classes.len() as i64;
                let votes = knn_votes(train, &truth, test, classes, &[k], temperature)?;
                let name = format!("kNN, k = {k}, temperature {temperature}");
                (name, labels.scores(&votes[0])?)
            }
            Protocol::Linear => (super::LINEAR.to_owned(), labels.probe(train, test)?),
            Protocol::Finetune => {
                // A copy: fine-tuning changes it.
                let copy = Model::open(&self.args.encoder.of, self.device)?;
                self.finetuned(copy.method(), FINETUNED, labels)?
            }
            Protocol::Scratch => {
                self.finetuned(&*self.model.untrained()?, "from scratch", labels)?
            }
            other => bail!("{other:?} is not a protocol of text"),
        };
        Ok(ProtocolMetrics::with_scores(name, scores))
    }

    /// The name and the scores of this network after training with labels.
    fn finetuned(
        &self,
        method: &dyn TextMethod,
        how: &str,
        labels: &Labels,
    ) -> Result<(String, portolan_evaluate::Scores)> {
        let usual = FinetuneConfig::default();
        let config = FinetuneConfig {
            epochs: self.args.finetune_epochs.unwrap_or(usual.epochs),
            // Half of the rate of pretraining, as in the paper.
            learning_rate: self.model.learning_rate().map_or(usual.learning_rate, |it| it / 2.0),
            ..usual
        };
        let passages = self.passages;
        let logits = finetune(
            method.encoder(),
            (&passages.train, &labels.train),
            &passages.test,
            labels.classes.len() as i64,
            &config,
            self.device,
            |epoch, loss| eprintln!("  epoch {}/{}  loss {loss:.3}", epoch + 1, config.epochs),
        )?;
        let epochs = counted(config.epochs as usize, "epoch", "epochs");
        let name = format!("{how}, {epochs}, rate {}", config.learning_rate);
        Ok((name, labels.scores(&logits)?))
    }
}
