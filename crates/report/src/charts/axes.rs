//! The axes of a chart: their ranges, ticks and grid, and the place of a value.

use maud::{Markup, html};

use crate::format::{number, percent};

/// Room around the plot, in the SVG's units (one CSS pixel on a wide screen).
const TOP: f64 = 12.0;
const RIGHT: f64 = 12.0;
const BOTTOM: f64 = 26.0;
/// The height of a line of text.
pub(super) const LINE: f64 = 14.0;

/// The area that charts are drawn into.
pub(super) struct Frame {
    size: (f64, f64),
    x: Axis,
    pub(super) y: Axis,
    /// Whether the values are fractions, shown as percentages.
    percent: bool,
    /// Room for the labels of the ticks.
    left: f64,
    /// Room below the plot.
    bottom: f64,
}

impl Frame {
    /// A frame that holds these values. The horizontal axis begins at 0.
    pub(super) fn around(
        x: impl Iterator<Item = f64>,
        y: impl Iterator<Item = f64>,
        size: (f64, f64),
        percent: bool,
    ) -> Frame {
        let y = Axis::over(y, size.1 / 55.0, 0.0).widened();
        let x = Axis::over(x.chain([0.0]), size.0 / 90.0, 1.0);
        let mut frame = Frame { size, x, y, percent, left: 0.0, bottom: BOTTOM };
        let longest = frame.y.ticks().map(|v| frame.tick(v).chars().count()).max().unwrap_or(0);
        frame.left = 10.0 + 7.0 * longest as f64;
        frame
    }

    /// A frame whose horizontal axis is a measure too, and begins where its values do.
    pub(super) fn plane(
        x: impl Iterator<Item = f64>,
        y: impl Iterator<Item = f64>,
        size: (f64, f64),
    ) -> Frame {
        let x = Axis::over(x, size.0 / 90.0, 0.0).widened();
        Frame { x, ..Frame::around(std::iter::empty(), y, size, false) }
    }

    /// The same with room for this many lines of text below the plot.
    pub(super) fn with_lines_below(self, lines: usize) -> Frame {
        Frame { bottom: BOTTOM + LINE * lines.saturating_sub(1) as f64, ..self }
    }

    /// Where the plot ends below.
    pub(super) fn floor(&self) -> f64 {
        self.size.1 - self.bottom
    }

    /// Where the plot ends on the right.
    pub(super) fn right(&self) -> f64 {
        self.size.0 - RIGHT
    }

    /// Where a value of the horizontal axis lies.
    pub(super) fn px(&self, value: f64) -> f64 {
        self.left + self.x.share(value) * (self.right() - self.left)
    }

    /// Where a value of the vertical axis lies.
    pub(super) fn py(&self, value: f64) -> f64 {
        let floor = self.floor();
        floor - self.y.share(value) * (floor - TOP)
    }

    /// The line through these points.
    pub(super) fn path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let places = points.map(|(x, y)| format!("{:.1} {:.1}", self.px(x), self.py(y)));
        format!("M{}", places.collect::<Vec<_>>().join("L"))
    }

    /// The horizontal line at this value.
    pub(super) fn level(&self, value: f64) -> String {
        format!("M{:.1} {:.1}H{:.1}", self.left, self.py(value), self.right())
    }

    /// A value as text, finer than the ticks.
    pub(super) fn value(&self, value: f64) -> String {
        if self.percent { percent(value) } else { number(value, self.y.step / 20.0) }
    }

    fn tick(&self, value: f64) -> String {
        if self.percent { format!("{:.0}", value * 100.0) } else { number(value, self.y.step) }
    }

    /// Lines and numbers of the vertical axis.
    pub(super) fn levels(&self) -> Markup {
        html! {
            @for tick in self.y.ticks() {
                path.grid d=(self.level(tick)) {}
                text.tick.y x=(format!("{:.1}", self.left - 8.0))
                    y=(format!("{:.1}", self.py(tick) + 4.0)) { (self.tick(tick)) }
            }
        }
    }

    /// Lines and numbers of the axes.
    pub(super) fn grid(&self) -> Markup {
        html! {
            (self.levels())
            @for tick in self.x.ticks() {
                text.tick.x x=(format!("{:.1}", self.px(tick)))
                    y=(format!("{:.1}", self.size.1 - 6.0)) { (number(tick, self.x.step)) }
            }
        }
    }
}

/// A range with round steps (1, 2 or 5 times a power of ten).
#[derive(Clone, Debug)]
pub(super) struct Axis {
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

    /// The value, clamped to the range.
    pub(super) fn within(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }

    /// Where a value lies: 0 at the low end, 1 at the high one.
    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(values: &[f64], least: f64) -> Vec<f64> {
        Axis::over(values.iter().copied(), 5.0, least).widened().ticks().collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        assert_eq!(ticks(&[3.0, 97.0], 0.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(&[0.0, 3.0], 1.0), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(ticks(&[-1.0, 1.0], 0.0), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        let constant = ticks(&[0.06, 0.06], 0.0);
        assert!(
            constant.len() > 2 && constant[0] < 0.06 && constant[constant.len() - 1] > 0.06,
            "{constant:?}"
        );
    }
}
