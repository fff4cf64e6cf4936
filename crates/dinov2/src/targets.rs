//! The targets of the student: distributions of the teacher.

use portolan_losses::{dino, sinkhorn_knopp};
use portolan_method::{Result, StepContext};
use portolan_tensor::{Device, Kind, Tensor, at_least_f32};

use crate::Centering;

/// Iterations of Sinkhorn–Knopp (`sinkhorn_knopp_teacher`).
const ITERATIONS: u32 = 3;

/// Turns outputs of the teacher into targets. The class tokens and the patches have one each.
#[derive(Debug)]
pub(crate) struct Targets {
    centering: Centering,
    /// The running mean of the outputs, `[K]`. Sinkhorn–Knopp leaves it at zero.
    pub(crate) center: Tensor,
    /// The sum of this step's outputs and their number, `[K + 1]`, for each micro-batch.
    sums: Vec<Tensor>,
}

impl Targets {
    pub(crate) fn new(centering: Centering, dim: i64, device: Device) -> Self {
        let center = Tensor::zeros([dim], (Kind::Float, device));
        Targets { centering, center, sums: Vec::new() }
    }

    /// Forgets the outputs of a step that came to nothing.
    pub(crate) fn start_step(&mut self) {
        self.sums.clear();
    }

    /// The distributions for `outputs`, `[rows, K]`. `counted`, `[rows]`, is 0 for a row that
    /// counts for nothing and 1 for the others.
    pub(crate) fn of(
        &mut self,
        outputs: &Tensor,
        counted: &Tensor,
        temperature: &Tensor,
    ) -> Result<Tensor> {
        match self.centering {
            Centering::SinkhornKnopp => {
                Ok(sinkhorn_knopp(outputs, counted, temperature, ITERATIONS)?)
            }
            Centering::Softmax => {
                let outputs = at_least_f32(outputs);
                let counted = counted.unsqueeze(1).to_kind(outputs.kind());
                let rows = Tensor::cat(&[&outputs * &counted, counted], 1);
                self.sums.push(rows.sum_dim_intlist([0i64].as_slice(), false, None::<Kind>));
                Ok(dino::targets(&outputs, &self.center, temperature)?)
            }
        }
    }

    /// Moves the center towards the mean of this step's outputs in all processes.
    pub(crate) fn update_center(&mut self, momentum: f64, cx: &StepContext) -> Result<()> {
        let Some(sum) = self.sums.drain(..).reduce(|a, b| a + b) else { return Ok(()) };
        let (sum, dim) = (cx.mean(&sum)?, self.center.size()[0]);
        let count = sum.narrow(0, dim, 1);
        // A batch in which no patch is masked has no mean.
        let mean = (sum.narrow(0, 0, dim) / &count).where_self(&count.gt(0.0), &self.center);
        Ok(dino::update_center(&mut self.center, &mean.view([1, 1, dim]), momentum)?)
    }
}
