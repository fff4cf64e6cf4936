//! Batches, prepared in the background.

use anyhow::{Context, Result, anyhow};
use image::RgbImage;
use portolan_augment::{ViewSpec, cpu};
use portolan_data::Source;
use portolan_random::{Purpose, stream};
use portolan_tensor::{Tensor, written};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::Place;

/// Batches that wait for the loop: enough to smooth a slow image, few enough to cost no memory.
const AHEAD: usize = 2;

/// A batch on the CPU.
#[derive(Debug)]
pub struct Prepared {
    /// A tensor a view: `[batch, 3, size, size]`, float32, normalised.
    pub views: Vec<Tensor>,
    /// Which items these are.
    pub ids: Vec<usize>,
}

/// The items that could not be read, with the reason: `describe: why`.
pub type Skipped = Arc<Mutex<BTreeMap<usize, String>>>;

/// Hands out the batches of a run from a given step on, in an order that depends on the seed alone. Images
/// are read, decoded and augmented on threads of its own while the loop trains.
pub struct Loader {
    batches: Receiver<Result<Prepared>>,
    worker: Option<JoinHandle<()>>,
    skipped: Skipped,
}

impl Loader {
    /// Starts at micro-batch 0 of step `from`, on `threads` threads. A step's batch comes as `accumulate`
    /// micro-batches.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn start(
        source: Arc<dyn Source>,
        views: Vec<ViewSpec>,
        place: Place,
        accumulate: usize,
        seed: u64,
        from: u64,
        threads: usize,
    ) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("views-{i}"))
            .build()
            .context("cannot start the loader's threads")?;
        let (sender, batches) = sync_channel(AHEAD);
        let skipped = Skipped::default();
        let maker = Maker { source, views, seed, skipped: Arc::clone(&skipped) };
        let work = move || {
            let per_epoch = place.steps_per_epoch();
            let mut order = (u64::MAX, Vec::new());
            for step in from..place.total_steps() {
                let epoch = place.epoch_of(step);
                if order.0 != epoch {
                    order = (epoch, place.order(seed, epoch));
                }
                let start = (step % per_epoch) as usize * place.batch_size;
                let ids = &order.1[start..start + place.batch_size];
                for micro in ids.chunks(place.batch_size / accumulate) {
                    let batch = pool.install(|| maker.batch(epoch, micro));
                    // The loop is gone when it no longer listens: nothing is left to do.
                    if sender.send(batch).is_err() {
                        return;
                    }
                }
            }
        };
        let worker = std::thread::Builder::new()
            .name("loader".to_owned())
            .spawn(work)
            .context("cannot start the loader's thread")?;
        Ok(Loader { batches, worker: Some(worker), skipped })
    }

    /// The next micro-batch.
    ///
    /// # Errors
    /// When no image can be read, or the loader itself failed; never waits for a loader that is gone.
    pub fn next_batch(&mut self) -> Result<Prepared> {
        match self.batches.recv() {
            Ok(batch) => batch,
            Err(_) => Err(self.cause()),
        }
    }

    /// The items that could not be read so far.
    pub fn skipped(&self) -> Vec<String> {
        self.skipped.lock().map(|map| map.values().cloned().collect()).unwrap_or_default()
    }

    /// Why the loader's thread ended before the run did.
    fn cause(&mut self) -> anyhow::Error {
        let panic = self.worker.take().and_then(|worker| worker.join().err());
        let text = panic.as_ref().and_then(|panic| {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            text.or_else(|| panic.downcast_ref::<String>().cloned())
        });
        anyhow!("the loader stopped: {}", text.as_deref().unwrap_or("no batch is left"))
    }
}

/// What the loader's thread needs to make a batch.
struct Maker {
    source: Arc<dyn Source>,
    views: Vec<ViewSpec>,
    seed: u64,
    skipped: Skipped,
}

impl Maker {
    fn batch(&self, epoch: u64, ids: &[usize]) -> Result<Prepared> {
        let images: Vec<RgbImage> =
            ids.par_iter().map(|&id| self.readable(id)).collect::<Result<_>>()?;
        let images: Vec<&RgbImage> = images.iter().collect();
        let views = self
            .views
            .iter()
            .enumerate()
            .map(|(v, spec)| {
                let size = spec.size() as i64;
                let name =
                    |i: usize| stream(self.seed, Purpose::View, &[epoch, ids[i] as u64, v as u64]);
                let shape = [ids.len() as i64, 3, size, size];
                written(&shape, |values| cpu::batch(spec, &images, name, values))
            })
            .collect();
        Ok(Prepared { views, ids: ids.to_vec() })
    }

