//! Finds methods by name.

use anyhow::{Context, Result};
use portolan::METHODS;
use portolan_method::MethodEntry;

/// The method with this name.
///
/// # Errors
/// If there is none. The message lists all methods.
pub(crate) fn find(name: &str) -> Result<&'static MethodEntry> {
    METHODS
        .iter()
        .copied()
        .find(|method| method.name == name)
        .with_context(|| format!("there is no method `{name}`; there are {}", names().join(", ")))
}

/// The names of all methods.
pub(crate) fn names() -> Vec<&'static str> {
    METHODS.iter().map(|method| method.name).collect()
}
