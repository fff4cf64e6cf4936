//! A run that started from a trained encoder: whether training helped.

use serde::{Deserialize, Serialize};

/// The encoder that a run started from, and how it compares with the trained one on the same
/// images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Where it came from: a file, a hub folder or a run.
    pub source: String,
    /// Its file in the run's folder.
    pub file: String,
    /// kNN accuracy before and after; `None` without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knn: Option<Change>,
    /// Linear probe accuracy before and after; `None` without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear_probe: Option<Change>,
    /// What is measured without labels.
    #[serde(default)]
    pub signals: Vec<Signal>,
    /// Whether training helped, in a sentence.
    pub verdict: String,
}

/// An accuracy before and after training, on the same test images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The accuracy of the encoder that the run started from, a fraction.
    pub before: f64,
    /// The accuracy of the trained encoder, a fraction.
    pub after: f64,
    /// The 95 % confidence interval of `after − before` over the choice of test images.
    pub interval: [f64; 2],
    /// Test images that only the trained encoder classifies correctly.
    pub gained: usize,
    /// Test images that only the first encoder classifies correctly.
    pub lost: usize,
}

/// A number that is measured without labels, before and after training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Its name (`feature_rank`), as in `metrics.jsonl`.
    pub name: String,
    /// Of the encoder that the run started from.
    pub before: f64,
    /// Of the trained encoder.
    pub after: f64,
}

impl Change {
    /// What the interval says of the difference: `it helped`, `it hurt`, or that these test images
    /// cannot tell.
    pub fn verdict(&self) -> &'static str {
        match self.interval {
            [low, _] if low > 0.0 => "it helped",
            [_, high] if high < 0.0 => "it hurt",
            _ => "no clear difference on these test images",
        }
    }

    /// The change in a sentence: `kNN 81.2 % before, 83.4 % after (difference +2.2, 95 % interval
    /// 0.9 to 3.5): it helped`.
    pub fn sentence(&self, protocol: &str) -> String {
        let [low, high] = self.interval.map(|end| 100.0 * end);
        let (before, after) = (100.0 * self.before, 100.0 * self.after);
        format!(
            "{protocol} {before:.1} % before, {after:.1} % after (difference {:+.1}, 95 % interval \
             {low:.1} to {high:.1}): {}",
            after - before,
            self.verdict()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_states_the_difference_and_what_it_says() {
        let change = |interval| {
            Change { before: 0.812, after: 0.834, interval, gained: 60, lost: 16 }.sentence("kNN")
        };
        assert_eq!(
            change([0.009, 0.035]),
            "kNN 81.2 % before, 83.4 % after (difference +2.2, 95 % interval 0.9 to 3.5): it helped"
        );
        assert!(change([-0.001, 0.035]).ends_with("no clear difference on these test images"));
        assert!(change([-0.035, -0.001]).ends_with("it hurt"));
    }
}
