//! Weighted k-nearest-neighbor classification.

use portolan_tensor::{Tensor, no_grad};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::features::Features;
use crate::labels::{self, accuracy};
use crate::normalize::unit_rows;

/// How many similarities are in memory at a time, whatever the number of images: 16 MiB.
const SIMILARITIES: i64 = 1 << 22;

/// How many neighbors vote, and how their votes are weighted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnnConfig {
    /// How many neighbors vote; 200 in InstDisc and MoCo's CIFAR-10 demonstration, 20 in DINO.
    pub k: usize,
    /// τ: a neighbor of cosine similarity s has exp(s / τ) votes. 0.07 in InstDisc and DINO, 0.1 in
    /// MoCo's CIFAR-10 demonstration.
    pub temperature: f64,
}

impl KnnConfig {
    /// Checks the settings for a bank of this many images.
    ///
    /// # Errors
    /// When kNN is impossible with them. The message says what to change.
    pub fn validate(&self, bank: usize) -> Result<()> {
        let KnnConfig { k, temperature } = *self;
        let problem = if k < 1 {
            "kNN with k = 0 has no neighbors; choose at least 1".to_owned()
        } else if k > bank {
            format!(
                "kNN with k = {k} needs as many training images, and there are {bank}; choose k = \
                 {bank} or less"
            )
        } else if !(temperature > 0.0 && temperature.is_finite()) {
            format!("the temperature of kNN is {temperature}; it has to be above 0")
        } else {
            return Ok(());
        };
        Err(Error::Setting(problem))
    }
}

/// The `k` rows of `bank` (`[n, width]`) that are most similar to each row of `queries` (`[m,
/// width]`): their cosine similarities and their indices, both `[m, k]`, nearest first.
///
/// # Errors
/// When the widths differ, or the bank has fewer than `k` rows.
pub fn neighbors(bank: &Tensor, queries: &Tensor, k: usize) -> Result<(Tensor, Tensor)> {
    let (n, width) = bank.size2()?;
    let (m, other) = queries.size2()?;
    if width != other {
        return Err(Error::Shape(format!("the bank has {width} features and the queries {other}")));
    }
    if k as i64 > n {
        return Err(Error::Setting(format!("{k} neighbors cannot be found among {n}")));
    }
    no_grad(|| {
        let (bank, queries) = (unit_rows(bank).tr(), unit_rows(queries));
        let (mut similarities, mut indices) = (Vec::new(), Vec::new());
        for part in queries.split((SIMILARITIES / n.max(1)).clamp(1, m.max(1)), 0) {
            let (nearest, at) = part.matmul(&bank).topk(k as i64, 1, true, true);
            similarities.push(nearest);
            indices.push(at);
        }
        Ok((Tensor::cat(&similarities, 0), Tensor::cat(&indices, 0)))
    })
}

/// Predicts the class of each row of `test` (`[m, width]`): `[m]`, int64.
///
/// The k nearest rows of `bank` (`[n, width]`, with labels `[n]`) vote for their labels with
/// weights exp(s / τ), where s is the cosine similarity (InstDisc: Wu et al. 2018, arXiv
/// 1805.01978, section 3.4).
///
/// # Errors
/// When the settings do not fit the bank, a label is not below `classes`, or shapes do not match.
pub fn knn_predict(
    bank: &Tensor,
    bank_labels: &Tensor,
    test: &Tensor,
    classes: i64,
    config: &KnnConfig,
) -> Result<Tensor> {
    let votes = knn_votes(bank, bank_labels, test, classes, &[config.k], config.temperature)?;
    Ok(votes[0].argmax(1, false))
}

/// The votes behind [`knn_predict`], `[m, classes]`, for each of several numbers of neighbors. The
/// neighbors are searched once.
///
/// # Errors
/// As [`knn_predict`].
pub fn knn_votes(
    bank: &Tensor,
    bank_labels: &Tensor,
    test: &Tensor,
    classes: i64,
    ks: &[usize],
    temperature: f64,
) -> Result<Vec<Tensor>> {
    let most = ks.iter().copied().max().unwrap_or(0);
    for &k in ks {
        KnnConfig { k, temperature }.validate(bank.size2()?.0 as usize)?;
    }
    labels::check(bank_labels, bank, classes)?;
    let (similarities, indices) = neighbors(bank, test, most)?;
    let labels = bank_labels.take(&indices);
    let of = |&k: &usize| {
        // exp(s / τ) up to a factor per row, which prevents overflow at small temperatures.
        let weights = (similarities.narrow(1, 0, k as i64) / temperature).softmax(1, None);
        let votes = Tensor::zeros([test.size()[0], classes], (weights.kind(), weights.device()));
        votes.scatter_add(1, &labels.narrow(1, 0, k as i64), &weights)
    };
    Ok(ks.iter().map(of).collect())
}

/// The accuracy on `test` of kNN over `bank`.
///
/// # Errors
/// When one of the two has no labels, and as [`knn_predict`].
pub fn knn_top1(bank: &Features, test: &Features, classes: i64, config: &KnnConfig) -> Result<f64> {
    let truth = test.labels()?;
    let predicted = knn_predict(&bank.x, bank.labels()?, &test.x, classes, config)?;
    Ok(accuracy(&predicted, truth))
}
