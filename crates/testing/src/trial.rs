//! Short trials of a method on made-up images.

use portolan_encoders::{EncoderConfig, ResNetConfig, Stem};
use portolan_method::{Batch, CollapseMetrics, ImageMethod, Method, StepContext, collapse_metrics};
use portolan_optim::{Optimizer, OptimizerConfig};
use portolan_tensor::{Device, Kind, Tensor, tch};
use std::collections::BTreeMap;

const CPU: Device = Device::Cpu;

/// A ResNet of 32 features for tiny images, on one thread.
///
/// # Panics
/// Never: its name is one.
pub fn small() -> EncoderConfig {
    tch::set_num_threads(1);
    let resnet = ResNetConfig::named("resnet18-w4").unwrap();
    ResNetConfig { stem: Stem::CifarStrided, ..resnet }.into()
}

/// A step of a run of `total` steps.
pub fn step(step: u64, total: u64) -> StepContext<'static> {
    StepContext::new(step, total, CPU).with_seed(5)
}

/// A batch of `n` images whose views are independent noise.
pub fn noise(method: &dyn ImageMethod, n: i64) -> Batch {
    let size = |view: i64| [n, 3, view, view];
    let views = method.views().iter().map(|view| i64::from(view.size()));
    let views = views.map(|view| Tensor::randn(size(view), (Kind::Float, CPU))).collect();
    Batch { inputs: views, ids: (0..n as usize).collect() }
}

/// The result of a trial.
#[derive(Debug)]
pub struct TrialResult {
    /// The last loss.
    pub loss: f64,
    /// The first loss.
    pub first_loss: f64,
    /// Metrics of the last step by name.
    pub metrics: BTreeMap<&'static str, f64>,
    /// Metrics of collapse in the last step's outputs, where the method has outputs.
    pub collapse: Option<CollapseMetrics>,
}

/// The settings of a trial: training on 64 images of smooth color fields, whose views are the
/// resized image plus noise.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Steps, one epoch as schedules see it.
    pub steps: u64,
    /// The learning rate of all of them.
    pub lr: f64,
    /// Deviation of the noise; the fields' own is one.
    pub noise: f64,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
}

impl Trial {
    /// With SGD and some noise.
    pub fn new(steps: u64, lr: f64) -> Self {
        let optimizer = OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: false };
        Trial { steps, lr, noise: 0.3, optimizer }
    }

    /// Trains the method.
    ///
    /// # Panics
    /// When the method fails.
    pub fn run(&self, method: &mut dyn ImageMethod) -> TrialResult {
        train(self, method)
    }
}

fn train(trial: &Trial, method: &mut dyn ImageMethod) -> TrialResult {
    let &Trial { steps, lr, noise, .. } = trial;
    let mut optimizer = Optimizer::new(trial.optimizer.clone(), lr, method.params()).unwrap();
    let fields = Tensor::randn([64, 3, 4, 4], (Kind::Float, CPU));
    let mut result =
        TrialResult { loss: 0.0, first_loss: 0.0, metrics: BTreeMap::new(), collapse: None };
    for n in 0..steps {
        let view = |size: u32| {
            let size = i64::from(size);
            let image = fields.upsample_bilinear2d([size, size], false, None, None);
            &image + noise * image.randn_like()
        };
        let views = method.views().iter().map(|spec| view(spec.size())).collect();
        let batch = Batch { inputs: views, ids: (0..64).collect() };
        let cx = step(n, steps);
        let out = method.loss(&batch, &cx).unwrap();
        optimizer.zero_grad().unwrap();
        out.loss.backward();
        method.before_update(&cx).unwrap();
        // Past the epochs in which a group may be frozen.
        optimizer.step(lr, 1.0).unwrap();
        method.after_update(&cx).unwrap();
        let loss = out.loss.double_value(&[]);
        if n == 0 {
            result.first_loss = loss;
        }
        if n + 1 == steps {
            result.loss = loss;
            result.metrics =
                out.metrics.iter().map(|(name, x)| (*name, x.double_value(&[]))).collect();
            result.collapse = out.outputs.as_ref().map(|x| collapse_metrics(x).unwrap());
        }
    }
    result
}

/// The state of a method, copied.
pub fn state(method: &dyn Method) -> BTreeMap<String, Tensor> {
    method.state().into_iter().map(|(name, x)| (name, x.detach().copy())).collect()
}
