//! How well each factor is predicted from a representation, and how far it moves it.

use portolan_data::shapes::{CLASSES, Shapes};
use portolan_tensor::{Kind, Tensor};
use serde::Serialize;

use super::images::FactorImages;
use super::ridge::Ridge;
use super::scene::{FACTORS, Scene, Value, scene};
use crate::error::Result;
use crate::labels::accuracy;
use crate::normalize::unit_rows;
use crate::protocols::probe::LinearProbe;

/// How a representation encodes one factor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FactorRow {
    /// The factor.
    pub name: &'static str,
    /// `accuracy` or `R²`.
    pub measure: &'static str,
    /// How well a linear probe, fitted to the training split, predicts the factor of test images:
    /// its accuracy, or the explained share of the variance (R²; below 0 if the mean predicts
    /// better).
    pub read: f64,
    /// How far a change of this factor alone moves the embedding, relative to the distance between
    /// images of different kinds: 0 if the representation ignores it. Embeddings have length one.
    pub moved: Option<f64>,
}

/// How a representation encodes all factors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FactorTable {
    /// One row per factor.
    pub rows: Vec<FactorRow>,
    /// How far each dimension encodes a single factor, 0 to 1: DCI's disentanglement (Eastwood and
    /// Williams 2018), with the norms of the ridge regressions' weights as importance.
    pub disentanglement: f64,
    /// How far each factor is encoded by a single dimension, 0 to 1: DCI's completeness, likewise.
    pub completeness: f64,
}

/// Predicts all factors from a representation of the splits.
///
/// # Errors
/// When a probe cannot be fitted.
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
                let (fitted, targets) = (numbers(&train, of), numbers(&test, of));
                let weights = ridge.fit(&fitted);
                importance.push(weights.square().sum_dim_intlist(1, false, Kind::Double).sqrt());
                ("R²", ridge.r_squared(&weights, &fitted, &images.test, &targets))
            }
            Value::WithinKind(of) => {
                let (fitted, targets) = within_kind(&train, &test, of);
                ("R²", ridge.r_squared(&ridge.fit(&fitted), &fitted, &images.test, &targets))
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
        disentanglement: concentration(&importance),
        completeness: concentration(&importance.tr()),
    })
}

/// The numbers of all scenes, `[n, numbers]`.
fn numbers(scenes: &[Scene], of: &fn(&Scene) -> Vec<f32>) -> Tensor {
    let values: Vec<f32> = scenes.iter().flat_map(of).collect();
    Tensor::from_slice(&values).view([scenes.len() as i64, -1]).to_kind(Kind::Double)
}

/// The numbers of both splits minus the training split's mean over the images of the kind.
fn within_kind(train: &[Scene], test: &[Scene], of: &fn(&Scene) -> Vec<f32>) -> (Tensor, Tensor) {
    let labels = |scenes: &[Scene]| {
        let labels: Vec<i64> = scenes.iter().map(|scene| i64::from(scene.kind.label())).collect();
        Tensor::from_slice(&labels).one_hot(CLASSES.len() as i64).to_kind(Kind::Double)
    };
    let (fitted, targets) = (numbers(train, of), numbers(test, of));
    let one_hot = labels(train);
    let counts = one_hot.sum_dim_intlist(0, false, Kind::Double).clamp_min(1.0);
    let means = one_hot.tr().matmul(&fitted) / counts.unsqueeze(1);
    let centered = |values: &Tensor, one_hot: &Tensor| values - one_hot.matmul(&means);
    (centered(&fitted, &one_hot), centered(&targets, &labels(test)))
}

/// The mean distance between the normalized embeddings of the same row.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let unit = |x: &Tensor| unit_rows(&x.to_kind(Kind::Double));
    let apart = (unit(a) - unit(b)).square().sum_dim_intlist(1, false, Kind::Double).sqrt();
    apart.mean(Kind::Double).double_value(&[])
}

/// The mean distance between test images of different kinds. Kinds alternate, so that consecutive
/// images differ in kind.
fn between_kinds(x: &Tensor, scenes: &[Scene]) -> f64 {
    debug_assert!(scenes.windows(2).all(|pair| pair[0].kind != pair[1].kind));
    distance(x, &x.roll([1i64].as_slice(), [0i64].as_slice())).max(1e-12)
}

/// 1 − the entropy of each row's shares (to the base of their number), averaged with the rows' own
/// shares of all importance as weights.
fn concentration(importance: &Tensor) -> f64 {
    let rows = importance.sum_dim_intlist(1, true, Kind::Double);
    let shares = importance / rows.clamp_min(1e-12);
    let entropy =
        -(&shares * shares.clamp_min(1e-12).log()).sum_dim_intlist(1, false, Kind::Double)
            / (importance.size()[1] as f64).ln();
    let weights = rows.squeeze_dim(1) / importance.sum(Kind::Double).clamp_min(1e-12);
    let weighted: Tensor = (1.0 - entropy) * weights;
    weighted.sum(Kind::Double).double_value(&[])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::factors::scene::circle;
    use portolan_data::Source;
    use portolan_data::Split;
    use portolan_tensor::Device;

    fn splits() -> (Shapes, Shapes) {
        portolan_tensor::tch::set_num_threads(1);
        let of = |split| Shapes::new(split, 120, 32, 0).unwrap();
        (of(Split::Train), of(Split::Test))
    }

    /// A representation of the kind, and the hue if asked for, and nothing else.
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
    fn encoded_factors_are_predicted_and_others_are_not() {
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
        // Hue correlates with the kind: the kind alone predicts much of it, but nothing within the
        // kind.
        assert!(row(&without, "hue").read > 0.7);
        assert!(row(&without, "hue within the kind").read < 0.05);
        assert!(row(&with, "size").read < 0.05);
    }

    #[test]
    fn a_change_moves_a_representation_that_depends_on_the_factor() {
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
            let rows = (0..source.len()).map(mean).collect::<anyhow::Result<Vec<_>>>()?.concat();
            anyhow::Ok(Tensor::from_slice(&rows).view([-1, 3]))
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
        let eye = Tensor::eye(4, (Kind::Double, Device::Cpu));
        assert!((concentration(&eye) - 1.0).abs() < 1e-9);
        assert!(concentration(&eye.ones_like()).abs() < 1e-9);
    }
}
