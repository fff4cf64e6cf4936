//! The sections of a run's page, a module each.

use maud::Markup;

use crate::error::Result;
use crate::page::Page;

mod health;
mod map;
mod neighbors;
mod result;
mod run;
mod start;
pub(crate) mod training;
mod views;

/// One section of the page.
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// A sentence on how to read it.
    pub(crate) lead: Option<String>,
    pub(crate) body: Markup,
}

/// All sections, in the order of the page.
pub(crate) fn all(page: &Page) -> Result<Vec<Section>> {
    let first = std::iter::once(result::section(page)).chain(start::section(page));
    let rest = [
        health::section(page),
        training::section(page)?,
        views::section(page)?,
        neighbors::section(page)?,
        map::section(page)?,
        run::section(page),
    ];
    Ok(first.chain(rest).collect())
}
