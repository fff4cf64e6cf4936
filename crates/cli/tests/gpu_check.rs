//! `gpu-check` at toy size on a CPU: the stages run, and checks that need a GPU are reported as
//! skipped.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

fn gpu_check(out: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["gpu-check", "--out"])
        .arg(out)
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn all_stages_run_at_toy_size_on_a_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("results");
    let output = gpu_check(&out, &["--plan", "toy", "--device", "cpu"]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let results = std::fs::read_to_string(out.join("results.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> =
        results.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let state_of = |stage: &str| {
        let ends = |row: &&serde_json::Value| row["stage"] == stage && row["check"].is_null();
        let end = rows.iter().filter(ends).find(|row| row["state"].is_string()).unwrap();
        end["state"].as_str().unwrap()
    };
    for (stage, state) in [
        ("self-test", "passed"),
        ("bench simclr-shapes", "passed"),
        ("bench simclr-shapes graph", "skipped"),
        ("train simclr", "passed"),
        ("train moco", "passed"),
        ("train byol", "passed"),
    ] {
        assert_eq!(state_of(stage), state, "{stage}: {printed}");
    }
    let check = |name: &str| rows.iter().find(|row| row["check"] == name).unwrap();
    assert_eq!(check("nccl, one process")["state"], "skipped");
    assert_eq!(check("nccl, one process")["detail"], "no GPU");
    assert_eq!(check("gloo, one process")["state"], "passed");
    assert_eq!(check("moco fp32")["state"], "passed");
    let trained = rows.iter().find(|row| row["knn"].is_number()).unwrap();
    assert!(trained["images_per_second"].as_f64().unwrap() > 0.0);
    assert!(trained["lightly_knn"].is_null(), "a toy is set beside nobody");
    let summary = std::fs::read_to_string(out.join("summary.txt")).unwrap();
    assert_eq!(summary.lines().count(), rows.len());
    assert!(summary.contains("skipped   nccl, one process: no GPU"), "{summary}");
}

#[test]
fn a_missing_gpu_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let refused = gpu_check(&folder.path().join("none"), &["--device", "cpu"]);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("--data"),
        "the full plan wants images"
    );
    let out = folder.path().join("results");
    let output = gpu_check(&out, &["--plan", "toy", "--device", "cuda:99"]);
    assert!(!output.status.success());
    let summary = std::fs::read_to_string(out.join("summary.txt")).unwrap();
    assert!(summary.lines().all(|line| line.contains("failed")), "{summary}");
    assert!(!gpu_check(&out, &["--plan", "toy"]).status.success(), "the folder is not empty");
}
