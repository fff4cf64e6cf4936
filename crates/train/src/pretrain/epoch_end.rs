//! The end of an epoch: evaluation, and a check of the run's health.

use anyhow::Result;
use portolan_doctor::{Finding, examine};
use portolan_metrics::{FILE, names, read_metrics};
use portolan_tensor::{Tensor, distributed};

use super::Run;
use super::recovery::Failure;
use crate::{Checkpoint, Evaluation, OnDivergence, Task};

impl Run<'_> {
    /// Evaluates the method, logs the metrics and checks the run's health.
    pub(super) fn evaluate(&mut self, task: &dyn Task) -> Result<(), Failure> {
        let epoch = self.plan.epoch_of(self.state.step - 1) + 1;
        let (metrics, summary) = match task.evaluate(epoch)? {
            Evaluation::Metrics(metrics, summary) => (metrics, summary),
            Evaluation::NotFinite => {
                let what = "the encoder's features are no finite numbers";
                return Err(self.diverged(what, self.state.step - 1));
            }
        };
        let mut row = self.row(self.state.step - 1);
        for (name, value) in metrics {
            row.insert(name, value);
            if name == names::KNN_TOP1 {
                let best = self.state.best_knn.map_or(value, |best| best.max(value));
                self.state.best_knn = Some(best);
            }
        }
        self.metrics_writer.write(&row)?;
        if let Some(summary) = summary {
            self.progress.line(&format!("epoch {epoch}/{}  {summary}", self.plan.epochs));
        }
        self.check_health()
    }

    /// Prints a problem that the metrics show. It skips the first quarter of a run, where the
    /// metrics of healthy and failing runs are similar.
    ///
    /// # Errors
    /// When the representation has collapsed and the run must not continue.
    fn check_health(&mut self) -> Result<(), Failure> {
        if 4 * self.state.step < self.plan.total_steps() {
            return Ok(());
        }
        let finding = if distributed::rank() == 0 { self.examine()? } else { None };
        if let Some(finding) = finding.as_ref().filter(|one| self.warned != Some(one.problem)) {
            self.warned = Some(finding.problem);
            self.progress.line(&finding.to_string());
        }
        // One process has examined the run; its finding concerns all.
        let collapsed = finding.as_ref().is_some_and(|one| one.problem.is_collapse());
        let seen = Tensor::from_slice(&[i64::from(finding.is_some()), i64::from(collapsed)]);
        let seen: Vec<i64> = Vec::try_from(distributed::sum(&seen)?)?;
        if seen[0] == 0 {
            self.healthy = Some(Checkpoint::path(self.job.folder, self.state.step));
        }
        if seen[1] > 0 && self.config.on_divergence != OnDivergence::Warn {
            return Err(self.collapsed());
        }
        Ok(())
    }

    fn examine(&self) -> Result<Option<Finding>> {
        let rows = read_metrics(&self.job.folder.join(FILE))?;
        let batch_size = self.job.config.batch_size / self.job.config.accumulate;
        Ok(examine(&portolan_doctor::Run { method: self.job.traits, batch_size, rows: &rows }))
    }
}
