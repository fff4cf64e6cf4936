//! Finds methods by name.

use anyhow::{Context, Result};
use portolan::{METHODS, TEXT_METHODS};
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

/// The names of all methods, those of text last.
pub(crate) fn names() -> Vec<&'static str> {
    let text = TEXT_METHODS.iter().map(|method| method.name);
    METHODS.iter().map(|method| method.name).chain(text).collect()
}
