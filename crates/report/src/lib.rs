//! The report of a run: `report.json` for programs and `report.html`, one page for people.
//!
//! This crate takes plain data (metrics, images, points) and knows nothing of tensors, methods or
//! data sets, so that any training program can write the same report:
//!
//! ```
//! use portolan_report::{Dataset, Knn, Layout, Page, Report, Skipped, html};
//!
//! let report = Report {
//!     method: "moco".into(),
//!     recipe: "shapes".into(),
//!     encoder: "resnet18-w16".into(),
//!     epochs: 40,
//!     batch_size: 256,
//!     seed: 0,
//!     dataset: Dataset {
//!         name: "shapes".into(),
//!         sha256: "…".into(),
//!         train: 10_000,
//!         test: 2_000,
//!         classes: 10,
//!     },
//!     device: "cpu".into(),
//!     precision: "fp32".into(),
//!     seconds: 512.0,
//!     images_per_second: 781.2,
//!     knn: Some(Knn {
//!         k: 20,
//!         temperature: 0.07,
//!         top1: 0.8,
//!         best_over_epochs: 0.8,
//!         random_init_top1: 0.3,
//!         random_init_as_built_top1: None,
//!         head_top1: None,
//!     }),
//!     linear_probe: None,
//!     baselines: Vec::new(),
//!     start: None,
//!     published: Vec::new(),
//!     parameters: 700_000,
//!     peak_memory: None,
//!     notes: Vec::new(),
//!     skipped: Skipped::default(),
//!     command: "portolan pretrain moco --recipe shapes".into(),
//!     version: env!("CARGO_PKG_VERSION").into(),
//!     finished: portolan_report::now(),
//! };
//! let page = Page {
//!     method_name: "MoCo",
//!     report: &report,
//!     metrics: &[],
//!     correlations: &[],
//!     finding: None,
//!     views: &[],
//!     neighbors: &[],
//!     map: &[],
//!     layout: Layout::PrincipalComponents,
//!     classes: &[],
//!     config_toml: "epochs = 40",
//! };
//! assert!(html(&page)?.contains("MoCo on shapes"));
//! # Ok::<(), portolan_report::Error>(())
//! ```
//!
//! The page is one file without scripts: it opens from a disk, a mail or a server, today and in ten
//! years, and its content security policy forbids every load. This crate writes its charts as SVG
//! itself. Plotting libraries fix colors and fonts when they draw; here a style sheet lets the same
//! chart follow dark mode and the width of a phone. Templates are [`maud`]'s, which escapes every
//! value.

mod charts;
mod document;
mod error;
mod file;
mod format;
mod page;
mod pages;
mod report;
mod sampling;
mod sections;
mod start;

pub use document::{compass, head};
pub use error::{Error, Result};
pub use format::counted;
pub use page::{Layout, MapPoint, Neighbor, Neighbors, Page, SourceViews};
pub use pages::claims::claims_markdown;
pub use pages::comparison::{Entry, TextEntry, comparison_text, write_comparison};
pub use pages::evaluation::{ProtocolResult, write_evaluation};
pub use pages::factors::{FactorCell, FactorColumn, write_factors};
pub use pages::run::{html, write_html};
pub use pages::study::{Plot, StudyPage, findings_text, plots, write_study};
pub use pages::text::{FilledPassage, TextAttention, TextPage, write_text_html};
pub use report::{Baseline, Dataset, Knn, LinearProbe, Published, Report, Skipped, now};
pub use sampling::in_even_sample;
pub use start::{Change, Signal, Start};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
