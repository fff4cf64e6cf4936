//! Checks of a loss's inputs, and the precision in which it computes.

use portolan_tensor::{Kind, Tensor, full_precision};

use crate::{Error, Result};

/// An input and its name in error messages.
pub(crate) type Named<'a> = (&'a str, &'a Tensor);

/// The shape of a `[batch, dim]` input with at least `least` rows.
pub(crate) fn rows((name, x): Named, least: i64) -> Result<(i64, i64)> {
    let shape = x.size();
    let &[batch, dim] = shape.as_slice() else {
        let message = format!("`{name}` must have the shape [batch, dim], but has {shape:?}");
        return Err(Error::Shape(message));
    };
    if batch < least {
        return Err(Error::SmallBatch { name: name.to_owned(), rows: batch, least });
    }
    Ok((batch, dim))
}

/// The shape that two `[batch, dim]` inputs share, with at least `least` rows.
pub(crate) fn pair(a: Named, b: Named, least: i64) -> Result<(i64, i64)> {
    same_shape(a, b)?;
    rows(a, least)
}

/// Refuses two inputs of different shapes.
pub(crate) fn same_shape((name_a, a): Named, (name_b, b): Named) -> Result<()> {
    let (shape_a, shape_b) = (a.size(), b.size());
    if shape_a != shape_b {
        return Err(Error::Shape(format!(
            "`{name_a}` has the shape {shape_a:?} and `{name_b}` {shape_b:?}; they must be equal"
        )));
    }
    Ok(())
}

/// Refuses a setting that is not a positive number.
pub(crate) fn positive(name: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::NotPositive { name: name.to_owned(), value })
}

/// Computes `body` of `inputs` in float32, or float64 if one of them is, with autocast off.
pub(crate) fn in_float<T, const N: usize>(
    inputs: [&Tensor; N],
    body: impl FnOnce([Tensor; N]) -> T,
) -> Result<T> {
    let device = inputs[0].device();
    if let Some(other) = inputs.iter().map(|input| input.device()).find(|other| *other != device) {
        return Err(Error::Devices { first: device, other });
    }
    let double = inputs.iter().any(|input| input.kind() == Kind::Double);
    let kind = if double { Kind::Double } else { Kind::Float };
    Ok(full_precision(device, || body(inputs.map(|input| input.to_kind(kind))))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_tensor::{Device, autocast_bf16};

    use super::*;

    fn zeros(shape: &[i64]) -> Tensor {
        Tensor::zeros(shape, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn errors_name_the_inputs_and_both_shapes() {
        let error = pair(("z_a", &zeros(&[4, 3])), ("z_b", &zeros(&[5, 3])), 2).unwrap_err();
        let error = error.to_string();
        for part in ["z_a", "[4, 3]", "z_b", "[5, 3]"] {
            assert!(error.contains(part), "{error}");
        }
        let error = rows(("x", &zeros(&[4, 3, 2])), 1).unwrap_err().to_string();
        assert!(error.contains("`x`") && error.contains("[4, 3, 2]"), "{error}");
    }

    #[test]
    fn a_batch_too_small_is_refused() {
        assert!(rows(("x", &zeros(&[1, 3])), 2).unwrap_err().to_string().contains("at least 2"));
        assert_eq!(rows(("x", &zeros(&[2, 3])), 2).unwrap(), (2, 3));
    }

    #[test]
    fn a_setting_must_be_positive() {
        for wrong in [0.0, -0.1, f64::NAN, f64::INFINITY] {
            assert!(positive("temperature", wrong).is_err());
        }
    }

    #[test]
    fn products_are_float32_inside_autocast_and_of_half_inputs() {
        let half = zeros(&[2, 2]).to_kind(Kind::BFloat16);
        let product = || in_float([&half], |[x]| x.matmul(&x)).unwrap().kind();
        assert_eq!(autocast_bf16(Device::Cpu, product).unwrap(), Kind::Float);
        let double = zeros(&[2, 2]).to_kind(Kind::Double);
        assert_eq!(in_float([&half, &double], |[x, _]| x.kind()).unwrap(), Kind::Double);
    }
}
