//! The data that a run's page shows.

use image::{GrayImage, RgbImage};
use portolan_doctor::Finding;
use portolan_metrics::MetricsRow;

use crate::format::class_name;
use crate::report::Report;

/// The content of the page. Where a part is empty, the page says why.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The method's name as its authors write it (`MoCo`).
    pub method_name: &'a str,
    /// The run's report.
    pub report: &'a Report,
    /// The metrics that it logged.
    pub metrics: &'a [MetricsRow],
    /// Pictures of the correlation matrix of its outputs, each with the steps that were done; empty
    /// if its loss has none.
    pub correlations: &'a [(u64, GrayImage)],
    /// The problem that the doctor found in them, if any.
    pub finding: Option<&'a Finding>,
    /// Some training images with the views that training saw of them; a dozen is plenty.
    pub views: &'a [SourceViews],
    /// Some test images with their nearest training images.
    pub neighbors: &'a [Neighbors],
    /// The test embeddings in two dimensions.
    pub map: &'a [MapPoint],
    /// How they were projected.
    pub layout: Layout,
    /// The classes' names by index; empty without labels.
    pub classes: &'a [String],
    /// The run's resolved settings, as `config.toml` has them.
    pub config_toml: &'a str,
}

/// A training image and its views, as training saw them except for the normalization.
#[derive(Clone, Debug)]
pub struct SourceViews {
    /// The image.
    pub original: RgbImage,
    /// Its views, in the method's order.
    pub views: Vec<RgbImage>,
}

/// A test image and its nearest training images.
#[derive(Clone, Debug)]
pub struct Neighbors {
    /// The test image.
    pub image: RgbImage,
    /// Its class, if it has a label.
    pub label: Option<usize>,
    /// The class that its neighbors vote for.
    pub predicted: Option<usize>,
    /// The nearest training images, nearest first; six to eight fit the page best.
    pub nearest: Vec<Neighbor>,
}

/// One of the training images nearest to a test image.
#[derive(Clone, Debug)]
pub struct Neighbor {
    /// The training image.
    pub image: RgbImage,
    /// Its class, if it has a label.
    pub label: Option<usize>,
    /// Cosine similarity of the two embeddings.
    pub similarity: f64,
}

/// A test image on the map, in any unit; the page scales both axes alike.
#[derive(Clone, Debug)]
pub struct MapPoint {
    /// From left to right.
    pub x: f32,
    /// From bottom to top.
    pub y: f32,
    /// Its class, if it has a label.
    pub class: Option<usize>,
    /// The image itself, for a few of the points: a hundred add about 300 kB to the page.
    pub image: Option<RgbImage>,
}

/// How embeddings were projected to two dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Neighbors stay neighbors; distances between groups mean little.
    Tsne,
    /// The two directions of largest variance.
    PrincipalComponents,
}

impl Layout {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Layout::Tsne => "t-SNE",
            Layout::PrincipalComponents => "principal components",
        }
    }
}

impl Page<'_> {
    /// The name of a class, or its number where it has none.
    pub(crate) fn class(&self, index: usize) -> String {
        class_name(self.classes, index)
    }

    /// Why an accuracy is missing `when`.
    pub(crate) fn why_no_knn(&self, when: &str) -> String {
        if self.report.dataset.classes == 0 {
            "The images have no labels, so there is no accuracy to measure.".to_owned()
        } else {
            format!("kNN accuracy was not measured {when}.")
        }
    }
}
