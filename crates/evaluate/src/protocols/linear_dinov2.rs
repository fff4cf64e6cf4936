//! DINOv2's linear protocol: a grid of linear classifiers on frozen tokens (`dinov2/eval/linear.py`
//! of facebookresearch/dinov2).

mod tokens;

use portolan_encoders::Vit;
use portolan_optim::schedule::cosine_with_warmup;
use portolan_random::{Purpose, stream};
use portolan_tensor::{Device, Kind, Tensor};
use rand::seq::SliceRandom;
use serde::Serialize;

use self::tokens::{Input, Tokens, inputs};
use crate::error::{Error, Result};
use crate::images::each_batch;
use crate::protocols::classifiers::Classifiers;
use crate::protocols::finetune::Finetuning;

/// Images that the authors' classifiers see: 10 epochs of 1,250 batches of 128 on each of 8 GPUs.
const IMAGES_SEEN: u64 = 10 * 1250 * 8 * 128;
/// One image in this many of each class is for validation.
const VALIDATION: usize = 10;

/// How the classifiers are trained. The schedule is a cosine to 0, without weight decay.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearDinov2Config {
    /// Passes over the training images; 10 of ImageNet in `linear.py`.
    pub epochs: u64,
    /// Images per step; 128 on each GPU in `linear.py`, 1,024 on 8.
    pub batch_size: usize,
    /// The learning rates to try, for a batch of 256. They are scaled by the batch (`scale_lr`).
    pub learning_rates: Vec<f64>,
    /// 0.9 in `linear.py`.
    pub momentum: f64,
}

impl LinearDinov2Config {
    /// The authors' settings, adapted to this many training images.
    ///
    /// The grid of 13 learning rates, 1e-5 to 0.1, is theirs. As rates are scaled by the batch, a
    /// classifier's rate summed over all steps depends on the images that it sees and not on the
    /// batch. So a smaller batch loses nothing: 1,024, but at least 32 steps an epoch as long as
    /// that leaves 128 images, theirs per GPU. But fewer images make the whole grid too low: the
    /// classifiers see as many as theirs, 12.8 million, within 10 (theirs) to 100 epochs (`linear`
    /// evaluations of DINO and others).
    #[must_use]
    pub fn for_images(images: usize) -> Self {
        LinearDinov2Config {
            epochs: (IMAGES_SEEN / images.max(1) as u64).clamp(10, 100),
            batch_size: (images / 32).clamp(128, 1024),
            learning_rates: vec![
                1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1,
            ],
            momentum: 0.9,
        }
    }

    fn validate(&self) -> Result<()> {
        let problem = if self.epochs < 1 || self.batch_size < 1 {
            "classifiers need at least one epoch and a batch of at least one image"
        } else if self.learning_rates.is_empty() {
            "classifiers need a learning rate to try"
        } else {
            return Ok(());
        };
        Err(Error::Setting(problem.to_owned()))
    }
}

/// A classifier of the grid.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinearCandidate {
    /// It reads the class tokens of this many last blocks.
    pub blocks: usize,
    /// Whether it also reads the mean patch token of the last block.
    pub mean_patch: bool,
    /// Its learning rate for a batch of 256.
    pub learning_rate: f64,
    /// The share of the validation images that it classifies correctly.
    pub validation_top1: f64,
}

/// The outcome of DINOv2's linear protocol.
#[derive(Debug)]
pub struct LinearDinov2 {
    /// The classifier that is best on the validation images; among equals the one with the fewest
    /// inputs, then the lowest rate.
    pub chosen: LinearCandidate,
    /// All classifiers, by input and then by learning rate.
    pub candidates: Vec<LinearCandidate>,
    /// How many images of the training split were kept for validation.
    pub validation_images: usize,
    /// Images per step.
    pub batch_size: usize,
    /// The chosen classifier's logits for the test images, `[n, classes]`.
    pub logits: Tensor,
    /// The labels of these images, `[n]`.
    pub labels: Tensor,
}

