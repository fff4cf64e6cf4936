//! Scores of segmentation and depth, over all pixels of all images.

use portolan_tensor::{Kind, Tensor, no_grad};
use serde::Serialize;

use crate::error::{Error, Result};

/// How well pixels are classified.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SegmentationScores {
    /// The mean of `iou` over the classes that occur.
    pub mean_iou: f64,
    /// Intersection over union of each class over all pixels of all images; `None` for a class that
    /// is neither true nor predicted anywhere.
    pub iou: Vec<Option<f64>>,
}

/// The pixels of each class, counted over images.
#[derive(Debug)]
pub struct SegmentationCounts {
    classes: i64,
    ignored: i64,
    /// `[classes · classes]`, int64: how many pixels of each class (row) were predicted as each
    /// class (column).
    cells: Tensor,
}

impl SegmentationCounts {
    /// Counts of `classes` classes. Pixels whose true class is `ignored` do not count.
    pub fn new(classes: i64, ignored: i64) -> Self {
        let cells = Tensor::zeros([classes * classes], (Kind::Int64, portolan_tensor::Device::Cpu));
        SegmentationCounts { classes, ignored, cells }
    }

    /// Adds the predicted and true classes of pixels, int64 of one shape, on any device.
    ///
    /// # Errors
    /// When the shapes differ, or a class that is not ignored is not below the number of classes.
    pub fn add(&mut self, predicted: &Tensor, truth: &Tensor) -> Result<()> {
        same_shape(predicted, truth)?;
        let counted = truth.ne(self.ignored);
        let (truth, predicted) = (truth.masked_select(&counted), predicted.masked_select(&counted));
        if truth.numel() == 0 {
            return Ok(());
        }
        for labels in [&truth, &predicted] {
            let (least, greatest) = labels.aminmax(None, false);
            let (least, greatest) = (least.int64_value(&[]), greatest.int64_value(&[]));
            if least < 0 || greatest >= self.classes {
                return Err(Error::Labels { least, greatest, classes: self.classes });
            }
        }
        let cells = truth * self.classes + predicted;
        let counts = cells.bincount::<Tensor>(None, self.classes * self.classes);
        self.cells += counts.to_device(self.cells.device());
        Ok(())
    }

    /// The scores of all that was added.
    ///
    /// # Errors
    /// When no pixel was counted.
    pub fn scores(&self) -> Result<SegmentationScores> {
        let cells = Vec::<i64>::try_from(&self.cells)?;
        let classes = self.classes as usize;
        let at = |truth: usize, predicted: usize| cells[truth * classes + predicted];
        let iou: Vec<Option<f64>> = (0..classes)
            .map(|class| {
                let both = at(class, class);
                let of_truth: i64 = (0..classes).map(|other| at(class, other)).sum();
                let of_predicted: i64 = (0..classes).map(|other| at(other, class)).sum();
                let either = of_truth + of_predicted - both;
                (either > 0).then(|| both as f64 / either as f64)
            })
            .collect();
        let known: Vec<f64> = iou.iter().copied().flatten().collect();
        if known.is_empty() {
            return Err(Error::Images(
                "no pixel of the masks has a class: all of them are ignored".to_owned(),
            ));
        }
        Ok(SegmentationScores { mean_iou: known.iter().sum::<f64>() / known.len() as f64, iou })
    }
}

/// How well depths are predicted (Eigen et al. 2014, arXiv 1406.2283, section 4.4).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DepthScores {
    /// The root of the mean squared error, in the unit of the depths.
    pub rmse: f64,
    /// The mean of |predicted − true| / true.
    pub abs_rel: f64,
    /// The share of pixels where neither depth is more than 1.25 times the other.
    pub delta1: f64,
}

/// The errors of depths, summed over images.
#[derive(Debug, Default)]
pub struct DepthErrors {
    pixels: f64,
    squared: f64,
    relative: f64,
    close: f64,
}

