//! Rotary positions of patches on a grid (DINOv3; Siméoni et al. 2025, arXiv:2508.10104).

use portolan_tensor::{Device, Kind, Tensor};

/// The base of the wavelengths: `pos_embed_rope_base` in DINOv3's hub code.
const BASE: f64 = 100.0;

/// The turn of each token's queries and keys: the sine and cosine of its angles, each
/// `[tokens, numbers per head]`.
#[derive(Debug)]
pub(crate) struct Rotation {
    sin: Tensor,
    cos: Tensor,
}

impl Rotation {
    /// For `prefix` tokens that are not turned and then the patches of a grid, row by row. A patch
    /// is at its center, in coordinates from -1 to 1 along each side of the image. A quarter of the
    /// `numbers` of a head turns by the row and a quarter by the column, each together with the
    /// number half a head further on, at wavelengths from 1 to nearly 100 (`RopePositionEmbedding`
    /// with `normalize_coords="separate"`). `numbers` must be a multiple of 4.
    pub(crate) fn of_grid(
        [rows, columns]: [i64; 2],
        numbers: i64,
        prefix: i64,
        device: Device,
    ) -> Self {
        let float = (Kind::Float, device);
        let quarter = numbers / 4;
        let exponent = Tensor::arange(quarter, float) / quarter as f64;
        let wavelength = (exponent * BASE.ln()).exp();
        let places = |count: i64| (Tensor::arange(count, float) + 0.5) / count as f64 * 2.0 - 1.0;
        let angles = |places: Tensor| {
            places.unsqueeze(-1) * std::f64::consts::TAU / &wavelength // [places, quarter]
        };
        let by_row = angles(places(rows).repeat_interleave_self_int(columns, None, None));
        let by_column = angles(places(columns).repeat([rows]));
        let patches = Tensor::cat(&[by_row, by_column], 1).repeat([1, 2]);
        let unturned = Tensor::zeros([prefix, numbers], float);
        let all = Tensor::cat(&[unturned, patches], 0);
        Rotation { sin: all.sin(), cos: all.cos() }
    }

    /// A second handle to the same values, for another thread.
    pub(crate) fn shared(&self) -> Self {
        Rotation { sin: self.sin.shallow_clone(), cos: self.cos.shallow_clone() }
    }

    /// Turns queries or keys, `[batch, heads, tokens, numbers per head]`. In half precision it
    /// computes in float32, as the authors' code does.
    pub(super) fn turn(&self, x: &Tensor) -> Tensor {
        let halves = x.chunk(2, -1);
        let across = Tensor::cat(&[-&halves[1], halves[0].shallow_clone()], -1);
        (x * &self.cos + across * &self.sin).to_kind(x.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_turn_by_row_and_column_and_the_prefix_stays() {
        let rotation = Rotation::of_grid([2, 4], 8, 3, Device::Cpu);
        let x = Tensor::zeros([1, 1, 3 + 8, 8], (Kind::Float, Device::Cpu));
        let _ = x.narrow(3, 0, 4).fill_(1.0); // every pair of numbers is (1, 0)
        let turned = rotation.turn(&x);
        assert!(turned.narrow(2, 0, 3).equal(&x.narrow(2, 0, 3)));
        let patch = turned.select(2, 3 + 4 + 1); // row 1 of 2 at 0.5, column 1 of 4 at -0.25
        // Wavelengths 1 and 10.
        let angles = [0.5, 0.05, -0.25, -0.025].map(|turns: f64| turns * std::f64::consts::TAU);
        for (i, angle) in angles.into_iter().enumerate() {
            let at = |i: usize| patch.double_value(&[0, 0, i as i64]);
            assert!((at(i) - angle.cos()).abs() < 1e-6, "{i}: {}", at(i));
            assert!((at(i + 4) - angle.sin()).abs() < 1e-6, "{i}: {}", at(i + 4));
        }
    }

    #[test]
    fn products_depend_on_the_distance_of_patches_alone() {
        let rotation = Rotation::of_grid([1, 6], 16, 0, Device::Cpu);
        let draw = || Tensor::randn([1, 1, 1, 16], (Kind::Double, Device::Cpu));
        let (query, key) =
            (draw().expand([1, 1, 6, 16], false), draw().expand([1, 1, 6, 16], false));
        let products = rotation.turn(&query).matmul(&rotation.turn(&key).transpose(2, 3));
        let at = |i, j| products.double_value(&[0, 0, i, j]);
        assert!((at(0, 2) - at(3, 5)).abs() < 1e-5 && (at(0, 2) - at(2, 0)).abs() > 1e-3);
    }
}
