//! `evaluate` and `factors` on a tiny run.
#![allow(clippy::unwrap_used)]

#[path = "common/program.rs"]
mod common;

use common::{portolan, succeeded};

#[test]
fn a_run_is_evaluated_with_every_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let tiny = "--limit 120 --limit-test 100 --epochs 1 --batch-size 20 --encoder resnet18-w4 \
                --set k=5 --device cpu --threads 1";
    succeeded(&portolan(here, &format!("reproduce simclr {tiny} --out run")));

    let protocols = "knn,linear,linear-sgd,low-shot,finetune --linear-epochs 2 --finetune-epochs 1";
    let printed =
        succeeded(&portolan(here, &format!("evaluate run --device cpu --protocol {protocols}")));
    let lines = [
        "kNN, k = 5",
        "kNN, k = 100",
        "L-BFGS",
        "with crops and flips",
        "1 % of the labels (10 images)",
        "top-5",
        "fine-tuned, 1 epoch ",
        "from scratch",
        "the linear probe",
    ];
    for line in lines {
        assert!(printed.contains(line), "`{line}` is not in {printed}");
    }
    let json = std::fs::read_to_string(here.join("run/evaluation.json")).unwrap();
    let results: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let knn = &results[0];
    let confusion = knn["scores"]["confusion"].as_array().unwrap();
    let images: u64 =
        confusion.iter().flat_map(|row| row.as_array().unwrap()).map(|n| n.as_u64().unwrap()).sum();
    assert_eq!((confusion.len(), images), (10, 100));
    let interval = &knn["scores"]["interval"];
    let top1 = knn["top1"].as_f64().unwrap();
    assert!(interval[0].as_f64().unwrap() <= top1 && top1 <= interval[1].as_f64().unwrap());

    let printed = succeeded(&portolan(here, "factors run --out table.html --device cpu"));
    assert!(
        printed.contains("hue within the kind") && printed.contains("disentanglement"),
        "{printed}"
    );
    let tables = std::fs::read_to_string(here.join("table.json")).unwrap();
    let tables: serde_json::Value = serde_json::from_str(&tables).unwrap();
    assert!(tables[0]["head"]["rows"][0]["read"].as_f64().is_some(), "SimCLR has a head");
    assert!(std::fs::read_to_string(here.join("table.html")).unwrap().contains("run, encoder"));
}
