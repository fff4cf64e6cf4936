//! Linear classifiers on the same features, one per learning rate, trained in one pass.

use portolan_tensor::{Device, Kind, Tensor, no_grad};

/// One classifier per learning rate, trained by SGD with momentum on cross-entropy without weight
/// decay. They start from zero, where the problem is convex and needs no draw: at a very low rate
/// they compare an input with the class means.
#[derive(Debug)]
pub(crate) struct Classifiers {
    /// `[rates, classes, width + 1]`, the bias last.
    weight: Tensor,
    velocity: Tensor,
    /// `[rates, 1, 1]`.
    learning_rates: Tensor,
    momentum: f64,
}

impl Classifiers {
    /// Classifiers of features `[n, width]` on `device`.
    pub(crate) fn new(
        learning_rates: &[f64],
        momentum: f64,
        width: i64,
        classes: i64,
        device: Device,
    ) -> Self {
        let zeros = || {
            let shape = [learning_rates.len() as i64, classes, width + 1];
            Tensor::zeros(shape, (Kind::Float, device))
        };
        let learning_rates = Tensor::from_slice(learning_rates)
            .to_kind(Kind::Float)
            .to_device(device)
            .view([-1, 1, 1]);
        Classifiers { weight: zeros(), velocity: zeros(), learning_rates, momentum }
    }

    /// The number of classifiers.
    pub(crate) fn len(&self) -> usize {
        self.weight.size()[0] as usize
    }

    /// One step on features `[n, width]` with labels `[n]`, at this share of the learning rates.
    pub(crate) fn step(&mut self, x: &Tensor, labels: &Tensor, share: f64) {
        no_grad(|| {
            let x = with_one(x);
            let classes = self.weight.size()[1];
            let targets = labels.one_hot(classes).to_kind(Kind::Float);
            let p = x.matmul(&self.weight.transpose(1, 2)).softmax(-1, None::<Kind>);
            let gradient = (p - targets).transpose(1, 2).matmul(&x) / x.size()[0] as f64;
            self.velocity = &self.velocity * self.momentum + gradient;
            self.weight -= &self.velocity * (&self.learning_rates * share);
        });
    }

    /// The logits of the `n`-th classifier, `[n, classes]`.
    pub(crate) fn logits(&self, n: i64, x: &Tensor) -> Tensor {
        // A learning rate that is far too high leads to NaN, which must not win.
        with_one(x).matmul(&self.weight.get(n).tr()).nan_to_num(0.0, 0.0, 0.0)
    }

    /// How many of the features `[n, width]` each classifier assigns to their labels, `[n]`:
    /// `[rates]`, int64.
    pub(crate) fn correct(&self, x: &Tensor, labels: &Tensor) -> Tensor {
        let logits = with_one(x).matmul(&self.weight.transpose(1, 2)).nan_to_num(0.0, 0.0, 0.0);
        let found = logits.argmax(-1, false).eq_tensor(&labels.unsqueeze(0));
        found.sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)
    }
}

fn with_one(x: &Tensor) -> Tensor {
    Tensor::cat(&[x, &Tensor::ones([x.size()[0], 1], (x.kind(), x.device()))], 1)
}
