//! Parquet files of plain columns, in memory.

use anyhow::{Context, Result, bail};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};
use std::sync::Arc;

/// The values of a column, one per row.
pub(crate) enum Column<'a> {
    /// Text, where there is any.
    Text(Vec<Option<&'a str>>),
    /// Whole numbers.
    Int32(&'a [i32]),
    /// Whole numbers.
    Int64(&'a [i64]),
    /// Fractions.
    Float(&'a [f32]),
    /// Lists of this many fractions, one after another.
    Lists(&'a [f32], usize),
}

/// The bytes of a Parquet file with these columns, whose schema has this name.
///
/// # Errors
/// When the columns are not of one length.
pub(crate) fn parquet(name: &str, columns: &[(&str, Column)]) -> Result<Vec<u8>> {
    let fields = columns.iter().map(|(name, column)| field(name, column));
    let schema =
        Type::group_type_builder(name).with_fields(fields.collect::<Result<_>>()?).build()?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::new(properties))?;
    let mut rows = file.next_row_group()?;
    for (name, column) in columns {
        let mut writer = rows.next_column()?.context("the Parquet schema lacks a column")?;
        match (column, writer.untyped()) {
            (Column::Text(texts), ColumnWriter::ByteArrayColumnWriter(writer)) => {
                let present: Vec<i16> =
                    texts.iter().map(|text| i16::from(text.is_some())).collect();
                let texts: Vec<ByteArray> =
                    texts.iter().flatten().map(|&text| text.into()).collect();
                writer.write_batch(&texts, Some(&present), None)?;
            }
            (Column::Int32(values), ColumnWriter::Int32ColumnWriter(writer)) => {
                writer.write_batch(values, None, None)?;
            }
            (Column::Int64(values), ColumnWriter::Int64ColumnWriter(writer)) => {
                writer.write_batch(values, None, None)?;
            }
            (Column::Float(values), ColumnWriter::FloatColumnWriter(writer)) => {
                writer.write_batch(values, None, None)?;
            }
            (Column::Lists(values, width), ColumnWriter::FloatColumnWriter(writer)) => {
                // Level 0 begins a new list, 1 continues it. No list is empty.
                let repetition: Vec<i16> =
                    (0..values.len()).map(|i| i16::from(i % width != 0)).collect();
                writer.write_batch(values, Some(&vec![1; values.len()]), Some(&repetition))?;
            }
            _ => bail!("the Parquet column {name} has another type than its schema"),
        }
        writer.close()?;
    }
    rows.close()?;
    file.close().context("cannot finish the Parquet file")?;
    Ok(bytes)
}

/// Text is optional, all else is required.
fn field(name: &str, column: &Column) -> Result<TypePtr> {
    let plain = |name: &str, physical| {
        let text = physical == Physical::BYTE_ARRAY;
        Type::primitive_type_builder(name, physical)
            .with_repetition(if text { Repetition::OPTIONAL } else { Repetition::REQUIRED })
            .with_logical_type(text.then_some(LogicalType::String))
            .build()
            .map(Arc::new)
    };
    Ok(match column {
        Column::Text(_) => plain(name, Physical::BYTE_ARRAY)?,
        Column::Int32(_) => plain(name, Physical::INT32)?,
        Column::Int64(_) => plain(name, Physical::INT64)?,
        Column::Float(_) => plain(name, Physical::FLOAT)?,
        // Parquet's specification asks for three levels.
        Column::Lists(..) => {
            let list = Type::group_type_builder("list")
                .with_repetition(Repetition::REPEATED)
                .with_fields(vec![plain("element", Physical::FLOAT)?])
                .build()?;
            let outer = Type::group_type_builder(name)
                .with_repetition(Repetition::REQUIRED)
                .with_logical_type(Some(LogicalType::List))
                .with_fields(vec![Arc::new(list)])
                .build()?;
            Arc::new(outer)
        }
    })
}
