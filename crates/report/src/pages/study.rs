//! What a study found: as text, as a page, and as Markdown with plots.

use image::GrayImage;
use maud::{Markup, html};
use portolan_study::{Findings, PointFindings, RuleFindings, Study, Verdict};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::charts::WIDE;
use crate::charts::matrices::{self, Row};
use crate::charts::overlay::legend;
use crate::charts::plane::{OnPlane, PlaneChart};
use crate::charts::points::{Extent, PointChart};
use crate::document::{compass, document};
use crate::error::Result;
use crate::file::write_whole;
use crate::format::{duration, number, points};

/// What a reader must know to judge a study, beside its findings.
#[derive(Clone, Debug)]
pub struct StudyPage<'a> {
    /// The study.
    pub study: &'a Study,
    /// What it found.
    pub findings: &'a Findings,
    /// The correlation matrices that it shows, by the names of their points, with the number of
    /// steps.
    pub correlations: &'a [(String, Vec<(u64, GrayImage)>)],
    /// The command line.
    pub command: String,
    /// The machine (`2 × AMD EPYC`).
    pub machine: String,
    /// The seconds that the trainings of all its runs took together.
    pub seconds: f64,
    /// When it ended, as [`now`](crate::now) gives it.
    pub finished: String,
}

/// The verdict and the rules as lines of text.
pub fn findings_text(study: &Study, findings: &Findings) -> String {
    let mut text = format!("{}: {}\n", findings.name, findings.verdict);
    for rule in &findings.rules {
        let _ = writeln!(text, "  {}", sentence(study, rule));
    }
    if let Some(diverged) = diverged(findings) {
        let _ = writeln!(text, "  {diverged}");
    }
    text
}

/// Names the runs that diverged.
pub(super) fn diverged(findings: &Findings) -> Option<String> {
    let names = findings.diverged.join("; ");
    (!names.is_empty()).then(|| format!("Diverged, with accuracies counted as 0: {names}."))
}

/// A rule and what it found, as a sentence.
pub(super) fn sentence(study: &Study, rule: &RuleFindings) -> String {
    let share = study.is_share(&rule.metric);
    let show = |value: f64| if share { points(value) } else { number(value, value.abs() / 100.0) };
    let unit = if share { " points" } else { "" };
    let asked =
        if rule.by == 0.0 { String::new() } else { format!("; at least {} asked", show(rule.by)) };
    let range = if rule.differences.len() > 1 {
        format!("{} to {} over seeds", show(rule.low), show(rule.high))
    } else {
        "one seed".to_owned()
    };
    format!(
        "{}: {} {}{unit} ({range}{asked}): {}.",
        rule.claim,
        study.title(&rule.metric),
        show(rule.mean),
        rule.verdict
    )
}

/// Writes the page of a study to `path`, and returns the path.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_study(page: &StudyPage, path: &Path) -> Result<PathBuf> {
    write_whole(path, html_of(page)?.as_bytes())
}

fn html_of(page: &StudyPage) -> Result<String> {
    let StudyPage { study, findings, .. } = page;
    let names: Vec<&str> = findings.series.iter().map(|series| &*series.name).collect();
    let differs = if findings.verdict == Verdict::Holds { "" } else { " differs" };
    let correlations = matrices::figure(&rows(page))?;
    let body = html! {
        header {
            p.brand { (compass()) "Portolan" }
            h1 { (study.title) }
            p.lead { (study.claim) }
        }
        main {
            section {
                h2 { "Verdict" }
                p class={ "verdict" (differs) } { "The claim " b { (findings.verdict) } }
                p { "Source: " (study.source) ". Measured there: " (study.published) "." }
                p { "Measured here, with " (seeds(findings)) ":" }
                ul { @for rule in &findings.rules { li { (sentence(study, rule)) } } }
                @if let Some(diverged) = diverged(findings) { p.warning { (diverged) } }
                @if !study.remark.is_empty() { p { (study.remark) } }
                p.footnote {
                    "A part of the claim holds if it does with every seed, and holds weakly if it \
                     does with their mean. The rules are part of the study’s file, below."
                }
            }
            section {
                h2 { "Measurements" }
                @if names.len() > 1 { (legend(&names)) }
                div.charts {
                    @for chart in charts(study, findings) { (chart.render().unwrap_or_default()) }
                    (plane(study, findings).and_then(|it| it.render()).unwrap_or_default())
                    (correlations.unwrap_or_default())
                }
                p.footnote {
                    "Dots are means over seeds, bars reach from the lowest to the highest."
                }
                (table(study, findings))
            }
            section {
                h2 { "What was run" }
                dl.facts { @for (name, value) in facts(page) {
                    div { dt { (name) } dd { (value) } }
                } }
                details { summary { "The study" } pre { code { (study.text) } } }
            }
        }
    };
    Ok(document(&study.title, &body, env!("CARGO_PKG_VERSION")))
}

