//! How linear-dinov2 chose its classifier, as printed and written.

use portolan_evaluate::{LinearCandidate, LinearDinov2, LinearDinov2Config};
use portolan_report::counted;
use serde::Serialize;
use std::fmt;

/// The chosen classifier and all candidates, with their accuracies on the validation images.
#[derive(Serialize)]
pub(super) struct Selection {
    #[serde(flatten)]
    pub(super) chosen: LinearCandidate,
    epochs: u64,
    batch_size: usize,
    validation_images: usize,
    candidates: Vec<LinearCandidate>,
}

impl Selection {
    pub(super) fn new(outcome: &LinearDinov2, config: &LinearDinov2Config) -> Self {
        Selection {
            chosen: outcome.chosen.clone(),
            epochs: config.epochs,
            batch_size: outcome.batch_size,
            validation_images: outcome.validation_images,
            candidates: outcome.candidates.clone(),
        }
    }

    /// Whether the highest learning rate was chosen.
    fn is_at_the_end(&self) -> bool {
        self.candidates.iter().all(|other| other.learning_rate <= self.chosen.learning_rate)
    }
}

/// What a classifier reads: `4 blocks + mean patch`.
pub(super) fn input(candidate: &LinearCandidate) -> String {
    let blocks = counted(candidate.blocks, "block", "blocks");
    if candidate.mean_patch { format!("{blocks} + mean patch") } else { blocks }
}

/// A table of validation accuracies: a row for each input, a column for each learning rate.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images = counted(self.validation_images, "training image", "training images");
        writeln!(
            f,
            "  chosen on {images} that trained no classifier; accuracies there in %, by learning \
             rate for a batch of 256 (this one: {})",
            self.batch_size
        )?;
        let of_input = |a: &LinearCandidate, b: &LinearCandidate| input(a) == input(b);
        let rows: Vec<&[LinearCandidate]> = self.candidates.chunk_by(of_input).collect();
        write!(f, "  {:<21}", "")?;
        for candidate in rows[0] {
            write!(f, " {:>6}", candidate.learning_rate)?;
        }
        for row in rows {
            write!(f, "\n  {:<21}", input(&row[0]))?;
            for candidate in row {
                write!(f, " {:>6.1}", 100.0 * candidate.validation_top1)?;
            }
        }
        if self.is_at_the_end() {
            write!(
                f,
                "\n  the highest learning rate was chosen: more epochs (--linear-epochs, here {}) \
                 may do better",
                self.epochs
            )?;
        }
        Ok(())
    }
}
