//! Builds the method of a run from its settings.

use anyhow::{Context, Result, bail};
use portolan_method::BoxedMethod;
use portolan_random::{Purpose, stream};
use portolan_tensor::{Device, seed};
use rand::RngExt;

use super::RunConfig;
use crate::methods::find;

/// Builds the method of the run on `device`. The same seed gives the same initial values, so that
/// the untrained encoder can be rebuilt after training.
///
/// # Errors
/// If the settings conflict.
pub(crate) fn build_method(config: &RunConfig, device: Device) -> Result<BoxedMethod> {
    config.validate()?;
    let entry = find(&config.method)?;
    let views = config.each_view();
    for (i, view) in views.iter().enumerate() {
        view.validate().with_context(|| format!("in view {}", i + 1))?;
    }
    let micro = config.training.batch_size / config.training.accumulate.max(1);
    let splits = config.encoder.batch_norm_splits().max(1) as usize;
    if micro / splits < 2 || !micro.is_multiple_of(splits) {
        bail!(
            "a batch of {micro} cannot be split into {splits} groups of two or more images for \
             batch statistics; choose --batch-size {} or --set batch_norm_splits=1",
            (2 * splits).max(micro.next_multiple_of(splits))
        );
    }
    config.encoder.validate_size(i64::from(config.evaluation.size)).context("in the evaluation")?;
    seed(stream(config.seed, Purpose::Libtorch, &[]).random());
    Ok((entry.build)(config.settings.clone(), &config.encoder, views, device)?)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::teacher;
    use portolan::METHODS;
    use portolan_augment::ViewSpec;
    use portolan_encoders::{EncoderConfig, Stem};
    use portolan_method::{Batch, Family, ImageMethod, StepContext, StepInputs};
    use portolan_tensor::{Kind, Precision, Tensor};

    #[test]
    fn every_recipe_is_complete_and_buildable() {
        for method in METHODS {
            for recipe in method.recipes {
                let name = recipe.name;
                let table = method.recipe(name).unwrap();
                let mut config: RunConfig = table.clone().try_into().unwrap();
                assert_eq!((config.method.as_str(), config.recipe.as_str()), (method.name, name));
                // A recipe must be complete: the defaults of omitted settings could change. Those
                // of an encoder cannot, because files of earlier encoders leave them out.
                let resolved = toml::Table::try_from(&config).unwrap();
                let (given, all) = (sorted(&table), sorted(&resolved));
                let required = |path: &&String| !path.starts_with("encoder.");
                assert!(all.iter().filter(required).eq(given.iter().filter(required)), "{name}");
                assert!(given.iter().all(|path| all.contains(path)), "{name}");
                shrink(&mut config);
                build_method(&config, Device::Cpu).unwrap();
            }
        }
    }

    fn sorted(table: &toml::Table) -> Vec<String> {
        let mut paths = crate::config::overrides::paths(table);
        paths.sort();
        paths
    }

    /// Shrinks the networks so that they can be built in a moment.
    pub(crate) fn shrink(config: &mut RunConfig) {
        teacher::add_random(config).unwrap();
        match &mut config.encoder {
            EncoderConfig::Resnet(resnet) => resnet.width = 4,
            EncoderConfig::ConvNext(convnext) => {
                (convnext.width, convnext.depths) = (4, [1; 4]);
            }
            EncoderConfig::Vit(vit) => (vit.width, vit.depth, vit.heads) = (8, 1, 1),
        }
        shrink_settings(&mut config.settings);
    }

    fn shrink_settings(settings: &mut toml::Table) {
        const SMALL: [(&str, i64); 9] = [
            ("queue", 64),
            ("hidden", 8),
            ("dim", 16),
            ("predictor_hidden", 4),
            ("permutations", 4),
            ("tile_dim", 8),
            ("decoder_width", 8),
            ("decoder_depth", 1),
            ("decoder_heads", 1),
        ];
        for (name, value) in settings.iter_mut() {
            if let Some(table) = value.as_table_mut() {
                shrink_settings(table);
            } else if let Some((_, small)) = SMALL.iter().find(|(key, _)| key == name) {
                *value = (*small).into();
            }
        }
    }

    #[test]
    fn one_step_of_every_method_runs_on_every_encoder_it_supports_in_both_precisions() {
        portolan_tensor::tch::set_num_threads(1);
        for method in METHODS {
            let recipe: RunConfig = method.recipe("shapes").unwrap().try_into().unwrap();
            for name in
                ["resnet18-w4", "resnet50-w4", "convnext_w4d1-1-1-1", "vit_w8d2h2_patch4_32"]
            {
                let mut config = recipe.clone();
                config.encoder = EncoderConfig::named(name).unwrap();
                if let (EncoderConfig::Vit(vit), EncoderConfig::Vit(own)) =
                    (&mut config.encoder, &recipe.encoder)
                {
                    vit.mask_token = own.mask_token;
                }
                if let EncoderConfig::Resnet(resnet) = &mut config.encoder {
                    // With more strides, the smallest views would end as 1×1 maps. For these,
                    // libtorch's bfloat16 convolution on CPUs leaves the gradient of weights that
                    // only meet padding uninitialized.
                    resnet.stem = Stem::Cifar;
                }
                if let EncoderConfig::ConvNext(convnext) = &mut config.encoder {
                    convnext.patch = 1; // for the tiles of jigsaw
                }
                shrink(&mut config);
                let built = build_method(&config, Device::Cpu);
                let for_transformers = matches!(recipe.encoder, EncoderConfig::Vit(_));
                if for_transformers && !name.starts_with("vit") {
                    assert!(built.err().unwrap().to_string().contains("vision transformer"));
                    continue;
                }
                let mut method = built.unwrap();
                for precision in [Precision::Fp32, Precision::Bf16] {
                    one_step(&mut *method, &config, precision);
                }
            }
        }
    }

    /// CUDA graphs rely on this: apart from the views, steps differ only in the inputs that the
    /// method receives. Reusing the context of the first step with updated inputs must give the
    /// same result as using the context of each step.
    #[test]
    fn a_step_depends_only_on_its_inputs() {
        portolan_tensor::tch::set_num_threads(1);
        let mut with_inputs = 0;
        for method in METHODS {
            let mut config: RunConfig = method.recipe("shapes").unwrap().try_into().unwrap();
            if method.traits.family == Family::Reconstruction {
                config.encoder = EncoderConfig::named("vit_w8d2h2_patch4_32").unwrap();
            }
            if let EncoderConfig::Resnet(resnet) = &mut config.encoder {
                // Two groups, so that MoCo shuffles.
                (resnet.stem, resnet.batch_norm_splits) = (Stem::CifarStrided, 2);
            }
            shrink(&mut config);
            let inputs = StepInputs::default();
            let (each, again) = (four_steps(&config, None), four_steps(&config, Some(&inputs)));
            assert_eq!(each.len(), again.len());
            for ((name, a), (_, b)) in each.iter().zip(&again) {
                assert!(a.equal(b), "{name} of {} differs", method.name);
            }
            with_inputs += usize::from(!format!("{inputs:?}").contains("(0 values"));
        }
        assert!(with_inputs >= 7, "MoCo shuffles, BYOL has a schedule, MAE masks, and so on");
    }

    /// The state of the method and the optimizer after four steps of four epochs. With `inputs`,
    /// all steps use the context of the first step and the values of `inputs`.
    fn four_steps(config: &RunConfig, inputs: Option<&StepInputs>) -> Vec<(String, Tensor)> {
        portolan_tensor::seed(1);
        let mut method = build_method(config, Device::Cpu).unwrap();
        let mut optimizer = portolan_train::optimizer(&config.training, &*method).unwrap();
        for step in 0..4 {
            let device = Device::Cpu;
            let now = StepContext::new(step, 4, device).with_epoch(step);
            let cx = match inputs {
                Some(_) => now.with_step(0).with_epoch(0).with_inputs(inputs),
                None => now,
            };
            if let Some(inputs) = inputs {
                inputs.refresh(&now);
                inputs.restart();
            }
            let size = |spec: &ViewSpec| i64::from(spec.size());
            let view = |spec| Tensor::rand([4, 3, size(spec), size(spec)], (Kind::Float, device));
            let batch =
                Batch { inputs: method.views().iter().map(view).collect(), ids: vec![0; 4] };
            optimizer.schedule(0.1 / (step + 1) as f64, step as f64).unwrap();
            optimizer.zero_grad().unwrap();
            method.loss(&batch, &cx).unwrap().loss.backward();
            method.before_update(&cx).unwrap();
            optimizer.apply().unwrap();
            method.after_update(&cx).unwrap();
        }
        let mut state = method.state();
        state.extend(optimizer.state());
        state
    }

    fn one_step(method: &mut dyn ImageMethod, config: &RunConfig, precision: Precision) {
        let view = |spec: &ViewSpec| {
            let size = i64::from(spec.size());
            Tensor::rand([4, 3, size, size], (Kind::Float, Device::Cpu))
        };
        let views = method.views().iter().map(view).collect();
        let batch = Batch { inputs: views, ids: (0..4).collect() };
        let device = Device::Cpu;
        let cx = StepContext::new(0, 2, device);
        let mut optimizer = portolan_train::optimizer(&config.training, method).unwrap();
        optimizer.zero_grad().unwrap();
        let out = precision.run(device, || method.loss(&batch, &cx)).unwrap().unwrap();
        let what = format!("{} on {} in {precision:?}", config.method, config.encoder.name());
        assert_eq!(out.loss.kind(), Kind::Float, "{what}");
        assert!(out.loss.double_value(&[]).is_finite(), "{what}");
        for (name, value) in &out.metrics {
            assert!(value.double_value(&[]).is_finite(), "{name} of {what}");
        }
        out.loss.backward();
        method.before_update(&cx).unwrap();
        // After the epoch in which DINO freezes its last layer, so that all weights change.
        optimizer.step(0.01, 1.0).unwrap();
        method.after_update(&cx).unwrap();
        for (name, tensor) in method.state() {
            assert!(bool::try_from(tensor.isfinite().all()).unwrap(), "{name} of {what}");
        }
        let features = Tensor::zeros([2, method.encoder().width()], (Kind::Float, device));
        assert!(method.project(&features).is_none() || out.outputs.is_some());
    }
}
