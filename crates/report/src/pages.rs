//! Whole pages: one for a run, one that compares runs, one for evaluations and one for factors.

pub(crate) mod comparison;
pub(crate) mod evaluation;
pub(crate) mod factors;
pub(crate) mod run;
