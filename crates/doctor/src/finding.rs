//! What the doctor finds.

use std::fmt;

/// A kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Problem {
    /// The loss is NaN or infinite.
    Divergence,
    /// The learning rate is too high for the encoder to learn.
    LearningRate,
    /// All images get nearly the same output, or outputs vary in few dimensions only.
    Collapse,
    /// The batch has too few negatives.
    Batch,
    /// The views of an image are too similar.
    Views,
    /// The decoder reconstructs nothing but the mean.
    Reconstruction,
    /// Images of a batch equal each other, which KoLeo pushes apart without limit.
    Duplicates,
    /// Features lie too near their nearest neighbors.
    Crowding,
    /// The loss of masked patches is missing or does not fall.
    Patches,
}

impl Problem {
    /// Whether the representation has collapsed. In contrastive methods negatives keep outputs
    /// apart, unless the learning rate is too high.
    #[must_use]
    pub fn is_collapse(self) -> bool {
        matches!(self, Problem::Collapse | Problem::LearningRate)
    }

    /// The name that people and scripts read: `learning rate`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Problem::Divergence => "divergence",
            Problem::LearningRate => "learning rate",
            Problem::Collapse => "collapse",
            Problem::Batch => "batch",
            Problem::Views => "views",
            Problem::Reconstruction => "reconstruction",
            Problem::Duplicates => "duplicates",
            Problem::Crowding => "crowding",
            Problem::Patches => "patches",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A problem of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The problem.
    pub problem: Problem,
    /// What indicates it: the metric, its value, the threshold and its source.
    pub evidence: String,
    /// What to change first.
    pub remedy: String,
}

impl Finding {
    pub(crate) fn new(problem: Problem, evidence: String, remedy: &str) -> Self {
        Finding { problem, evidence, remedy: remedy.to_owned() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  first: {}", self.problem, self.evidence, self.remedy)
    }
}
