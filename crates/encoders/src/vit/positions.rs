//! Position embeddings of a vision transformer.

use portolan_tensor::{Device, Kind, Tensor};

use super::PositionScaling;

/// Fixed sine-cosine position embeddings, `[1, rows · columns, width]`: a quarter of the numbers
/// each for the sine and cosine of column and row, at wavelengths from 2π to 10,000 · 2π (Vaswani
/// et al. 2017, section 3.5, in the two-dimensional form of MoCo v3 and MAE). `width` must be a
/// multiple of 4.
pub fn sine_cosine(rows: i64, columns: i64, width: i64, device: Device) -> Tensor {
    let double = (Kind::Double, device);
    let quarter = width / 4;
    let exponent = Tensor::arange(quarter, double) / quarter as f64;
    let rate = (exponent * -(10_000f64.ln())).exp();
    let wave = |places: Tensor| {
        let angle = places.view([-1, 1]) * &rate;
        Tensor::cat(&[angle.sin(), angle.cos()], 1)
    };
    let column = Tensor::arange(columns, double).repeat([rows]);
    let row = Tensor::arange(rows, double).repeat_interleave_self_int(columns, None, None);
    Tensor::cat(&[wave(column), wave(row)], 1).unsqueeze(0).to_kind(Kind::Float)
}

/// Interpolates position embeddings `[1, rows · columns, width]` from one grid (rows, columns) to
/// another, bicubic.
pub(crate) fn interpolate(
    positions: &Tensor,
    from: (i64, i64),
    to: (i64, i64),
    scaling: PositionScaling,
) -> Tensor {
    if from == to {
        return positions.shallow_clone();
    }
    let width = positions.size()[2];
    // PyTorch computes the positions from a given scale, or else from the two sizes.
    let scale = |from: i64, to: i64| match scaling {
        PositionScaling::Size | PositionScaling::Antialias => None,
        PositionScaling::ScaleFactor => Some((to as f64 + 0.1) / from as f64),
    };
    let scales = [scale(from.0, to.0), scale(from.1, to.1)];
    let grid = positions.reshape([1, from.0, from.1, width]).permute([0, 3, 1, 2]);
    let grid = match scaling {
        PositionScaling::Size | PositionScaling::ScaleFactor => {
            grid.upsample_bicubic2d([to.0, to.1], false, scales[0], scales[1])
        }
        PositionScaling::Antialias => {
            grid.internal_upsample_bicubic2d_aa([to.0, to.1], false, scales[0], scales[1])
        }
    };
    grid.permute([0, 2, 3, 1]).reshape([1, to.0 * to.1, width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_run_along_columns_first_then_rows() {
        let positions = sine_cosine(2, 3, 8, Device::Cpu);
        assert_eq!(positions.size(), [1, 6, 8]);
        let at = |place: i64, i: i64| positions.double_value(&[0, place, i]);
        // Position 5 is row 1, column 2: sin 2, sin 0.02, cos 2, cos 0.02; then sin 1, sin 0.01,
        // cos 1, cos 0.01.
        let expected = [2f64.sin(), 0.02f64.sin(), 2f64.cos(), 0.02f64.cos()];
        for (i, value) in expected.into_iter().enumerate() {
            assert!((at(5, i as i64) - value).abs() < 1e-6);
        }
        assert!((at(5, 4) - 1f64.sin()).abs() < 1e-6 && (at(5, 7) - 0.01f64.cos()).abs() < 1e-6);
    }

    #[test]
    fn interpolation_keeps_a_linear_course_inside() {
        let ramp = Tensor::arange(64, (Kind::Float, Device::Cpu)).view([1, 64, 1]);
        let size = PositionScaling::Size;
        assert_eq!(interpolate(&ramp, (8, 8), (8, 8), size), ramp);
        let finer = interpolate(&ramp, (8, 8), (16, 16), size).view([16, 16]);
        // Four columns of the finer grid are two of the coarser one; two rows are one, of eight
        // numbers.
        let at = |row, column| finer.double_value(&[row, column]);
        assert!((at(7, 9) - at(7, 5) - 2.0).abs() < 1e-4);
        assert!((at(9, 7) - at(7, 7) - 8.0).abs() < 1e-4);
    }

    #[test]
    fn dinos_scale_factor_moves_positions_towards_the_first() {
        // 14 columns (224 px at a patch of 16) to 6 (96 px). Column i of 6 is at (i + 0.5) · 14 / 6
        // − 0.5 by size, at (i + 0.5) · 14 / 6.1 − 0.5 by DINO's scale factor; Keys' cubic (a =
        // −0.75) of the square gives these.
        let columns = Tensor::arange(14, (Kind::Float, Device::Cpu)).view([1, 1, 14, 1]);
        let squares = columns.square().expand([1, 14, 14, 1], false).reshape([1, 196, 1]);
        let by = |scaling| interpolate(&squares, (14, 14), (6, 6), scaling).view([6, 6]).get(2);
        for (scaling, scale) in
            [(PositionScaling::Size, 6.0 / 14.0), (PositionScaling::ScaleFactor, 6.1 / 14.0)]
        {
            let found = by(scaling);
            for i in 1..5 {
                let place = (i as f64 + 0.5) / scale - 0.5;
                let expected = cubic_at(place, |x| x * x);
                let got = found.double_value(&[i]);
                assert!((got - expected).abs() < 1e-3, "{scaling:?}, {i}: {got}, not {expected}");
            }
        }
    }

    /// PyTorch's bicubic interpolation in one dimension, from the definition of the kernel.
    fn cubic_at(place: f64, value: impl Fn(f64) -> f64) -> f64 {
        const A: f64 = -0.75;
        let kernel = |x: f64| match x.abs() {
            x if x <= 1.0 => (A + 2.0) * x.powi(3) - (A + 3.0) * x.powi(2) + 1.0,
            x if x < 2.0 => A * x.powi(3) - 5.0 * A * x.powi(2) + 8.0 * A * x - 4.0 * A,
            _ => 0.0,
        };
        let first = place.floor() - 1.0;
        (0..4).map(|i| first + f64::from(i)).map(|x| kernel(place - x) * value(x)).sum()
    }
}
