//! What a run leaves for people: `report.json` for programs, and `report.html`, one page to look at.
//!
//! This crate takes plain data (figures, pictures, points) and knows nothing of tensors, methods or
//! data sets, so that anything that trains can write the same report:
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
//!     dataset: Dataset { name: "shapes".into(), sha256: "…".into(), train: 10_000, test: 2_000, classes: 10 },
//!     device: "cpu".into(),
//!     precision: "fp32".into(),
//!     seconds: 512.0,
//!     images_per_second: 781.2,
//!     knn: Some(Knn { k: 20, temperature: 0.07, top1: 0.8, best_over_epochs: 0.8, random_init_top1: 0.3,
//!         random_init_as_built_top1: None, head_top1: None }),
//!     linear_probe: None,
//!     published: Vec::new(),
//!     parameters: 700_000,
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
//!     finding: None,
//!     views: &[],
//!     neighbors: &[],
//!     map: &[],
//!     layout: Layout::PrincipalComponents,
//!     classes: &[],
//!     config_toml: "epochs = 40",
//! };
//! assert!(html(&page)?.contains("MoCo on shapes"));
//! # anyhow::Ok(())
//! ```
//!
//! The page is one file without scripts: it opens from a disk, a mail or a server alike, today and in ten
//! years, and its content security policy forbids every load. The charts are SVG written here, not by a
//! plotting library, because those fix colors and fonts when they draw, while a style sheet lets the same
//! chart follow dark mode and the width of a phone. Templates are [`maud`]'s, which escapes every value.

mod chart;
mod comparison;
mod curves;
mod evaluation;
mod factors;
mod format;
mod frame;
mod gallery;
mod health;
mod json;
mod map;
mod map_thumbnail;
mod overlay;
mod page;
mod picture;
mod result;

pub use comparison::{Entry, comparison_text, write_comparison};
pub use evaluation::{ProtocolFigure, write_evaluation};
pub use factors::{FactorCell, FactorColumn, write_factors};
pub use gallery::{Neighbor, Neighbors, SourceViews};
pub use json::{Dataset, Knn, LinearProbe, Published, Report, Skipped, now};
pub use map::{Layout, MapPoint};
pub use page::{Page, STYLE, compass, html, write_html};
