//! Copies a data set into one file of smaller images, for faster training.
//!
//! Decoding is most of the cost of a view of a photograph, and a crop is resized to about 224
//! pixels anyway. Images with a short side of 256 have about half the pixels of ImageNet's, and are
//! decoded in half the time.

use image::RgbImage;
use jpeg_encoder::{ColorType, Encoder};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use portolan_augment::ops::resize_lanczos;
use rayon::prelude::*;
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::decode::decode;
use crate::error::{Error, Result, WithContext, ensure, with_causes};
use crate::source::{ImageData, Source};

/// Rows of a row group, which is held in memory while it is written.
const GROUP: usize = 1000;
/// Quality of the new JPEGs. From 90 on, the encoder keeps color at full resolution, and the files
/// would be as large as before.
const QUALITY: u8 = 89;

/// What [`pack`] did.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Images in the file.
    pub images: usize,
    /// Those that were small enough to be copied byte by byte.
    pub kept: usize,
    /// Images that could not be read and are not in the file: where each is stored, and why.
    pub skipped: Vec<String>,
}

/// Writes the images of `source` with their labels to a Parquet file in the layout of the Hugging
/// Face hub, which [`open`](crate::open) reads. Images with a short side above `short_side` pixels
/// are resized to it and become JPEGs; smaller encoded images are copied byte by byte. `done` is
/// called with the number of images processed so far.
///
/// Until the file is complete, its name is `out` followed by `.part`.
///
/// # Errors
/// If no image can be read, or the file cannot be written.
pub fn pack(
    source: &dyn Source,
    classes: &[String],
    short_side: u32,
    out: &Path,
    done: impl FnMut(usize),
) -> Result<Packed> {
    ensure!(
        short_side >= 8,
        Setting,
        "a short side of {short_side} pixels leaves nothing of an image"
    );
    ensure!(!source.is_empty(), Missing, "there are no images to pack");
    let part = PathBuf::from(format!("{}.part", out.display()));
    let result = write(source, classes, short_side, &part, done).and_then(|packed| {
        std::fs::rename(&part, out)?;
        Ok(packed)
    });
    if result.is_err() {
        let _ = std::fs::remove_file(&part); // it may not exist
    }
    result.with_context(|| format!("cannot write {}", out.display()))
}

/// Writes the whole file.
fn write(
    source: &dyn Source,
    classes: &[String],
    short_side: u32,
    path: &Path,
    mut done: impl FnMut(usize),
) -> Result<Packed> {
    let mut writer = Writer::create(path, classes)?;
    let mut packed = Packed { images: 0, kept: 0, skipped: Vec::new() };
    for first in (0..source.len()).step_by(GROUP) {
        let items = first..(first + GROUP).min(source.len());
        let last = items.end;
        let rows: Vec<_> = items.into_par_iter().map(|i| row(source, i, short_side)).collect();
        writer.add(rows, &mut packed)?;
        done(last);
    }
    ensure!(
        packed.images > 0,
        Missing,
        "none of the images can be read; the first: {}",
        packed.skipped.first().map_or("", String::as_str)
    );
    writer.file.close()?;
    Ok(packed)
}

/// One image of the new file.
struct Row {
    jpeg: Vec<u8>,
    kept: bool,
    name: String,
    /// -1 without a label, as Hugging Face marks them.
    label: i64,
}

/// The row of one item, or the reason why it cannot be read.
fn row(source: &dyn Source, index: usize, short_side: u32) -> Result<Row, String> {
    let name = source.describe(index);
    let (jpeg, kept) = source
        .image(index)
        .and_then(|image| encode(image, short_side))
        .map_err(|error| format!("{name}: {}", with_causes(&error)))?;
    Ok(Row { jpeg, kept, name, label: source.label(index).map_or(-1, i64::from) })
}

/// The bytes to write for an image, and whether they are a copy.
fn encode(image: ImageData, short_side: u32) -> Result<(Vec<u8>, bool)> {
    let (image, bytes) = match image {
        ImageData::Encoded(bytes) => (decode(&bytes)?, Some(bytes)),
        ImageData::Decoded(image) => (image, None),
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
        let message = || Error::Unsupported(format!("a JPEG has no side of {side} pixels"));
        u16::try_from(side).map_err(|_| message())
    };
    let mut bytes = Vec::new();
    // Optimized Huffman tables would save 3 %, but jpeg-encoder then writes one scan for each
    // channel, of which zune-jpeg decodes only the first.
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
        // Compression does not make JPEGs smaller.
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".to_owned(), entry)]))
            .build();
        let file = File::create(path)?;
        let file = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?;
        Ok(Writer { file })
    }

    /// Writes a row group of the rows that could be read, and counts them.
    fn add(&mut self, rows: Vec<Result<Row, String>>, packed: &mut Packed) -> Result<()> {
        let (mut images, mut names, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match row {
                Ok(row) => {
                    packed.images += 1;
                    packed.kept += usize::from(row.kept);
                    images.push(ByteArray::from(row.jpeg));
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
        for bytes in [&images, &names] {
            write_column::<ByteArrayType>(&mut group, bytes)?;
        }
        write_column::<Int64Type>(&mut group, &labels)?;
        group.close()?;
        Ok(())
    }
}

/// Writes the next column of the schema, which has the type `T`.
fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<File>,
    values: &[T::T],
) -> Result<()> {
    let missing = || ParquetError::General("the Parquet schema lacks a column".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(values, None, None)?;
    Ok(column.close()?)
}
