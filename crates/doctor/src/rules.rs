//! The rules, a function per problem.
//!
//! Thresholds marked "ours" were set on the runs of docs/results/shapes.md and on short runs broken
//! on purpose, and scored on others.

use portolan_metrics::{Family, names};

use crate::finding::{Finding, Problem};
use crate::run::Run;
use crate::tokens::{crowded, crowded_without_koleo, duplicate_images, patches_learn_nothing};

/// All rules, causes before their effects.
const RULES: [fn(&Run) -> Option<Finding>; 14] = [
    diverged,
    batch_too_small,
    crowded_without_koleo,
    learning_rate_too_high,
    uniformity_rises,
    complete_collapse,
    no_variance,
    uninformative_teacher,
    dimensional_collapse,
    views_too_weak,
    no_better_than_the_mean,
    duplicate_images,
    crowded,
    patches_learn_nothing,
];

/// The problem of a run: the finding of the first rule that applies, since later findings usually
/// follow from it. `None` for a healthy run.
#[must_use]
pub fn examine(run: &Run) -> Option<Finding> {
    RULES.iter().find_map(|rule| rule(run))
}

/// The remedy for a learning rate that is too high.
const LOWER_RATE: &str = "take a tenth of the learning rate, or a longer warm-up";

fn found(problem: Problem, evidence: String, remedy: &str) -> Option<Finding> {
    Some(Finding::new(problem, evidence, remedy))
}

/// The loss is NaN or infinite.
fn diverged(run: &Run) -> Option<Finding> {
    let row = run
        .rows
        .iter()
        .find(|row| row.metrics.get(names::LOSS).is_some_and(|loss| !loss.is_finite()))?;
    found(
        Problem::Divergence,
        format!("the loss is no longer a number at step {}", row.step),
        "go back to the checkpoint before and take a third of the learning rate",
    )
}

/// SimSiam (arXiv 2011.10566, section 4.1): the standard deviation of normalized outputs is 1/√d if
/// they fill the sphere (logged as 1), and 0 if all are one point. The threshold of 0.15 is ours:
/// healthy runs stayed above 0.25.
fn complete_collapse(run: &Run) -> Option<Finding> {
    let deviation = run.end(names::OUTPUT_DEVIATION).filter(|deviation| *deviation < 0.15)?;
    collapsed(
        run,
        format!(
            "all images get nearly the same output: the deviation of a batch's outputs is \
             {deviation:.3}, where 1 fills the sphere and below 0.15 is a point (SimSiam, section \
             4.1; threshold ours)"
        ),
    )
}

/// Jing et al. 2021, arXiv 2110.09348: outputs differ, but in a few dimensions only. RankMe (arXiv
/// 2210.02885) measures it. The threshold of 4 is ours: healthy runs stayed above 8.
fn dimensional_collapse(run: &Run) -> Option<Finding> {
    let rank = run.late(names::OUTPUT_RANK).filter(|rank| *rank < 4.0)?;
    collapsed(
        run,
        format!(
            "outputs vary in only {rank:.1} dimensions (RankMe, effective rank; below 4 by our \
             threshold): dimensional collapse"
        ),
    )
}

/// The remedy for a collapse depends on how the method prevents one. Negatives do under any
/// setting, but fail when the learning rate is too high.
fn collapsed(run: &Run, evidence: String) -> Option<Finding> {
    let remedy = match run.method.family {
        Family::Contrastive => {
            let evidence =
                format!("{evidence}; despite negatives, which takes too high a learning rate");
            return found(Problem::LearningRate, evidence, LOWER_RATE);
        }
        Family::SelfDistillation if run.logs(names::TEACHER_ENTROPY) => {
            "keep the center moving (`center_momentum` below 1) and warm up the teacher's \
             temperature"
        }
        Family::SelfDistillation if run.method.has_momentum_encoder => {
            "keep predictor and target (`predictor`, `target`), and the target slow (`momentum` \
             near 1); then lower the learning rate"
        }
        Family::SelfDistillation => {
            "keep `stop_gradient`, and batch norm in the head; then lower the learning rate"
        }
        Family::RedundancyReduction if run.logs(names::VARIANCE) => {
            "raise `variance`, the term that keeps dimensions apart"
        }
        Family::RedundancyReduction => {
            "raise `lambda`, the term that keeps dimensions apart; then lower the learning rate"
        }
        Family::Reconstruction | Family::Pretext | Family::Distillation => {
            "lower the learning rate, and lengthen its warm-up"
        }
    };
    found(Problem::Collapse, evidence, remedy)
}

/// VICReg's variance term is the hinge 1 − deviation of each dimension (section 4.1 of arXiv
/// 2105.04906): near 1 nothing varies. The threshold is ours: healthy runs stayed below 0.72.
fn no_variance(run: &Run) -> Option<Finding> {
    let variance = run.end(names::VARIANCE).filter(|variance| *variance > 0.95)?;
    let evidence = format!(
        "dimensions hardly vary over a batch: VICReg's variance term is {variance:.3} of at most \
         1, above 0.95 by our threshold"
    );
    collapsed(run, evidence)
}

