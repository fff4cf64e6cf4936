//! The methods by name: the one place of Portolan that knows them all.

use anyhow::{Context, Result, bail};
use portolan_augment::ViewSpec;
use portolan_barlow::Barlow;
use portolan_byol::Byol;
use portolan_dino::Dino;
use portolan_encoders::EncoderConfig;
use portolan_mae::Mae;
use portolan_method::Method;
use portolan_moco::{Moco, MocoV3};
use portolan_pretext::{Colorization, Jigsaw, Rotation};
use portolan_random::{Purpose, stream};
use portolan_simclr::Simclr;
use portolan_simsiam::Simsiam;
use portolan_tensor::{Device, seed};
use portolan_vicreg::Vicreg;
use rand::RngExt;
use serde::de::DeserializeOwned;

use crate::config::RunConfig;

/// What the program knows of a method.
pub(crate) struct Entry {
    /// As it is written on the command line.
    pub(crate) name: &'static str,
    /// As people write it.
    pub(crate) title: &'static str,
    /// Its recipes by name, the default first.
    pub(crate) recipes: &'static [(&'static str, &'static str)],
    build: Build,
}

/// From the method's settings, the encoder, the views and the device to the method.
type Build = fn(toml::Table, &EncoderConfig, Vec<ViewSpec>, Device) -> Result<Box<dyn Method>>;

pub(crate) const METHODS: &[Entry] = &[
    Entry {
        name: "simclr",
        title: "SimCLR",
        recipes: &portolan_simclr::recipes::ALL,
        build: |settings, encoder, views, device| {
            Ok(Box::new(Simclr::new(parse(settings)?, encoder, views, device)?))
        },
    },
    Entry {
        name: "moco",
        title: "MoCo",
        recipes: &portolan_moco::recipes::ALL,
        build: |settings, encoder, views, device| {
            Ok(Box::new(Moco::new(parse(settings)?, encoder, views, device)?))
        },
    },
    Entry {
        name: "moco-v3",
        title: "MoCo v3",
        recipes: &portolan_moco::recipes::ALL_V3,
        build: |settings, encoder, views, device| {
            Ok(Box::new(MocoV3::new(parse(settings)?, encoder, views, device)?))
        },
    },
    Entry {
        name: "byol",
        title: "BYOL",
        recipes: &portolan_byol::recipes::ALL,
        build: |settings, encoder, views, device| {
            Ok(Box::new(Byol::new(parse(settings)?, encoder, views, device)?))
        },
    },
    Entry {
        name: "simsiam",
        title: "SimSiam",
        recipes: &portolan_simsiam::recipes::ALL,
        build: |settings, encoder, views, device| {
            Ok(Box::new(Simsiam::new(parse(settings)?, encoder, views, device)?))
        },
    },
    Entry {
        name: "barlow",
        title: "Barlow Twins",
        recipes: &portolan_barlow::recipes::ALL,
        build: |settings, encoder, views, device| {
            Ok(Box::new(Barlow::new(parse(settings)?, encoder, views, device)?))
        },
    },
    Entry {
        name: "vicreg",
        title: "VICReg",
        recipes: &portolan_vicreg::recipes::ALL,
        build: |settings, encoder, views, device| {
            Ok(Box::new(Vicreg::new(parse(settings)?, encoder, views, device)?))
        },
    },
    Entry {
        name: "dino",
        title: "DINO",
        recipes: &portolan_dino::recipes::ALL,
        build: |settings, encoder, views, device| {
            Ok(Box::new(Dino::new(parse(settings)?, encoder, views, device)?))
        },
    },
    Entry {
        name: "mae",
        title: "MAE",
        recipes: &portolan_mae::recipes::ALL,
        build: |settings, encoder, views, device| {
            Ok(Box::new(Mae::new(parse(settings)?, encoder, views, device)?))
        },
    },
    Entry {
        name: "rotation",
        title: "Rotation prediction",
        recipes: &portolan_pretext::recipes::ROTATION,
        build: |_, encoder, views, device| Ok(Box::new(Rotation::new(encoder, views, device)?)),
    },
    Entry {
        name: "jigsaw",
        title: "Jigsaw puzzles",
        recipes: &portolan_pretext::recipes::JIGSAW,
        build: |settings, encoder, views, device| {
            Ok(Box::new(Jigsaw::new(parse(settings)?, encoder, views, device)?))
        },
    },
    Entry {
        name: "colorization",
        title: "Colorization",
        recipes: &portolan_pretext::recipes::COLORIZATION,
        build: |settings, encoder, views, device| {
            Ok(Box::new(Colorization::new(parse(settings)?, encoder, views, device)?))
        },
    },
];

