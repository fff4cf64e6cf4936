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

/// A recipe of a method for images or text.
///
/// # Errors
/// If there is no such method or recipe. The message lists what there is.
pub(crate) fn recipe(method: &str, name: &str) -> Result<toml::Table> {
    let of_text = TEXT_METHODS.iter().find(|entry| entry.name == method);
    Ok(match of_text {
        Some(entry) => entry.recipe(name)?,
        None => find(method)?.recipe(name)?,
    })
}

/// The name of the method's first recipe that was written for these images.
pub(crate) fn recipe_for(entry: &MethodEntry, data: &str) -> Option<&'static str> {
    let source = |name: &str| Some(entry.recipe(name).ok()?.get("data")?.get("source")?.clone());
    let names = entry.recipes.iter().map(|recipe| recipe.name);
    names.into_iter().find(|name| source(name).is_some_and(|it| it.as_str() == Some(data)))
}

/// The names of all methods, those of text last.
pub(crate) fn names() -> Vec<&'static str> {
    let text = TEXT_METHODS.iter().map(|method| method.name);
    METHODS.iter().map(|method| method.name).chain(text).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_data_set_has_its_recipe() {
        let of = |method: &str, data: &str| recipe_for(find(method).unwrap(), data);
        assert_eq!(of("moco", "fashion-mnist"), Some("fashion"));
        assert_eq!(of("dino", "shapes"), Some("shapes"));
        assert_eq!(of("colorization", "fashion-mnist"), None, "its images have no color");
        assert_eq!(of("moco", "my-images/"), None);
    }
}
