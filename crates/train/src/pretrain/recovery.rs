//! Failures on the way: unreadable items, a loss that is not finite, a collapse.

use anyhow::{Result, bail};
use portolan_tensor::{Tensor, distributed};
use std::fmt;
use std::path::PathBuf;

use super::{Run, Start};
use crate::OnDivergence;
use crate::checkpoint::checkpoints;

/// The learning rate is multiplied by this at every rollback.
pub(super) const SLOWER: f64 = 0.5;

/// The most rollbacks of a run.
const MOST_ROLLBACKS: u32 = 5;

/// So many unreadable items never stop a run, however few items there are.
const FEW_BAD: usize = 10;

/// Why training ended early.
pub(super) enum Failure {
    /// A rollback may help.
    Recoverable(Divergence),
    /// Nothing in the run can help.
    Fatal(anyhow::Error),
}

impl Failure {
    /// The failure as an error for the user.
    pub(super) fn into_error(self) -> anyhow::Error {
        match self {
            Failure::Recoverable(divergence) => divergence.into(),
            Failure::Fatal(error) => error,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Fatal(error.into())
    }
}

/// A failure that a rollback may recover from: a number that is not finite, or a collapse. Training
/// ends with it as its error.
#[derive(Debug)]
pub struct Divergence {
    what: String,
    not_finite: bool,
    /// The last checkpoint before it.
    back: Option<PathBuf>,
    remedy: String,
}

impl Divergence {
    /// Whether the loss or another number is not finite. Otherwise the representation has
    /// collapsed.
    pub fn is_not_finite(&self) -> bool {
        self.not_finite
    }
}

impl std::error::Error for Divergence {}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence { what, back, remedy, .. } = self;
        match back {
            Some(path) => {
                write!(f, "{what}; the last good checkpoint is {}; {remedy}", path.display())
            }
            None => write!(f, "{what}; there is no checkpoint yet; {remedy}"),
        }
    }
}

impl Run<'_> {
    /// Fails when too many items cannot be read: others replace them, and would count too much.
    pub(super) fn check_skipped(&self) -> Result<()> {
        let skipped = self.batches.skipped();
        // Each process of a job reads its own; together they stop.
        let bad = distributed::sum(&Tensor::from(skipped.len() as i64))?.int64_value(&[]) as usize;
        let all = self.items;
        let most = self.config.max_bad * all as f64;
        if bad <= FEW_BAD || bad as f64 <= most {
            return Ok(());
        }
        bail!(
            "{bad} of {all} images could not be read so far, more than {:.1} % (max_bad); the \
             first: {}; repair or remove them, or allow more with --max-bad",
            100.0 * self.config.max_bad,
            skipped[..skipped.len().min(3)].join("; ")
        )
    }

    /// The failure of a run whose loss, or another number, is not finite at this step.
    pub(super) fn diverged(&self, what: &str, step: u64) -> Failure {
        let rate = self.config.rate(&self.plan, step);
        let epoch = self.plan.epoch_of(step) + 1;
        Failure::Recoverable(Divergence {
            what: format!(
                "{what} at step {} (epoch {epoch}), at a learning rate of {rate:.4}",
                step + 1
            ),
            not_finite: true,
            back: self.checkpoint.clone(),
            remedy: format!(
                "try a lower rate, for instance --set learning_rate={:.4}",
                self.config.learning_rate / 3.0
            ),
        })
    }

    /// The failure of a run whose representation has collapsed.
    pub(super) fn collapsed(&self) -> Failure {
        let epoch = self.plan.epoch_of(self.state.step - 1) + 1;
        Failure::Recoverable(Divergence {
            what: format!("the representation has collapsed (epoch {epoch})"),
            not_finite: false,
            back: self.healthy.clone(),
            remedy: "portolan doctor says what to change first".to_owned(),
        })
    }

    /// Where to start again after a divergence, if the run is to roll back.
    ///
    /// # Errors
    /// The divergence itself otherwise.
    pub(super) fn roll_back(&self, divergence: Divergence) -> Result<Start> {
        let rollbacks = self.state.rollbacks + 1;
        let wanted = self.config.on_divergence == OnDivergence::Rollback;
        let back = divergence.back.clone().filter(|_| wanted && rollbacks <= MOST_ROLLBACKS);
        let Some(mut back) = back else { return Err(divergence.into()) };
        // A checkpoint that a rollback did not help may be spoilt itself.
        let in_vain = self.state.rollbacks > 0 && self.checkpoint == self.began_with;
        if let Some(healthy) = self.healthy.clone().filter(|_| in_vain) {
            back = healthy;
        }
        if distributed::rank() == 0 {
            // A later resumption must not start from what came after.
            for later in checkpoints(self.job.folder)?.iter().filter(|path| **path > back) {
                std::fs::remove_file(later)?;
            }
            tracing::warn!(
                "{}; going back to {}, at half the learning rate ({rollbacks} \
                 of {MOST_ROLLBACKS} times)",
                divergence.what,
                back.display()
            );
        }
        Ok(Start { from: Some(back), healthy: self.healthy.clone(), rollbacks })
    }
}