fn parse<T: DeserializeOwned>(settings: toml::Table) -> Result<T> {
    toml::Value::Table(settings).try_into().context("in the method's settings")
}

/// All methods.
pub(crate) fn all() -> &'static [Entry] {
    METHODS
}

/// The method of this name.
///
/// # Errors
/// When there is none; the message lists them.
pub(crate) fn find(name: &str) -> Result<&'static Entry> {
    METHODS.iter().find(|method| method.name == name).with_context(|| {
        let names: Vec<_> = METHODS.iter().map(|method| method.name).collect();
        format!("there is no method `{name}`; there are {}", names.join(", "))
    })
}

impl Entry {
    /// The recipe of this name.
    ///
    /// # Errors
    /// When the method has none of that name; the message lists its recipes.
    pub(crate) fn recipe(&self, name: &str) -> Result<toml::Table> {
        let Some((_, text)) = self.recipes.iter().find(|(known, _)| *known == name) else {
            let names: Vec<_> = self.recipes.iter().map(|(name, _)| *name).collect();
            bail!("{} has no recipe `{name}`; it has {}", self.name, names.join(", "))
        };
        text.parse().with_context(|| format!("the recipe {name} of {}", self.name))
    }
}

/// Builds the run's method on `device`. The same seed gives the same initial values, so that the untrained
/// encoder can be had again after training.
///
/// # Errors
/// When the settings contradict each other.
pub(crate) fn build(config: &RunConfig, device: Device) -> Result<Box<dyn Method>> {
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
            "a batch of {micro} cannot be split into {splits} groups of two or more images for batch \
             statistics; choose --batch-size {} or --set batch_norm_splits=1",
            (2 * splits).max(micro.next_multiple_of(splits))
        );
    }
    config.encoder.validate_size(i64::from(config.evaluation.size)).context("in the evaluation")?;
    seed(stream(config.seed, Purpose::Libtorch, &[]).random());
    (entry.build)(config.settings.clone(), &config.encoder, views, device)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_encoders::Stem;
    use portolan_method::{Batch, StepContext, StepInputs};
    use portolan_tensor::{Kind, Precision, Tensor};

    #[test]
    fn every_recipe_is_complete_and_buildable() {
        for method in METHODS {
            for (name, _) in method.recipes {
                let table = method.recipe(name).unwrap();
                let mut config: RunConfig = table.clone().try_into().unwrap();
                assert_eq!((config.method.as_str(), config.recipe.as_str()), (method.name, *name));
                // A recipe says everything: what it left to a default could change under it.
                let resolved = toml::Table::try_from(&config).unwrap();
                assert_eq!(sorted(&table), sorted(&resolved), "{name}");
                shrink(&mut config);
                build(&config, Device::Cpu).unwrap();
            }
        }
    }

    fn sorted(table: &toml::Table) -> Vec<String> {
        let mut paths = crate::settings::paths(table);
        paths.sort();
        paths
    }

    /// The same settings with networks small enough to build in a moment.
    pub(crate) fn shrink(config: &mut RunConfig) {
        match &mut config.encoder {
            EncoderConfig::Resnet(resnet) => resnet.width = 4,
            EncoderConfig::Vit(vit) => (vit.width, vit.depth, vit.heads) = (8, 1, 1),
        }
        let small = [
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
        for (key, value) in small {
            if let Some(place) = config.settings.get_mut(key) {
                *place = value.into();
            }
        }
    }

    #[test]
    fn one_step_of_every_method_runs_on_every_encoder_it_supports_in_both_precisions() {
        portolan_tensor::tch::set_num_threads(1);
        for method in METHODS {
            let recipe: RunConfig = method.recipe("shapes").unwrap().try_into().unwrap();
            for name in ["resnet18-w4", "resnet50-w4", "vit_w8d2h2_patch4_32"] {
                let mut config = recipe.clone();
                config.encoder = EncoderConfig::named(name).unwrap();
                if let EncoderConfig::Resnet(resnet) = &mut config.encoder {
                    // With more strides, the smallest views would end as 1×1 maps, for which libtorch's bfloat16 convolution on
                    // CPUs leaves the gradient of weights that meet only padding as whatever was in memory.
                    resnet.stem = Stem::Cifar;
                }
                shrink(&mut config);
                let built = build(&config, Device::Cpu);
                if method.name == "mae" && name.starts_with("resnet") {
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

    /// What a CUDA graph relies on: but for the views, a step differs from another by what the method is given alone. A
    /// method that is always shown the first step's context, and new values where it asked for some, learns what one
    /// does that is shown each step's own.
    #[test]
    fn a_step_goes_by_what_it_is_given() {
        portolan_tensor::tch::set_num_threads(1);
        for method in METHODS {
            let mut config: RunConfig = method.recipe("shapes").unwrap().try_into().unwrap();
            if method.name == "mae" {
                config.encoder = EncoderConfig::named("vit_w8d2h2_patch4_32").unwrap();
            }
            if let EncoderConfig::Resnet(resnet) = &mut config.encoder {
                (resnet.stem, resnet.batch_norm_splits) = (Stem::CifarStrided, 2); // MoCo shuffles
            }
            shrink(&mut config);
            let inputs = StepInputs::default();
            let (each, again) = (four_steps(&config, None), four_steps(&config, Some(&inputs)));
            assert_eq!(each.len(), again.len());
            for ((name, a), (_, b)) in each.iter().zip(&again) {
                assert!(a.equal(b), "{name} of {} differs", method.name);
            }
            let changing = ["moco-v3", "byol", "dino", "mae", "jigsaw", "moco", "colorization"];
            let given = format!("{inputs:?}");
            assert_eq!(given.contains("(0 values"), !changing.contains(&method.name), "{given}");
        }
    }

    /// The method's and the optimizer's state after four steps of four epochs; with `inputs` by the first step's context
    /// and what they hold.
    fn four_steps(config: &RunConfig, inputs: Option<&StepInputs>) -> Vec<(String, Tensor)> {
        portolan_tensor::seed(1);
        let mut method = build(config, Device::Cpu).unwrap();
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
            let batch = Batch { views: method.views().iter().map(view).collect(), ids: vec![0; 4] };
            optimizer.schedule(0.1 / (step + 1) as f64, step).unwrap();
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

    fn one_step(method: &mut dyn Method, config: &RunConfig, precision: Precision) {
        let view = |spec: &ViewSpec| {
            let size = i64::from(spec.size());
            Tensor::rand([4, 3, size, size], (Kind::Float, Device::Cpu))
        };
        let views = method.views().iter().map(view).collect();
        let batch = Batch { views, ids: (0..4).collect() };
        let device = Device::Cpu;
        let cx = StepContext::new(0, 2, device);
        let mut optimizer = portolan_train::optimizer(&config.training, method).unwrap();
        optimizer.zero_grad().unwrap();
        let out = precision.run(device, || method.loss(&batch, &cx)).unwrap().unwrap();
        let what = format!("{} on {} in {precision:?}", config.method, config.encoder.name());
        assert_eq!(out.loss.kind(), Kind::Float, "{what}");
        assert!(out.loss.double_value(&[]).is_finite(), "{what}");
        for (name, figure) in &out.figures {
            assert!(figure.double_value(&[]).is_finite(), "{name} of {what}");
        }
        out.loss.backward();
        method.before_update(&cx).unwrap();
        // Past DINO's frozen epoch, so that everything moves.
        optimizer.step(0.01, 1).unwrap();
        method.after_update(&cx).unwrap();
        for (name, tensor) in method.state() {
            assert!(bool::try_from(tensor.isfinite().all()).unwrap(), "{name} of {what}");
        }
        let features = Tensor::zeros([2, method.encoder().width()], (Kind::Float, device));
        assert_eq!(
            method.project(&features).is_some(),
            out.outputs.is_some() && config.method != "dino"
        );
    }
}
