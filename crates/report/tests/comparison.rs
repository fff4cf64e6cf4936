//! Several runs in one table.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // the parts of a page are for tests/page.rs
mod sample;

use portolan_report::{Entry, TextEntry, comparison_text, write_comparison};
use scraper::{Html, Selector};

fn entries() -> Vec<Entry> {
    let entry = |title: &str, top1: f64| {
        let mut report = sample::report();
        report.knn.as_mut().unwrap().top1 = top1;
        Entry {
            title: title.to_owned(),
            page: format!("{title}/report.html"),
            report,
            metrics: sample::metrics(),
        }
    };
    let mut unlabeled = entry("MAE", 0.0);
    (unlabeled.report.knn, unlabeled.report.linear_probe) = (None, None);
    vec![entry("SimCLR", 0.8125), entry("<MoCo>", 0.75), unlabeled]
}

fn text() -> TextEntry {
    TextEntry {
        title: "GPT".to_owned(),
        page: "gpt/report.html".to_owned(),
        results: vec![["accuracy", "31 %", "the most common token 4 %"].map(str::to_owned)],
    }
}

#[test]
fn every_run_has_a_line_with_its_figures() {
    let text = comparison_text(&entries());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[1].starts_with("SimCLR") && lines[1].contains("81.2 %"), "{text}");
    assert!(lines[3].contains('–'), "{text}");
}

#[test]
fn the_page_links_to_every_run_and_escapes_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_comparison(&entries(), &[text()], &folder.path().join("page.html")).unwrap();
    let page = Html::parse_document(&std::fs::read_to_string(path).unwrap());
    let links = Selector::parse("tbody th a").unwrap();
    let found: Vec<_> =
        page.select(&links).map(|link| link.value().attr("href").unwrap()).collect();
    assert_eq!(found, ["SimCLR/report.html", "<MoCo>/report.html", "MAE/report.html"]);
    let text = Selector::parse("h2 a[href='gpt/report.html']").unwrap();
    assert_eq!(page.select(&text).count(), 1);
    let cells = Selector::parse("tbody tr:first-child td.n").unwrap();
    let first: String = page.select(&cells).next().unwrap().text().collect();
    assert!(first.starts_with("81.2"), "{first}");
}

#[test]
fn the_curves_of_all_runs_lie_in_one_frame() {
    let folder = tempfile::tempdir().unwrap();
    let write = |entries: &[Entry]| {
        let path = write_comparison(entries, &[], &folder.path().join("page.html")).unwrap();
        Html::parse_document(&std::fs::read_to_string(path).unwrap())
    };
    let count = |page: &Html, what| page.select(&Selector::parse(what).unwrap()).count();
    let mut entries = entries();
    let page = write(&entries);
    assert!(page.errors.is_empty(), "{:?}", page.errors);
    assert_eq!(count(&page, ".legend li"), 3);
    assert_eq!(count(&page, "figure.overlay"), 5, "kNN, loss, rate, gradient norm, speed");
    assert_eq!(count(&page, "figure.overlay path.curve"), 15);

    // Another method has another loss, and other images another accuracy.
    entries[1].report.method = "simclr".to_owned();
    entries[1].report.dataset.sha256 = "another".to_owned();
    let page = write(&entries);
    assert_eq!(count(&page, "figure.overlay"), 4);
    let text: String = page.root_element().text().collect();
    assert!(text.contains("different quantities") && text.contains("cannot be compared"));
}
