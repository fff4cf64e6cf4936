//! Whether the run is healthy, as far as its metrics show without labels.

use maud::html;

use super::Section;
use crate::page::Page;

/// The problem that was found, and what to change first.
pub(crate) fn section(page: &Page) -> Section {
    let lead = "Judged by what was logged, without labels or accuracies.";
    let body = html! {
        @if let Some(finding) = page.finding {
            div.finding {
                h3 { (finding.problem.name()) }
                p { (finding.evidence) }
                p { b { "First: " } (finding.remedy) }
            }
        } @else {
            p {
                "No problems detected: no sign of collapse or instability, and views and batch \
                 size look right."
            }
        }
    };
    Section { id: "health", title: "Health", lead: Some(lead.to_owned()), body }
}
