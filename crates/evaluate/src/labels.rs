//! Checking and comparing labels.

use portolan_tensor::{Kind, Tensor};

use crate::error::{Error, Result};

/// The share of labels, `[n]`, that are predicted correctly.
pub(crate) fn accuracy(predicted: &Tensor, truth: &Tensor) -> f64 {
    predicted.eq_tensor(truth).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
}

/// Checks that there is a label for each row of `x`, and that all are from 0 to below `classes`.
pub(crate) fn check(labels: &Tensor, x: &Tensor, classes: i64) -> Result<()> {
    let (n, given) = (x.size()[0], labels.size());
    if given != [n] {
        return Err(Error::Shape(format!(
            "{n} rows of features need as many labels, and the labels are {given:?}"
        )));
    }
    if n == 0 {
        return Err(Error::Images("there are no labeled images".to_owned()));
    }
    let (least, greatest) = labels.aminmax(None, false);
    let (least, greatest) = (least.int64_value(&[]), greatest.int64_value(&[]));
    if least < 0 || greatest >= classes {
        return Err(Error::Labels { least, greatest, classes });
    }
    Ok(())
}
