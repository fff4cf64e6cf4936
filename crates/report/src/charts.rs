//! Charts as inline SVG, and images as data URIs.

pub(crate) mod image;
pub(crate) mod line;
pub(crate) mod matrices;
pub(crate) mod overlay;
pub(crate) mod plane;
pub(crate) mod points;
pub(crate) mod scatter;

mod axes;

/// Width and height in CSS pixels of charts that stand two in a row.
pub(crate) const WIDE: (f64, f64) = (490.0, 260.0);
/// The same for three in a row.
pub(crate) const SMALL: (f64, f64) = (320.0, 170.0);
/// How many colors the style sheet has for data (`--c0` …): Petroff's ten, chosen so that
/// color-blind readers can tell them apart.
const COLORS: usize = 10;
/// The style of a file of its own, which has no page around it.
const OWN: &str = "text { font-family: system-ui, sans-serif; } .page { fill: var(--paper); } \
                   .chart text.caption { font-size: 15px; font-weight: 600; fill: var(--ink); }";