/// The correlation matrices of the study, named by what the points differ in.
fn rows<'a>(page: &'a StudyPage) -> Vec<Row<'a>> {
    let name = |point: &str| format!("{} = {point}", page.study.by);
    let row = |(point, pictures): &'a (String, Vec<_>)| Row { name: name(point), pictures };
    page.correlations.iter().map(row).collect()
}

fn facts(page: &StudyPage) -> [(&'static str, String); 4] {
    [
        ("Command", page.command.clone()),
        ("Machine", page.machine.clone()),
        ("Training, all runs", duration(page.seconds)),
        ("Finished", page.finished.replace('T', " ").replace('Z', " UTC")),
    ]
}

/// `seed 0`, or `seeds 0, 1`.
pub(super) fn seeds(findings: &Findings) -> String {
    let all: Vec<String> = findings.seeds.iter().map(u64::to_string).collect();
    format!("seed{} {}", if all.len() == 1 { "" } else { "s" }, all.join(", "))
}

/// One chart for each metric.
fn charts<'a>(study: &'a Study, findings: &'a Findings) -> Vec<PointChart<'a>> {
    let mut names: Vec<&str> = Vec::new();
    for point in findings.series.iter().flat_map(|series| &series.points) {
        if !names.contains(&&*point.name) {
            names.push(&point.name);
        }
    }
    // Points that are numbers stand in their order.
    let value = |name: &str| name.replace(',', "").parse::<f64>();
    if names.iter().all(|name| value(name).is_ok()) {
        names.sort_by(|a, b| value(a).unwrap_or(0.0).total_cmp(&value(b).unwrap_or(0.0)));
    }
    let chart = |metric: &'a String| PointChart {
        title: study.title(metric),
        by: &study.by,
        points: names.clone(),
        series: findings
            .series
            .iter()
            .map(|series| {
                let at = |name: &&str| series.points.iter().find(|point| point.name == **name);
                let extents = names.iter().map(|name| extent(at(name)?, metric)).collect();
                (&*series.name, extents)
            })
            .collect(),
        percent: study.is_share(metric),
        size: WIDE,
    };
    study.metrics.iter().map(chart).collect()
}

/// The lowest, mean and highest value of a metric over the seeds.
fn extent(point: &PointFindings, metric: &str) -> Option<Extent> {
    let values: Vec<f64> = point.values.get(metric)?.iter().copied().flatten().collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (!values.is_empty()).then_some((low, mean, high))
}

/// Means with their extremes, as text.
pub(super) fn cell(study: &Study, point: &PointFindings, metric: &str) -> String {
    let Some((low, mean, high)) = extent(point, metric) else { return "–".to_owned() };
    let (share, unit) = if study.is_share(metric) { (100.0, "\u{202f}%") } else { (1.0, "") };
    let show =
        |value: f64| number(share * value, if share > 1.0 { 0.1 } else { value.abs() / 100.0 });
    if low == high {
        return format!("{}{unit}", show(mean));
    }
    format!("{}{unit} ({} to {})", show(mean), show(low), show(high))
}

fn table(study: &Study, findings: &Findings) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="All measurements" { table {
            thead { tr {
                th scope="col" {} th scope="col" { (study.by) }
                @for metric in &study.metrics { th scope="col" { (study.title(metric)) } }
            } }
            tbody { @for series in &findings.series { @for point in &series.points { tr {
                th scope="row" { (series.name) }
                td { (point.name) }
                @for metric in &study.metrics { td { (cell(study, point, metric)) } }
            } } } }
        } }
    }
}

/// All runs on the plane of the study, if it has one.
fn plane<'a>(study: &'a Study, findings: &'a Findings) -> Option<PlaneChart<'a>> {
    let [x, y] = study.plane.as_ref()?;
    let shaded = study.metrics.first()?;
    let mut runs = Vec::new();
    for point in findings.series.iter().flat_map(|series| &series.points) {
        for seed in 0..findings.seeds.len() {
            let value = |metric: &str| point.values.get(metric)?.get(seed).copied().flatten();
            let at = [x, y, shaded].map(|metric| value(metric).unwrap_or(f64::NAN));
            runs.push(OnPlane { name: &point.name, at, labeled: seed == 0 });
        }
    }
    let titles = [x, y, shaded].map(|metric| study.title(metric));
    Some(PlaneChart { titles, runs, percent: study.is_share(shaded), size: WIDE })
}

/// A plot of a study as a file of its own: an SVG that follows the reader's dark mode.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Its name among those of the study: a metric, `plane` or `correlation`.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// The file.
    pub svg: String,
}

