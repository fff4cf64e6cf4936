//! Rules on what DINOv2 (arXiv 2304.07193) logs beside its loss: KoLeo, the loss of masked patches,
//! and equal images.

use portolan_metrics::names;

use crate::finding::{Finding, Problem};
use crate::run::Run;

/// KoLeo of the features above which they crowd: the mean of −log of the distance to the nearest
/// other image, of 512 images and normalized features. Ours: a whole run of 300 steps has 1.78, and
/// one without KoLeo 2.27 (docs/results/dinov2.md).
const CROWDED: f64 = 2.0;

/// How much of its first value the loss of masked patches keeps if it does not fall. Ours.
const LEVEL: f64 = 0.99;

/// How much of its first value the teacher's entropy loses at least while it sharpens. Ours.
const SHARPENED: f64 = 0.02;

/// Images that equal others of their batch. KoLeo's gradient pushes nearest neighbors apart with a
/// force of one over their distance, so that equal ones overrule all others. A batch that repeats
/// an image now and then does no harm: most of the batches have to.
pub(crate) fn duplicate_images(run: &Run) -> Option<Finding> {
    let share = run.late(names::DUPLICATES).filter(|share| *share > 0.0)?;
    Some(Finding::new(
        Problem::Duplicates,
        format!(
            "{:.1} % of a batch's images equal another one, pixel for pixel, where none should; \
             KoLeo pushes equal features apart without limit (DINOv2 removed duplicates, section \
             3)",
            100.0 * share
        ),
        "remove copies from the data (`portolan organize` lists near-duplicates), and constant \
         images",
    ))
}

/// KoLeo spreads class tokens (DINOv2, section 4). Without it, or with too little of it, images
/// draw near their nearest neighbors.
pub(crate) fn crowded(run: &Run) -> Option<Finding> {
    if !run.logs(names::DINO_LOSS) {
        return None; // other methods do not spread nearest neighbors
    }
    let koleo = run.end(names::KOLEO).filter(|koleo| *koleo > CROWDED)?;
    let remedy = if run.logs(names::KOLEO_LOSS) {
        "raise `koleo_loss_scale` (0.1 in the paper); with a small LayerScale, train longer first"
    } else {
        "set `koleo_loss_scale` to 0.1, as in the paper"
    };
    Some(Finding::new(
        Problem::Crowding,
        format!(
            "features crowd: the distance of an image to the nearest of 512 others is {:.3} in \
             geometric mean (KoLeo {koleo:.2}), below {:.3} by our threshold",
            (-koleo).exp(),
            (-CROWDED).exp()
        ),
        remedy,
    ))
}

/// The same in a run without KoLeo, which is then the cause of what other rules would see: features
/// of few dimensions.
pub(crate) fn crowded_without_koleo(run: &Run) -> Option<Finding> {
    if run.logs(names::KOLEO_LOSS) { None } else { crowded(run) }
}

/// iBOT's loss of masked patches, by which DINOv2 learns features of places (section 4). The loss
/// also rises as the teacher sharpens, which is no fault
/// ([`normal_loss`](crate::normal_loss)).
pub(crate) fn patches_learn_nothing(run: &Run) -> Option<Finding> {
    if run.logs(names::DINO_LOSS) && !run.logs(names::IBOT_LOSS) {
        return Some(Finding::new(
            Problem::Patches,
            "no loss of masked patches is logged: patch features are trained by nothing, which \
             costs segmentation and depth (DINOv2, section 4 and table 3)"
                .to_owned(),
            "set `ibot_loss_scale` to 1 and `mask_probability` to 0.5, as in the paper",
        ));
    }
    let (first, last) = (run.first(names::IBOT_LOSS)?, run.end(names::IBOT_LOSS)?);
    if last < LEVEL * first || sharpened(run) {
        return None;
    }
    Some(Finding::new(
        Problem::Patches,
        format!(
            "the loss of masked patches does not fall: from {first:.3} to {last:.3}, above {:.0} % \
             of it by our threshold, and not because the teacher sharpens",
            100.0 * LEVEL
        ),
        "check LayerScale (1e-5 hardly trains a small transformer; 0.1 does), then raise the \
         learning rate or train longer",
    ))
}

/// Whether the teacher's entropy has fallen, which raises the losses of a healthy run.
fn sharpened(run: &Run) -> bool {
    let ends = run.first(names::TEACHER_ENTROPY).zip(run.end(names::TEACHER_ENTROPY));
    ends.is_some_and(|(first, last)| last < (1.0 - SHARPENED) * first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_metrics::{Family, MethodTraits, MetricsRow};

    /// A run of twenty rows whose metrics go from their first to their second value.
    fn problem(
        rule: fn(&Run) -> Option<Finding>,
        metrics: &[(&'static str, [f64; 2])],
    ) -> Option<Problem> {
        let row = |n: u64| {
            let at = |(name, [from, to]): &(&'static str, [f64; 2])| {
                (*name, from + (to - from) * n as f64 / 19.0)
            };
            let values: Vec<(&str, f64)> = metrics.iter().map(at).collect();
            MetricsRow::new(n, n as f64, &values)
        };
        let rows: Vec<MetricsRow> = (0..20).map(row).collect();
        let method = MethodTraits::new(Family::SelfDistillation).with_momentum_encoder();
        rule(&Run { method, batch_size: 64, rows: &rows }).map(|finding| finding.problem)
    }

    #[test]
    fn crowding_is_a_high_koleo_of_dinov2_only() {
        let koleo = |value| (names::KOLEO, [0.5, value]);
        let dino = (names::DINO_LOSS, [5.0, 4.0]);
        assert_eq!(problem(crowded, &[dino, koleo(CROWDED + 1.0)]), Some(Problem::Crowding));
        assert_eq!(problem(crowded, &[dino, koleo(CROWDED - 0.5)]), None);
        assert_eq!(problem(crowded, &[koleo(CROWDED + 1.0)]), None);
    }

    #[test]
    fn patches_need_a_loss_that_falls_unless_the_teacher_sharpens() {
        let rule = patches_learn_nothing;
        let dino = (names::DINO_LOSS, [5.0, 4.0]);
        let ibot = |to| (names::IBOT_LOSS, [5.0, to]);
        let entropy = |to| (names::TEACHER_ENTROPY, [0.9, to]);
        assert_eq!(problem(rule, &[dino]), Some(Problem::Patches));
        assert_eq!(problem(rule, &[dino, ibot(4.0), entropy(0.9)]), None);
        assert_eq!(problem(rule, &[dino, ibot(5.0), entropy(0.9)]), Some(Problem::Patches));
        assert_eq!(problem(rule, &[dino, ibot(6.0), entropy(0.6)]), None);
        assert_eq!(problem(rule, &[(names::LOSS, [5.0, 4.0])]), None, "no other method");
    }

    #[test]
    fn duplicates_are_found_if_most_batches_have_them() {
        let share = |from, to| [(names::DUPLICATES, [from, to])];
        assert_eq!(problem(duplicate_images, &share(0.05, 0.05)), Some(Problem::Duplicates));
        assert_eq!(problem(duplicate_images, &share(0.0, 0.0)), None);
    }
}
