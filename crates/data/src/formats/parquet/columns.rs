//! The columns of a Parquet file that hold images and labels, and their values.

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use serde_json::Value;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::{Error, Result, ensure};
use crate::formats::labels::MAX_LABEL;

/// Turns panics into errors: the `parquet` crate panics on some damaged files. Fuzzing found three
/// ways.
pub(super) fn no_panic<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Error::Damaged(format!("the file is damaged: {}", text.unwrap_or_default())))
    })
}

pub(super) fn open(file: &Path) -> Result<SerializedFileReader<File>> {
    Ok(SerializedFileReader::new(File::open(file)?)?)
}

/// The number of rows in a row group.
pub(super) fn row_count(metadata: &ParquetMetaData, group: usize) -> Result<usize> {
    let rows = metadata.row_group(group).num_rows();
    usize::try_from(rows).map_err(|_| Error::Damaged(format!("it announces {rows} rows")))
}

/// The first leaf column with one of these paths and types.
pub(super) fn leaf(schema: &SchemaDescriptor, paths: &[&str], types: &[Type]) -> Option<usize> {
    paths.iter().find_map(|path| {
        (0..schema.num_columns()).find(|&i| {
            let column = schema.column(i);
            column.path().string() == *path && types.contains(&column.physical_type())
        })
    })
}

/// The labels of a row group. Hugging Face marks rows without one (unpublished test labels) with
/// -1.
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
        _ => {
            let message = "the label column does not hold whole numbers";
            return Err(Error::Unsupported(message.to_owned()));
        }
    };
    let label = |number: i64| match u32::try_from(number) {
        Ok(label) if label <= MAX_LABEL => Ok(Some(label)),
        Err(_) if number < 0 => Ok(None),
        _ => Err(Error::Damaged(format!("the label {number} is too large (at most {MAX_LABEL})"))),
    };
    numbers.into_iter().map(|number| number.map_or(Ok(None), label)).collect()
}

/// All `rows` values of one column of one row group, `None` for nulls at any level.
pub(super) fn values<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    rows: usize,
    metadata: &ParquetMetaData,
    column: usize,
) -> Result<Vec<Option<T::T>>> {
    let column = metadata.file_metadata().schema_descr().column(column);
    ensure!(column.max_rep_level() == 0, Unsupported, "the column {} holds lists", column.path());
    let present = column.max_def_level();
    let (mut found, mut levels) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let (records, ..) =
            reader.read_records(rows - read, Some(&mut levels), None, &mut found)?;
        ensure!(
            records > 0,
            Damaged,
            "the column {} ends after {read} of {rows} rows",
            column.path()
        );
        read += records;
    }
    if present == 0 {
        return Ok(found.into_iter().map(Some).collect()); // a required column has no levels
    }
    let mut found = found.into_iter();
    Ok(levels.into_iter().map(|level| if level == present { found.next() } else { None }).collect())
}

/// The names of a `ClassLabel` feature in the metadata that Hugging Face's `datasets` writes; empty
/// if there are none.
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
