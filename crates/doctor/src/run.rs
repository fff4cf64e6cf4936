//! A run, as the rules read it.

use portolan_metrics::{Family, MethodTraits, MetricsRow};

/// What a run logged, and the facts that decide how to read it. The rules use no label and no
/// accuracy.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The facts about the method.
    pub method: MethodTraits,
    /// Images per micro-batch, of all processes together.
    pub batch_size: usize,
    /// The rows of `metrics.jsonl`.
    pub rows: &'a [MetricsRow],
}

impl Run<'_> {
    /// Whether the images of a batch are the only negatives.
    pub(crate) fn has_only_in_batch_negatives(&self) -> bool {
        self.method.family == Family::Contrastive && !self.method.has_queue
    }

    /// Whether the run logged this metric.
    pub(crate) fn logs(&self, name: &str) -> bool {
        self.rows.iter().any(|row| row.metrics.contains_key(name))
    }

    /// A metric's values in their order.
    pub(crate) fn series(&self, name: &str) -> Vec<f64> {
        self.rows.iter().filter_map(|row| row.metrics.get(name).copied()).collect()
    }

    /// The metric at the end: the median of its last tenth, at least three values.
    pub(crate) fn end(&self, name: &str) -> Option<f64> {
        let values = self.series(name);
        let count = (values.len() / 10).clamp(3.min(values.len()), values.len());
        median(&values[values.len() - count..])
    }

    /// The median of the metric's second half, for metrics that fluctuate.
    pub(crate) fn late(&self, name: &str) -> Option<f64> {
        let values = self.series(name);
        median(&values[values.len() / 2..])
    }

    /// The metric after the first quarter: the median of the three values there.
    pub(crate) fn quarter(&self, name: &str) -> Option<f64> {
        let values = self.series(name);
        let at = values.len() / 4;
        median(&values[at..(at + 3).min(values.len())])
    }

    /// The metric's first value.
    pub(crate) fn first(&self, name: &str) -> Option<f64> {
        self.series(name).first().copied()
    }
}

/// The median of the finite values.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
