//! Bounds for the accuracy of a MoCo recipe: baselines below it, and above it a supervised encoder
//! with the same budget (the recipe's data, encoder, crops, epochs and batch, but one view per
//! image and labels).
//!
//! `cargo run --release -p portolan-evaluate --example supervised -- --seeds 0,1,2`

use anyhow::{Context, Result};
use clap::Parser;
use portolan_augment::{ViewSpec, Views, cpu, presets};
use portolan_data::{Dataset, Options, Source, in_memory, open, subset};
use portolan_encoders::{Encoder, EncoderConfig, build, layers::Linear};
use portolan_evaluate::{
    Features, KnnConfig, color_histogram, features, knn_top1, pixels, recalibrate,
};
use portolan_optim::{Optimizer, OptimizerConfig, ParamGroup, Schedule};
use portolan_random::{Purpose, stream};
use portolan_tensor::{Device, Kind, Precision, Tensor, Vars, device, no_grad, prefixed, seed};
use rand::{RngExt, seq::SliceRandom};
use rayon::prelude::*;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// As usual for ResNets on small images (He et al. 2015, arXiv 1512.03385, section 4.2), with a
/// cosine schedule.
const LEARNING_RATE: f64 = 0.1;
const OPTIMIZER: OptimizerConfig =
    OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 5e-4, nesterov: false };

/// Decoded images are kept in memory if they take less than this many bytes.
const MEMORY: u64 = 2 << 30;

#[derive(Parser)]
struct Args {
    /// The recipe that sets the budget.
    #[arg(
        long,
        default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../moco/recipes/shapes.toml")
    )]
    recipe: PathBuf,
    /// The seeds of the runs.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,
    /// Passes over the training images; by default the recipe's.
    #[arg(long)]
    epochs: Option<u64>,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
}

/// The part of a recipe that also applies to a supervised run.
#[derive(Deserialize)]
struct Recipe {
    data: Data,
    encoder: EncoderConfig,
    training: Training,
    evaluation: Evaluation,
    views: Vec<Views>,
}

#[derive(Deserialize)]
struct Data {
    source: String,
    size: u32,
    limit: usize,
    limit_test: usize,
}

#[derive(Deserialize)]
struct Training {
    epochs: u64,
    batch_size: usize,
}

#[derive(Deserialize)]
struct Evaluation {
    resize: u32,
    size: u32,
    knn: KnnConfig,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let text = std::fs::read_to_string(&args.recipe)
        .with_context(|| format!("cannot read the recipe {}", args.recipe.display()))?;
    let mut recipe: Recipe = toml::from_str(&text)
        .with_context(|| format!("{} is not a MoCo recipe", args.recipe.display()))?;
    recipe.training.epochs = args.epochs.unwrap_or(recipe.training.epochs);
    let study = Study::open(recipe, device::choose(&args.device)?)?;

    study.without_network()?;
    for &seed in &args.seeds {
        study.with_network(seed)?;
    }
    Ok(())
}

/// A recipe with its data and views.
struct Study {
    recipe: Recipe,
    train: Arc<dyn Source>,
    test: Arc<dyn Source>,
    classes: i64,
    training_view: ViewSpec,
    eval_view: ViewSpec,
    device: Device,
}

impl Study {
    fn open(recipe: Recipe, device: Device) -> Result<Self> {
        let options = Options { size: recipe.data.size, ..Options::default() };
        let Dataset { train, test, classes, mean, std, .. } = open(&recipe.data.source, &options)?;
        let first = |source, limit| match limit {
            0 => in_memory(source, MEMORY),
            limit => in_memory(subset(source, limit), MEMORY),
        };
        let test = test.context("the data has no test split to score on")?;
        let view =
            Views::each(&recipe.views).into_iter().next().context("the recipe has no views")?;
        let Evaluation { resize, size, .. } = recipe.evaluation;
        Ok(Study {
            train: first(train, recipe.data.limit),
            test: first(test, recipe.data.limit_test),
            classes: classes.len() as i64,
            training_view: view.with_normalization(mean, std),
            eval_view: presets::evaluation(resize, size).with_normalization(mean, std),
            recipe,
            device,
        })
    }

    /// Baselines on pixels.
    fn without_network(&self) -> Result<()> {
        let of = |source: &Arc<dyn Source>| pixels(&**source, &self.eval_view);
        let raw = self.knn(&of(&self.train)?, &of(&self.test)?)?;
        let colors = self.knn(&color_histogram(&*self.train)?, &color_histogram(&*self.test)?)?;
        println!("kNN on raw pixels {raw:.4}, on color histograms {colors:.4}");
        Ok(())
    }