/// DINO's two kinds of collapse (section 5.3 and figure 7 of arXiv 2104.14294). The teacher gives
/// every image the same distribution: a uniform one (without sharpening) or a single prototype
/// (without centering). Student and teacher then agree.
fn uninformative_teacher(run: &Run) -> Option<Finding> {
    let entropy = run.end(names::TEACHER_ENTROPY)?;
    let divergence = run.end(names::TEACHER_STUDENT_DIVERGENCE)?;
    if entropy > 0.985 {
        return found(
            Problem::Collapse,
            format!(
                "the teacher's distributions are uniform and carry no information: their entropy \
                 is {:.1} % of the largest, above 98.5 % (DINO, figure 7; threshold ours)",
                100.0 * entropy
            ),
            "lower the teacher's temperature (0.04), which sharpens them",
        );
    }
    if entropy < 0.1 || divergence < 0.001 {
        return found(
            Problem::Collapse,
            format!(
                "the teacher gives every image the same prototypes: entropy {:.1} % of the \
                 largest, divergence from the student {divergence:.4} (DINO, figure 7; thresholds \
                 ours: 10 %, 0.001)",
                100.0 * entropy
            ),
            "keep the center moving (`center_momentum` 0.9), and do not go below a temperature of \
             0.04",
        );
    }
    None
}

/// Too high a learning rate damages the encoder before its outputs: the features of all images vary
/// in a few dimensions only (RankMe, arXiv 2210.02885). The threshold of 11 is ours: features of
/// ResNets kept a rank of 16 at the right rate, even of collapsed ones. A small ViT's features may
/// be that narrow in a healthy run, but then its outputs are not.
fn learning_rate_too_high(run: &Run) -> Option<Finding> {
    if run.method.family == Family::Pretext {
        return None; // pretext tasks narrow the features to what they need
    }
    let rank = run.end(names::FEATURE_RANK).filter(|rank| *rank < 11.0)?;
    if run.late(names::OUTPUT_RANK).is_some_and(|rank| rank >= 8.0) {
        return None;
    }
    found(
        Problem::LearningRate,
        format!(
            "the encoder's features vary in only {rank:.1} dimensions (RankMe, effective rank), \
             below 11 by our threshold: the learning rate was too high for it"
        ),
        LOWER_RATE,
    )
}

/// Negatives push features apart: uniformity, the logarithm of how near pairs of features lie,
/// falls or stays level in training (Wang and Isola 2020, arXiv 2005.10242, figures 5 and 7). If it
/// rises towards 0, the learning rate was so high that what the first epochs learned was lost. The
/// threshold of three quarters is ours: healthy runs kept nine tenths.
fn uniformity_rises(run: &Run) -> Option<Finding> {
    if run.method.family != Family::Contrastive {
        return None;
    }
    let (first, last) = (run.first(names::UNIFORMITY)?, run.end(names::UNIFORMITY)?);
    if last < 0.75 * first {
        return None; // both are negative
    }
    found(
        Problem::LearningRate,
        format!(
            "features draw together, though negatives push them apart: their uniformity (Wang and \
             Isola 2020) went from {first:.2} to {last:.2}, above three quarters of it by our \
             threshold"
        ),
        LOWER_RATE,
    )
}

/// SimCLR's accuracy grows up to batches of thousands (figure 9), since the batch provides the
/// negatives. A batch below 32 images has fewer than 62 of them, among which the other view is too
/// easy to find.
fn batch_too_small(run: &Run) -> Option<Finding> {
    if !run.has_only_in_batch_negatives() || run.batch_size >= 32 {
        return None;
    }
    found(
        Problem::Batch,
        format!(
            "a batch of {} has too few negatives: below 32 by our threshold (SimCLR, figure 9, \
             gains up to thousands)",
            run.batch_size
        ),
        "take larger batches (`--batch-size 256`), or MoCo, whose queue needs none",
    )
}

/// If the views of an image share color or position, these alone identify the other view, and
/// nothing else is learned (SimCLR, section 3.1, on crops without color distortion).
fn views_too_weak(run: &Run) -> Option<Finding> {
    if !run.method.family.compares_views() {
        return None;
    }
    let alignment = run.first(names::ALIGNMENT)?;
    // A long queue spreads features, and thereby views.
    let threshold = if run.method.has_queue { 0.15 } else { 0.12 };
    if alignment >= threshold {
        return None;
    }
    // By Jensen's inequality, uniformity u means a mean squared distance between images of at least
    // −u/2. If all images lie close together, so do views of any strength.
    if run.first(names::UNIFORMITY).is_some_and(|uniformity| alignment > 0.3 * -uniformity / 2.0) {
        return None;
    }
    let top1 = run.quarter(names::CONTRASTIVE_TOP1);
    // SimCLR aligns views of any strength within epochs, since both pass through one encoder. They
    // were too similar from the start only if the other view is also found early.
    let one_encoder = run.has_only_in_batch_negatives() && !run.method.has_momentum_encoder;
    if one_encoder && top1.is_none_or(|top1| top1 < 0.8) {
        return None;
    }
    let found_early = top1.map_or(String::new(), |top1| {
        format!(", and after a quarter of training {:.0} % of other views were found", 100.0 * top1)
    });
    found(
        Problem::Views,
        format!(
            "the views of an image are almost the same to the encoder: their mean squared distance \
             is {alignment:.3} (alignment; Wang and Isola 2020) when first measured, below \
             {threshold} by our threshold{found_early}"
        ),
        "strengthen the views: color jitter first, then smaller crops",
    )
}

/// A decoder that predicts the mean color has learned nothing.
fn no_better_than_the_mean(run: &Run) -> Option<Finding> {
    let explained = run.end(names::EXPLAINED).filter(|explained| *explained < 0.1)?;
    found(
        Problem::Reconstruction,
        format!(
            "the decoder is hardly better than filling every hidden patch with its mean color: it \
             explains {:.0} % of the remaining variance, below 10 % by our threshold",
            100.0 * explained
        ),
        "take a lower learning rate with a longer warm-up; a ViT that starts too fast does not \
         recover",
    )
}

#[cfg(test)]
mod tests;
