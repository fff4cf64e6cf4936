//! The loader, which prepares batches in the background.

use portolan_augment::{Op, ViewSpec};
use portolan_data::Source;
use portolan_method::Batch;
use portolan_tensor::{Device, Tensor, distributed, use_gpu};
use portolan_train::{BatchSource, Clock, Stage, StepPlan};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::device_stage::DeviceStage;
use crate::error::{Error, Result};
use crate::host_stage::{Augment, BatchIndex, HostBatch, HostStage, Skipped};
use crate::sampler;

/// Number of prepared batches: enough to hide a slow image, few enough to save memory.
const AHEAD: usize = 2;

/// The settings of a loader.
pub struct LoaderConfig {
    /// The images.
    pub images: Arc<dyn Source>,
    /// The views of each.
    pub views: Vec<ViewSpec>,
    /// The number of images, the batch size (of all processes together) and the epochs.
    pub plan: StepPlan,
    /// The number of micro-batches of a step.
    pub accumulate: usize,
    /// The seed of the order and the views.
    pub seed: u64,
    /// Where views are computed.
    pub augment: Augment,
    /// The device of the batches.
    pub device: Device,
}

impl fmt::Debug for LoaderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoaderConfig")
            .field("images", &self.images.len())
            .field("views", &self.views)
            .field("plan", &self.plan)
            .field("augment", &self.augment)
            .finish_non_exhaustive()
    }
}

/// Yields the batches of a run, starting at a given step, in an order that depends only on the
/// seed. Its threads read, decode and augment images while the loop trains; the device's part is
/// done when a batch is requested.
pub struct Loader {
    batches: Receiver<Result<HostBatch>>,
    worker: Option<JoinHandle<()>>,
    device_stage: DeviceStage,
    skipped: Skipped,
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").finish_non_exhaustive()
    }
}

impl Loader {
    /// Starts at micro-batch 0 of step `from`, on `threads` threads.
    ///
    /// # Errors
    /// When threads cannot be started, or when images belong on the device and none can be read.
    pub fn start(config: LoaderConfig, from: u64, threads: usize) -> Result<Self> {
        let LoaderConfig { images, views, plan, accumulate, seed, augment, device } = config;
        let shards = images.shards();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("views-{i}"))
            // The threads page-lock batches. An absent device is reported when the network is
            // built.
            .start_handler(move |_| drop(use_gpu(device)))
            .build()
            .map_err(Error::Threads)?;
        let (host_stage, device_stage) =
            pool.install(|| stages(images, views, seed, augment, device))?;
        let skipped = Arc::clone(&host_stage.skipped);
        let (rank, processes) = (distributed::rank(), distributed::world_size());
        let (sender, batches) = sync_channel(AHEAD);
        let work = move || {
            let per_epoch = plan.steps_per_epoch();
            let mut ordered = (u64::MAX, Vec::new());
            for step in from..plan.total_steps() {
                let epoch = plan.epoch_of(step);
                if ordered.0 != epoch {
                    let micro_batch = plan.batch_size / accumulate;
                    ordered = (
                        epoch,
                        sampler::order(plan.items, shards.clone(), micro_batch, seed, epoch),
                    );
                }
                let start = (step % per_epoch) as usize * plan.batch_size;
                let ids = &ordered.1[start..start + plan.batch_size];
                for (micro, ids) in (0..).zip(ids.chunks(plan.batch_size / accumulate)) {
                    // All processes use the same order, and each takes its own part of every batch.
                    let share = ids.len() / processes;
                    let ids = &ids[rank * share..][..share];
                    let index = BatchIndex { epoch, step, micro_batch: micro };
                    let batch = pool.install(|| host_stage.prepare(index, ids));
                    // The receiver is gone: the loop has ended.
                    if sender.send(batch).is_err() {
                        return;
                    }
                }
            }
        };
        let worker = std::thread::Builder::new()
            .name("loader".to_owned())
            .spawn(work)
            .map_err(Error::Thread)?;
        Ok(Loader { batches, worker: Some(worker), device_stage, skipped })
    }

    /// Why the loader's thread ended before the run did.
    fn cause(&mut self) -> Error {
        let panic = self.worker.take().and_then(|worker| worker.join().err());
        let text = panic.as_ref().and_then(|panic| {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            text.or_else(|| panic.downcast_ref::<String>().cloned())
        });
        Error::Stopped(text.unwrap_or_else(|| "no batch is left".to_owned()))
    }
}

