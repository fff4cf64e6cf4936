//! Curves of several runs in one frame.

use maud::{Markup, html};

use super::COLORS;
use super::axes::Frame;
use super::line::{slug, thin};

/// One metric of several runs, by epoch.
pub(crate) struct Overlay<'a> {
    /// The caption (`Loss`).
    pub(crate) title: &'a str,
    /// One curve per run, with the run's name. Values that are not finite are left out.
    pub(crate) curves: Vec<(&'a str, Vec<(f64, f64)>)>,
    /// Whether the values are fractions, shown as percentages.
    pub(crate) percent: bool,
    /// Width and height in CSS pixels on a wide screen.
    pub(crate) size: (f64, f64),
}

impl Overlay<'_> {
    /// The chart with its caption; `None` if no run logged the metric.
    pub(crate) fn render(&self) -> Option<Markup> {
        let finite = |points: &[(f64, f64)]| -> Vec<_> {
            points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect()
        };
        let curves: Vec<_> = self.curves.iter().map(|(_, points)| thin(&finite(points))).collect();
        let all = || curves.iter().flatten();
        all().next()?;
        let frame =
            Frame::around(all().map(|b| b.x), all().map(|b| b.mean), self.size, self.percent);
        let ends = self.curves.iter().zip(&curves).filter_map(|((name, _), curve)| {
            Some(format!("{name} ends at {}", frame.value(curve.last()?.mean)))
        });
        let id = format!("overlay-{}", slug(self.title));
        Some(html! {
            figure.chart.overlay {
                figcaption { span.name { (self.title) } " " span.by { "by epoch" } }
                svg viewBox=(format!("0 0 {} {}", self.size.0, self.size.1)) role="img"
                    aria-labelledby=(format!("{id}-title {id}-desc")) {
                    title id=(format!("{id}-title")) { (self.title) " by epoch" }
                    desc id=(format!("{id}-desc")) { (ends.collect::<Vec<_>>().join("; ")) "." }
                    (frame.grid())
                    @for (i, (curve, (name, _))) in curves.iter().zip(&self.curves).enumerate() {
                        @if let Some(end) = curve.last() {
                            g style=(series_style(i)) {
                                title { (name) ": " (frame.value(end.mean)) }
                                path.curve d=(frame.path(curve.iter().map(|b| (b.x, b.mean)))) {}
                                circle.dot cx=(format!("{:.1}", frame.px(end.x)))
                                    cy=(format!("{:.1}", frame.py(end.mean))) r="3.5" {}
                            }
                        }
                    }
                }
            }
        })
    }
}

/// Which run has which color, for the charts that follow.
pub(crate) fn legend(names: &[&str]) -> Markup {
    html! {
        ul.overlay.legend { @for (i, name) in names.iter().enumerate() {
            li {
                svg viewBox="0 0 28 8" aria-hidden="true" style=(series_style(i)) {
                    path.curve d="M1 4H27" {}
                }
                (name)
            }
        } }
    }
}

/// The color of the i-th run; the next ten are dashed.
fn series_style(i: usize) -> String {
    let dash = if i / COLORS % 2 == 1 { ";stroke-dasharray:6 5" } else { "" };
    format!("color:var(--c{}){dash}", i % COLORS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_run_that_logged_the_metric_has_its_curve() {
        let overlay =
            |curves| Overlay { title: "Loss", curves, percent: false, size: (480.0, 250.0) };
        let falling = vec![(1.0, 3.0), (2.0, 2.0), (3.0, f64::NAN)];
        let page = overlay(vec![("a", falling), ("b", Vec::new()), ("c", vec![(1.0, 9.0)])]);
        let page = page.render().unwrap().into_string();
        assert_eq!(page.matches("class=\"curve\"").count(), 2);
        assert!(
            page.contains("--c0") && !page.contains("--c1)") && page.contains("--c2"),
            "{page}"
        );
        assert!(page.contains("a ends at 2.0") && !page.contains("NaN"), "{page}");
        assert!(overlay(vec![("a", Vec::new())]).render().is_none());
    }
}
