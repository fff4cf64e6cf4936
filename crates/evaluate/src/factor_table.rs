//! What a representation keeps of the things an image of `shapes` was drawn from, and what it ignores.

use anyhow::{Context, Result};
use portolan_data::shapes::{CLASSES, Shapes};
use portolan_tensor::{Device, Kind as Number, Tensor, no_grad};
use serde::Serialize;

use crate::LinearProbe;
use crate::factors::{FACTORS, FactorImages, Scene, Value, scene};
use crate::knn::accuracy;

/// The penalty of linear read-outs of numbers, on features of deviation one.
const RIDGE: f64 = 1.0;

/// What a representation makes of one factor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FactorRow {
    /// The factor.
    pub name: &'static str,
    /// `accuracy` or `R²`.
    pub measure: &'static str,
    /// How well a linear read-out, fitted to the training split, tells the factor on test images: an accuracy, or the
    /// share of its variance that is explained (R²; below 0 where the mean would do better).
    pub read: f64,
    /// How far a change of this factor alone moves an image, relative to the distance between images of different kinds:
    /// 0 where the representation ignores it. Distances are between embeddings of length one.
    pub moved: Option<f64>,
}

/// What a representation makes of all factors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FactorTable {
    /// One row a factor.
    pub rows: Vec<FactorRow>,
    /// Whether a dimension serves one factor alone, 0 to 1: DCI's disentanglement (Eastwood and Williams 2018), with the
    /// absolute weights of the linear read-outs of numbers as importance.
    pub disentanglement: f64,
    /// Whether a factor is read from one dimension alone, 0 to 1: DCI's completeness, likewise.
    pub completeness: f64,
}

/// Reads all factors out of a representation of the splits.
///
/// # Errors
/// When a read-out cannot be fitted.
pub fn factor_table(images: &FactorImages, train: &Shapes, test: &Shapes) -> Result<FactorTable> {
    let scenes =
        |shapes: &Shapes| -> Vec<Scene> { (0..shapes.len()).map(|i| scene(shapes, i)).collect() };
    let (train, test) = (scenes(train), scenes(test));
    let ridge = Ridge::new(&images.train)?;
    let apart = between_kinds(&images.test, &test);
    let (mut rows, mut importance) = (Vec::new(), Vec::new());
    for (factor, changed) in FACTORS.iter().zip(&images.changed) {
        let (measure, read) = match &factor.value {
            Value::Class(classes, of) => {
                let labels = |scenes: &[Scene]| {
                    Tensor::from_slice(&scenes.iter().map(of).collect::<Vec<_>>())
                };
                let probe = LinearProbe::fit(&images.train, &labels(&train), *classes)?;
                ("accuracy", accuracy(&probe.predict(&images.test)?, &labels(&test)))
            }
            Value::Numbers(of) => {
                let weights = ridge.fit(&numbers(&train, of));
                importance.push(weights.square().sum_dim_intlist(1, false, Number::Double).sqrt());
                (
                    "R²",
                    ridge.explained(
                        &weights,
                        &numbers(&train, of),
                        &images.test,
                        &numbers(&test, of),
                    ),
                )
            }
            Value::WithinKind(of) => {
                let (fitted, wanted) = within_kind(&train, &test, of);
                ("R²", ridge.explained(&ridge.fit(&fitted), &fitted, &images.test, &wanted))
            }
        };
        let moved = changed
            .as_ref()
            .map(|changed| distance(&images.test.narrow(0, 0, changed.size()[0]), changed) / apart);
        rows.push(FactorRow { name: factor.name, measure, read, moved });
    }
    let importance = Tensor::stack(&importance, 1); // [width, factors]
    Ok(FactorTable {
        rows,
        disentanglement: one_sidedness(&importance),
        completeness: one_sidedness(&importance.tr()),
    })
}

