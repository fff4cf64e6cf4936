//! A data set encoded once for training: smaller pictures, in one file.
//!
//! Decoding is most of what a view of a photograph costs, and a crop is resized to some 224 pixels anyway. Pictures whose
//! short side is 256 have about half the pixels of ImageNet's, and are decoded in half the time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use jpeg_encoder::{ColorType, Encoder};
use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use portolan_augment::ops::resize_lanczos;
use rayon::prelude::*;
use serde_json::json;

use crate::decode::decode;
use crate::source::{Picture, Source};

/// Rows of a row group, which is held in memory while it is written.
const GROUP: usize = 1000;
/// Of the new JPEGs. At 90 and above the encoder keeps color at full resolution, which would cost what packing saves.
const QUALITY: u8 = 89;

/// What [`pack`] wrote.
#[derive(Debug)]
pub struct Packed {
    /// Pictures in the file.
    pub pictures: usize,
    /// Those of them that were small enough to stay as they were, byte by byte.
    pub kept: usize,
    /// Pictures that could not be read and are not in the file: where each lies, and why.
    pub skipped: Vec<String>,
}

/// Writes the pictures of `source` with their labels to a Parquet file in the layout of the Hugging Face hub, which
/// [`open`](crate::open) reads. Pictures with a short side above `short_side` pixels are resized to it and become JPEGs;
/// smaller ones keep their bytes where they have some. `done` is told how many of the pictures have been looked at.
///
/// The file appears when it is whole; before, it is `out` with `.part` behind it.
///
/// # Errors
/// Where no picture can be read, or the file cannot be written.
pub fn pack(
    source: &dyn Source,
    classes: &[String],
    short_side: u32,
    out: &Path,
    mut done: impl FnMut(usize),
) -> Result<Packed> {
    ensure!(short_side >= 8, "a short side of {short_side} pixels leaves nothing of a picture");
    ensure!(!source.is_empty(), "there are no pictures to pack");
    let part = PathBuf::from(format!("{}.part", out.display()));
    let written = (|| {
        let mut writer = Writer::create(&part, classes)?;
        let mut packed = Packed { pictures: 0, kept: 0, skipped: Vec::new() };
        for first in (0..source.len()).step_by(GROUP) {
            let items = first..(first + GROUP).min(source.len());
            let last = items.end;
            let rows: Vec<_> = items.into_par_iter().map(|i| row(source, i, short_side)).collect();
            writer.add(rows, &mut packed)?;
            done(last);
        }
        ensure!(
            packed.pictures > 0,
            "none of the pictures can be read; the first: {}",
            packed.skipped.first().map_or("", String::as_str)
        );
        writer.file.close()?;
        std::fs::rename(&part, out)?;
        Ok(packed)
    })();
    if written.is_err() {
        // What there is of it is of no use, and a missing one is what is wanted.
        let _ = std::fs::remove_file(&part);
    }
    written.with_context(|| format!("cannot write {}", out.display()))
}

/// One picture of the new file.
struct Row {
    jpeg: Vec<u8>,
    kept: bool,
    name: String,
    /// -1 without a label, as Hugging Face marks them.
    label: i64,
}

/// The row of one item; the reason where it cannot be read.
fn row(source: &dyn Source, index: usize, short_side: u32) -> Result<Row, String> {
    let name = source.describe(index);
    let (jpeg, kept) = source
        .picture(index)
        .and_then(|picture| encoded(picture, short_side))
        .map_err(|error| format!("{name}: {error:#}"))?;
    Ok(Row { jpeg, kept, name, label: source.label(index).map_or(-1, i64::from) })
}

/// The bytes that stand for the picture, and whether they are those it had.
fn encoded(picture: Picture, short_side: u32) -> Result<(Vec<u8>, bool)> {
    let (image, bytes) = match picture {
        Picture::Encoded(bytes) => (decode(&bytes)?, Some(bytes)),
        Picture::Decoded(image) => (image, None),
    };
    let short = image.width().min(image.height());
    match bytes {
        Some(bytes) if short <= short_side => Ok((bytes, true)),
        _ => Ok((jpeg(&resized(image, short_side))?, false)),
    }
}

/// The image with its short side brought down to `short_side`.
fn resized(image: RgbImage, short_side: u32) -> RgbImage {
    let (width, height) = image.dimensions();
    let short = width.min(height);
    if short <= short_side {
        return image;
    }
    let scaled = |side: u32| {
        (f64::from(side) * f64::from(short_side) / f64::from(short)).round().max(1.0) as u32
    };
    resize_lanczos(&image, scaled(width), scaled(height))
}

