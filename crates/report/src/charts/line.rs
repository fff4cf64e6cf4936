//! One curve. Colors come from the page's style sheet, so they follow dark mode.

use maud::{Markup, html};

use super::axes::Frame;
use crate::format::number;

/// A curve keeps at most this many points. More are averaged, with a band from their minimum to
/// their maximum.
const POINTS: usize = 240;
/// Curves with at most this many points show each of them.
const DOTS: usize = 60;

/// One curve in a frame.
pub(crate) struct LineChart<'a> {
    /// The caption (`Loss`).
    pub(crate) title: &'a str,
    /// What the horizontal axis counts (`step`).
    pub(crate) by: &'a str,
    /// The curve, from left to right. Points that are not finite are left out.
    pub(crate) points: Vec<(f64, f64)>,
    /// A reference level, drawn as a dashed line with its name.
    pub(crate) level: Option<(&'a str, f64)>,
    /// Whether the values are fractions, shown as percentages.
    pub(crate) percent: bool,
    /// Width and height in CSS pixels on a wide screen.
    pub(crate) size: (f64, f64),
}

impl LineChart<'_> {
    /// The chart with its caption; `None` without a finite point.
    pub(crate) fn render(&self) -> Option<Markup> {
        let points: Vec<_> =
            self.points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
        let (first, last) = (points.first()?, points.last()?);
        let dropped = self.points.len() - points.len();
        let thinned = thin(&points);
        let values = thinned.iter().map(|b| b.mean).chain(self.level.map(|level| level.1));
        let frame = Frame::around(points.iter().map(|p| p.0), values, self.size, self.percent);
        let label = |value: f64| frame.value(value);
        let description = format!(
            "From {} at {} {} to {} at {} {}.",
            label(first.1),
            self.by,
            number(first.0, 1.0),
            label(last.1),
            self.by,
            number(last.0, 1.0)
        );
        let id = format!("chart-{}", slug(self.title));
        Some(html! {
            figure.chart {
                figcaption {
                    span.name { (self.title) } " " span.by { "by " (self.by) }
                    span.last { (label(last.1)) }
                }
                svg viewBox=(format!("0 0 {} {}", self.size.0, self.size.1)) role="img"
                    aria-labelledby=(format!("{id}-title {id}-desc")) {
                    title id=(format!("{id}-title")) { (self.title) " by " (self.by) }
                    desc id=(format!("{id}-desc")) { (description) }
                    (self.plot(&thinned, &frame, points.len() <= DOTS))
                }
                @if dropped > 0 {
                    p.warning {
                        (dropped) " logged " (if dropped == 1 { "value is" } else { "values are" })
                        " not finite and not drawn."
                    }
                }
            }
        })
    }

    /// Grid, axes and curve.
    fn plot(&self, curve: &[Bucket], frame: &Frame, dots: bool) -> Markup {
        let line = frame.path(curve.iter().map(|b| (b.x, b.mean)));
        let outline = curve
            .iter()
            .map(|b| (b.x, b.high))
            .chain(curve.iter().rev().map(|b| (b.x, b.low)))
            .map(|(x, y)| (x, frame.y.within(y)));
        let band = frame.path(outline);
        html! {
            (frame.grid())
            @if let Some((name, value)) = self.level {
                path.level d=(frame.level(value)) {}
                text.level x=(format!("{:.1}", frame.right()))
                    y=(format!("{:.1}", frame.py(value) - 6.0)) { (name) }
            }
            @if curve.iter().any(|b| b.high > b.low) { path.band d=(format!("{band}Z")) {} }
            path.curve d=(line) {}
            @for (i, b) in curve.iter().enumerate() {
                @if dots || i + 1 == curve.len() {
                    circle.dot cx=(format!("{:.1}", frame.px(b.x)))
                        cy=(format!("{:.1}", frame.py(b.mean)))
                        r=(if i + 1 == curve.len() { 3.5 } else { 2.0 }) {}
                }
            }
        }
    }
}

/// Neighboring points drawn as one.
#[derive(Debug, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) x: f64,
    pub(crate) mean: f64,
    low: f64,
    high: f64,
}

/// The curve with neighboring points averaged, [`POINTS`] at most.
pub(crate) fn thin(points: &[(f64, f64)]) -> Vec<Bucket> {
    let each = points.len().div_ceil(POINTS).max(1);
    let bucket = |chunk: &[(f64, f64)]| {
        let n = chunk.len() as f64;
        Bucket {
            x: chunk.iter().map(|p| p.0).sum::<f64>() / n,
            mean: chunk.iter().map(|p| p.1).sum::<f64>() / n,
            low: chunk.iter().map(|p| p.1).fold(f64::INFINITY, f64::min),
            high: chunk.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max),
        }
    };
    points.chunks(each).map(bucket).collect()
}

/// A title as part of an `id`.
pub(crate) fn slug(title: &str) -> String {
    title.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> LineChart<'static> {
        LineChart {
            title: "Loss",
            by: "step",
            points,
            level: None,
            percent: false,
            size: (480.0, 250.0),
        }
    }

    #[test]
    fn many_points_become_few_and_keep_their_extent() {
        let points: Vec<_> = (0..10_000).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let thinned = thin(&points);
        assert!(thinned.len() <= POINTS);
        assert_eq!(thinned[3], Bucket { x: 146.5, mean: 0.5, low: 0.0, high: 1.0 });
    }

    #[test]
    fn what_is_not_finite_is_left_out_and_said() {
        let page =
            chart(vec![(1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0)]).render().unwrap().into_string();
        assert!(page.contains("1 logged value is not finite") && !page.contains("NaN"), "{page}");
        assert!(chart(vec![(1.0, f64::NAN)]).render().is_none());
        assert!(chart(Vec::new()).render().is_none());
    }

    #[test]
    fn one_point_is_drawn() {
        let page = chart(vec![(1.0, 2.0)]).render().unwrap().into_string();
        assert!(page.contains("<circle") && !page.contains("NaN"), "{page}");
    }
}
