//! The signals of a run, as the rules read them.

use portolan_metrics::MetricsRow;

/// What a run logged, and the settings that the signals are to be read by. No label has had a part in any of it that the
/// rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The method, as the command line names it.
    pub method: &'a str,
    /// Images of a micro-batch, of all processes together.
    pub batch_size: usize,
    /// The rows of `metrics.jsonl`.
    pub rows: &'a [MetricsRow],
}

impl Run<'_> {
    /// A signal's values in their order.
    pub(crate) fn series(&self, name: &str) -> Vec<f64> {
        self.rows.iter().filter_map(|row| row.figures.get(name).copied()).collect()
    }

    /// The signal at the end: the median of its last tenth, three values at least.
    pub(crate) fn end(&self, name: &str) -> Option<f64> {
        let values = self.series(name);
        median(
            &values[values.len() - (values.len() / 10).clamp(3.min(values.len()), values.len())..],
        )
    }

    /// The signal over the second half, its median: for what jumps about.
    pub(crate) fn late(&self, name: &str) -> Option<f64> {
        let values = self.series(name);
        median(&values[values.len() / 2..])
    }

    /// The signal after a quarter of what was logged: the median of the three values there.
    pub(crate) fn quarter(&self, name: &str) -> Option<f64> {
        let values = self.series(name);
        let at = values.len() / 4;
        median(&values[at..(at + 3).min(values.len())])
    }

    /// The signal's first value.
    pub(crate) fn first(&self, name: &str) -> Option<f64> {
        self.series(name).first().copied()
    }

    /// Whether the method is one of these.
    pub(crate) fn is(&self, methods: &[&str]) -> bool {
        methods.contains(&self.method)
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
