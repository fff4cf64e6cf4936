//! The inputs of a step that come from the CPU, kept for steps that are captured in a CUDA graph.

use portolan_tensor::{Tensor, scalar, upload};
use std::cell::{Cell, RefCell};
use std::fmt;

use super::StepContext;

/// How a value is made for a step.
pub(crate) enum Make {
    Number(Box<dyn Fn(&StepContext) -> f64>),
    Tensor(Box<dyn Fn(&StepContext) -> Tensor>),
}

struct Slot {
    micro_batch: u64,
    make: Make,
    /// Always the same tensor; its values are those of the current step.
    tensor: Tensor,
}

impl Slot {
    fn refresh(&self, cx: &StepContext) {
        let cx = cx.with_micro_batch(self.micro_batch).with_inputs(None);
        match &self.make {
            Make::Number(of) => _ = self.tensor.shallow_clone().fill_(of(&cx)),
            Make::Tensor(make) => self.tensor.shallow_clone().copy_(&upload(&make(&cx), cx.device)),
        }
    }
}

/// The values that a method requested in a step ([`StepContext::tensor_input`],
/// [`StepContext::scalar_input`]), in order. Each is kept in one tensor, with the function that
/// computes it for another step.
#[derive(Default)]
pub struct StepInputs {
    slots: RefCell<Vec<Slot>>,
    next: Cell<usize>,
}

impl StepInputs {
    /// The next requested value: from its slot if there is one, otherwise computed for this step.
    pub(crate) fn next(&self, cx: &StepContext, make: Make) -> Tensor {
        let mut slots = self.slots.borrow_mut();
        let place = self.next.replace(self.next.get() + 1);
        if place == slots.len() {
            let tensor = match &make {
                Make::Number(of) => scalar(of(cx), cx.device),
                Make::Tensor(make) => upload(&make(cx), cx.device),
            };
            slots.push(Slot { micro_batch: cx.micro_batch, make, tensor });
        }
        slots[place].tensor.shallow_clone()
    }

    /// Starts again from the first value: the next step requests the same ones.
    pub fn restart(&self) {
        self.next.set(0);
    }

    /// Recomputes all values for the step of `cx`.
    pub fn refresh(&self, cx: &StepContext) {
        for slot in self.slots.borrow().iter() {
            slot.refresh(cx);
        }
    }
}

impl fmt::Debug for StepInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepInputs({} values, {} asked for)", self.slots.borrow().len(), self.next.get())
    }
}
