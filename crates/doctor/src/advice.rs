//! Answers to common questions about a run: what loss is normal, and which checkpoint to choose.

use portolan_metrics::{Family, names};

use crate::run::Run;

/// How the loss of a healthy run behaves, which depends on the method and is often unexpected.
#[must_use]
pub fn normal_loss(run: &Run) -> &'static str {
    match run.method.family {
        // facebookresearch/dinov2 issue 275 and lightly-train issue 442 ask about such curves.
        Family::SelfDistillation if run.logs(names::IBOT_LOSS) => {
            "A loss that falls at first and then rises while `teacher_entropy` falls is normal \
             here: the teacher sharpens, and its targets become harder to match. kNN accuracy \
             grows meanwhile. A loss that never changes is not."
        }
        Family::SelfDistillation if run.logs(names::TEACHER_ENTROPY) => {
            "A loss that stays near its start for epochs, and falls when the teacher's temperature \
             and momentum settle, is normal here."
        }
        Family::SelfDistillation => {
            "A loss that falls quickly and then stays flat or rises again is normal here: the \
             target moves. Near its lowest value from the start it means collapse."
        }
        Family::Contrastive if run.method.has_queue => {
            "A loss that rises in the first steps is normal here: the queue fills with keys that \
             are harder than random directions."
        }
        Family::Contrastive => {
            "The loss should fall slowly to the end; its value depends on the size of the batch."
        }
        Family::RedundancyReduction => {
            "The loss should fall slowly to the end; its value depends on the weights and the \
             dimension."
        }
        Family::Reconstruction if run.logs(names::MASKED_ACCURACY) => {
            "A loss that stays for thousands of steps near that of guessing words by how common \
             they are is normal here; it falls once attention has found the neighbors of a blank. \
             Shorter sequences and a higher learning rate bring that forward."
        }
        Family::Reconstruction if run.logs(names::NEXT_TOKEN_ACCURACY) => {
            "The loss should fall to the end, and the held-out loss with it; a held-out loss that \
             rises again means that the text is being memorized."
        }
        Family::Reconstruction => {
            "The loss should fall slowly for hundreds of epochs; it says little about kNN accuracy."
        }
        Family::Distillation => {
            "The loss should fall slowly to the end; its value depends on the teacher and on the \
             size of the queue."
        }
        Family::Pretext => {
            "A pretext task that is solved (accuracy near 1) has nothing left to teach, however \
             long training goes on."
        }
    }
}

/// The epoch whose checkpoint to choose, among those with diagnostics; `None` without any.
///
/// It is the last one, unless the features have lost a third of their effective rank since, a sign
/// that they narrow to the task. RankMe (arXiv 2210.02885) chooses by rank alone; the third is
/// ours.
#[must_use]
pub fn best_epoch(run: &Run) -> Option<f64> {
    let points: Vec<(f64, f64)> = run
        .rows
        .iter()
        .filter_map(|row| Some((row.epoch?, *row.metrics.get(names::FEATURE_RANK)?)))
        .collect();
    let widest = points.iter().map(|point| point.1).fold(0.0, f64::max);
    points.iter().rev().find(|point| point.1 >= widest * 2.0 / 3.0).map(|point| point.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_metrics::{MethodTraits, MetricsRow};

    #[test]
    fn the_last_checkpoint_is_chosen_unless_features_narrow() {
        let best = |ranks: &[f64]| {
            let row = |(n, rank): (usize, &f64)| {
                MetricsRow::new(1, n as f64, &[(names::FEATURE_RANK, *rank)])
            };
            let rows: Vec<MetricsRow> = ranks.iter().enumerate().map(row).collect();
            best_epoch(&Run {
                method: MethodTraits::new(Family::Contrastive).with_queue().with_momentum_encoder(),
                batch_size: 64,
                rows: &rows,
            })
        };
        assert_eq!(best(&[30.0, 40.0, 38.0]), Some(2.0));
        assert_eq!(best(&[30.0, 29.0, 8.0]), Some(1.0));
        assert_eq!(best(&[]), None);
    }
}
