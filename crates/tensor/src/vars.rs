//! The named tensors of a network.

use std::cell::RefCell;
use std::rc::Rc;
use tch::{Device, Tensor};

/// One named tensor of a network.
#[derive(Debug)]
pub struct Var {
    /// Its name, as in the Python libraries: `layer1.0.conv1.weight`.
    pub name: String,
    /// The tensor. Clones are shallow, so that all of them see the optimizer's updates.
    pub tensor: Tensor,
    /// Whether it is a parameter, which the optimizer updates, or a buffer, which is only stored.
    pub trained: bool,
}

/// Collects the named tensors of a network while its layers are built.
///
/// ```
/// use portolan_tensor::{Device, Kind, Tensor, Vars};
///
/// let vars = Vars::new(Device::Cpu);
/// let layer = &(&vars / "layer1") / 0;
/// let weight = layer.parameter("weight", Tensor::zeros([4, 3], (Kind::Float, Device::Cpu)));
/// assert!(weight.requires_grad());
/// assert_eq!(vars.state()[0].0, "layer1.0.weight");
/// ```
#[derive(Clone, Debug)]
pub struct Vars {
    device: Device,
    prefix: String,
    all: Rc<RefCell<Vec<Var>>>,
}

impl Vars {
    /// An empty collection whose tensors live on `device`.
    pub fn new(device: Device) -> Self {
        Vars { device, prefix: String::new(), all: Rc::default() }
    }

    /// The device of the tensors.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Adds a parameter with these initial values.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn parameter(&self, name: &str, values: Tensor) -> Tensor {
        self.add(name, values.to_device(self.device).set_requires_grad(true), true)
    }

    /// Adds a buffer with these initial values: stored, but not trained.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn buffer(&self, name: &str, values: Tensor) -> Tensor {
        self.add(name, values.to_device(self.device), false)
    }

    fn add(&self, name: &str, tensor: Tensor, trained: bool) -> Tensor {
        let name = format!("{}{name}", self.prefix);
        let mut all = self.all.borrow_mut();
        assert!(all.iter().all(|var| var.name != name), "two tensors are named `{name}`");
        all.push(Var { name, tensor: tensor.shallow_clone(), trained });
        tensor
    }

    /// The parameters, in the order in which they were added.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.select(|var| var.trained)
    }

    /// The buffers, in the order in which they were added.
    pub fn buffers(&self) -> Vec<(String, Tensor)> {
        self.select(|var| !var.trained)
    }

    /// Parameters and buffers: all that a checkpoint must hold.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.select(|_| true)
    }

    fn select(&self, keep: impl Fn(&Var) -> bool) -> Vec<(String, Tensor)> {
        self.all
            .borrow()
            .iter()
            .filter(|var| keep(var) && var.name.starts_with(&self.prefix))
            .map(|var| (var.name[self.prefix.len()..].to_owned(), var.tensor.shallow_clone()))
            .collect()
    }
}

/// `vars / "layer1" / 0` collects under `layer1.0.`.
impl<T: std::fmt::Display> std::ops::Div<T> for &Vars {
    type Output = Vars;
    fn div(self, name: T) -> Vars {
        let prefix = format!("{}{name}.", self.prefix);
        Vars { device: self.device, prefix, all: Rc::clone(&self.all) }
    }
}

/// Puts `prefix.` before every name, for several networks in one checkpoint.
pub fn prefixed(prefix: &str, state: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
    state.into_iter().map(|(name, tensor)| (format!("{prefix}.{name}"), tensor)).collect()
}
