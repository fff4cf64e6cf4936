//! The rule that judges a claim.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A part of a claim: some runs are above others by some metric.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// This part of the claim, as a sentence without its period.
    pub claim: String,
    /// The metric that is compared.
    pub metric: String,
    /// The series that the rule applies to; all if empty. It must hold in each.
    #[serde(default)]
    pub series: Vec<String>,
    /// The points that should be above: a name of a point, in each series, or `SERIES/POINT`.
    pub above: Vec<String>,
    /// The points that should be below. If there are none, those above are compared with 0.
    #[serde(default)]
    pub below: Vec<String>,
    /// Which value stands for several points.
    #[serde(default)]
    pub choose: Choose,
    /// The least difference, in the metric's unit; accuracies are shares, so 0.01 is one point.
    #[serde(default)]
    pub by: f64,
}

/// Which value stands for several points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choose {
    /// Their mean.
    #[default]
    Mean,
    /// The largest of either side.
    Best,
    /// The smallest above, the largest below: all above exceed all below.
    Each,
}

impl Choose {
    /// The value that stands for the values of the points `above` or `below`.
    pub(crate) fn of(self, values: &[f64], above: bool) -> f64 {
        match (self, above) {
            (Choose::Mean, _) => values.iter().sum::<f64>() / values.len().max(1) as f64,
            (Choose::Each, true) => values.iter().copied().fold(f64::INFINITY, f64::min),
            (Choose::Best, _) | (Choose::Each, false) => {
                values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            }
        }
    }
}

/// Whether a claim holds. The worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not even with the mean over seeds.
    DoesNotHold,
    /// With the mean over seeds, but not with every seed.
    HoldsWeakly,
    /// With every seed.
    Holds,
}

impl Verdict {
    /// The verdict on differences, one per seed, that should exceed `by`.
    pub(crate) fn of(differences: &[f64], by: f64) -> Self {
        let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
        // A difference that is not a number exceeds nothing.
        if !differences.is_empty() && differences.iter().all(|&it| it > by) {
            Verdict::Holds
        } else if mean > by {
            Verdict::HoldsWeakly
        } else {
            Verdict::DoesNotHold
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::DoesNotHold => "does not hold at this size",
            Verdict::HoldsWeakly => "holds weakly",
            Verdict::Holds => "holds",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_holds_only_with_every_seed() {
        assert_eq!(Verdict::of(&[0.03, 0.02], 0.01), Verdict::Holds);
        assert_eq!(Verdict::of(&[0.05, 0.0], 0.01), Verdict::HoldsWeakly);
        assert_eq!(Verdict::of(&[0.01, 0.01], 0.01), Verdict::DoesNotHold);
        assert_eq!(Verdict::of(&[f64::NAN, 0.5], 0.01), Verdict::DoesNotHold);
        assert_eq!(Verdict::of(&[], 0.0), Verdict::DoesNotHold);
        assert!(
            Verdict::DoesNotHold < Verdict::HoldsWeakly && Verdict::HoldsWeakly < Verdict::Holds
        );
    }

    #[test]
    fn several_points_are_compared_as_the_rule_says() {
        let values = [0.2, 0.6];
        assert_eq!(Choose::Mean.of(&values, true), 0.4);
        assert_eq!((Choose::Best.of(&values, true), Choose::Best.of(&values, false)), (0.6, 0.6));
        assert_eq!((Choose::Each.of(&values, true), Choose::Each.of(&values, false)), (0.2, 0.6));
    }
}
