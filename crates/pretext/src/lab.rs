//! The color space CIE L*a*b* (D65), in which distances approximate perceived differences.

use portolan_tensor::{Kind, Tensor};

/// Linear sRGB to XYZ (IEC 61966-2-1) as a 1×1 convolution, with each row divided by the white
/// point.
pub(crate) fn xyz_of_rgb() -> Tensor {
    Tensor::from_slice(&[
        0.412_453f32 / 0.950_47,
        0.357_580 / 0.950_47,
        0.180_423 / 0.950_47,
        0.212_671,
        0.715_160,
        0.072_169,
        0.019_334 / 1.088_83,
        0.119_193 / 1.088_83,
        0.950_227 / 1.088_83,
    ])
    .view([3, 3, 1, 1])
}

/// sRGB, `[batch, 3, h, w]` from 0 to 1, to L* (0 to 100), a* and b* (about ±110), by
/// [`xyz_of_rgb`].
pub(crate) fn lab(rgb: &Tensor, xyz_of_rgb: &Tensor) -> Tensor {
    let low = rgb / 12.92;
    let high = ((rgb + 0.055) / 1.055).clamp_min(1e-6).pow_tensor_scalar(2.4);
    let linear = low.where_self(&rgb.le(0.04045), &high);
    let xyz = linear.conv2d(xyz_of_rgb, None::<Tensor>, 1, 0, 1, 1);
    let root = xyz.clamp_min(1e-6).pow_tensor_scalar(1.0 / 3.0);
    let f = root.where_self(&xyz.gt(0.008_856), &(&xyz * 7.787 + 16.0 / 116.0));
    let part = |i: i64| f.narrow(1, i, 1);
    let l = part(1) * 116.0 - 16.0;
    let a = (part(0) - part(1)) * 500.0;
    let b = (part(1) - part(2)) * 200.0;
    Tensor::cat(&[l, a, b], 1)
}

/// The centers of the cells of side `side` over a* and b* that contain an sRGB color, `[cells, 2]`.
/// There are 261 with a side of 10; Zhang et al. keep 313 (figure 3a), which include cells without
/// any color.
pub(crate) fn cells(side: f64) -> Tensor {
    // Every fourth level of each channel is fine enough to reach all cells, except for slivers at
    // the edge.
    let levels = Tensor::linspace(0.0, 1.0, 65, (Kind::Float, portolan_tensor::Device::Cpu));
    let grid = Tensor::meshgrid_indexing(&[&levels, &levels, &levels], "ij");
    let rgb = Tensor::stack(&[&grid[0], &grid[1], &grid[2]], 0).view([1, 3, -1, 1]);
    let ab = lab(&rgb, &xyz_of_rgb()).narrow(1, 1, 2).view([2, -1]).tr();
    let cells = ((ab / side).round() * side).unique_dim(0, true, false, false).0;
    cells.contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_tensor::Device;

    #[test]
    fn colors_have_their_known_coordinates() {
        // Red, green, blue, white, middle gray: as scikit-image's rgb2lab has them.
        let rgb = [[1f32, 0., 0.], [0., 1., 0.], [0., 0., 1.], [1., 1., 1.], [0.5, 0.5, 0.5]];
        let expected = [
            [53.2408, 80.0925, 67.2032],
            [87.7347, -86.1827, 83.1793],
            [32.2970, 79.1875, -107.8602],
            [100.0, 0.0, 0.0],
            [53.3890, 0.0, 0.0],
        ];
        for (rgb, expected) in rgb.iter().zip(expected) {
            let found = lab(&Tensor::from_slice(rgb).view([1, 3, 1, 1]), &xyz_of_rgb());
            for (i, value) in expected.into_iter().enumerate() {
                let off = (found.double_value(&[0, i as i64, 0, 0]) - value).abs();
                assert!(off < 0.05, "{rgb:?}: off by {off}");
            }
        }
    }

    #[test]
    fn gray_has_a_cell_and_no_cell_is_empty() {
        let cells = cells(10.0);
        assert_eq!(cells.size(), [261, 2]);
        let gray = Tensor::zeros([1, 2], (Kind::Float, Device::Cpu));
        assert_eq!((&cells - gray).norm_scalaropt_dim(2, [1], false).min().double_value(&[]), 0.0);
    }
}