/// Trains linear classifiers on frozen tokens of `vit`, all at once: for each learning rate, on the
/// class tokens of the last block and of the last 4 blocks (or of all, if there are fewer), each
/// alone and with the mean patch token of the last block.
///
/// The one that is best on a tenth of the training split, on which none was trained, is scored on
/// the test split. The authors choose on the split that they score, which favors large grids. Calls
/// `on_epoch` after each epoch with the number of epochs done.
///
/// # Errors
/// When a setting is out of range, images or labels are missing, or there are too few images.
pub fn linear_dinov2(
    vit: &Vit,
    on: &Finetuning,
    config: &LinearDinov2Config,
    mut on_epoch: impl FnMut(u64),
) -> Result<LinearDinov2> {
    config.validate()?;
    let (validation, mut rest) = stratified(&class_of_each(on)?)?;
    let batch_size = config.batch_size.min(rest.len());
    let tokens = Tokens { vit, on };
    let mut grid = Grid::new(&tokens, config, batch_size);
    let per_epoch = (rest.len() / batch_size) as u64;
    let total = config.epochs * per_epoch;
    for epoch in 0..config.epochs {
        rest.sort_unstable();
        rest.shuffle(&mut stream(0, Purpose::Order, &[epoch]));
        let mut step = epoch * per_epoch;
        each_batch(on.train, rest.chunks_exact(batch_size), on.train_view, epoch + 1, |read| {
            let share = cosine_with_warmup(step, total, 0, 0.0, 1.0, 0.0);
            step += 1;
            if !read.ids.is_empty() {
                let labels = tokens.labels(&read, false)?;
                grid.step(&tokens.of(&read)?, &labels, share);
            }
            Ok(())
        })?;
        on_epoch(epoch + 1);
    }
    let (candidates, validation_images) = grid.validated(&tokens, &validation, config)?;
    let chosen = best(&candidates);
    let (logits, labels) = grid.tested(&tokens, chosen)?;
    Ok(LinearDinov2 {
        chosen: candidates[chosen].clone(),
        candidates,
        validation_images,
        batch_size,
        logits,
        labels,
    })
}

/// The class of each training image.
fn class_of_each(on: &Finetuning) -> Result<Vec<usize>> {
    let label = |id| on.train.label(id).map(|label| label as usize);
    let classes: Option<Vec<usize>> = (0..on.train.len()).map(label).collect();
    classes.ok_or(Error::Unlabeled(
        "linear classifiers need labeled images; put each class's into a folder of its own",
    ))
}

/// A random tenth of each class, but at least one image of those with two, and the other images.
fn stratified(class_of: &[usize]) -> Result<(Vec<usize>, Vec<usize>)> {
    let classes = class_of.iter().max().map_or(0, |most| most + 1);
    let mut of_class = vec![Vec::new(); classes];
    for (image, &class) in class_of.iter().enumerate() {
        of_class[class].push(image);
    }
    let (mut validation, mut rest) = (Vec::new(), Vec::new());
    let mut random = stream(0, Purpose::Subset, &[class_of.len() as u64]);
    for mut images in of_class {
        images.shuffle(&mut random);
        let held_out = (images.len() / VALIDATION).max(usize::from(images.len() > 1));
        rest.extend(images.split_off(held_out));
        validation.extend(images);
    }
    if validation.is_empty() || rest.is_empty() {
        return Err(Error::Images(format!(
            "a classifier is chosen on a tenth of each class's training images, and no class of \
             the {} images has two",
            class_of.len()
        )));
    }
    validation.sort_unstable();
    Ok((validation, rest))
}

/// The first of the best candidates.
fn best(candidates: &[LinearCandidate]) -> usize {
    let top1 = |n: usize| candidates[n].validation_top1;
    let best = (0..candidates.len()).rev().max_by(|&a, &b| top1(a).total_cmp(&top1(b)));
    best.expect("checked settings have a learning rate")
}

/// The classifiers of each input.
struct Grid(Vec<(Input, Classifiers)>);

impl Grid {
    fn new(tokens: &Tokens, config: &LinearDinov2Config, batch_size: usize) -> Self {
        let scale = batch_size as f64 / 256.0;
        let rates: Vec<f64> = config.learning_rates.iter().map(|rate| rate * scale).collect();
        let (classes, device) = (tokens.on.classes, tokens.on.device);
        let of = |input: Input| {
            let of_input = Classifiers::new(&rates, config.momentum, input.width, classes, device);
            (input, of_input)
        };
        Grid(inputs(tokens.blocks(), tokens.vit.config().width).into_iter().map(of).collect())
    }

