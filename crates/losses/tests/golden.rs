//! Values and gradients of every loss against those that PyTorch and lightly gave. The folder's README
//! is the contract: `PORTOLAN_GOLDEN`, or `../shared/golden` beside the workspace.
#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result, bail, ensure};
use portolan_losses::{self as losses, dino, info_nce, mae, vicreg};
use portolan_tensor::{Kind, Tensor, io};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Differences are relative to the largest absolute value of the expected tensor.
const TOLERANCE: f64 = 1e-5;

/// Tensors by their names within a case: `in.z_a`, `out.loss`, `grad.z_a`.
type Tensors = BTreeMap<String, Tensor>;

struct Case {
    name: String,
    settings: Value,
    tensors: Tensors,
}

impl Case {
    /// What a test must find: everything but the inputs.
    fn expected(&self) -> Tensors {
        let wanted = |(name, _): &(&String, &Tensor)| !name.starts_with("in.");
        self.tensors.iter().filter(wanted).map(|(n, x)| (n.clone(), x.copy())).collect()
    }
}

/// All cases, or none where the folder is absent.
fn cases() -> Vec<Case> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden");
    let folder = std::env::var_os("PORTOLAN_GOLDEN").map_or(PathBuf::from(beside), PathBuf::from);
    if !folder.is_dir() {
        assert!(std::env::var_os("PORTOLAN_GOLDEN").is_none(), "PORTOLAN_GOLDEN names no folder");
        println!("skipped: there are no golden values in {}", folder.display());
        return Vec::new();
    }
    let (tensors, metadata) = io::load(&folder.join("losses.safetensors")).unwrap();
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (name, settings) in metadata {
        let settings = serde_json::from_str(&settings).unwrap();
        cases.insert(name.clone(), Case { name, settings, tensors: Tensors::new() });
    }
    for (full_name, tensor) in tensors {
        let (case, name) = full_name.split_once('.').unwrap();
        let case = cases.get_mut(case).unwrap_or_else(|| panic!("{full_name} has no settings"));
        case.tensors.insert(name.to_owned(), tensor);
    }
    assert!(!cases.is_empty());
    cases.into_values().collect()
}

/// Everything that the case expects, computed here. All inputs collect gradients, so that those which
/// must receive none are seen to receive none.
fn computed(case: &Case) -> Result<Tensors> {
    let inputs: Tensors = case
        .tensors
        .iter()
        .filter_map(|(name, x)| Some((name.strip_prefix("in.")?, x)))
        .map(|(name, x)| (name.to_owned(), x.copy().set_requires_grad(true)))
        .collect();
    let x = |name: &str| inputs.get(name).with_context(|| format!("there is no input {name}"));
    let setting = |name: &str| {
        case.settings[name].as_f64().with_context(|| format!("there is no setting {name}"))
    };

    let mut outputs = Tensors::new();
    // Several cases of one loss are numbered: `nt_xent_0`.
    let kind = match case.name.rsplit_once('_') {
        Some((kind, number)) if number.parse::<u32>().is_ok() => kind,
        _ => &case.name,
    };
    let loss = match kind {
        "nt_xent" => losses::nt_xent(x("z_a")?, x("z_b")?, setting("temperature")?)?,
        "info_nce_queue" => {
            let (q, k, queue) = (x("q")?, x("const_k")?, x("const_queue")?);
            losses::info_nce_queue(q, k, queue, setting("temperature")?)?
        }
        "moco_v3" => losses::moco_v3(x("q")?, x("const_k")?, setting("temperature")?)?,
        "negative_cosine" => losses::negative_cosine(x("p")?, x("const_z")?)?,
        "byol" => losses::byol(x("p")?, x("const_z")?)?,
        "barlow_twins" => losses::barlow_twins(x("z_a")?, x("z_b")?, setting("lambda")?)?,
        "vicreg" => {
            let weights = vicreg::Weights {
                invariance: setting("invariance")?,
                variance: setting("variance")?,
                covariance: setting("covariance")?,
                eps: setting("eps")?,
            };
            losses::vicreg(x("z_a")?, x("z_b")?, &weights)?.total
        }
        "dino" => {
            let (student, teacher, center) =
                (x("student")?, x("const_teacher")?, x("const_center")?);
            let mut moved = center.detach().copy();
            dino::update_center(&mut moved, teacher, setting("center_momentum")?)?;
            outputs.insert("out.center".to_owned(), moved);
            let (tau_s, tau_t) = (setting("student_temperature")?, setting("teacher_temperature")?);
            losses::dino(student, teacher, center, tau_s, tau_t)?
        }
        "koleo" => losses::koleo(x("x")?, setting("eps")?)?,
        "alignment" => losses::alignment(x("x")?, x("y")?, setting("alpha")?)?,
        "uniformity" => losses::uniformity(x("x")?, setting("t")?)?,
        "mae" => {
            let mut target = mae::patchify(x("const_image")?, setting("patch")? as i64)?;
            if case.settings["norm_pix"].as_bool().context("there is no setting norm_pix")? {
                target = mae::normalise_patches(&target)?;
            }
            outputs.insert("out.target".to_owned(), target.detach());
            losses::mae(x("pred")?, &target, x("const_mask")?)?
        }
        unknown => bail!("no test knows the case {unknown}"),
    };

    loss.backward();
    outputs.insert("out.loss".to_owned(), loss.detach().reshape([1]));
    for (name, input) in &inputs {
        let gradient = input.grad();
        if name.starts_with("const_") {
            ensure!(!gradient.defined(), "a gradient flowed into {name}");
        } else {
            outputs.insert(format!("grad.{name}"), gradient);
        }
    }
    Ok(outputs)
}

