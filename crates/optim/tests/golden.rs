//! Every step and schedule against those of PyTorch, lightly and the LARS authors
//! (interop/golden/README.md).
#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result, bail};
use portolan_optim::{LarsForm, Optimizer, OptimizerConfig, ParamGroup, schedule};
use portolan_tensor::{Kind, Tensor};
use portolan_testing::golden::{Case, Tensors, cases, compare, would_fail};
use serde_json::Value;

/// Differences are relative to the largest absolute value of the expected tensor.
const TOLERANCE: f64 = 1e-6;

fn golden_cases() -> Vec<Case> {
    cases(env!("CARGO_MANIFEST_DIR"), "optim.safetensors")
}

/// Computes everything that the case expects.
fn computed(case: &Case) -> Result<Tensors> {
    let setting = |name| case.setting(name);
    match case.kind() {
        "sgd" => {
            let (momentum, weight_decay) = (setting("momentum")?, setting("weight_decay")?);
            steps(case, OptimizerConfig::Sgd { momentum, weight_decay, nesterov: false })
        }
        "adamw" => {
            let betas = [setting("beta1")?, setting("beta2")?];
            let (eps, weight_decay) = (setting("eps")?, setting("weight_decay")?);
            steps(case, OptimizerConfig::Adamw { betas, eps, weight_decay })
        }
        "lars" => steps(case, lars(case, LarsForm::Lightly)?),
        "lars_authors" => steps(case, lars(case, LarsForm::Authors)?),
        "cosine_warmup" => {
            let (total, warmup) = (setting("total_steps")? as u64, setting("warmup_steps")? as u64);
            let (start, base, last) = (setting("start")?, setting("base")?, setting("final")?);
            let value = |i| schedule::cosine_with_warmup(i, total, warmup, start, base, last);
            Ok(values((0..total).map(value)))
        }
        "momentum_cosine" => {
            let total = setting("total_steps")? as u64;
            let (base, last) = (setting("base")?, setting("final")?);
            Ok(values((0..total).map(|i| schedule::momentum_cosine(i, total, base, last))))
        }
        unknown => bail!("no test knows the case {unknown}"),
    }
}

fn lars(case: &Case, form: LarsForm) -> Result<OptimizerConfig> {
    Ok(OptimizerConfig::Lars {
        momentum: case.setting("momentum")?,
        weight_decay: case.setting("weight_decay")?,
        trust_coefficient: case.setting("trust_coefficient")?,
        form,
    })
}

fn values(values: impl Iterator<Item = f64>) -> Tensors {
    let values: Vec<f64> = values.collect();
    Tensors::from([("out.values".to_owned(), Tensor::from_slice(&values))])
}

/// The parameters after each step with the case's gradients. PyTorch's optimizers had one group
/// with weight decay for all; both forms of LARS exempt one-dimensional tensors.
fn steps(case: &Case, config: OptimizerConfig) -> Result<Tensors> {
    let params: Vec<(String, Tensor)> = case
        .tensors
        .iter()
        .filter_map(|(name, x)| Some((name.strip_prefix("in.init.")?, x)))
        .map(|(name, x)| (name.to_owned(), x.copy().set_requires_grad(true)))
        .collect();
    let clones = params.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
    let groups = match config {
        OptimizerConfig::Lars { .. } => ParamGroup::split_decay("model", clones),
        _ => vec![ParamGroup::all("model", clones)],
    };
    let mut optimizer = Optimizer::new(config, case.setting("lr")?, groups)?;
    let mut outputs = Tensors::new();
    let has_step =
        |step: &u64| params.iter().all(|(p, _)| case.tensors.contains_key(&grad(*step, p)));
    for step in (0..).take_while(has_step) {
        optimizer.zero_grad().unwrap();
        for (name, param) in &params {
            give_gradient(param, &case.tensors[&grad(step, name)]);
        }
        optimizer.step(case.setting("lr")?, 0.0)?;
        for (name, param) in &params {
            outputs.insert(format!("out.step{step}.{name}"), param.detach().copy());
        }
    }
    Ok(outputs)
}

fn grad(step: u64, name: &str) -> String {
    format!("in.grad{step}.{name}")
}

/// Makes `gradient` the gradient of `param`, which had none or zeros.
fn give_gradient(param: &Tensor, gradient: &Tensor) {
    (param * gradient).sum(Kind::Float).backward();
}

#[test]
fn golden_steps_and_schedules() {
    for case in golden_cases() {
        let result = computed(&case).and_then(|found| compare(&case.expected(), &found, TOLERANCE));
        result.with_context(|| case.name).unwrap();
    }
}

#[test]
fn golden_test_fails_on_moved_and_on_unknown_values() {
    would_fail(&golden_cases(), TOLERANCE, computed);
    let nobody = Case { name: "lamb".into(), settings: Value::Null, tensors: Tensors::new() };
    assert!(computed(&nobody).unwrap_err().to_string().contains("lamb"));
}
