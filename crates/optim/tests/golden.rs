//! Every step and schedule against those of PyTorch, lightly and the LARS authors. The folder's README is
//! the contract: `PORTOLAN_GOLDEN`, or `../shared/golden` beside the workspace.
#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result, bail, ensure};
use portolan_optim::{LarsForm, Optimizer, OptimizerConfig, ParamGroup, schedule};
use portolan_tensor::{Kind, Tensor, io};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Differences are relative to the largest absolute value of the expected tensor.
const TOLERANCE: f64 = 1e-6;

/// Tensors by their names within a case: `in.init.weight`, `in.grad0.weight`, `out.step0.weight`.
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

    fn setting(&self, name: &str) -> Result<f64> {
        self.settings[name].as_f64().with_context(|| format!("there is no setting {name}"))
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
    let (tensors, metadata) = io::load(&folder.join("optim.safetensors")).unwrap();
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

fn computed(case: &Case) -> Result<Tensors> {
    let setting = |name| case.setting(name);
    match case.name.as_str() {
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

/// The parameters after each step with the case's gradients. PyTorch's optimisers were given one group,
/// which decays everything; both forms of LARS spare one-dimensional tensors.
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
    let mut optimizer = Optimizer::new(config, groups)?;
    let mut outputs = Tensors::new();
    let has_step =
        |step: &u64| params.iter().all(|(p, _)| case.tensors.contains_key(&grad(*step, p)));
    for step in (0..).take_while(has_step) {
        optimizer.zero_grad();
        for (name, param) in &params {
            give_gradient(param, &case.tensors[&grad(step, name)]);
        }
        optimizer.step(case.setting("lr")?, step)?;
        for (name, param) in &params {
            outputs.insert(format!("out.step{step}.{name}"), param.detach().copy());
        }
    }
    Ok(outputs)
}

fn grad(step: u64, name: &str) -> String {
    format!("in.grad{step}.{name}")
}

/// Leaves `gradient` as the gradient of `param`, whose gradient was zero or absent.
fn give_gradient(param: &Tensor, gradient: &Tensor) {
    (param * gradient).sum(Kind::Float).backward();
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
fn golden_steps_and_schedules() {
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
    let nobody = Case { name: "lamb".into(), settings: Value::Null, tensors: Tensors::new() };
    assert!(computed(&nobody).unwrap_err().to_string().contains("lamb"));
    for case in cases() {
        let found = computed(&case).unwrap();
        let mut expected = case.expected();
        expected.insert("out.unread".to_owned(), Tensor::from(0f32));
        assert!(compare(&expected, &found).is_err(), "{}: an output was left unread", case.name);
    }
}
