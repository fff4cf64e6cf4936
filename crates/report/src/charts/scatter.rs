//! A scatter plot of embeddings in two dimensions, colored by class.

use maud::{Markup, PreEscaped, html};
use std::collections::BTreeMap;
use std::fmt::Write;

use super::COLORS;
use crate::error::Result;
use crate::page::{MapPoint, Page};
use crate::sampling::in_even_sample;

mod thumbnails;

/// Width and height in the SVG's units, and the room kept free at the edges.
const SIZE: (f64, f64) = (520.0, 400.0);
const MARGIN: f64 = 18.0;
/// About this many points are drawn: more hide one another and make the page heavy.
const MOST_POINTS: usize = 3000;
/// Up to this many classes are named on the map itself.
const MOST_NAMES: usize = 20;
/// Marks as paths from a point: disc, square, triangle, diamond, cross. With the colors they
/// distinguish fifty classes.
const MARKS: [&str; 5] = [
    "m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0z",
    "m-1.8-1.8h3.6v3.6h-3.6z",
    "m0-2.5 2.4 4.3h-4.8z",
    "m0-2.6 2.6 2.6-2.6 2.6-2.6-2.6z",
    "m-.8-2.4h1.6v1.6h1.6v1.6h-1.6v1.6h-1.6v-1.6h-1.6v-1.6h1.6z",
];

/// A point in the SVG's units, with the data it stands for.
struct Placed<'a> {
    x: f64,
    y: f64,
    point: &'a MapPoint,
}

/// The points of each class.
type Groups<'a> = BTreeMap<Option<usize>, Vec<Placed<'a>>>;

/// The test embeddings as a scatter plot.
pub(crate) struct Scatter<'a> {
    page: &'a Page<'a>,
    groups: Groups<'a>,
}

impl<'a> Scatter<'a> {
    /// Places the page's map, or an evenly spread sample of a large one.
    pub(crate) fn new(page: &'a Page) -> Self {
        Scatter { page, groups: place(&sample(page.map)) }
    }

    /// How many points are drawn.
    pub(crate) fn points(&self) -> usize {
        self.groups.values().map(Vec::len).sum()
    }

    /// Whether any drawn point shows its image.
    pub(crate) fn has_images(&self) -> bool {
        self.groups.values().flatten().any(|placed| placed.point.image.is_some())
    }

    /// The plot, with a choice of class beside it.
    pub(crate) fn render(&self) -> Result<Markup> {
        let classes: Vec<usize> = self.groups.keys().copied().flatten().collect();
        let thumbnails = thumbnails::all(self.page, self.groups.values().flatten())?;
        Ok(html! {
            div.map {
                (self.plot(&thumbnails))
                @if !classes.is_empty() { (legend(self.page, &classes)) }
            }
        })
    }

    fn plot(&self, thumbnails: &[Markup]) -> Markup {
        let (page, groups) = (self.page, &self.groups);
        let named: Vec<_> =
            groups.iter().filter_map(|(class, points)| Some(((*class)?, middle(points)))).collect();
        html! {
            svg viewBox=(format!("0 0 {} {}", SIZE.0, SIZE.1)) role="img"
                aria-labelledby="map-title map-desc" {
                title id="map-title" { "Map of the test embeddings" }
                desc id="map-desc" {
                    (self.points()) " test images as points, by " (page.layout.name())
                    @if !named.is_empty() { ", colored and marked by class" } "." }
                path.rhumbs d=(rhumbs()) {}
                @for (class, points) in groups {
                    path class=(point_classes(*class))
                        d=(marks(*class, points.iter().map(|p| (p.x, p.y)))) {}
                }
                @if named.len() <= MOST_NAMES {
                    @for ((class, _), (x, y)) in named.iter().zip(apart(&named)) {
                        text.name.{ "k" (class) } x=(format!("{x:.0}")) y=(format!("{y:.0}")) {
                            (page.class(*class))
                        }
                    }
                }
                @for thumbnail in thumbnails { (thumbnail) }
            }
        }
    }
}

/// The finite points, or an evenly spread sample of them.
fn sample(points: &[MapPoint]) -> Vec<&MapPoint> {
    let share = MOST_POINTS as f64 / points.len() as f64;
    let finite = |p: &MapPoint| p.x.is_finite() && p.y.is_finite();
    let kept = |&(i, p): &(usize, &MapPoint)| in_even_sample(i, share) && finite(p);
    points.iter().enumerate().filter(kept).map(|(_, p)| p).collect()
}

/// Scales the points into the plot, both axes alike.
fn place<'a>(points: &[&'a MapPoint]) -> Groups<'a> {
    let range = |value: fn(&MapPoint) -> f32| {
        points
            .iter()
            .map(|p| f64::from(value(p)))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
    };
    let ((left, right), (low, high)) = (range(|p| p.x), range(|p| p.y));
    let room = |size: f64, span: f64| (size - 2.0 * MARGIN) / span.max(1e-9);
    let scale = room(SIZE.0, right - left).min(room(SIZE.1, high - low));
    let mut groups = Groups::new();
    for &point in points {
        let x = SIZE.0 / 2.0 + (f64::from(point.x) - (left + right) / 2.0) * scale;
        let y = SIZE.1 / 2.0 - (f64::from(point.y) - (low + high) / 2.0) * scale;
        groups.entry(point.class).or_default().push(Placed { x, y, point });
    }
    groups
}

