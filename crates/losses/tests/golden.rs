//! Values and gradients of every loss against those of PyTorch and lightly
//! (interop/golden/README.md).
#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result, bail, ensure};
use portolan_losses::{self as losses, dino, info_nce, mae, vicreg};
use portolan_tensor::Tensor;
use portolan_testing::golden::{Case, Tensors, cases, compare, would_fail};
use serde_json::Value;

/// Differences are relative to the largest absolute value of the expected tensor.
const TOLERANCE: f64 = 1e-5;

fn golden_cases() -> Vec<Case> {
    cases(env!("CARGO_MANIFEST_DIR"), "losses.safetensors")
}

/// Computes everything that the case expects. All inputs require gradients, which shows that those
/// that must receive none receive none.
fn computed(case: &Case) -> Result<Tensors> {
    let inputs: Tensors = case
        .tensors
        .iter()
        .filter_map(|(name, x)| Some((name.strip_prefix("in.")?, x)))
        .map(|(name, x)| (name.to_owned(), x.copy().set_requires_grad(true)))
        .collect();
    let x = |name: &str| inputs.get(name).with_context(|| format!("there is no input {name}"));
    let setting = |name: &str| case.setting(name);

    let mut outputs = Tensors::new();
    let loss = match case.kind() {
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
            losses::dino(student, teacher, center, tau_s, &Tensor::from(tau_t))?
        }
        "koleo" => losses::koleo(x("x")?, setting("eps")?)?,
        "alignment" => losses::alignment(x("x")?, x("y")?, setting("alpha")?)?,
        "uniformity" => losses::uniformity(x("x")?, setting("t")?)?,
        "mae" => {
            let mut target = mae::patchify(x("const_image")?, setting("patch")? as i64)?;
            if case.settings["norm_pix"].as_bool().context("there is no setting norm_pix")? {
                target = mae::normalize_patches(&target)?;
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

#[test]
fn golden_values_and_gradients() {
    for case in golden_cases() {
        let result = computed(&case).and_then(|found| compare(&case.expected(), &found, TOLERANCE));
        result.with_context(|| case.name).unwrap();
    }
}

#[test]
fn golden_test_fails_on_moved_and_on_unknown_values() {
    would_fail(&golden_cases(), TOLERANCE, computed);
    let nobody = Case { name: "hinge_0".into(), settings: Value::Null, tensors: Tensors::new() };
    assert!(computed(&nobody).unwrap_err().to_string().contains("hinge"));
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
