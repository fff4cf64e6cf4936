//! `report.json`: its keys are an interface.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod sample;

use portolan_report::Report;
use sample::report;
use serde_json::{Value, json};

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    report().write(dir.path()).unwrap();
    report().write(dir.path()).unwrap(); // over the older one
    assert_eq!(Report::read(dir.path()).unwrap(), report());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn the_keys_are_the_documented_ones() {
    let value = serde_json::to_value(report()).unwrap();
    assert_eq!(
        keys(&value),
        [
            "batch_size",
            "command",
            "dataset",
            "device",
            "encoder",
            "epochs",
            "finished",
            "images_per_second",
            "knn",
            "linear_probe",
            "method",
            "notes",
            "parameters",
            "precision",
            "published",
            "recipe",
            "seconds",
            "seed",
            "skipped",
            "version",
        ]
    );
    assert_eq!(keys(&value["dataset"]), ["classes", "name", "sha256", "test", "train"]);
    assert_eq!(
        keys(&value["knn"]),
        ["best_over_epochs", "k", "random_init_top1", "temperature", "top1"]
    );
    assert_eq!(keys(&value["linear_probe"]), ["random_init_top1", "top1"]);
    assert_eq!(
        keys(&value["published"][0]),
        ["comparable", "differences", "metric", "setting", "source", "value"]
    );
    assert_eq!(value["knn"]["top1"], json!(0.6875), "accuracies are fractions");
}

#[test]
fn the_documented_example_is_a_report() {
    let example = json!({
        "method": "moco",
        "recipe": "shapes",
        "encoder": "resnet18-w16",
        "epochs": 40,
        "batch_size": 256,
        "seed": 0,
        "dataset": {
            "name": "shapes",
            "sha256": "…",
            "train": 10000,
            "test": 2000,
            "classes": 10,
        },
        "device": "cpu",
        "precision": "fp32",
        "seconds": 512.0,
        "images_per_second": 781.2,
        "knn": {
            "k": 20,
            "temperature": 0.07,
            "top1": 0.81,
            "best_over_epochs": 0.81,
            "random_init_top1": 0.31,
        },
        "linear_probe": {"top1": 0.86, "random_init_top1": 0.40},
        "published": [{
            "source": "…",
            "metric": "knn_top1",
            "value": 0.847,
            "setting": "…",
            "comparable": false,
        }],
    });
    let report: Report = serde_json::from_value(example.clone()).unwrap();
    let written = serde_json::to_value(&report).unwrap();
    for (key, value) in example.as_object().unwrap() {
        assert_eq!(&written[key], value, "{key}");
    }
    assert_eq!(report.measured("knn_top1"), Some(0.81));
    assert_eq!(report.measured("linear_probe_top1"), Some(0.86));
    assert_eq!(report.measured("accuracy of somebody else"), None);
}

#[test]
fn a_missing_report_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let error = Report::read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("report.json"), "{error}");
    let error = report().write(&dir.path().join("nowhere")).unwrap_err().to_string();
    assert!(error.contains("report.json"), "{error}");
}
