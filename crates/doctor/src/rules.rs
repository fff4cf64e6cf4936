//! What can be wrong, a function each.
//!
//! Thresholds marked "ours" were set on the runs of docs/results/shapes.md and on short runs broken on purpose, and scored
//! on others.

use portolan_metrics::names;

use crate::Finding;
use crate::signals::Run;

/// Methods that find an image's other view among those of other images.
const CONTRASTIVE: [&str; 3] = ["simclr", "moco", "moco-v3"];
/// Methods that compare views of an image, and would be content with the same output for everything.
const JOINT: [&str; 8] =
    ["simclr", "moco", "moco-v3", "byol", "simsiam", "barlow", "vicreg", "dino"];

/// All rules, causes before what they cause.
const RULES: [fn(&Run) -> Option<Finding>; 10] = [
    diverged,
    batch_too_small,
    rate_too_high,
    drawn_together,
    one_point,
    no_variance,
    teacher_without_information,
    few_directions,
    views_too_weak,
    no_better_than_the_mean,
];

/// What is wrong with the run: what the first rule that applies says, since what later ones see usually follows from it.
/// Nothing where its signals are as a healthy run's.
pub fn examine(run: &Run) -> Option<Finding> {
    RULES.iter().find_map(|rule| rule(run))
}

/// What helps against too long steps.
const SHORTER_STEPS: &str = "take a tenth of the learning rate, or a longer warm-up";

fn found(name: &'static str, seen: String, remedy: &str) -> Option<Finding> {
    Some(Finding { name, seen, remedy: remedy.to_owned() })
}

/// A loss that is no number.
fn diverged(run: &Run) -> Option<Finding> {
    let rows = run
        .rows
        .iter()
        .find(|row| row.figures.get(names::LOSS).is_some_and(|loss| !loss.is_finite()))?;
    found(
        "divergence",
        format!("the loss is no longer a number at step {}", rows.step),
        "go back to the checkpoint before and take a third of the learning rate",
    )
}

/// Complete collapse. SimSiam (arXiv 2011.10566, section 4.1): the deviation of outputs of length one is 1/√d where they
/// fill the sphere, 1 as it is logged, and 0 where all are one point. The threshold of 0.15 is ours: healthy runs stayed
/// above 0.25.
fn one_point(run: &Run) -> Option<Finding> {
    let deviation = run.end(names::OUTPUT_DEVIATION).filter(|deviation| *deviation < 0.15)?;
    collapsed(
        run,
        format!(
            "all images get nearly the same output: the deviation of a batch's outputs is {deviation:.3}, where 1 fills the \
             sphere and below 0.15 is a point (SimSiam, section 4.1; threshold ours)"
        ),
    )
}

/// Dimensional collapse (Jing et al. 2021, arXiv 2110.09348): outputs differ, but along a few directions alone. RankMe
/// (arXiv 2210.02885) measures it; the threshold of 4 is ours, healthy runs stayed above 8.
fn few_directions(run: &Run) -> Option<Finding> {
    let rank = run.late(names::OUTPUT_RANK).filter(|rank| *rank < 4.0)?;
    collapsed(
        run,
        format!(
            "outputs differ along {rank:.1} directions alone (RankMe, effective rank; below 4 by our threshold): dimensional \
             collapse"
        ),
    )
}

/// What lets outputs collapse depends on what the method keeps them apart by. Negatives do so whatever the settings, and
/// fail when steps are too long.
fn collapsed(run: &Run, seen: String) -> Option<Finding> {
    if run.is(&CONTRASTIVE) {
        let seen = format!("{seen}; against negatives that takes steps that are too long");
        return found("learning rate", seen, SHORTER_STEPS);
    }
    let remedy = match run.method {
        "byol" => {
            "keep predictor and target (`predictor`, `target`), and the target slow (`momentum` near 1); then lower the learning rate"
        }
        "simsiam" => {
            "keep `stop_gradient`, and batch norm in the head; then lower the learning rate"
        }
        "vicreg" => "raise `variance`, the term that keeps dimensions apart",
        "barlow" => {
            "raise `lambda`, the term that keeps dimensions apart; then lower the learning rate"
        }
        "dino" => {
            "keep the center moving (`center_momentum` below 1) and warm up the teacher's temperature"
        }
        _ => "lower the learning rate, and lengthen its warm-up",
    };
    found("collapse", seen, remedy)
}

