//! What runs reached, by what was varied: a mean with its extremes for each point of each series.

use maud::{Markup, PreEscaped, html};

use super::OWN;
use super::axes::{Frame, LINE};
use super::line::slug;
use crate::document::{CHARTS, COLORS};

/// Room in characters for the name of a point, by the width that it has.
const CHARACTER: f64 = 6.2;
/// How far the marks of two series at the same point lie apart.
const APART: f64 = 7.0;

/// The lowest, the mean and the highest value of a point.
pub(crate) type Extent = (f64, f64, f64);

/// One metric of a study.
pub(crate) struct PointChart<'a> {
    /// The caption (`kNN`).
    pub(crate) title: String,
    /// What the points differ in (`temperature`).
    pub(crate) by: &'a str,
    /// The names of the points, from left to right.
    pub(crate) points: Vec<&'a str>,
    /// The name of each series with its value at each of the points, if it has one there.
    pub(crate) series: Vec<(&'a str, Vec<Option<Extent>>)>,
    /// Whether the values are fractions, shown as percentages.
    pub(crate) percent: bool,
    /// Width and height in CSS pixels on a wide screen.
    pub(crate) size: (f64, f64),
}

impl PointChart<'_> {
    /// The chart with its caption; `None` without a finite value.
    pub(crate) fn render(&self) -> Option<Markup> {
        let drawing = self.drawing()?;
        let id = format!("points-{}", slug(&self.title));
        Some(html! {
            figure.chart.overlay {
                figcaption { span.name { (self.title) } " " span.by { "by " (self.by) } }
                svg viewBox=(format!("0 0 {} {}", self.size.0, self.size.1)) role="img"
                    aria-labelledby=(format!("{id}-title")) {
                    title id=(format!("{id}-title")) { (self.title) " by " (self.by) }
                    (drawing)
                }
            }
        })
    }

    /// The chart as a file of its own: an SVG with its style, caption and legend.
    pub(crate) fn standalone(&self) -> Option<String> {
        let drawing = self.drawing()?;
        let (width, height) = self.size;
        let title = format!("{} by {}", self.title, self.by);
        let mut x = 8.0;
        let legend: Vec<(f64, usize, &str)> = self
            .series
            .iter()
            .enumerate()
            .map(|(i, (name, _))| {
                let at = x;
                x += 28.0 + 7.5 * name.chars().count() as f64;
                (at, i, *name)
            })
            .collect();
        Some(
            html! {
                svg xmlns="http://www.w3.org/2000/svg" class="chart overlay" role="img"
                    viewBox=(format!("0 -44 {width} {}", height + 44.0)) width=(width)
                    height=(height + 44.0) {
                    title { (title) }
                    style { (PreEscaped(COLORS)) (PreEscaped(CHARTS)) (PreEscaped(OWN)) }
                    rect.page x="0" y="-44" width=(width) height=(height + 44.0) {}
                    text.caption x="8" y="-26" { (title) }
                    @if self.series.len() > 1 { @for (x, i, name) in legend {
                        g style=(color(i)) {
                            path.curve d=(format!("M{x:.0} -10H{:.0}", x + 14.0)) {}
                            text x=(format!("{:.0}", x + 18.0)) y="-6" { (name) }
                        }
                    } }
                    (drawing)
                }
            }
            .into_string(),
        )
    }

    /// Axes and marks. Points that are numbers are joined by lines.
    fn drawing(&self) -> Option<Markup> {
        let all: Vec<Extent> =
            self.series.iter().flat_map(|(_, values)| values.iter().copied().flatten()).collect();
        let finite = |&it: &f64| it.is_finite();
        let values: Vec<f64> = all.iter().flat_map(|it| [it.0, it.2]).filter(finite).collect();
        if values.is_empty() {
            return None;
        }
        let count = self.points.len();
        let frame =
            Frame::around([count as f64].into_iter(), values.into_iter(), self.size, self.percent);
        let room = (frame.px(1.0) - frame.px(0.0)) / CHARACTER;
        let names: Vec<Vec<String>> =
            self.points.iter().map(|name| wrap(name, room as usize)).collect();
        let frame = frame.with_lines_below(names.iter().map(Vec::len).max().unwrap_or(1));
        let joined = self.points.iter().all(|name| name.replace(',', "").parse::<f64>().is_ok());
        let shift = |i: usize| APART * (i as f64 - (self.series.len() - 1) as f64 / 2.0);
        // The values of the i-th series with their places.
        let placed = |i: usize, values: &[Option<Extent>]| -> Vec<(f64, Extent)> {
            let x = |at: usize| frame.px(at as f64 + 0.5) + shift(i);
            let known =
                values.iter().enumerate().filter_map(|(at, value)| Some((x(at), (*value)?)));
            known
                .filter(|(_, (low, mean, high))| [low, mean, high].into_iter().all(finite))
                .collect()
        };
        Some(html! {
            (frame.levels())
            @for (at, lines) in names.iter().enumerate() {
                @for (row, line) in lines.iter().enumerate() {
                    text.tick.x x=(format!("{:.1}", frame.px(at as f64 + 0.5)))
                        y=(format!("{:.1}", frame.floor() + 20.0 + LINE * row as f64)) { (line) }
                }
            }
            @for (i, (name, values)) in self.series.iter().enumerate() {
                g style=(color(i)) { (marks(name, &placed(i, values), &frame, joined)) }
            }
        })
    }
}

