//! Runs on the plane of two metrics: the darker, the higher a third one.

use maud::{Markup, PreEscaped, html};

use super::OWN;
use super::axes::Frame;
use crate::document::{CHARTS, COLORS};

/// The opacity of the run with the lowest value.
const PALEST: f64 = 0.12;

/// A run on the plane.
pub(crate) struct OnPlane<'a> {
    /// The name of its point.
    pub(crate) name: &'a str,
    /// Its metrics: horizontal, vertical, and the one that colors it.
    pub(crate) at: [f64; 3],
    /// Whether its name is written beside it; once for each point.
    pub(crate) labeled: bool,
}

/// Runs on the plane of two metrics.
pub(crate) struct PlaneChart<'a> {
    /// The names of the metrics, in the order of [`OnPlane::at`].
    pub(crate) titles: [String; 3],
    /// The runs.
    pub(crate) runs: Vec<OnPlane<'a>>,
    /// Whether the metric that colors the runs is a share.
    pub(crate) percent: bool,
    /// Width and height in CSS pixels.
    pub(crate) size: (f64, f64),
}

impl PlaneChart<'_> {
    /// The chart with its caption; `None` without a run that has all three metrics.
    pub(crate) fn render(&self) -> Option<Markup> {
        let drawing = self.drawing()?;
        Some(html! {
            figure.chart.overlay {
                figcaption {
                    span.name { (self.caption()) } " " span.by { (self.shades()) }
                }
                svg viewBox=(format!("0 0 {} {}", self.size.0, self.size.1)) role="img"
                    aria-label=(self.caption()) { (drawing) }
            }
        })
    }

    /// The chart as a file of its own: an SVG with its style and caption.
    pub(crate) fn standalone(&self) -> Option<String> {
        let drawing = self.drawing()?;
        let (width, height) = self.size;
        Some(
            html! {
                svg xmlns="http://www.w3.org/2000/svg" class="chart overlay" role="img"
                    viewBox=(format!("0 -44 {width} {}", height + 44.0)) width=(width)
                    height=(height + 44.0) {
                    title { (self.caption()) }
                    style { (PreEscaped(COLORS)) (PreEscaped(CHARTS)) (PreEscaped(OWN)) }
                    rect.page x="0" y="-44" width=(width) height=(height + 44.0) {}
                    text.caption x="8" y="-26" { (self.caption()) }
                    text x="8" y="-8" { (self.shades()) }
                    (drawing)
                }
            }
            .into_string(),
        )
    }

    fn caption(&self) -> String {
        format!("{} by {}", self.titles[1], self.titles[0])
    }

    /// What the shades mean.
    fn shades(&self) -> String {
        let (low, high) = self.range();
        let show = |value: f64| {
            if self.percent { format!("{:.1}", 100.0 * value) } else { format!("{value:.3}") }
        };
        let unit = if self.percent { "\u{202f}%" } else { "" };
        format!(
            "the darker, the higher: {} from {} to {}{unit}",
            self.titles[2],
            show(low),
            show(high)
        )
    }

    /// The lowest and the highest value of the metric that colors the runs.
    fn range(&self) -> (f64, f64) {
        let values = self.runs.iter().map(|run| run.at[2]).filter(|value| value.is_finite());
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
    }

    fn drawing(&self) -> Option<Markup> {
        let runs: Vec<&OnPlane> =
            self.runs.iter().filter(|run| run.at.iter().all(|value| value.is_finite())).collect();
        if runs.is_empty() {
            return None;
        }
        let along = |axis: usize| runs.iter().map(move |run| run.at[axis]);
        let frame = Frame::plane(along(0), along(1), self.size);
        let (low, high) = self.range();
        let shade = |value: f64| {
            let share = if high > low { (value - low) / (high - low) } else { 1.0 };
            PALEST + (1.0 - PALEST) * share
        };
        Some(html! {
            (frame.grid())
            @for run in &runs {
                @let (x, y) = (frame.px(run.at[0]), frame.py(run.at[1]));
                circle.dot cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r="6"
                    style="color:var(--c0)" stroke="currentColor"
                    fill-opacity=(format!("{:.2}", shade(run.at[2]))) {
                    title { (run.name) }
                }
                @if run.labeled {
                    // To the left of dots that stand far right.
                    @let left = x > frame.right() - 90.0;
                    text x=(format!("{:.1}", if left { x - 10.0 } else { x + 10.0 }))
                        y=(format!("{:.1}", y + 4.0)) text-anchor=(if left { "end" } else { "start" })
                        { (run.name) }
                }
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn higher_values_are_darker_and_what_is_unknown_is_left_out() {
        let run = |name, value: f64, labeled| OnPlane { name, at: [0.5, -1.0, value], labeled };
        let chart = PlaneChart {
            titles: ["alignment", "uniformity", "kNN"].map(str::to_owned),
            runs: vec![run("a & b", 0.5, true), run("c", 0.75, false), run("d", f64::NAN, true)],
            percent: true,
            size: (490.0, 260.0),
        };
        let page = chart.render().unwrap().into_string();
        assert_eq!(page.matches("<circle").count(), 2, "{page}");
        assert!(page.contains(r#"fill-opacity="0.12""#) && page.contains(r#"fill-opacity="1.00""#));
        assert!(page.matches("tick x").count() > 2, "the horizontal axis has steps: {page}");
        assert!(page.contains("kNN from 50.0 to 75.0") && page.contains(">a &amp; b</text>"));
        assert!(!page.contains("NaN") && !page.contains(">c</text>"), "{page}");
        assert!(chart.standalone().unwrap().starts_with("<svg xmlns="));
        assert!(PlaneChart { runs: vec![], ..chart }.render().is_none());
    }
}
