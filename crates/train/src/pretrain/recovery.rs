//! What keeps a run from going on as it is: unreadable images, a loss that is no number, a collapse.

use anyhow::{Result, bail};
use portolan_tensor::{Tensor, distributed};
use std::fmt;
use std::path::PathBuf;

use super::{Run, Start};
use crate::OnDivergence;
use crate::checkpoint::checkpoints;

/// The learning rate is multiplied by this whenever the run goes back.
pub(super) const SLOWER: f64 = 0.5;

/// A run that has gone back so often does so no more.
const MOST_ROLLBACKS: u32 = 5;

/// So many unreadable images stop no run, however small.
const FEW_BAD: usize = 10;

/// Something from which the way leads back to a checkpoint, if anywhere.
#[derive(Debug)]
pub(super) struct Setback {
    what: String,
    /// The last checkpoint from before.
    back: Option<PathBuf>,
    remedy: String,
}

impl fmt::Display for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.back {
            Some(path) => {
                write!(
                    f,
                    "{}; the last good checkpoint is {}; {}",
                    self.what,
                    path.display(),
                    self.remedy
                )
            }
            None => write!(f, "{}; there is no checkpoint yet; {}", self.what, self.remedy),
        }
    }
}

impl std::error::Error for Setback {}

impl Run<'_> {
    /// Refuses to go on where too many images cannot be read: they are replaced by others, and these would count too much.
    pub(super) fn check_skipped(&self) -> Result<()> {
        let skipped = self.loader.skipped();
        // Each process of a job reads its own; together they stop.
        let bad = distributed::sum(&Tensor::from(skipped.len() as i64))?.int64_value(&[]) as usize;
        let all = self.job.images.len();
        let most = self.config.max_bad * all as f64;
        if bad <= FEW_BAD || bad as f64 <= most {
            return Ok(());
        }
        bail!(
            "{bad} of {all} images could not be read so far, more than {:.1} % (max_bad); the first: {}; repair or remove them, or \
             allow more with --max-bad",
            100.0 * self.config.max_bad,
            skipped[..skipped.len().min(3)].join("; ")
        )
    }

    /// Of a loss, or another figure, that is not finite at this step.
    pub(super) fn diverged(&self, what: &str, step: u64) -> Setback {
        let rate = self.config.rate(&self.plan, step);
        let epoch = self.plan.epoch_of(step) + 1;
        Setback {
            what: format!(
                "{what} at step {} (epoch {epoch}), at a learning rate of {rate:.4}",
                step + 1
            ),
            back: self.checkpoint.clone(),
            remedy: format!(
                "try a lower rate, for instance --set learning_rate={:.4}",
                self.config.learning_rate / 3.0
            ),
        }
    }

    /// Of a representation that has collapsed, as was just said.
    pub(super) fn collapsed(&self) -> Setback {
        let epoch = self.plan.epoch_of(self.state.step - 1) + 1;
        Setback {
            what: format!("the representation has collapsed (epoch {epoch})"),
            back: self.healthy.clone(),
            remedy: "portolan doctor says what to change first".to_owned(),
        }
    }

    /// With what to begin again after this error: if it is a setback, and going back is asked for.
    ///
    /// # Errors
    /// The error itself otherwise.
    pub(super) fn go_back(&self, error: anyhow::Error) -> Result<Start> {
        let setback = error.downcast::<Setback>()?;
        let rollbacks = self.state.rollbacks + 1;
        let wanted = self.config.on_divergence == OnDivergence::Rollback;
        let back = setback.back.clone().filter(|_| wanted && rollbacks <= MOST_ROLLBACKS);
        let Some(mut back) = back else { return Err(setback.into()) };
        // One that was gone back to in vain may be spoilt itself.
        let in_vain = self.state.rollbacks > 0 && self.checkpoint == self.began_with;
        if let Some(healthy) = self.healthy.clone().filter(|_| in_vain) {
            back = healthy;
        }
        if distributed::rank() == 0 {
            // What came after must not be what a later resumption begins with.
            for later in checkpoints(self.job.folder)?.iter().filter(|path| **path > back) {
                std::fs::remove_file(later)?;
            }
            tracing::warn!(
                "{}; going back to {}, at half the learning rate ({rollbacks} of {MOST_ROLLBACKS} times)",
                setback.what,
                back.display()
            );
        }
        Ok(Start { from: Some(back), healthy: self.healthy.clone(), rollbacks })
    }
}
