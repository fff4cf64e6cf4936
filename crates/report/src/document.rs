//! What all pages share: the HTML around their content, style sheet and brand.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Colors by day and by night.
pub(crate) const COLORS: &str = include_str!("colors.css");
/// The style of what is drawn in charts.
pub(crate) const CHARTS: &str = include_str!("charts.css");
/// The style sheet of every page.
const STYLE: &str =
    concat!(include_str!("colors.css"), include_str!("style.css"), include_str!("charts.css"));
/// Forbids every load, so that the page stays one file whatever is written into it.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/// The head of a page: its title, and what it has beyond the common style sheet. The content
/// security policy allows a script only by its SHA-256, in base64.
pub fn head(title: &str, style: &str, script_hash: Option<&str>) -> Markup {
    let script = script_hash.map(|hash| format!("; script-src 'sha256-{hash}'"));
    html! {
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content={ (POLICY) (script.unwrap_or_default()) };
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) }
            style { (PreEscaped(STYLE)) (PreEscaped(style)) }
        }
    }
}

/// A whole page around this body.
pub(crate) fn document(title: &str, body: &Markup, version: &str) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title, "", None))
            body {
                (body)
                footer { p { "Portolan " (version) ". This page is one file and loads nothing." } }
            }
        }
    }
    .into_string()
}

/// The brand: the compass rose where a portolan chart's lines begin.
pub fn compass() -> Markup {
    html! {
        svg.compass viewBox="-12 -12 24 24" aria-hidden="true" {
            circle r="10.5" {}
            path d="M0-10.5V10.5M-10.5 0H10.5M-7.4-7.4 7.4 7.4M7.4-7.4-7.4 7.4" {}
            path.needle d="M0-9 2.4 0 0 9-2.4 0z" {}
        }
    }
}
