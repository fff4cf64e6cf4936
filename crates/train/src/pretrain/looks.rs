//! What the loop looks at on the way: features, accuracy, health.

use anyhow::Result;
use portolan_doctor::{examine, read_metrics};
use portolan_evaluate::{diagnose, features, knn_top1};
use portolan_method::Method;
use portolan_tensor::distributed;
use serde_json::json;

use super::Run;

impl Run<'_> {
    /// What the features look like, labels or not.
    pub(super) fn diagnose(&mut self, method: &dyn Method) -> Result<()> {
        let (job, precision) = (self.job, self.job.config.precision);
        let training_view = &method.views()[0];
        let signs = diagnose(
            method.encoder(),
            &*job.images,
            job.plain_view,
            training_view,
            job.device,
            precision,
        )?;
        let mut row = self.row(self.state.step - 1);
        row.insert("alignment".to_owned(), json!(signs.alignment));
        row.insert("uniformity".to_owned(), json!(signs.uniformity));
        row.insert("koleo".to_owned(), json!(signs.koleo));
        row.insert("feature_rank".to_owned(), json!(signs.effective_rank));
        self.journal.write(row)
    }

    /// The kNN figure on the way, where there are labels.
    pub(super) fn knn(&mut self, method: &dyn Method) -> Result<()> {
        let Some(point) = &self.job.knn else { return Ok(()) };
        let of = |source| {
            let (device, precision) = (self.job.device, self.job.config.precision);
            features(method.encoder(), source, self.job.plain_view, device, precision)
        };
        let top1 = knn_top1(&of(point.bank)?, &of(point.test)?, point.classes, point.config)?;
        let mut row = self.row(self.state.step - 1);
        row.insert("knn_top1".to_owned(), json!(top1));
        self.journal.write(row)?;
        let best = self.state.best_knn.map_or(top1, |best| best.max(top1));
        self.state.best_knn = Some(best);
        self.progress.line(&format!(
            "epoch {}/{}  kNN {:.1} %  (k = {})",
            self.place.epoch_of(self.state.step - 1) + 1,
            self.place.epochs,
            100.0 * top1,
            point.config.k
        ));
        Ok(())
    }

    /// Says what the signals show to be wrong; not in the first quarter, in which healthy runs look like ill ones.
    pub(super) fn consult(&mut self) -> Result<()> {
        if 4 * self.state.step < self.place.total_steps() || distributed::rank() > 0 {
            return Ok(());
        }
        let rows = read_metrics(&self.job.folder.join("metrics.jsonl"))?;
        let batch_size = self.job.config.batch_size / self.job.config.accumulate;
        let run = portolan_doctor::Run { method: self.job.name, batch_size, rows: &rows };
        if let Some(finding) = examine(&run).filter(|finding| self.warned != Some(finding.name)) {
            self.warned = Some(finding.name);
            self.progress.line(&finding.to_string());
        }
        Ok(())
    }
}