/// The style classes of a class's points: `k3` to select them, `c3` for their color.
fn point_classes(class: Option<usize>) -> String {
    class.map_or("point".to_owned(), |class| format!("point k{class} c{}", class % COLORS))
}

/// One path for all points of a class.
fn marks(class: Option<usize>, points: impl Iterator<Item = (f64, f64)>) -> String {
    let mark = MARKS[class.map_or(0, shape)];
    points.fold(String::new(), |mut path, (x, y)| {
        let _ = write!(path, "M{x:.1} {y:.1}{mark}");
        path
    })
}

/// The mark of a class: the next ten classes, whose colors repeat, have other marks.
fn shape(class: usize) -> usize {
    (class + class / COLORS) % MARKS.len()
}

/// The median of the points in both directions.
fn middle(points: &[Placed]) -> (f64, f64) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    (median(points.iter().map(|p| p.x).collect()), median(points.iter().map(|p| p.y).collect()))
}

/// Moves the names down until none covers another.
fn apart(named: &[(usize, (f64, f64))]) -> Vec<(f64, f64)> {
    let mut order: Vec<usize> = (0..named.len()).collect();
    order.sort_by(|&a, &b| named[a].1.1.total_cmp(&named[b].1.1));
    let mut placed: Vec<(f64, f64)> = named.iter().map(|n| n.1).collect();
    for (i, &this) in order.iter().enumerate() {
        for &above in &order[..i] {
            if (placed[this].0 - placed[above].0).abs() < 60.0
                && placed[this].1 < placed[above].1 + 13.0
            {
                placed[this].1 = placed[above].1 + 13.0;
            }
        }
    }
    placed
}

/// The sixteen lines that cross a portolan chart.
fn rhumbs() -> String {
    let (x, y) = (SIZE.0 / 2.0, SIZE.1 / 2.0);
    (0..8).fold(String::new(), |mut path, i| {
        let (sin, cos) = (f64::from(i) * std::f64::consts::PI / 8.0).sin_cos();
        let _ = write!(
            path,
            "M{:.0} {:.0}L{:.0} {:.0}",
            x - 400.0 * cos,
            y - 400.0 * sin,
            x + 400.0 * cos,
            y + 400.0 * sin
        );
        path
    })
}

/// The classes with their marks. Choosing one fades the others, by CSS alone.
fn legend(page: &Page, classes: &[usize]) -> Markup {
    let rules = classes.iter().fold(String::new(), |mut rules, class| {
        let _ = writeln!(
            rules,
            ".map:has(#only-{class}:checked) svg .point:not(.k{class}){{opacity:.06}}"
        );
        let _ = writeln!(
            rules,
            ".map:has(#only-{class}:checked) svg :is(.name,.map_thumbnail):not(.k{class})\
             {{visibility:hidden}}"
        );
        rules
    });
    html! {
        style { (PreEscaped(rules)) }
        fieldset {
            legend { "Show" }
            label { input type="radio" name="only" checked; span { "All classes" } }
            @for class in classes {
                label {
                    input type="radio" name="only" id=(format!("only-{class}"));
                    svg viewBox="-4 -4 8 8" aria-hidden="true" {
                        path class=(format!("c{}", class % COLORS))
                            d=(marks(Some(*class), [(0.0, 0.0)].into_iter())) {}
                    }
                    span { (page.class(*class)) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_axes_are_scaled_alike_and_y_points_up() {
        let at = |x, y| MapPoint { x, y, class: None, image: None };
        let points = [at(0.0, 0.0), at(4.0, 0.0), at(0.0, 1.0)];
        let groups = place(&points.iter().collect::<Vec<_>>());
        let points = &groups[&None];
        assert_eq!(points.len(), 3);
        assert!((points[1].x - points[0].x - 4.0 * (points[0].y - points[2].y)).abs() < 1e-9);
    }

    #[test]
    fn of_many_points_every_class_keeps_its_share() {
        let points: Vec<_> = (0..10_000)
            .map(|i| MapPoint { x: 0.0, y: 0.0, class: Some(i % 10), image: None })
            .collect();
        for class in 0..10 {
            let kept = sample(&points).iter().filter(|p| p.class == Some(class)).count();
            assert!((290..=310).contains(&kept), "class {class}: {kept}");
        }
        assert_eq!(sample(&points[..3000]).len(), 3000);
        assert!(sample(&[MapPoint { x: f32::NAN, y: 0.0, class: None, image: None }]).is_empty());
    }

    #[test]
    fn equal_points_lie_in_the_middle() {
        let point = MapPoint { x: 1.0, y: 1.0, class: None, image: None };
        let groups = place(&[&point, &point]);
        let places: Vec<_> = groups[&None].iter().map(|p| (p.x, p.y)).collect();
        assert_eq!(places, [(SIZE.0 / 2.0, SIZE.1 / 2.0); 2]);
    }

    #[test]
    fn fifty_classes_differ_in_color_or_mark() {
        let styles: BTreeSet<_> = (0..50).map(|class| (class % COLORS, shape(class))).collect();
        assert_eq!(styles.len(), 50);
    }

    #[test]
    fn names_do_not_cover_one_another() {
        let placed = apart(&[(0, (10.0, 10.0)), (1, (12.0, 9.0)), (2, (11.0, 10.5))]);
        let mut ys: Vec<_> = placed.iter().map(|p| p.1).collect();
        ys.sort_by(f64::total_cmp);
        assert!(ys[1] - ys[0] >= 13.0 && ys[2] - ys[1] >= 13.0, "{placed:?}");
    }
}
