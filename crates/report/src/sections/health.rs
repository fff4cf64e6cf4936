//! Whether the run is healthy, as far as its signals tell without labels.

use maud::html;

use crate::page::{Page, Section};

/// What was found, and what to change first.
pub(crate) fn section(page: &Page) -> Section {
    let lead = "Read off what was logged, without labels: nothing here knows an accuracy.";
    let body = html! {
        @match page.finding {
            None => p { "Nothing is wrong that the signals tell: no collapse, no instability, views and batch as they should be." },
            Some(finding) => div.finding {
                h3 { (finding.name) }
                p { (finding.seen) }
                p { b { "First: " } (finding.remedy) }
            },
        }
    };
    Section { id: "health", title: "Health", lead: Some(lead.to_owned()), body }
}