/// `[n, numbers]`.
fn numbers(scenes: &[Scene], of: &fn(&Scene) -> Vec<f32>) -> Tensor {
    let values: Vec<f32> = scenes.iter().flat_map(of).collect();
    Tensor::from_slice(&values).view([scenes.len() as i64, -1]).to_kind(Number::Double)
}

/// The numbers of both splits, less the training split's mean over the images of the kind.
fn within_kind(train: &[Scene], test: &[Scene], of: &fn(&Scene) -> Vec<f32>) -> (Tensor, Tensor) {
    let labels = |scenes: &[Scene]| {
        let labels: Vec<i64> = scenes.iter().map(|scene| i64::from(scene.kind.label())).collect();
        Tensor::from_slice(&labels).one_hot(CLASSES.len() as i64).to_kind(Number::Double)
    };
    let (fitted, wanted) = (numbers(train, of), numbers(test, of));
    let one_hot = labels(train);
    let counts = one_hot.sum_dim_intlist(0, false, Number::Double).clamp_min(1.0);
    let means = one_hot.tr().matmul(&fitted) / counts.unsqueeze(1);
    let less = |values: &Tensor, one_hot: &Tensor| values - one_hot.matmul(&means);
    (less(&fitted, &one_hot), less(&wanted, &labels(test)))
}

/// Ridge regression on features brought to mean zero and deviation one.
struct Ridge {
    mean: Tensor,
    deviation: Tensor,
    x: Tensor,
    /// The Cholesky factor of XᵀX + λ.
    root: Tensor,
}

impl Ridge {
    fn new(x: &Tensor) -> Result<Self> {
        no_grad(|| {
            let x = x.to_kind(Number::Double);
            let mean = x.mean_dim(0, true, Number::Double);
            // A dimension that never moves says nothing, and stays zero.
            let deviation = x.std_dim(0, false, true).clamp_min(1e-12);
            let x = (x - &mean) / &deviation;
            let eye = Tensor::eye(x.size()[1], (Number::Double, Device::Cpu));
            let root = (x.tr().matmul(&x) + eye * RIDGE)
                .f_linalg_cholesky(false)
                .context("the features are not finite, and nothing can be read from them")?;
            Ok(Ridge { mean, deviation, x, root })
        })
    }

    /// The weights that predict `wanted`, `[n, numbers]`, but for its mean: `[width, numbers]`.
    fn fit(&self, wanted: &Tensor) -> Tensor {
        let centered = wanted - wanted.mean_dim(0, true, Number::Double);
        self.x.tr().matmul(&centered).cholesky_solve(&self.root, false)
    }

    /// R² of the prediction on test features: the share of the variance about the training split's mean.
    fn explained(&self, weights: &Tensor, fitted: &Tensor, x: &Tensor, wanted: &Tensor) -> f64 {
        let x = (x.to_kind(Number::Double) - &self.mean) / &self.deviation;
        let centered = wanted - fitted.mean_dim(0, true, Number::Double);
        let square = |x: Tensor| x.square().sum(Number::Double).double_value(&[]);
        1.0 - square(&centered - x.matmul(weights)) / square(centered)
    }
}

fn unit(x: &Tensor) -> Tensor {
    let x = x.to_kind(Number::Double);
    &x / x.square().sum_dim_intlist(1, true, Number::Double).sqrt().clamp_min(1e-12)
}

/// The mean distance between embeddings of the same row, at length one.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let apart = (unit(a) - unit(b)).square().sum_dim_intlist(1, false, Number::Double).sqrt();
    apart.mean(Number::Double).double_value(&[])
}

/// The mean distance between test images of different kinds. Kinds take turns, so that an image and the next differ.
fn between_kinds(x: &Tensor, scenes: &[Scene]) -> f64 {
    debug_assert!(scenes.windows(2).all(|pair| pair[0].kind != pair[1].kind));
    distance(x, &x.roll([1i64].as_slice(), [0i64].as_slice())).max(1e-12)
}