    /// An encoder before and after supervised training.
    fn with_network(&self, number: u64) -> Result<()> {
        seed(stream(number, Purpose::Libtorch, &[]).random());
        let encoder = build(&self.recipe.encoder, &Vars::new(self.device))?;
        let head_vars = Vars::new(self.device);
        let head = Linear::new(&head_vars, encoder.width(), self.classes, true);

        let fresh = self.encoder_knn(&*encoder)?;
        recalibrate(&*encoder, &*self.train, &self.eval_view, self.device, 10_000, number)?;
        let recalibrated = self.encoder_knn(&*encoder)?;

        let started = Instant::now();
        self.train(&*encoder, &head, &head_vars, number)?;
        let seconds = started.elapsed().as_secs_f64();

        let supervised = self.encoder_knn(&*encoder)?;
        let test = self.features(&*encoder, &self.test)?;
        let predicted = no_grad(|| head.forward(&test.x.to_device(self.device))).argmax(1, false);
        let correct = predicted.to_device(Device::Cpu).eq_tensor(test.labels()?);
        let classifier = correct.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        println!(
            "seed {number}: kNN untrained {fresh:.4}, with batch statistics recalibrated \
             {recalibrated:.4}; after {} supervised epochs ({seconds:.0} s) {supervised:.4}, its \
             classifier {classifier:.4}",
            self.recipe.training.epochs
        );
        Ok(())
    }

    fn train(
        &self,
        encoder: &dyn Encoder,
        head: &Linear,
        head_vars: &Vars,
        seed: u64,
    ) -> Result<()> {
        let mut params = encoder.vars().parameters();
        params.extend(prefixed("fc", head_vars.parameters()));
        let mut optimizer =
            Optimizer::new(OPTIMIZER, LEARNING_RATE, vec![ParamGroup::all("all", params)])?;
        let Training { epochs, batch_size } = self.recipe.training;
        let mut order: Vec<usize> = (0..self.train.len()).collect();
        let steps = (order.len() / batch_size) as u64;
        for epoch in 0..epochs {
            order.shuffle(&mut stream(seed, Purpose::Order, &[epoch]));
            let mut sum = Tensor::zeros([], (Kind::Float, self.device));
            for (i, ids) in order.chunks_exact(batch_size).enumerate() {
                let step = epoch * steps + i as u64;
                let (images, labels) = self.batch(ids, epoch, seed)?;
                let loss =
                    head.forward(&encoder.forward(&images, true)).cross_entropy_for_logits(&labels);
                optimizer.zero_grad()?;
                loss.backward();
                optimizer.step(
                    Schedule::default().at(LEARNING_RATE, step, steps, epochs),
                    epoch as f64,
                )?;
                sum += loss.detach();
            }
            eprintln!(
                "epoch {}/{epochs}  loss {:.4}",
                epoch + 1,
                sum.double_value(&[]) / steps as f64
            );
        }
        Ok(())
    }

    /// One view of each of these images, `[n, 3, size, size]`, and their labels, `[n]`.
    fn batch(&self, ids: &[usize], epoch: u64, seed: u64) -> Result<(Tensor, Tensor)> {
        let images: Vec<_> =
            ids.par_iter().map(|&id| Ok(self.train.image(id)?.decode()?)).collect::<Result<_>>()?;
        let images: Vec<_> = images.iter().collect();
        let size = i64::from(self.training_view.size());
        let mut values = vec![0f32; ids.len() * 3 * (size * size) as usize];
        let name = |i: usize| stream(seed, Purpose::View, &[epoch, ids[i] as u64, 0]);
        cpu::batch(&self.training_view, &images, name, &mut values);
        let label = |&id: &usize| self.train.label(id).map(i64::from);
        let labels: Option<Vec<i64>> = ids.iter().map(label).collect();
        let labels = labels.context("the training images have no labels")?;
        Ok((
            Tensor::from_slice(&values).view([-1, 3, size, size]).to_device(self.device),
            Tensor::from_slice(&labels).to_device(self.device),
        ))
    }

    fn features(&self, encoder: &dyn Encoder, source: &Arc<dyn Source>) -> Result<Features> {
        Ok(features(encoder, &**source, &self.eval_view, self.device, Precision::Fp32)?)
    }

    fn encoder_knn(&self, encoder: &dyn Encoder) -> Result<f64> {
        self.knn(&self.features(encoder, &self.train)?, &self.features(encoder, &self.test)?)
    }

    fn knn(&self, bank: &Features, test: &Features) -> Result<f64> {
        Ok(knn_top1(bank, test, self.classes, &self.recipe.evaluation.knn)?)
    }
}
