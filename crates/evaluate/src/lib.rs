//! Evaluation of a pretrained encoder: weighted kNN, linear probes, low-shot classification,
//! fine-tuning, baselines, diagnostics without labels, and visualizations of features and
//! attention.
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
//! // An untrained encoder: without batch statistics of these images it would be unfairly poor.
//! recalibrate(&*encoder, &*shapes.train, &view, Device::Cpu, 120, /* seed */ 0)?;
//!
//! let of = |source| features(&*encoder, source, &view, Device::Cpu, Precision::Fp32);
//! let bank = of(&*shapes.train)?; // the training split is fitted to
//! let test = of(&*shapes.test.expect("shapes have a test split"))?; // the test split is scored on
//! let knn = knn_top1(&bank, &test, 10, &KnnConfig { k: 5, temperature: 0.07 })?;
//! let probe = linear_probe_top1(&bank, &test, 10)?;
//! println!("kNN {:.1} %, linear probe {:.1} %", 100.0 * knn, 100.0 * probe);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Images go through the encoder once ([`features`]); everything else works on the features, which
//! are small. The linear probe is therefore a convex problem solved to convergence, and not a layer
//! trained by SGD on augmented images as in papers on ImageNet: it has no settings to tune on the
//! test split, gives the same accuracy every time, and takes seconds. Test labels are used only to
//! count correct predictions.

mod baselines;
mod dense;
mod diagnostics;
mod error;
mod factors;
mod features;
mod images;
mod invariance;
mod labels;
mod normalize;
mod paired;
mod protocols;
mod scores;
mod visualization;

pub use baselines::{color_histogram, gradient_histogram, pixels};
pub use dense::features::{EmbeddedPatches, PatchFeatures, embed_patches, patch_features};
pub use dense::images::{DenseImages, dense_images};
pub use dense::lost::{Area, Discovery, discover_objects, lost};
pub use dense::probe::{DenseHeads, DensePrediction, LinearDense, linear_dense};
pub use dense::scores::{DepthErrors, DepthScores, SegmentationCounts, SegmentationScores};
pub use dense::task::DenseTask;
pub use diagnostics::{Diagnostics, diagnose};
pub use error::{Error, Result};
pub use factors::{FactorImages, FactorRow, FactorTable, factor_table};
pub use features::{Features, features, features_of_draw, recalibrate};
pub use images::{LoadedImages, images};
pub use invariance::{CHANGES, Change, ChangedImages, InvarianceRow, invariance};
pub use paired::Paired;
pub use protocols::finetune::{FinetuneConfig, Finetuning, finetune, to_finetune};
pub use protocols::knn::{KnnConfig, knn_predict, knn_top1, knn_votes, neighbors};
pub use protocols::linear_dinov2::{
    LinearCandidate, LinearDinov2, LinearDinov2Config, linear_dinov2,
};
pub use protocols::linear_sweep::{LinearConfig, LinearSweep, linear_sweep};
pub use protocols::low_shot::{LowShot, Shots, labeled_rows, low_shot};
pub use protocols::probe::{LinearProbe, linear_probe_top1};
pub use scores::Scores;
pub use visualization::attention::{
    ATTENTION_MASS, attention_mask, best_head_jaccard, class_attention, jaccard,
};
pub use visualization::outliers::{OUTLIER, PatchNorms, patch_lengths};
pub use visualization::patches::patch_colors;
pub use visualization::pca::pca;
pub use visualization::tsne::tsne;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