/// The plots of a study: all runs on a plane and correlation matrices, if it shows any, and one for
/// each metric.
///
/// # Errors
/// When a picture cannot be encoded.
pub fn plots(page: &StudyPage) -> Result<Vec<Plot>> {
    let StudyPage { study, findings, .. } = page;
    let plane = plane(study, findings).and_then(|it| it.standalone());
    let plane = ("plane".to_owned(), "all runs on a plane".to_owned(), plane);
    let matrices = matrices::standalone(&rows(page))?;
    let matrices =
        ("correlation".to_owned(), "correlation matrices during training".to_owned(), matrices);
    let of_metric = |(metric, chart): (&String, PointChart)| {
        (metric.clone(), format!("{} by {}", chart.title, chart.by), chart.standalone())
    };
    let of_metrics = study.metrics.iter().zip(charts(study, findings)).map(of_metric);
    let all = [plane, matrices].into_iter().chain(of_metrics);
    Ok(all.filter_map(|(name, title, svg)| Some(Plot { name, title, svg: svg? })).collect())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) const TEXT: &str = r#"
title = "Momentum"
claim = "Slow is better & steadier."
source = "A paper, table 2"
published = "59 % at 0.999"
minutes = 1
seeds = [0, 1]
by = "momentum"
metrics = ["knn", "uniformity"]
series = [{ name = "MoCo", method = "moco", recipe = "shapes" }]
point = [{ name = "0.9" }, { name = "0.99" }]
[[rule]]
claim = "0.99 is above 0.9"
metric = "knn"
above = ["0.99"]
below = ["0.9"]
by = 0.01
"#;

    pub(crate) fn found(study: &Study) -> Findings {
        let value = |run: &portolan_study::Run, metric: &str| match metric {
            "knn" => Some(0.5 + 0.1 * run.point as f64 * (1 + run.seed) as f64),
            _ => Some(-1.5),
        };
        let diverged = vec!["MoCo, 0.9, seed 1".to_owned()];
        Findings { diverged, ..portolan_study::judge(study, value).unwrap() }
    }

    pub(crate) fn page<'a>(study: &'a Study, findings: &'a Findings) -> StudyPage<'a> {
        StudyPage {
            study,
            findings,
            correlations: &[],
            command: "portolan study momentum".to_owned(),
            machine: "2 cores of a machine".to_owned(),
            seconds: 75.0,
            finished: "2026-11-30T16:00:00Z".to_owned(),
        }
    }

    #[test]
    fn text_and_page_say_what_was_found() {
        let study = Study::parse("momentum", TEXT).unwrap();
        let findings = found(&study);
        let rule = "0.99 is above 0.9: kNN +15.0 points (+10.0 to +20.0 over seeds; at least +1.0 \
                    asked): holds.";
        let diverged = "counted as 0: MoCo, 0.9, seed 1.";
        let text = findings_text(&study, &findings);
        assert!(text.starts_with("momentum: holds\n") && text.contains(rule), "{text}");
        assert!(text.contains(diverged), "{text}");
        let page = page(&study, &findings);
        let html = html_of(&page).unwrap();
        for part in [rule, diverged, "better &amp; steadier", "with seeds 0, 1", "1 min 15 s"] {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert_eq!(html.matches("<figure").count(), 2);
    }

    #[test]
    fn a_plot_is_a_small_file_of_its_own() {
        let study = Study::parse("momentum", TEXT).unwrap();
        let findings = found(&study);
        let all = plots(&page(&study, &findings)).unwrap();
        let names: Vec<&str> = all.iter().map(|plot| &*plot.name).collect();
        assert_eq!(names, ["knn", "uniformity"]);
        let svg = &all[0].svg;
        assert!(svg.starts_with("<svg xmlns=") && svg.len() < 20_000, "{}", svg.len());
        let plane = TEXT.replace("[[rule]]", "plane = [\"uniformity\", \"knn\"]\n[[rule]]");
        let study = Study::parse("momentum", &plane).unwrap();
        let findings = found(&study);
        let matrix = GrayImage::from_pixel(2, 2, image::Luma([7]));
        let correlations = [("0.9".to_owned(), vec![(1, matrix.clone()), (20, matrix)])];
        let page = StudyPage { correlations: &correlations, ..page(&study, &findings) };
        let all = plots(&page).unwrap();
        assert_eq!(all[0].svg.matches("<circle").count(), 4, "{}", all[0].svg);
        let matrices = &all[1].svg;
        assert!(matrices.contains("momentum = 0.9") && matrices.contains("step 20"), "{matrices}");
        assert_eq!(html_of(&page).unwrap().matches("<image").count(), 2);
    }
}
