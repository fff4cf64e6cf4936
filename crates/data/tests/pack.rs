//! Packing a data set into one Parquet file.
#![allow(clippy::unwrap_used)]

use image::{ImageFormat, Rgb, RgbImage};
use portolan_data::{Error, ImageData, Options, Result, Source, open, pack};
use std::io::Cursor;

/// Items: 0 is a small PNG, 1 large pixels, 2 nothing that can be read.
struct Mixed;

fn image_of(side: u32) -> RgbImage {
    RgbImage::from_fn(side, 2 * side, |x, y| Rgb([x, y / 2, 80].map(|level| level as u8)))
}

fn png() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image_of(16).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

impl Source for Mixed {
    fn len(&self) -> usize {
        3
    }
    fn image(&self, index: usize) -> Result<ImageData> {
        match index {
            0 => Ok(ImageData::Encoded(png())),
            1 => Ok(ImageData::Decoded(image_of(120))),
            _ => Err(Error::Other("the disk is gone".into())),
        }
    }
    fn label(&self, index: usize) -> Option<u32> {
        Some(1 - index as u32 % 2)
    }
    fn describe(&self, index: usize) -> String {
        format!("item {index}")
    }
}

#[test]
fn a_packed_data_set_opens_with_smaller_images_and_the_same_labels() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("small.parquet");
    let classes = ["crab".to_owned(), "kite".to_owned()];
    let mut seen = 0;
    let packed = pack(&Mixed, &classes, 32, &out, |n| seen = n).unwrap();
    assert_eq!((packed.images, packed.kept, seen), (2, 1, 3));
    assert_eq!(packed.skipped, ["item 2: the disk is gone"]);

    let data = open(out.to_str().unwrap(), &Options::default()).unwrap();
    assert_eq!(data.classes, classes);
    assert_eq!((data.train.len(), data.train.label(0), data.train.label(1)), (2, Some(1), Some(0)));
    let ImageData::Encoded(bytes) = data.train.image(0).unwrap() else { panic!("not encoded") };
    assert_eq!(bytes, png(), "a small image keeps its bytes");
    let small = data.train.image(1).unwrap().decode().unwrap();
    assert_eq!(small.dimensions(), (32, 64));
    let wanted = [60, 60, 80];
    let near = small.get_pixel(16, 32).0.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) <= 4);
    assert!(near, "{:?}", small.get_pixel(16, 32));
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("missing/x.parquet");
    let error = pack(&Mixed, &[], 32, &out, |_| ()).unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    let out = folder.path().join("taken");
    std::fs::create_dir(&out).unwrap();
    assert!(pack(&Mixed, &[], 32, &out, |_| ()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no .part is left");
}
