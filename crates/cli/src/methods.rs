//! Finds methods by name.

use anyhow::{Context, Result};
use portolan::{METHODS, TEXT_METHODS};
use portolan_method::MethodEntry;

/// The method with this name.
///
/// # Errors
/// If there is none. The message lists all methods.
pub(crate) fn find(name: &str) -> Result<&'static MethodEntry> {
    METHODS.iter().copied().find(|method| method.name == name).with_context(|| {
        let text = TEXT_METHODS.iter().map(|method| method.name);
        let all: Vec<&str> = names().into_iter().chain(text).collect();
        format!("there is no method `{name}`; there are {}", all.join(", "))
    })
}

/// The names of all methods.
pub(crate) fn names() -> Vec<&'static str> {
    METHODS.iter().map(|method| method.name).collect()
}