/// The dots of a series with their extents, joined by a line or not.
fn marks(name: &str, marks: &[(f64, Extent)], frame: &Frame, joined: bool) -> Markup {
    html! {
        title { (name) }
        @if joined && marks.len() > 1 {
            path.curve d=(path(marks, frame)) {}
        }
        @for &(x, (low, mean, high)) in marks {
            @if high > low {
                path.extent d=(format!("M{x:.1} {:.1}V{:.1}", frame.py(low), frame.py(high))) {}
            }
            circle.dot cx=(format!("{x:.1}")) cy=(format!("{:.1}", frame.py(mean))) r="3.5" {
                title { (name) ": " (frame.value(mean)) }
            }
        }
    }
}

/// The line through the means.
fn path(marks: &[(f64, Extent)], frame: &Frame) -> String {
    let place = |&(x, (_, mean, _)): &(f64, Extent)| format!("{x:.1} {:.1}", frame.py(mean));
    format!("M{}", marks.iter().map(place).collect::<Vec<_>>().join("L"))
}

fn color(i: usize) -> String {
    format!("color:var(--c{})", i % super::COLORS)
}

/// A name in lines of about this many characters.
fn wrap(name: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in name.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chart(points: Vec<&'static str>) -> PointChart<'static> {
        let extent = |mean: f64| Some((mean - 0.1, mean, mean + 0.1));
        PointChart {
            title: "kNN".to_owned(),
            by: "rate",
            points,
            series: vec![
                ("A & B", vec![extent(0.5), extent(0.7)]),
                ("C", vec![None, Some((f64::NAN, f64::NAN, f64::NAN))]),
            ],
            percent: true,
            size: (480.0, 260.0),
        }
    }

    #[test]
    fn numbers_are_joined_and_names_are_not() {
        let curves =
            |points| chart(points).render().unwrap().into_string().matches("curve").count();
        assert_eq!((curves(vec!["0.1", "1,024"]), curves(vec!["with", "without"])), (1, 0));
        let page = chart(vec!["0.1", "1"]).render().unwrap().into_string();
        assert_eq!(page.matches("<circle").count(), 2, "{page}");
        assert!(page.contains("A &amp; B") && !page.contains("NaN"), "{page}");
        let empty = PointChart { series: vec![("A", vec![None])], ..chart(vec!["x"]) };
        assert!(empty.render().is_none());
    }

    #[test]
    fn a_file_of_its_own_has_style_and_legend() {
        let svg = chart(vec!["0.1", "1"]).standalone().unwrap();
        assert!(svg.starts_with("<svg xmlns=") && svg.contains(".overlay .dot"), "{svg}");
        assert!(svg.contains(">C</text>"), "{svg}");
    }

    #[test]
    fn long_names_take_several_lines() {
        assert_eq!(wrap("no predictor, no target", 14), ["no predictor,", "no target"]);
        assert_eq!(wrap("0.1", 2), ["0.1"]);
    }
}