/// 1 − the entropy of each row's shares (to the base of their number), weighted by the row's own share of all.
fn one_sidedness(importance: &Tensor) -> f64 {
    let rows = importance.sum_dim_intlist(1, true, Number::Double);
    let shares = importance / rows.clamp_min(1e-12);
    let entropy =
        -(&shares * shares.clamp_min(1e-12).log()).sum_dim_intlist(1, false, Number::Double)
            / (importance.size()[1] as f64).ln();
    let weights = rows.squeeze_dim(1) / importance.sum(Number::Double).clamp_min(1e-12);
    let sided: Tensor = (1.0 - entropy) * weights;
    sided.sum(Number::Double).double_value(&[])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::factors::circle;
    use portolan_data::{Source, Split};

    fn splits() -> (Shapes, Shapes) {
        portolan_tensor::tch::set_num_threads(1);
        let of = |split| Shapes::new(split, 120, 32, 0).unwrap();
        (of(Split::Train), of(Split::Test))
    }

    /// A representation that is the kind and the hue and nothing else: it knows images by their description.
    fn kind_and_hue(source: &dyn Source, shapes: &Shapes, hue: bool) -> Tensor {
        let rows = (0..source.len()).flat_map(|index| {
            let factors = shapes.factors(index);
            let mut row = vec![0f32; 12];
            row[shapes.kind(index).label() as usize] = 1.0;
            if hue {
                row[10..].copy_from_slice(&circle(factors.hue));
            }
            row
        });
        Tensor::from_slice(&rows.collect::<Vec<_>>()).view([-1, 12])
    }

    fn row<'a>(table: &'a FactorTable, name: &str) -> &'a FactorRow {
        table.rows.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_not() {
        let (train, test) = splits();
        let table = |hue| {
            let images = FactorImages {
                train: kind_and_hue(&train, &train, hue),
                test: kind_and_hue(&test, &test, hue),
                changed: FACTORS.iter().map(|_| None).collect(),
            };
            factor_table(&images, &train, &test).unwrap()
        };
        let (with, without) = (table(true), table(false));
        assert_eq!(row(&with, "kind").read, 1.0);
        assert!(row(&with, "hue").read > 0.99 && row(&with, "hue within the kind").read > 0.98);
        // Hue goes with the kind: much of it is known without being shown, but nothing within the kind.
        assert!(row(&without, "hue").read > 0.7);
        assert!(row(&without, "hue within the kind").read < 0.05);
        assert!(row(&with, "size").read < 0.05);
    }

    #[test]
    fn a_factor_moves_what_shows_it() {
        let (train, test) = splits();
        // The mean color of an image: blind to a mirror, not to its exposure.
        let color = |source: &dyn Source| {
            let mean = |index| {
                let image = source.image(index)?.decode()?;
                let sum = |c: usize| {
                    image.pixels().map(|p| f32::from(p[c])).sum::<f32>() / 1024.0 - 128.0
                };
                Ok((0..3).map(sum).collect::<Vec<f32>>())
            };
            let rows = (0..source.len()).map(mean).collect::<Result<Vec<_>>>()?.concat();
            Ok(Tensor::from_slice(&rows).view([-1, 3]))
        };
        let images = FactorImages::embed(&train, &test, 32, color).unwrap();
        let table = factor_table(&images, &train, &test).unwrap();
        let moved = |name| row(&table, name).moved.unwrap();
        assert!(moved("mirrored") < 0.1, "{}", moved("mirrored"));
        assert!(moved("hue") > 0.3, "{}", moved("hue"));
        assert!(row(&table, "hue within the kind").moved.is_none());
        assert!(row(&table, "exposure").read > row(&table, "mirrored").moved.unwrap());
    }

    #[test]
    fn disentanglement_is_one_for_a_factor_a_dimension() {
        let eye = Tensor::eye(4, (Number::Double, Device::Cpu));
        assert!((one_sidedness(&eye) - 1.0).abs() < 1e-9);
        assert!(one_sidedness(&eye.ones_like()).abs() < 1e-9);
    }
}
