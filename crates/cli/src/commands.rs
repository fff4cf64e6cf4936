//! The commands of the program, one per file.

pub(crate) mod attention;
pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod dense;
pub(crate) mod distill;
pub(crate) mod doctor;
pub(crate) mod embed;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod factors;
pub(crate) mod fill;
pub(crate) mod generate;
pub(crate) mod gpu_check;
pub(crate) mod inspect;
pub(crate) mod invariance;
pub(crate) mod organize;
pub(crate) mod pack;
pub(crate) mod patches;
pub(crate) mod pretrain;
pub(crate) mod reconstruct;
pub(crate) mod reproduce;
pub(crate) mod self_test;
pub(crate) mod study;
