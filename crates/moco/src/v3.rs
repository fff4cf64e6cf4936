//! MoCo v3: Chen, Xie, He 2021, *An Empirical Study of Training Self-Supervised Vision
//! Transformers*, arXiv 2104.02057. It has no queue: the other keys of the batch are the negatives.
//! As in BYOL, a predictor follows the head.

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, HeadNorm, ProjectionHead};
use portolan_losses::moco_v3;
use portolan_method::{
    Batch, EmaUpdater, EncoderWithHead, ImageMethod, Method, Result, StepContext, StepLoss,
    ensure_setting, validate_views,
};
use portolan_optim::{ParamGroup, schedule::momentum_cosine};
use portolan_tensor::{Device, Tensor, Vars, no_grad, prefixed};
use serde::{Deserialize, Serialize};

/// The settings of MoCo v3. The defaults are the paper's for vision transformers, which should have
/// fixed positions ([`portolan_encoders::Positions::SineCosine`]) and a frozen patch projection
/// (sections 5 and 4.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MocoV3Config {
    /// Layers of the projection head: 3 (section 5), 2 for a ResNet (authors' code).
    pub layers: usize,
    /// Width of the hidden layers of head and predictor: 4,096 (section 5).
    pub hidden: i64,
    /// Dimensions of a query or key: 256 (section 5).
    pub dim: i64,
    /// Batch norms of the two-layer predictor: after every layer with a ViT (section 5), after the
    /// hidden one with a ResNet (authors' code).
    pub predictor_norm: HeadNorm,
    /// Whether the last layers of head and predictor have a bias where no batch norm follows: no in
    /// the authors' code (`moco/builder.py`, `_build_mlp`). Runs without this setting used one.
    #[serde(default = "yes")]
    pub last_bias: bool,
    /// τ: 0.2 for a ViT (section 5), 1 for a ResNet (appendix A).
    pub temperature: f64,
    /// m, the momentum of the key network at the first update: 0.99 (section 6.2). It rises to 1
    /// along a cosine (`--moco-m-cos`).
    pub momentum: f64,
}

fn yes() -> bool {
    true
}

impl Default for MocoV3Config {
    fn default() -> Self {
        MocoV3Config {
            layers: 3,
            hidden: 4096,
            dim: 256,
            predictor_norm: HeadNorm::All,
            last_bias: false,
            temperature: 0.2,
            momentum: 0.99,
        }
    }
}

impl MocoV3Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// When a setting is out of range; the message names it and its range.
    pub fn validate(&self) -> Result<()> {
        ensure_setting((1..=8).contains(&self.layers), || {
            format!("layers is {}; a head has from 1 to 8 (3 in the paper)", self.layers)
        })?;
        ensure_setting(self.hidden >= 1 && self.dim >= 1, || {
            "hidden and dim must be at least 1".to_owned()
        })?;
        ensure_setting(self.temperature > 0.0 && self.temperature.is_finite(), || {
            format!("temperature is {}; it must be above 0 (0.2 for a ViT)", self.temperature)
        })?;
        ensure_setting((0.0..=1.0).contains(&self.momentum), || {
            format!("momentum is {}; it must be from 0 to 1 (0.99 in the paper)", self.momentum)
        })?;
        Ok(())
    }
}

/// MoCo v3, ready to train.
#[derive(Debug)]
pub struct MocoV3 {
    config: MocoV3Config,
    views: Vec<ViewSpec>,
    /// The query network f_q without its predictor.
    query: EncoderWithHead,
    predictor: ProjectionHead,
    predictor_vars: Vars,
    /// f_k.
    key: EncoderWithHead,
    ema: EmaUpdater,
}

impl MocoV3 {
    /// Builds query and key network with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When a setting is out of range or contradicts another; the message names it.
    pub fn new(
        config: MocoV3Config,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        validate_views("MoCo v3", &views, 2, encoder)?;
        let widths = |_| ProjectionHead::widths(config.layers, config.hidden, config.dim);
        let network =
            || EncoderWithHead::new(encoder, widths, HeadNorm::All, config.last_bias, device);
        let (query, key) = (network()?, network()?);
        let ema = EmaUpdater::new(&query.vars, &key.vars)?;
        let predictor_vars = Vars::new(device);
        let widths = [config.dim, config.hidden, config.dim];
        let splits = encoder.batch_norm_splits();
        let predictor = ProjectionHead::new(
            &predictor_vars,
            &widths,
            config.predictor_norm,
            config.last_bias,
            splits,
        );
        Ok(MocoV3 { config, views, query, predictor, predictor_vars, key, ema })
    }
}

impl Method for MocoV3 {
    fn params(&self) -> Vec<ParamGroup> {
        let mut params = prefixed("query", self.query.vars.parameters());
        params.extend(prefixed("predictor", self.predictor_vars.parameters()));
        vec![ParamGroup::all("query", params)]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = prefixed("query", self.query.vars.state());
        state.extend(prefixed("predictor", self.predictor_vars.state()));
        state.extend(prefixed("key", self.key.vars.state()));
        state
    }

    /// Algorithm 1.
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        let (x_1, x_2) = batch.pair()?;
        let (k_1, k_2) = no_grad(|| (self.key.forward(x_1), self.key.forward(x_2)));
        let query = |x| self.predictor.forward(&self.query.forward(x), true);
        // The negatives are the other images' keys, of all processes.
        let (q_1, q_2) = (cx.all_gather(&query(x_1))?, cx.all_gather(&query(x_2))?);
        let (k_1, k_2) = (cx.all_gather(&k_1)?, cx.all_gather(&k_2)?);
        let temperature = self.config.temperature;
        let loss = moco_v3(&q_1, &k_2, temperature)? + moco_v3(&q_2, &k_1, temperature)?;
        let found = StepLoss::match_top1(&q_1, &k_2);
        Ok(StepLoss { loss, metrics: vec![("contrastive_top1", found)], outputs: Some(k_1) })
    }

    /// θ_k ← m θ_k + (1 − m) θ_q, where m rises from its initial value to 1 over training.
    fn after_update(&mut self, cx: &StepContext) -> Result<()> {
        let first = self.config.momentum;
        let momentum = move |cx: &StepContext| momentum_cosine(cx.step, cx.total_steps, first, 1.0);
        self.ema.update(&cx.scalar_input(momentum))
    }
}

impl ImageMethod for MocoV3 {
    fn views(&self) -> &[ViewSpec] {
        &self.views
    }

    fn encoder(&self) -> &dyn Encoder {
        &*self.query.encoder
    }

    fn project(&self, features: &Tensor) -> Option<Tensor> {
        Some(self.query.project(features))
    }
}