/// VICReg's variance term is the hinge 1 − deviation of each dimension (section 4.1 of arXiv 2105.04906): near 1 nothing
/// varies. The threshold is ours: healthy runs stayed below 0.72.
fn no_variance(run: &Run) -> Option<Finding> {
    let variance = run.end(names::VARIANCE).filter(|variance| *variance > 0.95)?;
    let seen = format!(
        "dimensions hardly vary over a batch: VICReg's variance term is {variance:.3} of at most 1, above 0.95 by our threshold"
    );
    collapsed(run, seen)
}

/// DINO's two ways to collapse (section 5.3 and figure 7 of arXiv 2104.14294): the teacher says the same of every image,
/// either nothing at all (uniform; without sharpening) or one prototype (without centering); student and teacher then agree.
fn teacher_without_information(run: &Run) -> Option<Finding> {
    let entropy = run.end(names::TEACHER_ENTROPY)?;
    let divergence = run.end(names::TEACHER_STUDENT_DIVERGENCE)?;
    if entropy > 0.985 {
        return found(
            "collapse",
            format!(
                "the teacher's distributions are uniform: their entropy is {:.1} % of the largest, above 98.5 % (DINO, \
                 figure 7; threshold ours), and say nothing of the image",
                100.0 * entropy
            ),
            "lower the teacher's temperature (0.04), which sharpens them",
        );
    }
    if entropy < 0.1 || divergence < 0.001 {
        return found(
            "collapse",
            format!(
                "the teacher gives every image the same prototypes: entropy {:.1} % of the largest, divergence from the \
                 student {divergence:.4} (DINO, figure 7; thresholds ours: 10 %, 0.001)",
                100.0 * entropy
            ),
            "keep the center moving (`center_momentum` 0.9), and do not go below a temperature of 0.04",
        );
    }
    None
}

/// Too long steps wreck the encoder before its outputs: features of all images come to lie along a few directions
/// (RankMe, arXiv 2210.02885). The threshold of 11 is ours: features of healthy ResNets kept 16, also of collapsed ones that
/// had the right rate. A small ViT's may be as narrow in good health, but its outputs then are not.
fn rate_too_high(run: &Run) -> Option<Finding> {
    if !run.is(&JOINT) && run.method != "mae" {
        return None; // pretext tasks narrow the features to what they ask
    }
    let rank = run.end(names::FEATURE_RANK).filter(|rank| *rank < 11.0)?;
    if run.late(names::OUTPUT_RANK).is_some_and(|rank| rank >= 8.0) {
        return None;
    }
    found(
        "learning rate",
        format!(
            "the encoder's features vary along {rank:.1} directions alone (RankMe, effective rank), below 11 by our threshold: \
             it was thrown off by too long steps"
        ),
        SHORTER_STEPS,
    )
}

/// Negatives push features apart: uniformity, the logarithm of how near pairs of them lie, falls in training or keeps still
/// (Wang and Isola 2020, arXiv 2005.10242, figures 5 and 7). Where it rises towards 0 instead, steps were so long that what the first
/// epochs learned was lost. The threshold of three quarters is ours: healthy runs kept nine tenths.
fn drawn_together(run: &Run) -> Option<Finding> {
    if !run.is(&CONTRASTIVE) {
        return None;
    }
    let (first, last) = (run.first(names::UNIFORMITY)?, run.end(names::UNIFORMITY)?);
    if last < 0.75 * first {
        return None; // both are below zero: the last is the farther from it
    }
    found(
        "learning rate",
        format!(
            "features draw together, though negatives push them apart: their uniformity (Wang and Isola 2020) went from \
             {first:.2} to {last:.2}, above three quarters of it by our threshold"
        ),
        SHORTER_STEPS,
    )
}

