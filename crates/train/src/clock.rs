//! Measures the time of each stage of a step.

use portolan_tensor::{Device, device};
use std::time::Instant;

/// The parts of a step, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for the loader.
    Data,
    /// Copying to the device, and the device's part of the views.
    Views,
    /// The networks and the loss.
    Forward,
    /// The gradients.
    Backward,
    /// Clipping, and the optimizer's step.
    Optimizer,
    /// The method's update after the step: momentum network, queue, center.
    Update,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Stage; 6] = [
        Stage::Data,
        Stage::Views,
        Stage::Forward,
        Stage::Backward,
        Stage::Optimizer,
        Stage::Update,
    ];
}

/// Seconds by stage. A running clock waits for the device at the end of each stage, which slows
/// training down, so use it only for measurements; training uses a stopped clock.
#[derive(Debug)]
pub struct Clock {
    device: Option<Device>,
    last: Instant,
    seconds: [f64; 6],
}

impl Clock {
    /// A clock that measures nothing.
    pub fn stopped() -> Self {
        Clock { device: None, last: Instant::now(), seconds: [0.0; 6] }
    }

    /// A clock for work on this device.
    pub fn running(device: Device) -> Self {
        Clock { device: Some(device), ..Clock::stopped() }
    }

    /// Adds the time since the end of the previous stage to this stage.
    pub fn end(&mut self, stage: Stage) {
        let Some(device) = self.device else { return };
        device::synchronize(device);
        let now = Instant::now();
        self.seconds[stage as usize] += now.duration_since(self.last).as_secs_f64();
        self.last = now;
    }

    /// The seconds of a stage so far.
    pub fn seconds(&self, stage: Stage) -> f64 {
        self.seconds[stage as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_to_the_stage_that_ends() {
        let mut clock = Clock::running(Device::Cpu);
        std::thread::sleep(std::time::Duration::from_millis(5));
        clock.end(Stage::Backward);
        clock.end(Stage::Update);
        assert!(clock.seconds(Stage::Backward) >= 0.005);
        assert!(clock.seconds(Stage::Update) < clock.seconds(Stage::Backward));
        assert_eq!(clock.seconds(Stage::Data), 0.0);

        let mut stopped = Clock::stopped();
        stopped.end(Stage::Data);
        assert_eq!(stopped.seconds(Stage::Data), 0.0);
    }
}
