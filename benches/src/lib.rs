//! Criterion benchmarks, one file a layer: `views.rs`, `losses.rs`, `encoder.rs`, `step.rs`.
//!
//! `cargo bench` runs them all, `cargo bench -p portolan-benches --bench views` one. This library
//! is empty: a package of benchmarks needs one to exist.
