//! Weighted k-nearest-neighbor classification.

use crate::Features;
use anyhow::{Result, ensure};
use portolan_tensor::{Kind, Tensor, no_grad};
use serde::{Deserialize, Serialize};

/// Similarities that are held at a time, however many images there are: 16 MiB.
const SIMILARITIES: i64 = 1 << 22;

/// How many neighbors vote, and how much the nearer ones count for more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnnConfig {
    /// How many neighbors vote; 200 in InstDisc and MoCo's CIFAR-10 demonstration, 20 in DINO.
    pub k: usize,
    /// τ: a neighbor of cosine similarity s has exp(s / τ) votes. 0.07 in InstDisc and DINO, 0.1 in MoCo's
    /// CIFAR-10 demonstration.
    pub temperature: f64,
}

impl KnnConfig {
    /// Whether kNN with these settings is possible over a bank of so many images.
    ///
    /// # Errors
    /// When it is not; the message says what to set.
    pub fn validate(&self, bank: usize) -> Result<()> {
        ensure!(self.k >= 1, "kNN with k = 0 has no neighbors; choose at least 1");
        ensure!(
            self.k <= bank,
            "kNN with k = {} needs as many training images, and there are {bank}; choose k = {bank} or less",
            self.k
        );
        ensure!(
            self.temperature > 0.0 && self.temperature.is_finite(),
            "the temperature of kNN is {}; it has to be above 0",
            self.temperature
        );
        Ok(())
    }
}

/// The `k` rows of `bank` (`[n, width]`) that are most like each row of `queries` (`[m, width]`): their
/// cosine similarities and their indices, both `[m, k]`, nearest first.
///
/// # Errors
/// When the widths differ, or the bank has fewer than `k` rows.
pub fn neighbors(bank: &Tensor, queries: &Tensor, k: usize) -> Result<(Tensor, Tensor)> {
    let (n, width) = bank.size2()?;
    let (m, other) = queries.size2()?;
    ensure!(width == other, "the bank has {width} features and the queries {other}");
    ensure!(k as i64 <= n, "{k} neighbors cannot be found among {n}");
    no_grad(|| {
        let (bank, queries) = (directions(bank).tr(), directions(queries));
        let (mut similarities, mut indices) = (Vec::new(), Vec::new());
        for part in queries.split((SIMILARITIES / n.max(1)).clamp(1, m.max(1)), 0) {
            let (nearest, at) = part.matmul(&bank).topk(k as i64, 1, true, true);
            similarities.push(nearest);
            indices.push(at);
        }
        Ok((Tensor::cat(&similarities, 0), Tensor::cat(&indices, 0)))
    })
}

/// Each row at length one; a row of zeros stays one.
fn directions(x: &Tensor) -> Tensor {
    x / x.square().sum_dim_intlist(1, true, x.kind()).sqrt().clamp_min(1e-12)
}

/// The class of each row of `test` (`[m, width]`): `[m]`, int64. Its k nearest rows of `bank` (`[n, width]`, with
/// labels `[n]`) vote for their labels with the weights exp(s / τ), s being the cosine similarity (InstDisc:
/// Wu et al. 2018, arXiv:1805.01978, section 3.4).
///
/// # Errors
/// When the settings do not fit the bank, a label is none of the `classes`, or shapes do not match.
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

/// The votes behind [`knn_predict`], `[m, classes]`, for each of several numbers of neighbors, which are looked for once.
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
    check_labels(bank_labels, bank, classes)?;
    let (similarities, indices) = neighbors(bank, test, most)?;
    let labels = bank_labels.take(&indices);
    let of = |&k: &usize| {
        // exp(s / τ), but for a factor of each row's own that keeps small temperatures from overflowing.
        let weights = (similarities.narrow(1, 0, k as i64) / temperature).softmax(1, None);
        let votes = Tensor::zeros([test.size()[0], classes], (weights.kind(), weights.device()));
        votes.scatter_add(1, &labels.narrow(1, 0, k as i64), &weights)
    };
    Ok(ks.iter().map(of).collect())
}

/// The share of `test` whose class kNN over `bank` gives rightly.
///
/// # Errors
/// When one of the two has no labels, and as [`knn_predict`].
pub fn knn_top1(bank: &Features, test: &Features, classes: i64, config: &KnnConfig) -> Result<f64> {
    let truth = test.labels()?;
    let predicted = knn_predict(&bank.x, bank.labels()?, &test.x, classes, config)?;
    Ok(accuracy(&predicted, truth))
}

/// The share of labels, `[n]`, that are equal.
pub(crate) fn accuracy(predicted: &Tensor, truth: &Tensor) -> f64 {
    predicted.eq_tensor(truth).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
}

/// Whether `labels`, one for each row of `x`, are all among `classes`.
pub(crate) fn check_labels(labels: &Tensor, x: &Tensor, classes: i64) -> Result<()> {
    let (n, given) = (x.size()[0], labels.size());
    ensure!(given == [n], "{n} rows of features need as many labels, and the labels are {given:?}");
    ensure!(n > 0, "there are no labeled images");
    let (least, greatest) = labels.aminmax(None, false);
    let (least, greatest) = (least.int64_value(&[]), greatest.int64_value(&[]));
    ensure!(
        0 <= least && greatest < classes,
        "labels go from {least} to {greatest}, and have to be from 0 to below {classes}, the number of classes"
    );
    Ok(())
}
