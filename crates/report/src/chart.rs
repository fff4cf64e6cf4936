//! Line charts as inline SVG: colours come from the page's style sheet, so they follow dark mode.

use maud::{Markup, html};

use crate::format::{number, percent};

/// A curve keeps at most this many points; more are averaged, with a band from their least to their greatest.
const POINTS: usize = 240;
/// Curves with at most this many points show each of them.
const DOTS: usize = 60;
/// Room around the plot, in the SVG's units (one CSS pixel on a wide screen).
const TOP: f64 = 12.0;
const RIGHT: f64 = 12.0;
const BOTTOM: f64 = 26.0;

/// One curve in a frame.
pub(crate) struct Chart<'a> {
    /// What is drawn, as its caption says (`Loss`).
    pub(crate) title: &'a str,
    /// What the horizontal axis counts (`step`).
    pub(crate) by: &'a str,
    /// The curve, from left to right. Points that are not finite are left out.
    pub(crate) points: Vec<(f64, f64)>,
    /// A level to hold the curve against, as a dashed line with its name.
    pub(crate) level: Option<(&'a str, f64)>,
    /// Whether the values are fractions, to be shown as per cent.
    pub(crate) percent: bool,
    /// Width and height in CSS pixels on a wide screen.
    pub(crate) size: (f64, f64),
}

impl Chart<'_> {
    /// The chart with its caption; nothing where there is no finite point.
    pub(crate) fn render(&self) -> Option<Markup> {
        let points: Vec<_> =
            self.points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
        let (first, last) = (points.first()?, points.last()?);
        let dropped = self.points.len() - points.len();
        let thinned = thin(&points);
        let values = thinned.iter().map(|b| b.mean).chain(self.level.map(|level| level.1));
        let y = Axis::over(values, self.size.1 / 55.0, 0.0).widened();
        let x = Axis::over(points.iter().map(|p| p.0).chain([0.0]), self.size.0 / 90.0, 1.0);
        let label =
            |value: f64| if self.percent { percent(value) } else { number(value, y.step / 20.0) };
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
                    (self.plot(&thinned, &x, &y, points.len() <= DOTS))
                }
                @if dropped > 0 {
                    p.warning { (dropped) " logged " (if dropped == 1 { "value is" } else { "values are" })
                        " not finite and not drawn." }
                }
            }
        })
    }

    /// Grid, axes and curve.
    fn plot(&self, curve: &[Bucket], x: &Axis, y: &Axis, dots: bool) -> Markup {
        let tick_label =
            |v: f64| if self.percent { format!("{:.0}", v * 100.0) } else { number(v, y.step) };
        let longest = y.ticks().map(|v| tick_label(v).chars().count()).max().unwrap_or(0);
        let left = 10.0 + 7.0 * longest as f64;
        let (right, bottom) = (self.size.0 - RIGHT, self.size.1 - BOTTOM);
        let px = |v: f64| left + x.share(v) * (right - left);
        let py = |v: f64| bottom - y.share(v) * (bottom - TOP);
        let path = |points: &mut dyn Iterator<Item = (f64, f64)>| {
            points.map(|(a, b)| format!("{:.1} {:.1}", px(a), py(b))).collect::<Vec<_>>().join("L")
        };
        let line = path(&mut curve.iter().map(|b| (b.x, b.mean)));
        let band = path(
            &mut curve
                .iter()
                .map(|b| (b.x, b.high))
                .chain(curve.iter().rev().map(|b| (b.x, b.low)))
                .map(|(a, b)| (a, b.clamp(y.low, y.high))),
        );
        html! {
            @for tick in y.ticks() {
                path.grid d=(format!("M{left:.1} {0:.1}H{right:.1}", py(tick))) {}
                text.tick.y x=(format!("{:.1}", left - 8.0)) y=(format!("{:.1}", py(tick) + 4.0)) {
                    (tick_label(tick))
                }
            }
            @for tick in x.ticks() {
                text.tick.x x=(format!("{:.1}", px(tick))) y=(format!("{:.1}", self.size.1 - 6.0)) {
                    (number(tick, x.step))
                }
            }
            @if let Some((name, value)) = self.level {
                path.level d=(format!("M{left:.1} {0:.1}H{right:.1}", py(value))) {}
                text.level x=(format!("{right:.1}")) y=(format!("{:.1}", py(value) - 6.0)) { (name) }
            }
            @if curve.iter().any(|b| b.high > b.low) { path.band d=(format!("M{band}Z")) {} }
            path.curve d=(format!("M{line}")) {}
            @for (i, b) in curve.iter().enumerate() {
                @if dots || i + 1 == curve.len() {
                    circle.dot cx=(format!("{:.1}", px(b.x))) cy=(format!("{:.1}", py(b.mean)))
                        r=(if i + 1 == curve.len() { 3.5 } else { 2.0 }) {}
                }
            }
        }
    }
}

/// Neighbouring points drawn as one.
#[derive(Debug, PartialEq)]
struct Bucket {
    x: f64,
    mean: f64,
    low: f64,
    high: f64,
}

fn thin(points: &[(f64, f64)]) -> Vec<Bucket> {
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

/// A range with round steps (1, 2 or 5 times a power of ten).
#[derive(Clone, Debug)]
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Covers the values, in about `wanted` steps of no less than `least`.
    fn over(values: impl Iterator<Item = f64>, wanted: f64, least: f64) -> Axis {
        let (mut low, mut high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if high - low < 1e-9 * high.abs().max(1e-9) {
            let room = if high == 0.0 { 1.0 } else { high.abs() / 10.0 }.max(least);
            (low, high) = (low - room, high + room);
        }
        let rough = (high - low) / wanted;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0]
            .map(|m| m * power)
            .into_iter()
            .find(|&s| s >= rough)
            .unwrap_or(10.0 * power);
        Axis { low, high, step: step.max(least) }
    }

    /// The same, out to the next round numbers.
    fn widened(self) -> Axis {
        let (low, high) = ((self.low / self.step).floor(), (self.high / self.step).ceil());
        Axis { low: low * self.step, high: high * self.step, ..self }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let step = self.step;
        let (first, last) =
            ((self.low / step - 1e-6).ceil() as i64, (self.high / step + 1e-6).floor() as i64);
        (first..=last).map(move |i| i as f64 * step)
    }

    /// Where a value lies: 0 at the low end, 1 at the high one.
    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// A title as part of an `id`.
fn slug(title: &str) -> String {
    title.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ticks(values: &[f64], least: f64) -> Vec<f64> {
        Axis::over(values.iter().copied(), 5.0, least).widened().ticks().collect()
    }

    fn chart(points: Vec<(f64, f64)>) -> Chart<'static> {
        Chart {
            title: "Loss",
            by: "step",
            points,
            level: None,
            percent: false,
            size: (480.0, 250.0),
        }
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        assert_eq!(ticks(&[3.0, 97.0], 0.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(&[0.0, 3.0], 1.0), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(ticks(&[-1.0, 1.0], 0.0), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        let constant = ticks(&[0.06, 0.06], 0.0);
        assert!(
            constant.len() > 2 && constant[0] < 0.06 && *constant.last().unwrap() > 0.06,
            "{constant:?}"
        );
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
