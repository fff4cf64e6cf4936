//! A source that is decoded once and kept in memory, for small data sets.

use image::RgbImage;
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::source::{ImageData, Source};

/// How many items are decoded to estimate the size of all.
const SAMPLE: usize = 16;

/// `source` with every image decoded and kept, or `source` itself if that takes more than
/// `limit_bytes`. The size is estimated from a few items first, and counted while all are decoded.
///
/// An item that cannot be read or decoded returns its error each time it is asked for.
pub fn in_memory(source: Arc<dyn Source>, limit_bytes: u64) -> Arc<dyn Source> {
    if estimate(&*source) > limit_bytes {
        return source;
    }
    let total = AtomicU64::new(0);
    let images: Option<Vec<_>> = (0..source.len())
        .into_par_iter()
        .map(|index| {
            let image = source.image(index).and_then(ImageData::decode);
            let bytes = image.as_ref().map_or(0, size_of);
            let so_far = total.fetch_add(bytes, Ordering::Relaxed) + bytes;
            (so_far <= limit_bytes).then(|| image.map_err(Arc::new))
        })
        .collect();
    match images {
        Some(images) => Arc::new(InMemory { source, images }),
        None => source,
    }
}

struct InMemory {
    source: Arc<dyn Source>,
    images: Vec<Result<RgbImage, Arc<Error>>>,
}

impl Source for InMemory {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn image(&self, index: usize) -> Result<ImageData> {
        match &self.images[index] {
            Ok(image) => Ok(ImageData::Decoded(image.clone())),
            Err(error) => Err(Error::Shared(Arc::clone(error))),
        }
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(index)
    }

    fn describe(&self, index: usize) -> String {
        self.source.describe(index)
    }
}

/// About how many bytes the decoded images take, from items spread evenly over the source.
fn estimate(source: &dyn Source) -> u64 {
    let sample = source.len().min(SAMPLE);
    let bytes: u64 = (0..sample)
        .filter_map(|i| source.image(i * source.len() / sample).and_then(ImageData::decode).ok())
        .map(|image| size_of(&image))
        .sum();
    bytes * source.len() as u64 / sample.max(1) as u64
}

fn size_of(image: &RgbImage) -> u64 {
    image.as_raw().len() as u64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// 20 images of 12 bytes each; item 3 is no image. Counts how often images are asked for.
    struct Counting(AtomicUsize);

    impl Source for Counting {
        fn len(&self) -> usize {
            20
        }
        fn image(&self, index: usize) -> Result<ImageData> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if index == 3 {
                return Ok(ImageData::Encoded(b"no image".to_vec()));
            }
            Ok(ImageData::Decoded(RgbImage::from_pixel(2, 2, image::Rgb([index as u8; 3]))))
        }
        fn label(&self, index: usize) -> Option<u32> {
            Some(index as u32)
        }
        fn describe(&self, index: usize) -> String {
            format!("item {index}")
        }
    }

    #[test]
    fn what_fits_is_decoded_once() {
        let counting = Arc::new(Counting(AtomicUsize::new(0)));
        let kept = in_memory(counting.clone(), 20 * 12);
        let asked = counting.0.load(Ordering::Relaxed);
        for _ in 0..3 {
            for index in (0..20).filter(|&i| i != 3) {
                let image = kept.image(index).unwrap().decode().unwrap();
                assert_eq!(image.get_pixel(1, 1).0, [index as u8; 3]);
            }
        }
        assert_eq!(counting.0.load(Ordering::Relaxed), asked);
        assert!(kept.image(3).unwrap_err().to_string().contains("not a JPEG"));
        assert_eq!(
            (kept.len(), kept.label(7), kept.describe(7)),
            (20, Some(7), "item 7".to_owned())
        );
    }

    #[test]
    fn what_does_not_fit_is_left_as_it_is() {
        // The sample, which holds the bad item, makes it 225 bytes of the 228 that it is.
        for limit in [220, 226] {
            let counting = Arc::new(Counting(AtomicUsize::new(0)));
            let same = in_memory(counting.clone(), limit);
            let before = counting.0.load(Ordering::Relaxed);
            same.image(0).unwrap();
            assert_eq!(counting.0.load(Ordering::Relaxed), before + 1);
        }
    }
}
