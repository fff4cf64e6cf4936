//! DINOv2's losses, targets and center against those of its authors' code
//! (interop/golden/README.md).
#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result, bail, ensure};
use portolan_losses::{self as losses, dino, dinov2, ibot};
use portolan_tensor::{Kind, Tensor};
use portolan_testing::golden::{Case, Tensors, cases, compare, would_fail};
use serde_json::Value;

fn golden_cases() -> Vec<Case> {
    cases(env!("CARGO_MANIFEST_DIR"), "dinov2.safetensors")
}

/// Relative to the largest absolute value of the expected tensor. `koleo_close` was computed in
/// float64 from features that differ in the last digits of float32.
fn tolerance(case: &Case) -> f64 {
    if case.kind() == "koleo_close" { 1e-2 } else { 1e-5 }
}

/// Computes everything that the case expects. All inputs of floats require gradients, which shows
/// that those that must receive none receive none.
fn computed(case: &Case) -> Result<Tensors> {
    let input = |(name, x): (&String, &Tensor)| {
        let x = if x.is_floating_point() { x.copy().set_requires_grad(true) } else { x.copy() };
        Some((name.strip_prefix("in.")?.to_owned(), x))
    };
    let inputs: Tensors = case.tensors.iter().filter_map(input).collect();
    let x = |name: &str| inputs.get(name).with_context(|| format!("there is no input {name}"));
    let temperature = || case.setting("teacher_temperature").map(Tensor::from);

    let mut outputs = Tensors::new();
    let loss = match case.kind() {
        "sinkhorn_knopp" => {
            let teacher = x("teacher")?;
            let ones = Tensor::ones([teacher.size()[0]], (teacher.kind(), teacher.device()));
            let iterations = case.setting("iterations")? as u32;
            let targets = losses::sinkhorn_knopp(teacher, &ones, &temperature()?, iterations)?;
            outputs.insert("out.targets".to_owned(), targets);
            None
        }
        "ibot_center" => {
            let (teacher, center) = (x("teacher")?, x("center")?);
            let targets = dino::targets(teacher, center, &temperature()?)?;
            outputs.insert("out.targets".to_owned(), targets);
            let mut moved = center.detach().copy();
            let momentum = case.setting("center_momentum")?;
            dino::update_center(&mut moved, &teacher.unsqueeze(0), momentum)?;
            outputs.insert("out.center".to_owned(), moved);
            None
        }
        "dinov2_class_token" => {
            let global = x("student_global")?;
            let targets = x("const_targets")?.view_as(global);
            let tau = case.setting("student_temperature")?;
            let loss = dinov2::class_token(global, x("student_local")?, &targets, tau)?;
            outputs.insert("out.global".to_owned(), loss.global.detach().reshape([1]));
            outputs.insert("out.local".to_owned(), loss.local.detach().reshape([1]));
            Some(loss.total)
        }
        "ibot" => {
            let mask = x("const_mask")?;
            let weights = ibot::patch_weights(mask)?.masked_select(&mask.to_kind(Kind::Bool));
            let tau = case.setting("student_temperature")?;
            Some(losses::ibot(x("student")?, x("const_targets")?, &weights, tau)?)
        }
        "koleo_close" => Some(losses::koleo(x("x")?, case.setting("eps")?)?),
        unknown => bail!("no test knows the case {unknown}"),
    };
    let Some(loss) = loss else {
        ensure!(outputs.values().all(|x| !x.requires_grad()), "targets carry no gradient");
        return Ok(outputs);
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
fn golden_values_and_gradients_of_dinov2() {
    for case in golden_cases() {
        let found = computed(&case);
        let result = found.and_then(|found| compare(&case.expected(), &found, tolerance(&case)));
        result.with_context(|| case.name).unwrap();
    }
}

#[test]
fn golden_test_of_dinov2_fails_on_moved_and_on_unknown_values() {
    for case in golden_cases() {
        let tolerance = tolerance(&case);
        would_fail(&[case], tolerance, computed);
    }
    let nobody = Case { name: "hinge_0".into(), settings: Value::Null, tensors: Tensors::new() };
    assert!(computed(&nobody).unwrap_err().to_string().contains("hinge"));
}