fn jpeg(image: &RgbImage) -> Result<Vec<u8>> {
    let side = |side: u32| {
        u16::try_from(side).with_context(|| format!("a JPEG has no side of {side} pixels"))
    };
    let mut bytes = Vec::new();
    // Huffman tables of the picture's own would save 3 %, but jpeg-encoder then writes a scan for each channel, of which
    // zune-jpeg decodes the first alone.
    Encoder::new(&mut bytes, QUALITY).encode(
        image.as_raw(),
        side(image.width())?,
        side(image.height())?,
        ColorType::Rgb,
    )?;
    Ok(bytes)
}

/// The Parquet file as it grows.
struct Writer {
    file: SerializedFileWriter<File>,
}

impl Writer {
    fn create(path: &Path, classes: &[String]) -> Result<Self> {
        let schema = parse_message_type(
            "message schema {
                required group image { required binary bytes; required binary path (UTF8); }
                required int64 label;
            }",
        )?;
        let features = json!({
            "image": { "_type": "Image" },
            "label": { "_type": "ClassLabel", "names": classes },
        });
        let entry = json!({ "info": { "features": features } }).to_string();
        // JPEGs do not get smaller by another compression.
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".to_owned(), entry)]))
            .build();
        let file = File::create(path)?;
        let file = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?;
        Ok(Writer { file })
    }

    /// Writes a row group of the rows that could be read, and counts.
    fn add(&mut self, rows: Vec<Result<Row, String>>, packed: &mut Packed) -> Result<()> {
        let (mut pictures, mut names, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match row {
                Ok(row) => {
                    packed.pictures += 1;
                    packed.kept += usize::from(row.kept);
                    pictures.push(ByteArray::from(row.jpeg));
                    names.push(ByteArray::from(row.name.into_bytes()));
                    labels.push(row.label);
                }
                Err(why) => packed.skipped.push(why),
            }
        }
        if labels.is_empty() {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for bytes in [&pictures, &names] {
            let mut column = group.next_column()?.context("the Parquet schema lacks a column")?;
            let ColumnWriter::ByteArrayColumnWriter(writer) = column.untyped() else {
                bail!("a Parquet column has another type than its schema")
            };
            writer.write_batch(bytes, None, None)?;
            column.close()?;
        }
        let mut column = group.next_column()?.context("the Parquet schema lacks a column")?;
        let ColumnWriter::Int64ColumnWriter(writer) = column.untyped() else {
            bail!("the label column has another type than its schema")
        };
        writer.write_batch(&labels, None, None)?;
        column.close()?;
        group.close()?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Options, open};
    use image::{ImageFormat, Rgb};
    use std::io::Cursor;

    /// Items: 0 is a small PNG, 1 large pixels, 2 nothing that can be read.
    struct Mixed;

    fn picture(side: u32) -> RgbImage {
        RgbImage::from_fn(side, 2 * side, |x, y| Rgb([x, y / 2, 80].map(|level| level as u8)))
    }

    fn png() -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture(16).write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    impl Source for Mixed {
        fn len(&self) -> usize {
            3
        }
        fn picture(&self, index: usize) -> Result<Picture> {
            match index {
                0 => Ok(Picture::Encoded(png())),
                1 => Ok(Picture::Decoded(picture(120))),
                _ => bail!("the disk is gone"),
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
    fn a_packed_data_set_opens_with_smaller_pictures_and_the_same_labels() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("small.parquet");
        let classes = ["crab".to_owned(), "kite".to_owned()];
        let mut seen = 0;
        let packed = pack(&Mixed, &classes, 32, &out, |n| seen = n).unwrap();
        assert_eq!((packed.pictures, packed.kept, seen), (2, 1, 3));
        assert_eq!(packed.skipped, ["item 2: the disk is gone"]);

        let data = open(out.to_str().unwrap(), &Options::default()).unwrap();
        assert_eq!(data.classes, classes);
        assert_eq!(
            (data.train.len(), data.train.label(0), data.train.label(1)),
            (2, Some(1), Some(0))
        );
        let Picture::Encoded(bytes) = data.train.picture(0).unwrap() else { panic!("not encoded") };
        assert_eq!(bytes, png(), "a small picture keeps its bytes");
        let small = data.train.picture(1).unwrap().decode().unwrap();
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
        assert!(format!("{error:#}").contains("cannot write"), "{error:#}");
        let out = folder.path().join("taken");
        std::fs::create_dir(&out).unwrap();
        assert!(pack(&Mixed, &[], 32, &out, |_| ()).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no .part is left");
    }
}
