//! Whole pages: one for a run, one for a run on text, one that compares runs, one for
//! evaluations, one for factors and one for studies.

pub(crate) mod claims;
pub(crate) mod comparison;
pub(crate) mod evaluation;
pub(crate) mod factors;
pub(crate) mod run;
pub(crate) mod study;
pub(crate) mod text;