/// Refuses outputs that are not those expected, to the tolerance.
fn compare(expected: &Tensors, computed: &Tensors) -> Result<()> {
    ensure!(
        expected.keys().eq(computed.keys()),
        "expected are {:?}, computed {:?}",
        expected.keys(),
        computed.keys()
    );
    for (name, expected) in expected {
        let computed = &computed[name];
        let (wanted, found) = (expected.size(), computed.size());
        ensure!(wanted == found, "{name} has the shape {found:?} instead of {wanted:?}");
        let largest = |x: &Tensor| x.abs().max().to_kind(Kind::Double).double_value(&[]);
        let difference = largest(&(computed - expected)) / largest(expected);
        ensure!(difference <= TOLERANCE, "{name} is off by {difference:e} of its largest value");
    }
    Ok(())
}

#[test]
fn golden_values_and_gradients() {
    for case in cases() {
        let result = computed(&case).and_then(|found| compare(&case.expected(), &found));
        result.with_context(|| case.name).unwrap();
    }
}

#[test]
fn golden_test_fails_when_any_expected_tensor_moves() {
    for case in cases() {
        let found = computed(&case).unwrap();
        for name in found.keys() {
            let mut expected = case.expected();
            let tensor = &expected[name];
            let moved = tensor + tensor.abs().max() * (3.0 * TOLERANCE);
            expected.insert(name.clone(), moved);
            assert!(compare(&expected, &found).is_err(), "{} {name} was moved unseen", case.name);
        }
    }
}

#[test]
fn golden_test_fails_on_what_it_does_not_know() {
    let nobody = Case { name: "hinge_0".into(), settings: Value::Null, tensors: Tensors::new() };
    assert!(computed(&nobody).unwrap_err().to_string().contains("hinge"));
    for case in cases() {
        let found = computed(&case).unwrap();
        let mut expected = case.expected();
        expected.insert("out.unread".to_owned(), Tensor::from(0f32));
        assert!(compare(&expected, &found).is_err(), "{}: an output was left unread", case.name);
    }
}

#[test]
fn logits_give_the_loss_and_the_accuracy() {
    let vectors = Tensor::eye(6, portolan_tensor::tch::kind::FLOAT_CPU);
    let (q, queue) = (vectors.narrow(0, 0, 2), vectors.narrow(0, 2, 4));
    let logits = info_nce::logits(&q, &q, &queue, 0.2).unwrap();
    assert_eq!(logits.size(), [2, 5]);
    assert_eq!(Vec::<i64>::try_from(logits.argmax(1, false)).unwrap(), [0, 0]);
    let from_logits = info_nce::cross_entropy(&logits).unwrap();
    assert_eq!(from_logits, losses::info_nce_queue(&q, &q, &queue, 0.2).unwrap());
    let empty = queue.narrow(0, 0, 0);
    assert_eq!(losses::info_nce_queue(&q, &q, &empty, 0.2).unwrap().double_value(&[]), 0.0);
}