    fn step(&mut self, tokens: &Tensor, labels: &Tensor, share: f64) {
        for (input, classifiers) in &mut self.0 {
            classifiers.step(&input.of(tokens), labels, share);
        }
    }

    /// All candidates with their accuracies on these training images, and the number of images that
    /// could be read.
    fn validated(
        &self,
        tokens: &Tokens,
        validation: &[usize],
        config: &LinearDinov2Config,
    ) -> Result<(Vec<LinearCandidate>, usize)> {
        let on = tokens.on;
        let (mut correct, mut images) = (Vec::new(), 0);
        let batches = validation.chunks(config.batch_size);
        each_batch(on.train, batches, on.test_view, 0, |read| {
            if read.ids.is_empty() {
                return Ok(());
            }
            images += read.ids.len();
            let (x, labels) = (tokens.of(&read)?, tokens.labels(&read, false)?);
            let of_inputs = self.0.iter().map(|(input, all)| all.correct(&input.of(&x), &labels));
            correct.push(Tensor::cat(&of_inputs.collect::<Vec<_>>(), 0));
            Ok(())
        })?;
        if images == 0 {
            return Err(Error::Images("no validation image can be read".to_owned()));
        }
        let correct = Tensor::stack(&correct, 0).sum_dim_intlist(0, false, Kind::Int64);
        let correct = Vec::<i64>::try_from(correct.to_device(Device::Cpu))?;
        let all = self.0.iter().flat_map(|(input, _)| {
            config.learning_rates.iter().map(move |&learning_rate| (input, learning_rate))
        });
        let candidate = |((input, learning_rate), correct): ((&Input, f64), i64)| LinearCandidate {
            blocks: input.blocks as usize,
            mean_patch: input.mean_patch,
            learning_rate,
            validation_top1: correct as f64 / images as f64,
        };
        Ok((all.zip(correct).map(candidate).collect(), images))
    }

    /// The logits of the `n`-th candidate for the test images, and their labels.
    fn tested(&self, tokens: &Tokens, n: usize) -> Result<(Tensor, Tensor)> {
        let on = tokens.on;
        let rates = self.0[0].1.len();
        let (input, classifiers) = &self.0[n / rates];
        let (mut logits, mut truth) = (Vec::new(), Vec::new());
        let all: Vec<usize> = (0..on.test.len()).collect();
        each_batch(on.test, all.chunks(256), on.test_view, 0, |read| {
            if !read.ids.is_empty() {
                let x = input.of(&tokens.of(&read)?);
                logits.push(classifiers.logits((n % rates) as i64, &x).to_device(Device::Cpu));
                truth.push(tokens.labels(&read, true)?.to_device(Device::Cpu));
            }
            Ok(())
        })?;
        if truth.is_empty() {
            return Err(Error::Images("no test image can be read".to_owned()));
        }
        Ok((Tensor::cat(&logits, 0), Tensor::cat(&truth, 0)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tenth_of_each_class_is_for_validation() {
        // 100 images of class 0, 40 of class 1, 3 of class 2, one of class 3.
        let class_of: Vec<usize> = (0..144)
            .map(|i| usize::from(i >= 100) + usize::from(i >= 140) * (1 + i / 143))
            .collect();
        let (validation, rest) = stratified(&class_of).unwrap();
        let count = |images: &[usize], class| {
            images.iter().filter(|&&image| class_of[image] == class).count()
        };
        assert_eq!([0, 1, 2, 3].map(|class| count(&validation, class)), [10, 4, 1, 0]);
        let mut all = [validation.clone(), rest].concat();
        all.sort_unstable();
        assert_eq!(all, (0..144).collect::<Vec<_>>());
        assert_eq!(stratified(&class_of).unwrap().0, validation, "the same every time");
        assert!(stratified(&[0, 1, 2]).unwrap_err().to_string().contains("no class"));
    }

    #[test]
    fn few_images_are_seen_as_often_as_many() {
        let of = |images| {
            let config = LinearDinov2Config::for_images(images);
            (config.epochs, config.batch_size)
        };
        assert_eq!(of(1_281_167), (10, 1024), "linear.py");
        assert_eq!(of(10_000), (100, 312));
        assert_eq!(of(50), (100, 128));
    }
}
