//! The task of the training loop: a method, its batches, and an evaluation at the end of an epoch.

use anyhow::Result;
use portolan_method::{Batch, Method};

use crate::{Clock, StepPlan};

/// The method of a run, its batches and its evaluation. The data may be images, text or anything
/// else.
pub trait Task {
    /// The method that is trained.
    fn method(&self) -> &dyn Method;

    /// The method that is trained, mutably.
    fn method_mut(&mut self) -> &mut dyn Method;

    /// The number of training items: an epoch is one pass over them.
    fn items(&self) -> usize;

    /// What an item is called, in the plural.
    fn noun(&self) -> &'static str {
        "images"
    }

    /// The batches of the run from micro-batch 0 of step `from` on.
    ///
    /// # Errors
    /// When the source cannot be started.
    fn batches(&self, plan: StepPlan, from: u64) -> Result<Box<dyn BatchSource>>;

    /// Measures the method at the end of an epoch, which is counted from 1.
    ///
    /// # Errors
    /// When data cannot be read, or libtorch fails.
    fn evaluate(&self, epoch: u64) -> Result<Evaluation>;
}

/// A source of batches.
pub trait BatchSource {
    /// The next micro-batch, on the device. Called outside autocast.
    ///
    /// # Errors
    /// When no item can be read, or the source itself failed.
    fn next_batch(&mut self, clock: &mut Clock) -> Result<Batch>;

    /// The items that could not be read so far, each with its reason.
    fn skipped(&self) -> Vec<String>;
}

/// The result of an evaluation at the end of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluation {
    /// Metrics by name, and a line about them for the user, if any.
    Metrics(Vec<(&'static str, f64)>, Option<String>),
    /// The outputs are not finite: training has diverged.
    NotFinite,
}