impl BatchSource for Loader {
    fn next_batch(&mut self, clock: &mut Clock) -> anyhow::Result<Batch> {
        let batch = match self.batches.recv() {
            Ok(batch) => batch?,
            Err(_) => return Err(self.cause().into()),
        };
        clock.end(Stage::Data);
        let inputs = self.device_stage.finish(&batch)?;
        clock.end(Stage::Views);
        Ok(Batch { inputs, ids: batch.ids })
    }

    fn skipped(&self) -> Vec<String> {
        self.skipped.lock().map(|map| map.values().cloned().collect()).unwrap_or_default()
    }
}

/// Builds both stages. If views are computed on the device, images that fit are uploaded to it.
/// Runs on rayon's threads.
///
/// # Errors
/// When images belong on the device and none can be read.
fn stages(
    source: Arc<dyn Source>,
    specs: Vec<ViewSpec>,
    seed: u64,
    augment: Augment,
    device: Device,
) -> Result<(HostStage, DeviceStage)> {
    let (augment, skipped) = (augment.on(device), Skipped::default());
    let device_stage = DeviceStage { device, resident: None };
    let rank = distributed::rank();
    let host_stage =
        HostStage { source, specs, seed, rank, augment, device, resident: None, skipped };
    if host_stage.augment == Augment::Cpu {
        return Ok((host_stage, device_stage));
    }
    let mut ops = host_stage.specs.iter().flat_map(|spec| &spec.ops);
    if ops.any(|op| matches!(op, Op::RandAugment(_))) {
        let message = "`rand_augment` is made by the CPU alone; set `augment` to \"cpu\"";
        return Err(Error::Setting(message.to_owned()));
    }
    let resident = host_stage.one_tensor()?;
    let size_of = |images: &Tensor| (images.size()[2] as u32, images.size()[1] as u32);
    Ok((
        HostStage { resident: resident.as_ref().map(size_of), ..host_stage },
        DeviceStage { resident: resident.map(|images| images.to_device(device)), ..device_stage },
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use image::RgbImage;
    use portolan_augment::presets;
    use portolan_data::ImageData;
    use portolan_tensor::tch;

    /// Gray images whose level is their number; `bad` cannot be read, `fatal` panics, `growing` are
    /// of different sizes.
    struct Gray {
        n: usize,
        bad: Vec<usize>,
        fatal: Option<usize>,
        growing: bool,
    }

    impl Source for Gray {
        fn len(&self) -> usize {
            self.n
        }
        fn image(&self, index: usize) -> portolan_data::Result<ImageData> {
            assert_ne!(self.fatal, Some(index), "the disk caught fire");
            if self.bad.contains(&index) {
                return Err(portolan_data::Error::Other("cut short".into()));
            }
            let level = image::Rgb([index as u8; 3]);
            let side = if self.growing { 8 + index as u32 } else { 8 };
            Ok(ImageData::Decoded(RgbImage::from_pixel(side, side, level)))
        }
        fn label(&self, _: usize) -> Option<u32> {
            None
        }
        fn describe(&self, index: usize) -> String {
            format!("image {index}")
        }
    }

    fn gray(n: usize, bad: &[usize]) -> Arc<dyn Source> {
        Arc::new(Gray { n, bad: bad.to_vec(), fatal: None, growing: false })
    }

    fn config(images: Arc<dyn Source>, augment: Augment) -> LoaderConfig {
        tch::set_num_threads(1);
        LoaderConfig {
            plan: StepPlan { items: images.len(), batch_size: 4, epochs: 2 },
            images,
            views: vec![presets::moco_v2(8), presets::moco_v2(8)],
            accumulate: 2,
            seed: 7,
            augment,
            device: Device::Cpu,
        }
    }

    fn run(config: LoaderConfig, from: u64, threads: usize) -> (Vec<Batch>, Vec<String>) {
        let n = (config.plan.total_steps() - from) * 2;
        let mut loader = Loader::start(config, from, threads).unwrap();
        let batches = (0..n).map(|_| loader.next_batch(&mut Clock::stopped()).unwrap()).collect();
        let skipped = loader.skipped();
        (batches, skipped)
    }

    #[test]
    fn batches_depend_on_the_seed_and_not_on_threads_or_where_one_starts() {
        for augment in [Augment::Cpu, Augment::Device] {
            let (all, _) = run(config(gray(10, &[]), augment), 0, 1);
            assert_eq!(all.len(), 8);
            assert_eq!(all[0].inputs[0].size(), [2, 3, 8, 8]);
            assert_ne!(all[0].inputs[0], all[0].inputs[1], "views differ");
            let (same, _) = run(config(gray(10, &[]), augment), 0, 3);
            let (late, _) = run(config(gray(10, &[]), augment), 3, 2);
            for (a, b) in all.iter().zip(&same).chain(all[6..].iter().zip(&late)) {
                assert_eq!(a.ids, b.ids);
                assert_eq!(a.inputs, b.inputs);
            }
            assert_eq!(late.len(), 2);
        }
    }

    #[test]
    fn a_view_shows_its_image_wherever_it_is_made() {
        let mixed: Arc<dyn Source> =
            Arc::new(Gray { n: 10, bad: vec![], fatal: None, growing: true });
        let on_device = [gray(10, &[]), mixed].map(|images| config(images, Augment::Device));
        for mut config in on_device.into_iter().chain([config(gray(10, &[]), Augment::Cpu)]) {
            let spec = presets::mae(8).with_normalization([0.0; 3], [1.0 / 255.0; 3]);
            config.views = vec![spec];
            let (batches, _) = run(config, 0, 2);
            for batch in batches {
                let levels = batch.inputs[0].amax([1i64, 2, 3].as_slice(), false);
                let levels = Vec::<f32>::try_from(levels).unwrap();
                let ids: Vec<f32> = batch.ids.iter().map(|&id| id as f32).collect();
                let worst = levels.iter().zip(&ids).map(|(a, b)| (a - b).abs());
                assert!(worst.fold(0.0, f32::max) < 1e-3, "{levels:?} of {ids:?}");
            }
        }
    }

    /// Noise of different sizes, as JPEGs or as the pixels that these decode to.
    struct Noise {
        jpegs: Vec<Vec<u8>>,
        decoded: bool,
    }

    impl Noise {
        fn new(decoded: bool) -> Self {
            let jpeg = |n: u32| {
                let mut bytes = std::io::Cursor::new(Vec::new());
                let noise = |x: u32, y: u32| {
                    image::Rgb([x * 7919, y * 104_729, x * y].map(|v| (v % 251) as u8))
                };
                let image = RgbImage::from_fn(60 + 9 * n, 90 - 7 * n, noise);
                image.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
                bytes.into_inner()
            };
            Self { jpegs: (0..8).map(jpeg).collect(), decoded }
        }
    }

    impl Source for Noise {
        fn len(&self) -> usize {
            self.jpegs.len()
        }
        fn image(&self, index: usize) -> portolan_data::Result<ImageData> {
            let image = ImageData::Encoded(self.jpegs[index].clone());
            if self.decoded { image.decode().map(ImageData::Decoded) } else { Ok(image) }
        }
        fn label(&self, _: usize) -> Option<u32> {
            None
        }
        fn describe(&self, index: usize) -> String {
            format!("noise {index}")
        }
    }

    #[test]
    fn what_is_not_decoded_is_in_no_view() {
        for augment in [Augment::Cpu, Augment::Device] {
            let of = |decoded| run(config(Arc::new(Noise::new(decoded)), augment), 0, 2).0;
            for (whole, part) in of(true).iter().zip(of(false)) {
                assert_eq!(whole.inputs, part.inputs, "{augment:?}");
            }
        }
    }

    #[test]
    fn unreadable_images_are_replaced_counted_and_named() {
        for augment in [Augment::Cpu, Augment::Device] {
            let (batches, skipped) = run(config(gray(10, &[3]), augment), 0, 2);
            assert!(batches.iter().all(|batch| batch.inputs[0].size()[0] == 2));
            assert_eq!(skipped, ["image 3: cut short"]);
        }
    }

    #[test]
    fn no_readable_image_is_an_error_with_a_reason() {
        for augment in [Augment::Cpu, Augment::Device] {
            let started = Loader::start(config(gray(4, &[0, 1, 2, 3]), augment), 0, 1);
            let failed = started
                .map_err(anyhow::Error::from)
                .and_then(|mut loader| loader.next_batch(&mut Clock::stopped()));
            let error = failed.unwrap_err().to_string();
            assert!(
                error.contains("none of the 4 images") && error.contains("cut short"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_loader_that_dies_ends_the_run_with_its_cause() {
        let source = Arc::new(Gray { n: 4, bad: vec![], fatal: Some(2), growing: false });
        let mut loader = Loader::start(config(source, Augment::Cpu), 0, 2).unwrap();
        let error = (0..2).find_map(|_| loader.next_batch(&mut Clock::stopped()).err()).unwrap();
        let error = error.to_string();
        assert!(error.contains("the disk caught fire"), "{error}");
    }
}
