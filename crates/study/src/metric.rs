//! The metrics of a run that studies can plot and judge.

/// Metrics that are not columns of `metrics.jsonl`: name, title, and whether they are shares, shown
/// as percentages.
const MEASURED: [(&str, &str, bool); 9] = [
    ("knn", "kNN", true),
    ("head_knn", "kNN of the head’s outputs", true),
    ("head_gain", "kNN before the head minus after it", true),
    ("untrained_knn", "kNN before training", true),
    ("linear", "linear probe", true),
    ("finetuned", "fine-tuned", true),
    ("scratch", "from scratch", true),
    ("seconds", "training (s)", false),
    ("memory", "peak memory (GB)", false),
];

/// Columns of `metrics.jsonl` that are shares.
const LOGGED_SHARES: [&str; 2] = ["contrastive_top1", "hardest_tenth"];

/// The title of a metric for tables and charts.
#[must_use]
pub fn title(metric: &str) -> String {
    let known = MEASURED.iter().find(|(name, _, _)| *name == metric);
    known.map_or_else(|| metric.replace('_', " "), |(_, title, _)| (*title).to_owned())
}

/// Whether a metric is a share, shown as a percentage.
#[must_use]
pub fn is_share(metric: &str) -> bool {
    MEASURED.iter().any(|(name, _, share)| *name == metric && *share)
        || LOGGED_SHARES.contains(&metric)
}
