//! The columns of a Parquet file: which of them hold images and labels, and what is in them.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};
use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use serde_json::Value;

use crate::source::MAX_LABEL;

/// The crate that reads Parquet panics on some damaged files (fuzzing found three ways), where others give an error: both are one here.
pub(super) fn no_panic<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(anyhow!("the file is damaged: {}", text.unwrap_or_default()))
    })
}

pub(super) fn open(file: &Path) -> Result<SerializedFileReader<File>> {
    Ok(SerializedFileReader::new(File::open(file)?)?)
}

/// The first leaf column with one of these paths and a fitting type.
pub(super) fn leaf(schema: &SchemaDescriptor, paths: &[&str], types: &[Type]) -> Option<usize> {
    paths.iter().find_map(|path| {
        (0..schema.num_columns()).find(|&i| {
            let column = schema.column(i);
            column.path().string() == *path && types.contains(&column.physical_type())
        })
    })
}

/// Hugging Face marks rows without a label (unpublished test labels) with -1.
pub(super) fn labels(
    reader: &SerializedFileReader<File>,
    group: usize,
    column: usize,
    rows: usize,
) -> Result<Vec<Option<u32>>> {
    let numbers: Vec<Option<i64>> = match reader.get_row_group(group)?.get_column_reader(column)? {
        ColumnReader::Int64ColumnReader(values_64) => {
            values(values_64, rows, reader.metadata(), column)?
        }
        ColumnReader::Int32ColumnReader(values_32) => {
            values(values_32, rows, reader.metadata(), column)?
                .into_iter()
                .map(|number| number.map(i64::from))
                .collect()
        }
        _ => bail!("the label column does not hold whole numbers"),
    };
    numbers
        .into_iter()
        .map(|number| match number {
            Some(label) if label > i64::from(MAX_LABEL) => {
                bail!("the label {label} is too large (at most {MAX_LABEL})")
            }
            Some(label) if label >= 0 => Ok(Some(u32::try_from(label)?)),
            _ => Ok(None),
        })
        .collect()
}

/// All `rows` values of one column of one row group, `None` for nulls at any level.
pub(super) fn values<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    rows: usize,
    metadata: &ParquetMetaData,
    column: usize,
) -> Result<Vec<Option<T::T>>> {
    let column = metadata.file_metadata().schema_descr().column(column);
    ensure!(column.max_rep_level() == 0, "the column {} holds lists", column.path());
    let present = column.max_def_level();
    let (mut found, mut levels) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let (records, ..) =
            reader.read_records(rows - read, Some(&mut levels), None, &mut found)?;
        ensure!(records > 0, "the column {} ends after {read} of {rows} rows", column.path());
        read += records;
    }
    if present == 0 {
        return Ok(found.into_iter().map(Some).collect()); // a required column has no levels
    }
    let mut found = found.into_iter();
    Ok(levels.into_iter().map(|level| if level == present { found.next() } else { None }).collect())
}

/// The names of a `ClassLabel` feature in the metadata that Hugging Face's `datasets` writes; empty without.
pub(super) fn class_names(metadata: &ParquetMetaData, feature: &str) -> Vec<String> {
    let entries = metadata.file_metadata().key_value_metadata();
    let json = entries
        .into_iter()
        .flatten()
        .find(|entry| entry.key == "huggingface")
        .and_then(|entry| serde_json::from_str::<Value>(entry.value.as_deref()?).ok());
    let names =
        json.as_ref().and_then(|json| json["info"]["features"][feature]["names"].as_array());
    names.into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}
