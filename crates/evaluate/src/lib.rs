//! What a frozen encoder has learned, measured: weighted kNN, a linear probe, baselines, a map, and
//! what a vision transformer attends to.
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_data::{Options, open};
//! use portolan_encoders::{ResNetConfig, build};
//! use portolan_evaluate::{KnnConfig, features, knn_top1, linear_probe_top1, recalibrate};
//! use portolan_tensor::{Device, Precision, Vars};
//!
//! let shapes = open("shapes", &Options { train: 60, test: 20, ..Options::default() })?;
//! let view = presets::evaluation(32, 32).with_normalization(shapes.mean, shapes.std);
//! let config = ResNetConfig { width: 4, ..ResNetConfig::named("resnet18")? };
//! let encoder = build(&config.into(), &Vars::new(Device::Cpu))?;
//!
//! // This one is untrained: without batch statistics of these images it would be unfairly poor.
//! recalibrate(&*encoder, &*shapes.train, &view, Device::Cpu, 120, /* seed */ 0)?;
//!
//! let of = |source| features(&*encoder, source, &view, Device::Cpu, Precision::Fp32);
//! let bank = of(&*shapes.train)?; // the training split is fitted to
//! let test = of(&*shapes.test.expect("shapes have a test split"))?; // the test split is scored on
//! let knn = knn_top1(&bank, &test, 10, &KnnConfig { k: 5, temperature: 0.07 })?;
//! let probe = linear_probe_top1(&bank, &test, 10)?;
//! println!("kNN {:.1} %, linear probe {:.1} %", 100.0 * knn, 100.0 * probe);
//! # anyhow::Ok(())
//! ```
//!
//! Images go through the encoder once ([`features`]); everything else works on the features, which are small.
//! That is why the probe is a convex problem solved to convergence rather than a layer trained by SGD on
//! augmented images, as papers have it for ImageNet: it has no settings to tune on the test split, gives the same
//! figure every time, and takes seconds. Test labels are seen by what counts right answers and by nothing else.

mod attention;
mod baselines;
mod diagnostics;
mod erase;
mod factor_table;
mod factors;
mod features;
mod finetune;
mod images;
mod knn;
mod lbfgs;
mod linear;
mod low_shot;
mod mix;
mod patches;
mod pca;
mod probe;
mod scores;
mod tsne;

pub use attention::{ATTENTION_MASS, best_head_jaccard, class_attention, heaviest, jaccard};
pub use baselines::{color_histogram, pixels};
pub use diagnostics::{Diagnostics, diagnose};
pub use factor_table::{FactorRow, FactorTable, factor_table};
pub use factors::FactorImages;
pub use features::{Features, NotFinite, features, features_of_draw, recalibrate};
pub use finetune::{FinetuneConfig, Finetuning, finetune, to_finetune};
pub use images::{Readable, images};
pub use knn::{KnnConfig, knn_predict, knn_top1, knn_votes, neighbors};
pub use linear::{LinearConfig, Swept, linear_sweep};
pub use low_shot::{LowShot, Shots, low_shot};
pub use patches::patch_colors;
pub use pca::pca;
pub use probe::{LinearProbe, linear_probe_top1};
pub use scores::Scores;
pub use tsne::tsne;
