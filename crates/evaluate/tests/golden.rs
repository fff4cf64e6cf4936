//! kNN and the linear probe against lightly and scikit-learn.
#![allow(clippy::unwrap_used)]

use portolan_evaluate::{KnnConfig, LinearProbe, knn_predict};
use portolan_tensor::{Kind, Tensor, io};
use portolan_testing::golden::path;
use serde_json::Value;
use std::collections::BTreeMap;

/// The tolerance of the probe's accuracy.
const PROBE_TOLERANCE: f64 = 0.015;

/// The tensors of one case, and its hyper-parameters.
struct Case {
    name: String,
    tensors: BTreeMap<String, Tensor>,
    meta: Value,
}

impl Case {
    fn tensor(&self, name: &str) -> &Tensor {
        &self.tensors[&format!("{}.{name}", self.name)]
    }

    fn classes(&self) -> i64 {
        self.meta["classes"].as_i64().unwrap()
    }

    /// The accuracy of `predicted`.
    fn top1(&self, predicted: &Tensor) -> f64 {
        share(predicted, self.tensor("in.test_labels"))
    }

    /// Predicted labels from these training labels.
    fn knn(&self, bank_labels: &Tensor) -> Tensor {
        let config = KnnConfig {
            k: self.meta["k"].as_u64().unwrap() as usize,
            temperature: self.meta["temperature"].as_f64().unwrap(),
        };
        let (bank, test) = (self.tensor("in.bank"), self.tensor("in.test"));
        knn_predict(bank, bank_labels, test, self.classes(), &config).unwrap()
    }

    fn probe(&self, bank_labels: &Tensor) -> Tensor {
        let probe = LinearProbe::fit(self.tensor("in.bank"), bank_labels, self.classes()).unwrap();
        probe.predict(self.tensor("in.test")).unwrap()
    }

    /// The training labels, each class replaced by the next.
    fn swapped_labels(&self) -> Tensor {
        (self.tensor("in.bank_labels") + 1).remainder(self.classes())
    }
}

fn share(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    a.eq_tensor(b).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
}

fn cases() -> Option<Vec<Case>> {
    let (tensors, metadata) = io::load(&path("evaluate.safetensors")?).unwrap();
    let of = |case: &str| {
        let mine = tensors.iter().filter(|(name, _)| name.split('.').next() == Some(case));
        mine.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    };
    let named = tensors.keys().map(|name| name.split('.').next().unwrap());
    for case in named {
        assert!(metadata.contains_key(case), "the golden case `{case}` has no hyper-parameters");
    }
    let case = |(name, json): (&String, &String)| Case {
        name: name.clone(),
        tensors: of(name),
        meta: serde_json::from_str(json).unwrap(),
    };
    Some(metadata.iter().map(case).collect())
}

#[test]
fn golden_evaluate() {
    for case in cases().unwrap_or_default() {
        let (name, top1) = (&case.name, case.meta["top1"].as_f64().unwrap());
        let labels = case.tensor("in.bank_labels");
        if name.starts_with("knn") {
            let predicted = case.knn(labels);
            assert_eq!(share(&predicted, case.tensor("out.predicted")), 1.0, "{name}: predictions");
            assert!((case.top1(&predicted) - top1).abs() < 1e-6, "{name}: accuracy");
        } else if name.starts_with("linear_probe") {
            let ours = case.top1(&case.probe(labels));
            assert!((ours - top1).abs() <= PROBE_TOLERANCE, "{name}: {ours}, expected {top1}");
        } else {
            panic!("the golden case `{name}` is not known here");
        }
    }
}

#[test]
fn golden_evaluate_can_fail() {
    for case in cases().unwrap_or_default() {
        let (name, labels) = (&case.name, case.swapped_labels());
        if name.starts_with("knn") {
            let predicted = case.knn(&labels);
            let equal = share(&predicted, case.tensor("out.predicted"));
            assert!(equal < 0.5, "{name}: swapped labels would not be noticed");
        } else {
            let ours = case.top1(&case.probe(&labels));
            let top1 = case.meta["top1"].as_f64().unwrap();
            assert!((ours - top1).abs() > PROBE_TOLERANCE, "{name}: swapped labels pass");
        }
    }
}
