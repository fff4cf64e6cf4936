//! The loader's second stage: the device finishes a batch's views.

use portolan_augment::device as on_device;
use portolan_tensor::{Device, Tensor, channels_last, upload};

use crate::error::{Error, Result};
use crate::host_stage::{HostBatch, View};

/// Finishes what the host stage began.
pub(crate) struct DeviceStage {
    pub(crate) device: Device,
    /// All images, `[n, height, width, 3]`, uint8, on the device, if they fit.
    pub(crate) resident: Option<Tensor>,
}

impl DeviceStage {
    /// Finishes a batch's views: `[batch, 3, size, size]` each, float32, normalized, on the device,
    /// channels last in memory. Call it on the thread that queues the device's other work, outside
    /// autocast.
    ///
    /// # Errors
    /// When the views need images on the device and there are none.
    pub(crate) fn finish(&self, batch: &HostBatch) -> Result<Vec<Tensor>> {
        let ids: Vec<i64> = batch.ids.iter().map(|&id| id as i64).collect();
        let images = self
            .resident
            .as_ref()
            .map(|all| all.index_select(0, &upload(&Tensor::from_slice(&ids), self.device)));
        let finish = |view: &View| match view {
            View::Made(made) => Ok(upload(made, self.device)),
            View::Cropped(cropped, draws) => {
                Ok(on_device::views_of_cropped(&upload(cropped, self.device), draws))
            }
            View::Drawn(draws) => {
                let images = images.as_ref().ok_or(Error::NotResident)?;
                Ok(on_device::views(images, draws))
            }
        };
        let views = batch.views.iter().map(finish);
        views.map(|view| view.map(|view| channels_last(&view))).collect()
    }
}
