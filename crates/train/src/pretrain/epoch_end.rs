//! What the loop looks at on the way: features, accuracy, health.

use anyhow::{Context, Result};
use portolan_doctor::{Finding, examine};
use portolan_evaluate::{Error as EvaluateError, diagnose, features, knn_top1};
use portolan_method::Method;
use portolan_metrics::{FILE, Family, MetricsRow, names, read_metrics};
use portolan_tensor::{Tensor, distributed};

use super::Run;
use crate::{Checkpoint, OnDivergence};

fn is_not_finite(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(EvaluateError::NotFinite))
}

/// What the doctor must know of a method, by its name.
pub fn doctor_run<'a>(
    method: &str,
    batch_size: usize,
    rows: &'a [MetricsRow],
) -> portolan_doctor::Run<'a> {
    let family = match method {
        "simclr" | "moco" | "moco-v3" => Family::Contrastive,
        "byol" | "simsiam" | "dino" => Family::SelfDistillation,
        "barlow" | "vicreg" => Family::RedundancyReduction,
        "mae" => Family::Reconstruction,
        _ => Family::Pretext,
    };
    portolan_doctor::Run {
        family,
        has_queue: method == "moco",
        has_momentum_encoder: ["moco", "moco-v3", "byol", "dino"].contains(&method),
        batch_size,
        rows,
    }
}

impl Run<'_> {
    /// All of it, at the end of an epoch.
    pub(super) fn look(&mut self, method: &dyn Method) -> Result<()> {
        let looked = self.diagnose(method).context("the diagnostics on the way failed");
        let looked = looked
            .and_then(|()| self.knn(method).context("the kNN figure on the way failed"))
            .and_then(|()| self.consult());
        match looked {
            Err(error) if is_not_finite(&error) => Err(self
                .diverged("the encoder's features are no finite numbers", self.state.step - 1)
                .into()),
            other => other,
        }
    }

    /// What the features look like, labels or not.
    fn diagnose(&mut self, method: &dyn Method) -> Result<()> {
        let (job, precision) = (self.job, self.job.config.precision);
        let training_view = &method.views()[0];
        let signs = diagnose(
            method.encoder(),
            &*job.images,
            job.eval_view,
            training_view,
            job.device,
            precision,
        )?;
        let mut row = self.row(self.state.step - 1);
        row.insert(names::ALIGNMENT, signs.alignment);
        row.insert(names::UNIFORMITY, signs.uniformity);
        row.insert(names::KOLEO, signs.koleo);
        row.insert(names::FEATURE_RANK, signs.effective_rank);
        self.metrics_writer.write(&row)
    }

    /// The kNN figure on the way, where there are labels.
    fn knn(&mut self, method: &dyn Method) -> Result<()> {
        let Some(point) = &self.job.knn else { return Ok(()) };
        let of = |source| {
            let (device, precision) = (self.job.device, self.job.config.precision);
            features(method.encoder(), source, self.job.eval_view, device, precision)
        };
        let top1 = knn_top1(&of(point.bank)?, &of(point.test)?, point.classes, point.config)?;
        let mut row = self.row(self.state.step - 1);
        row.insert(names::KNN_TOP1, top1);
        self.metrics_writer.write(&row)?;
        let best = self.state.best_knn.map_or(top1, |best| best.max(top1));
        self.state.best_knn = Some(best);
        self.progress.line(&format!(
            "epoch {}/{}  kNN {:.1} %  (k = {})",
            self.plan.epoch_of(self.state.step - 1) + 1,
            self.plan.epochs,
            100.0 * top1,
            point.config.k
        ));
        Ok(())
    }

    /// Says what the signals show to be wrong; not in the first quarter, in which healthy runs look like ill ones.
    ///
    /// # Errors
    /// A [`Setback`](super::recovery::Setback) when the representation has collapsed and the run is not to go on then.
    fn consult(&mut self) -> Result<()> {
        if 4 * self.state.step < self.plan.total_steps() {
            return Ok(());
        }
        let finding = if distributed::rank() == 0 { self.examine()? } else { None };
        if let Some(finding) = finding.as_ref().filter(|one| self.warned != Some(one.problem)) {
            self.warned = Some(finding.problem);
            self.progress.line(&finding.to_string());
        }
        // One process has looked; what it has seen concerns all.
        let collapsed = finding.as_ref().is_some_and(|one| one.problem.is_collapse());
        let seen = Tensor::from_slice(&[i64::from(finding.is_some()), i64::from(collapsed)]);
        let seen: Vec<i64> = Vec::try_from(distributed::sum(&seen)?)?;
        if seen[0] == 0 {
            self.healthy = Some(Checkpoint::path(self.job.folder, self.state.step));
        }
        if seen[1] > 0 && self.config.on_divergence != OnDivergence::Warn {
            return Err(self.collapsed().into());
        }
        Ok(())
    }

    fn examine(&self) -> Result<Option<Finding>> {
        let rows = read_metrics(&self.job.folder.join(FILE))?;
        let batch_size = self.job.config.batch_size / self.job.config.accumulate;
        Ok(examine(&doctor_run(self.job.name, batch_size, &rows)))
    }
}
