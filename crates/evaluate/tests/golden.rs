//! kNN and the linear probe against lightly and scikit-learn.
#![allow(clippy::unwrap_used)]

use portolan_evaluate::{KnnConfig, LinearProbe, knn_predict};
use portolan_tensor::{Kind, Tensor};
use portolan_testing::golden::{self, Case};

/// The tolerance of the probe's accuracy.
const PROBE_TOLERANCE: f64 = 0.015;

fn cases() -> Vec<Case> {
    golden::cases(env!("CARGO_MANIFEST_DIR"), "evaluate.safetensors")
}

fn classes(case: &Case) -> i64 {
    case.settings["classes"].as_i64().unwrap()
}

/// The share of test labels that `predicted` gives rightly.
fn top1(case: &Case, predicted: &Tensor) -> f64 {
    share(predicted, &case.tensors["in.test_labels"])
}

/// Predicted labels from these training labels.
fn knn(case: &Case, bank_labels: &Tensor) -> Tensor {
    let config = KnnConfig {
        k: case.settings["k"].as_u64().unwrap() as usize,
        temperature: case.setting("temperature").unwrap(),
    };
    let (bank, test) = (&case.tensors["in.bank"], &case.tensors["in.test"]);
    knn_predict(bank, bank_labels, test, classes(case), &config).unwrap()
}

fn probe(case: &Case, bank_labels: &Tensor) -> Tensor {
    let bank = &case.tensors["in.bank"];
    let probe = LinearProbe::fit(bank, bank_labels, classes(case)).unwrap();
    probe.predict(&case.tensors["in.test"]).unwrap()
}

/// The training labels, each class taken for the next one.
fn swapped_labels(case: &Case) -> Tensor {
    (&case.tensors["in.bank_labels"] + 1).remainder(classes(case))
}

fn share(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    a.eq_tensor(b).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
}

#[test]
fn golden_evaluate() {
    for case in cases() {
        let (name, expected) = (&case.name, case.setting("top1").unwrap());
        let labels = &case.tensors["in.bank_labels"];
        match case.kind() {
            "knn" => {
                let predicted = knn(&case, labels);
                let equal = share(&predicted, &case.tensors["out.predicted"]);
                assert_eq!(equal, 1.0, "{name}: predictions");
                assert!((top1(&case, &predicted) - expected).abs() < 1e-6, "{name}: accuracy");
            }
            "linear_probe" => {
                let ours = top1(&case, &probe(&case, labels));
                assert!(
                    (ours - expected).abs() <= PROBE_TOLERANCE,
                    "{name}: {ours}, not {expected}"
                );
            }
            _ => panic!("the golden case `{name}` is not known here"),
        }
    }
}

#[test]
fn golden_evaluate_can_fail() {
    for case in cases() {
        let (name, labels) = (&case.name, swapped_labels(&case));
        if case.kind() == "knn" {
            let equal = share(&knn(&case, &labels), &case.tensors["out.predicted"]);
            assert!(equal < 0.5, "{name}: swapped labels would not be noticed");
        } else {
            let ours = top1(&case, &probe(&case, &labels));
            let expected = case.setting("top1").unwrap();
            assert!((ours - expected).abs() > PROBE_TOLERANCE, "{name}: swapped labels pass");
        }
    }
}
