//! Properties of the images and the machine, from which automatic settings are chosen.

use anyhow::{Context, Result};
use image::RgbImage;
use portolan_data::Dataset;
use portolan_report::counted;
use portolan_tensor::{Device, free_memory, peak_memory};

use crate::data::is_labeled;

/// The number of images to inspect, spread over the data set.
const SAMPLE: usize = 64;
/// The channels of a gray image may differ by this much, because JPEG does not keep them equal.
const GRAY: u8 = 6;
/// The assumed memory in bytes if the system does not report it.
const USUAL_MEMORY: u64 = 8 << 30;

/// The images to pretrain on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Images {
    /// The number of images.
    pub(crate) count: usize,
    /// The median of their short sides, in pixels.
    pub(crate) side: u32,
    /// Whether all images are gray.
    pub(crate) gray: bool,
    /// The number of labeled training images if there is a labeled test split; 0 if accuracy cannot
    /// be measured.
    pub(crate) bank: usize,
}

impl Images {
    /// Inspects a sample of the images.
    ///
    /// # Errors
    /// If none of the sample can be read.
    pub(crate) fn of(data: &Dataset) -> Result<Self> {
        let images = data.pretraining();
        let sample = images.len().min(SAMPLE);
        let read = |n: usize| {
            let index = n * images.len() / sample;
            let image = images.image(index).and_then(|image| image.decode());
            image.with_context(|| images.describe(index))
        };
        let (seen, failed): (Vec<_>, Vec<_>) = (0..sample).map(read).partition(Result::is_ok);
        let seen: Vec<RgbImage> = seen.into_iter().flatten().collect();
        let mut sides: Vec<u32> =
            seen.iter().map(|image| image.width().min(image.height())).collect();
        sides.sort_unstable();
        let median = sides.get(sides.len() / 2);
        let side = *median.with_context(|| {
            let first = failed.iter().find_map(|image| image.as_ref().err());
            let why = first.map(|error| format!("; the first: {error:#}")).unwrap_or_default();
            format!(
                "none of {} in {} can be read{why}",
                counted(sample, "image", "images"),
                data.name
            )
        })?;
        Ok(Images {
            count: images.len(),
            side,
            gray: seen.iter().all(is_gray),
            bank: if is_labeled(data) { data.train.len() } else { 0 },
        })
    }
}

fn is_gray(image: &RgbImage) -> bool {
    image.pixels().all(|pixel| {
        let [r, g, b] = pixel.0;
        r.abs_diff(g).max(g.abs_diff(b)).max(r.abs_diff(b)) <= GRAY
    })
}

/// The machine of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Machine {
    /// Whether training uses a GPU.
    pub(crate) gpu: bool,
    /// Bytes available for networks and activations: the free memory of the GPU, or the memory of
    /// the machine.
    pub(crate) memory: u64,
    /// The number of CPU cores.
    pub(crate) cores: usize,
}

impl Machine {
    /// The machine with this device.
    ///
    /// # Errors
    /// If the GPU does not report its memory.
    pub(crate) fn of(device: Device) -> Result<Self> {
        let gpu = device.is_cuda();
        Ok(Machine {
            gpu,
            memory: if gpu { free_memory(device)? } else { main_memory().unwrap_or(USUAL_MEMORY) },
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
        })
    }
}

/// The memory of the machine in bytes, as reported by Linux.
fn main_memory() -> Option<u64> {
    bytes_in("/proc/meminfo", "MemTotal:")
}

/// The most memory in bytes that this program has used on `device` so far: of a GPU, what libtorch
/// allocated; else what Linux reports of the process. `None` if neither is known.
pub(crate) fn most_memory(device: Device) -> Option<u64> {
    if device.is_cuda() {
        peak_memory(device).ok()
    } else {
        bytes_in("/proc/self/status", "VmHWM:")
    }
}

/// The number of bytes that a file of Linux gives in the line `name`.
fn bytes_in(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The machine as people name it: `2 × AMD EPYC`.
pub(crate) fn machine_name() -> String {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model =
        model.and_then(|rest| rest.split_once(':')).map_or("processor", |(_, it)| it.trim());
    format!("{} of {model}", portolan_report::counted(cores, "core", "cores"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_data::{Options, open};

    #[test]
    fn images_are_counted_measured_and_inspected() {
        let folder = tempfile::tempdir().unwrap();
        let save = |name: &str, side: u32, pixel: [u8; 3]| {
            let path = folder.path().join(name);
            RgbImage::from_pixel(side + 40, side, image::Rgb(pixel)).save(path).unwrap();
        };
        let facts =
            || Images::of(&open(folder.path().to_str().unwrap(), &Options::default()).unwrap());
        for (i, side) in [30, 70, 500].into_iter().enumerate() {
            save(&format!("{i}.png"), side, [90, 92, 88]);
        }
        let gray = Images { count: 3, side: 70, gray: true, bank: 0 };
        assert_eq!(facts().unwrap(), gray);
        save("3.png", 80, [90, 120, 88]);
        assert_eq!(facts().unwrap(), Images { count: 4, side: 80, gray: false, bank: 0 });
        for i in 0..4 {
            std::fs::write(folder.path().join(format!("{i}.png")), "no image").unwrap();
        }
        let error = facts().unwrap_err().to_string();
        assert!(error.contains("none of 4 images") && error.contains("the first: "), "{error}");
    }

    #[test]
    fn a_cpu_has_memory_and_cores() {
        let machine = Machine::of(Device::Cpu).unwrap();
        let used = most_memory(Device::Cpu).unwrap_or(machine.memory);
        assert!((1 << 20..=machine.memory).contains(&used), "{used}");
        assert!(!machine.gpu && machine.memory > 1 << 28 && machine.cores >= 1, "{machine:?}");
    }
}