    /// The item's image or, where it cannot be read, the next readable item's: batches keep their size, and
    /// the choice depends on the data alone.
    fn readable(&self, id: usize) -> Result<RgbImage> {
        let n = self.source.len();
        let mut first = None;
        for offset in 0..n {
            let candidate = (id + offset) % n;
            match self.source.picture(candidate).and_then(|picture| picture.decode()) {
                Ok(image) => return Ok(image),
                Err(error) => {
                    let why = format!("{}: {error:#}", self.source.describe(candidate));
                    first.get_or_insert_with(|| why.clone());
                    if let Ok(mut skipped) = self.skipped.lock() {
                        skipped.insert(candidate, why);
                    }
                }
            }
        }
        Err(anyhow!(
            "none of the {n} images can be read; the first that was tried: {}",
            first.unwrap_or_default()
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_augment::presets;
    use portolan_data::Picture;

    /// Grey images whose level is their number; `bad` cannot be read, `fatal` panics.
    struct Grey {
        n: usize,
        bad: Vec<usize>,
        fatal: Option<usize>,
    }

    impl Source for Grey {
        fn len(&self) -> usize {
            self.n
        }
        fn picture(&self, index: usize) -> Result<Picture> {
            assert_ne!(self.fatal, Some(index), "the disk caught fire");
            anyhow::ensure!(!self.bad.contains(&index), "cut short");
            let level = image::Rgb([index as u8; 3]);
            Ok(Picture::Decoded(RgbImage::from_pixel(8, 8, level)))
        }
        fn label(&self, _: usize) -> Option<u32> {
            None
        }
        fn describe(&self, index: usize) -> String {
            format!("image {index}")
        }
    }

    fn grey(n: usize, bad: &[usize]) -> Arc<dyn Source> {
        Arc::new(Grey { n, bad: bad.to_vec(), fatal: None })
    }

    fn run(source: Arc<dyn Source>, from: u64, threads: usize) -> (Vec<Prepared>, Vec<String>) {
        let place = Place { items: source.len(), batch_size: 4, epochs: 2 };
        let views = vec![presets::moco_v2(8), presets::moco_v2(8)];
        let mut loader = Loader::start(source, views, place, 2, 7, from, threads).unwrap();
        let n = (place.total_steps() - from) * 2;
        let batches = (0..n).map(|_| loader.next_batch().unwrap()).collect();
        let skipped = loader.skipped();
        (batches, skipped)
    }

    #[test]
    fn batches_depend_on_the_seed_and_not_on_threads_or_where_one_starts() {
        let (all, _) = run(grey(10, &[]), 0, 1);
        assert_eq!(all.len(), 8);
        assert_eq!(all[0].views[0].size(), [2, 3, 8, 8]);
        assert_ne!(all[0].views[0], all[0].views[1], "views differ");
        let (same, _) = run(grey(10, &[]), 0, 3);
        let (late, _) = run(grey(10, &[]), 3, 2);
        for (a, b) in all.iter().zip(&same).chain(all[6..].iter().zip(&late)) {
            assert_eq!(a.ids, b.ids);
            assert_eq!(a.views, b.views);
        }
        assert_eq!(late.len(), 2);
    }

    #[test]
    fn unreadable_images_are_replaced_counted_and_named() {
        let (batches, skipped) = run(grey(10, &[3]), 0, 2);
        assert!(batches.iter().all(|batch| batch.views[0].size()[0] == 2));
        assert_eq!(skipped, ["image 3: cut short"]);
    }

    #[test]
    fn no_readable_image_is_an_error_with_a_reason() {
        let source = grey(4, &[0, 1, 2, 3]);
        let place = Place { items: 4, batch_size: 4, epochs: 1 };
        let views = vec![presets::moco_v2(8)];
        let mut loader = Loader::start(source, views, place, 1, 0, 0, 1).unwrap();
        let error = loader.next_batch().unwrap_err().to_string();
        assert!(error.contains("none of the 4 images") && error.contains("cut short"), "{error}");
    }

    #[test]
    fn a_loader_that_dies_ends_the_run_with_its_cause() {
        let source = Arc::new(Grey { n: 4, bad: vec![], fatal: Some(2) });
        let place = Place { items: 4, batch_size: 4, epochs: 1 };
        let views = vec![presets::moco_v2(8)];
        let mut loader = Loader::start(source, views, place, 1, 0, 0, 2).unwrap();
        let error = loader.next_batch().unwrap_err().to_string();
        assert!(error.contains("the disk caught fire"), "{error}");
    }
}
