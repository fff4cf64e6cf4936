//! The page as a browser's parser sees it. The sample stays in the target's `tmp` folder for
//! viewing.
#![allow(clippy::unwrap_used, missing_docs)]

mod sample;

use portolan_metrics::MetricsRow;
use portolan_report::{Change, Page, Report, Signal, Start, html, write_html};
use sample::sample;
use scraper::{Html, Selector};
use std::path::Path;

fn parse(page: &Page) -> (String, Html) {
    let text = html(page).unwrap();
    let document = Html::parse_document(&text);
    (text, document)
}

fn count(document: &Html, selector: &str) -> usize {
    document.select(&Selector::parse(selector).unwrap()).count()
}

#[test]
fn the_page_is_valid_complete_and_small() {
    let sample = sample();
    let path = write_html(&sample.page(), Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let document = Html::parse_document(&text);
    assert!(document.errors.is_empty(), "{:?}", document.errors);
    assert!(text.len() < 1_000_000, "{} bytes", text.len());
    for id in ["result", "health", "training", "views", "neighbors", "map", "run"] {
        assert_eq!(count(&document, &format!("section#{id}, nav a[href='#{id}']")), 2, "{id}");
    }
    assert_eq!(count(&document, ".missing"), 0);
    assert_eq!(
        count(&document, ".chart"),
        5,
        "kNN, loss, learning rate, gradient norm, images per second"
    );
    assert_eq!(count(&document, "img"), 8 * 3 + 5 * 9);
    assert_eq!(
        count(&document, ".map g.map_thumbnail[tabindex='0'] image[href^='data:image/']"),
        118
    );
    for value in [
        "68.8\u{202f}%",
        "70.3\u{202f}%",
        "31.2\u{202f}%",
        "81.2\u{202f}%",
        "Not comparable",
        "data; encoder; epochs",
        "the views of an image are &lt;almost&gt; the same",
    ] {
        assert!(text.contains(value), "{value}");
    }
    assert!(text.contains("<title>MoCo on shapes · resnet18-w16 · 40 epochs</title>"));
    assert!(!text.contains("NaN"));
}

#[test]
fn the_page_loads_nothing_and_runs_nothing() {
    let sample = sample();
    let (text, document) = parse(&sample.page());
    assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("url("));
    assert_eq!(count(&document, "script, link, iframe, object, embed, base, form"), 0);
    assert_eq!(count(&document, "[src]"), count(&document, "img[src^='data:image/']"));
}

#[test]
fn everything_visible_has_a_text_alternative() {
    let sample = sample();
    let (_, document) = parse(&sample.page());
    assert_eq!(count(&document, "img"), count(&document, "img[alt]:not([alt=''])"));
    assert_eq!(
        count(&document, "svg"),
        count(&document, "svg[aria-hidden], svg[role=img]:has(title):has(desc)")
    );
    assert_eq!(
        count(&document, "g.map_thumbnail"),
        count(&document, "g.map_thumbnail[role=img][aria-label]")
    );
    assert_eq!(count(&document, "th"), count(&document, "th[scope]"));
    let ids: Vec<_> = document.tree.nodes().filter_map(|n| n.value().as_element()?.id()).collect();
    let mut distinct = ids.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(ids.len(), distinct.len(), "{ids:?}");
}

#[test]
fn everything_written_by_others_is_escaped() {
    let evil = "</style><script>alert(1)</script>\"'&";
    let mut sample = sample();
    sample.classes[0] = evil.into();
    sample.config = evil.into();
    sample.report.dataset.name = evil.into();
    sample.report.command = evil.into();
    sample.report.notes = vec![evil.into()];
    sample.report.published[0].source = evil.into();
    sample.metrics[0].metrics.insert(evil.into(), 1.0);
    let (text, document) = parse(&sample.page());
    assert!(!text.contains("<script"));
    assert_eq!(count(&document, "script"), 0);
    let code = Selector::parse("details code").unwrap();
    assert_eq!(document.select(&code).next().unwrap().text().collect::<String>(), evil);
}

#[test]
fn a_run_without_labels_says_why_there_is_no_accuracy() {
    let mut sample = sample();
    sample.report.knn = None;
    sample.report.linear_probe = None;
    sample.report.published.clear();
    sample.report.dataset.classes = 0;
    sample.classes.clear();
    sample.metrics.iter_mut().for_each(|row| row.metrics.retain(|name, _| name != "knn_top1"));
    sample.map.iter_mut().for_each(|point| point.class = None);
    for row in &mut sample.neighbors {
        (row.label, row.predicted) = (None, None);
        row.nearest.iter_mut().for_each(|near| near.label = None);
    }
    let (text, document) = parse(&sample.page());
    assert!(text.contains("The images have no labels"));
    assert_eq!(count(&document, "table, fieldset, .ruler"), 0);
    assert_eq!(count(&document, ".map path.point"), 1);
    assert!(document.errors.is_empty(), "{:?}", document.errors);
}

#[test]
fn a_run_that_left_nothing_else_still_has_a_page() {
    let sample = sample();
    let page = Page {
        metrics: &[],
        finding: None,
        views: &[],
        neighbors: &[],
        map: &[],
        classes: &[],
        config_toml: "",
        ..sample.page()
    };
    let (text, document) = parse(&page);
    assert_eq!(count(&document, ".missing"), 4, "curves, views, neighbors, map");
    assert!(text.contains("No problems detected"));
    assert!(document.errors.is_empty(), "{:?}", document.errors);
}

#[test]
fn a_loss_that_is_not_finite_is_reported() {
    let sample = sample();
    let metrics =
        [MetricsRow::new(1, 1.0, &[("loss", 5.0)]), MetricsRow::new(2, 1.0, &[("loss", f64::NAN)])];
    let (text, _) = parse(&Page { metrics: &metrics, ..sample.page() });
    assert!(text.contains("not finite") && !text.contains("NaN"));
}

#[test]
fn a_comparable_result_is_called_so() {
    let mut sample = sample();
    sample.report.published[0].comparable = true;
    sample.report.published[0].metric = "knn_top1".into();
    let (text, _) = parse(&sample.page());
    assert!(
        text.contains("Same data, encoder, epochs and protocol.")
            && !text.contains("Not comparable")
    );
}

#[test]
fn a_run_that_started_from_an_encoder_says_whether_it_helped() {
    let mut sample = sample();
    assert!(!parse(&sample.page()).0.contains("Before and after"));
    let knn = Change { before: 0.75, after: 0.625, interval: [-0.15, -0.1], gained: 10, lost: 260 };
    sample.report.start = Some(Start {
        source: "weights/<mine>.pth".into(),
        file: "start.safetensors".into(),
        knn: Some(knn),
        linear_probe: None,
        signals: vec![Signal { name: "feature_rank".into(), before: 40.25, after: 12.5 }],
        verdict: format!("{}.", knn.sentence("kNN")),
    });
    let (text, document) = parse(&sample.page());
    assert_eq!(count(&document, "section#start, nav a[href='#start']"), 2);
    assert!(document.errors.is_empty(), "{:?}", document.errors);
    for value in ["it hurt", "\u{2212}12.5", "feature rank", "12.500", "weights/&lt;mine&gt;.pth"] {
        assert!(text.contains(value), "{value}");
    }
    let written = serde_json::to_value(&sample.report).unwrap();
    assert_eq!(written["start"]["knn"]["lost"], 260);
    assert_eq!(serde_json::from_value::<Report>(written).unwrap(), sample.report);
}