impl DepthErrors {
    /// Adds the predicted and true depths of pixels, of one shape and unit. Pixels whose true depth
    /// is 0 or less are missing and do not count.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn add(&mut self, predicted: &Tensor, truth: &Tensor) -> Result<()> {
        same_shape(predicted, truth)?;
        no_grad(|| {
            let known = truth.gt(0.0);
            let of = |x: &Tensor| x.masked_select(&known).to_kind(Kind::Double);
            let (predicted, truth) = (of(predicted), of(truth));
            let total = |x: Tensor| x.sum(Kind::Double).double_value(&[]);
            let off = &predicted - &truth;
            // A predicted depth below 0 has no ratio, and is not close.
            let ratio = (&predicted / &truth).maximum(&(&truth / &predicted));
            let close = ratio.lt(1.25).logical_and(&predicted.gt(0.0));
            self.pixels += truth.numel() as f64;
            self.squared += total(off.square());
            self.relative += total(off.abs() / &truth);
            self.close += total(close.to_kind(Kind::Double));
        });
        Ok(())
    }

    /// The scores of all that was added.
    ///
    /// # Errors
    /// When no pixel has a depth.
    pub fn scores(&self) -> Result<DepthScores> {
        if self.pixels == 0.0 {
            return Err(Error::Images("no pixel has a depth: all of them are 0".to_owned()));
        }
        Ok(DepthScores {
            rmse: (self.squared / self.pixels).sqrt(),
            abs_rel: self.relative / self.pixels,
            delta1: self.close / self.pixels,
        })
    }
}

fn same_shape(predicted: &Tensor, truth: &Tensor) -> Result<()> {
    let (found, wanted) = (predicted.size(), truth.size());
    if found == wanted {
        return Ok(());
    }
    Err(Error::Shape(format!("{found:?} predicted pixels cannot be compared with {wanted:?}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn classes(values: &[i64]) -> Tensor {
        Tensor::from_slice(values)
    }

    #[test]
    fn intersection_over_union_counts_over_images_and_skips_absent_classes() {
        let mut counts = SegmentationCounts::new(4, 255);
        counts.add(&classes(&[0, 0, 1, 1]), &classes(&[0, 1, 1, 255])).unwrap();
        counts.add(&classes(&[2, 1, 3, 0]), &classes(&[1, 1, 255, 0])).unwrap();
        let scores = counts.scores().unwrap();
        // Class 0: two right of three; 1: two of four; 2: predicted once, never true; 3: absent.
        assert_eq!(scores.iou, [Some(2.0 / 3.0), Some(0.5), Some(0.0), None]);
        assert!((scores.mean_iou - (2.0 / 3.0 + 0.5) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_counted_is_an_error() {
        let mut counts = SegmentationCounts::new(2, 255);
        assert!(counts.add(&classes(&[0, 1]), &classes(&[0])).is_err());
        assert!(counts.add(&classes(&[0, 2]), &classes(&[0, 1])).is_err());
        assert!(counts.add(&classes(&[0, 1]), &classes(&[0, -1])).is_err());
        counts.add(&classes(&[9, 9]), &classes(&[255, 255])).unwrap();
        assert!(counts.scores().unwrap_err().to_string().contains("ignored"));
        assert!(DepthErrors::default().scores().is_err());
    }

    #[test]
    fn depths_are_compared_where_they_are_known() {
        let mut errors = DepthErrors::default();
        let truth = Tensor::from_slice(&[2f32, 0.0, 4.0, 1.0]);
        errors.add(&Tensor::from_slice(&[2.4f32, 9.0, 2.0, -1.0]), &truth).unwrap();
        let scores = errors.scores().unwrap();
        assert!((scores.rmse - ((0.16f64 + 4.0 + 4.0) / 3.0).sqrt()).abs() < 1e-6);
        assert!((scores.abs_rel - (0.2 + 0.5 + 2.0) / 3.0).abs() < 1e-6);
        assert!((scores.delta1 - 1.0 / 3.0).abs() < 1e-12);
    }
}