/// In-batch negatives are what SimCLR and MoCo v3 learn from: SimCLR's figure 9 gains up to batches of thousands. Below 32
/// images there are fewer than 62, and finding the other view among them is too easy to teach anything.
fn batch_too_small(run: &Run) -> Option<Finding> {
    if !run.is(&["simclr", "moco-v3"]) || run.batch_size >= 32 {
        return None;
    }
    found(
        "batch",
        format!(
            "a batch of {} offers few images to tell one from: below 32 by our threshold (SimCLR, figure 9, gains up to \
             thousands)",
            run.batch_size
        ),
        "take larger batches (`--batch-size 256`), or MoCo, whose queue needs none",
    )
}

/// Views that share what tells images apart: the other view is found at once, by color or place, and nothing is learned
/// (SimCLR, section 3.1, on crops without color distortion).
fn views_too_weak(run: &Run) -> Option<Finding> {
    if !run.is(&JOINT) {
        return None;
    }
    let alignment = run.first(names::ALIGNMENT)?;
    // A long queue spreads features, and so also views.
    let threshold = if run.method == "moco" { 0.15 } else { 0.12 };
    if alignment >= threshold {
        return None;
    }
    // Uniformity u says that images lie at least −u/2 apart, squared (Jensen): features that lie close together have close
    // views too, whatever these are.
    if run.first(names::UNIFORMITY).is_some_and(|uniformity| alignment > 0.3 * -uniformity / 2.0) {
        return None;
    }
    let found_at = run.quarter("contrastive_top1");
    // SimCLR makes views of any strength alike within epochs; where it also finds them at once, they were alike before.
    if run.method == "simclr" && found_at.is_none_or(|top1| top1 < 0.8) {
        return None;
    }
    found(
        "views",
        format!(
            "the views of an image are almost the same to the encoder: their mean squared distance is {alignment:.3} \
             (alignment; Wang and Isola 2020) when first measured, below {threshold} by our threshold{}",
            found_at.map_or(String::new(), |top1| format!(
                ", and after a quarter of training {:.0} % of other views were found",
                100.0 * top1
            ))
        ),
        "strengthen the views: color jitter first, then smaller crops",
    )
}

/// MAE learns nothing as long as it paints the mean.
fn no_better_than_the_mean(run: &Run) -> Option<Finding> {
    let explained = run.end(names::EXPLAINED).filter(|explained| *explained < 0.1)?;
    found(
        "reconstruction",
        format!(
            "the decoder does no better than painting every hidden patch in its mean color: it explains {:.0} % of what \
             that leaves, below 10 % by our threshold",
            100.0 * explained
        ),
        "take a lower learning rate with a longer warm-up; a ViT that starts too fast stays there",
    )
}

/// What people ask about the method's loss, since it is often not what it seems.
pub fn what_is_normal(method: &str) -> &'static str {
    match method {
        "byol" | "simsiam" => {
            "A loss that falls quickly and then stays flat or rises again is normal here: the target moves. Near its lowest \
             value from the start it means collapse."
        }
        "dino" => {
            "A loss that stays near its start for epochs, and falls when the teacher's temperature and momentum settle, is \
             normal here."
        }
        "moco" => {
            "A loss that rises in the first steps is normal here: the queue fills with keys that are harder than random \
             directions."
        }
        "simclr" | "moco-v3" => {
            "The loss should fall slowly to the end; its value depends on the size of the batch."
        }
        "barlow" | "vicreg" => {
            "The loss should fall slowly to the end; its value depends on the weights and the dimension."
        }
        "mae" => {
            "The loss should fall slowly for hundreds of epochs; it says little about kNN accuracy."
        }
        _ => {
            "A pretext task that is solved (accuracy near 1) has nothing left to teach, however long one trains."
        }
    }
}

/// The epoch whose checkpoint to take, among those that were diagnosed: the last, unless the features have since lost a
/// third of their directions, a sign that they narrow to the task (RankMe chooses by rank alone; the third is ours).
pub fn best_epoch(run: &Run) -> Option<f64> {
    let points: Vec<(f64, f64)> = run
        .rows
        .iter()
        .filter_map(|row| Some((row.epoch?, *row.figures.get(names::FEATURE_RANK)?)))
        .collect();
    let widest = points.iter().map(|point| point.1).fold(0.0, f64::max);
    points.iter().rev().find(|point| point.1 >= widest * 2.0 / 3.0).map(|point| point.0)
}

#[cfg(test)]
mod tests;
