//! The metrics of a protocol, as printed and written.

use anyhow::Result;
use portolan_evaluate::Scores;
use portolan_report::ProtocolResult;
use portolan_tensor::Tensor;
use serde::Serialize;

use super::linear_dinov2_table::Selection;

/// The metrics of one protocol.
#[derive(Serialize)]
pub(super) struct ProtocolMetrics {
    /// The protocol and its settings.
    pub(super) protocol: String,
    /// What text is classified by, such as its author.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<String>,
    pub(super) top1: f64,
    /// Standard deviation over several draws of labeled images.
    pub(super) deviation: Option<f64>,
    pub(super) scores: Option<Scores>,
    /// How linear-dinov2 chose its classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) linear_dinov2: Option<Selection>,
}

impl ProtocolMetrics {
    /// The metrics of these votes or logits, `[n, classes]`, for images of these classes, `[n]`.
    ///
    /// # Errors
    /// If they do not fit each other.
    pub(super) fn of(protocol: String, votes: &Tensor, truth: &Tensor) -> Result<Self> {
        Ok(Self::with_scores(protocol, Scores::of(votes, truth)?))
    }

    /// The metrics with these scores.
    pub(super) fn with_scores(protocol: String, scores: Scores) -> Self {
        ProtocolMetrics {
            protocol,
            labels: None,
            top1: scores.top1,
            deviation: None,
            scores: Some(scores),
            linear_dinov2: None,
        }
    }

    /// The metrics after the accuracy: deviation, interval and top-5.
    fn details(&self) -> String {
        let mut parts = Vec::new();
        if let Some(deviation) = self.deviation {
            parts.push(format!("± {}", percent(deviation)));
        }
        if let Some(scores) = &self.scores {
            let [low, high] = scores.interval;
            parts.push(format!("({} to {})", percent(low), percent(high)));
            parts.extend(scores.top5.map(|top5| format!("top-5 {} %", percent(top5))));
        }
        parts.join("  ")
    }

    pub(super) fn to_report(&self) -> ProtocolResult {
        ProtocolResult {
            protocol: self.protocol.clone(),
            top1: format!("{} %", percent(self.top1)),
            details: self.details(),
            confusion: self.scores.as_ref().and_then(|scores| scores.confusion.clone()),
        }
    }

    pub(super) fn print(&self, classes: &[String]) {
        let mut line = format!("{:<52} {:>5} %", self.protocol, percent(self.top1));
        line += &format!(" {}", self.details());
        if let Some((truth, taken_for, items)) =
            self.scores.as_ref().and_then(Scores::most_confused)
        {
            let (truth, taken_for) = (&classes[truth], &classes[taken_for]);
            line += &format!("  most confused: {truth} predicted as {taken_for} ({items})");
        }
        println!("{}", line.trim_end());
        if let Some(selection) = &self.linear_dinov2 {
            println!("{selection}");
        }
    }
}

/// A share in percent, without the sign.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}
