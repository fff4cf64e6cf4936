//! The position of a step in a run.

/// The shape of a run, which maps a number of steps to an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepPlan {
    /// Training images.
    pub items: usize,
    /// Images of one optimizer step.
    pub batch_size: usize,
    /// Passes over the images.
    pub epochs: u64,
}

impl StepPlan {
    /// Optimizer steps of one epoch; images that do not fill a batch are left out.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.items / self.batch_size) as u64
    }

    /// Optimizer steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.epochs * self.steps_per_epoch()
    }

    /// The epoch in which this step (counted from 0) lies, counted from 0.
    pub fn epoch_of(&self, step: u64) -> u64 {
        step / self.steps_per_epoch()
    }

    /// Whether an epoch is complete after `done` steps.
    pub fn ends_epoch(&self, done: u64) -> bool {
        done > 0 && done.is_multiple_of(self.steps_per_epoch())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_end_where_their_steps_do() {
        let plan = StepPlan { items: 50, batch_size: 8, epochs: 2 };
        let ends: Vec<u64> = (0..=12).filter(|&done| plan.ends_epoch(done)).collect();
        assert_eq!(ends, [6, 12]);
    }
}
