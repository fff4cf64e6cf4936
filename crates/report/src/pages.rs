//! Whole pages: one for a run, one for a run on text, one that compares runs, one for evaluations
//! and one for factors.

pub(crate) mod comparison;
pub(crate) mod evaluation;
pub(crate) mod factors;
pub(crate) mod run;
pub(crate) mod text;
