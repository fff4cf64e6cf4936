//! Features in files that other tools read.

use anyhow::{Context, Result, bail};
use ndarray::Array2;
use ndarray_npy::WriteNpyExt;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use portolan_evaluate::Features;
use portolan_tensor::{Kind, Tensor, io};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// How embeddings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// NumPy: the features alone, `[n, width]` float32.
    Npy,
    /// A row an image: `item`, `name`, `label` where there are labels, and `embedding`, a list of floats.
    Parquet,
    /// `features` `[n, width]`, `items` `[n]` and, where there are labels, `labels` `[n]`.
    Safetensors,
}

impl Form {
    /// The form that a file's ending says.
    ///
    /// # Errors
    /// When the ending says none.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("npy") => Ok(Form::Npy),
            Some("parquet") => Ok(Form::Parquet),
            Some("safetensors") => Ok(Form::Safetensors),
            _ => bail!("{} ends in none of .npy, .parquet and .safetensors", path.display()),
        }
    }

    /// Writes the features of images with these names to `path`, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(self, path: &Path, features: &Features, names: &[String]) -> Result<()> {
        let bytes = match self {
            Form::Npy => npy(features)?,
            Form::Parquet => parquet(features, names)?,
            Form::Safetensors => return safetensors(path, features),
        };
        io::write_aside(path, &bytes)
    }
}

/// All features, row after row.
fn values(features: &Features) -> Result<(Vec<f32>, usize, usize)> {
    let size = features.x.size();
    let flat = Vec::try_from(features.x.contiguous().view([-1]))?;
    Ok((flat, size[0] as usize, size[1] as usize))
}

fn npy(features: &Features) -> Result<Vec<u8>> {
    let (flat, n, width) = values(features)?;
    let mut bytes = Vec::new();
    Array2::from_shape_vec((n, width), flat)?.write_npy(&mut bytes)?;
    Ok(bytes)
}

fn safetensors(path: &Path, features: &Features) -> Result<()> {
    let items: Vec<i64> = features.ids.iter().map(|&id| id as i64).collect();
    let mut tensors = vec![
        ("features".to_owned(), features.x.shallow_clone()),
        ("items".to_owned(), Tensor::from_slice(&items)),
    ];
    if let Some(labels) = &features.labels {
        tensors.push(("labels".to_owned(), labels.to_kind(Kind::Int64)));
    }
    io::save(path, &tensors, &BTreeMap::new())
}

fn parquet(features: &Features, names: &[String]) -> Result<Vec<u8>> {
    let (flat, n, width) = values(features)?;
    let labels: Option<Vec<i64>> = features
        .labels
        .as_ref()
        .map(|labels| Vec::try_from(labels.to_kind(Kind::Int64)))
        .transpose()?;
    let mut bytes = Vec::new();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut file = SerializedFileWriter::new(
        &mut bytes,
        Arc::new(schema(labels.is_some())?),
        Arc::new(properties),
    )?;
    let mut group = file.next_row_group()?;
    // Columns come in the order of the schema.
    for name in ["item", "name", "label", "embedding"] {
        if name == "label" && labels.is_none() {
            continue;
        }
        let mut column = group.next_column()?.context("the Parquet schema lacks a column")?;
        match (name, column.untyped()) {
            ("item", ColumnWriter::Int64ColumnWriter(writer)) => {
                let items: Vec<i64> = features.ids.iter().map(|&id| id as i64).collect();
                writer.write_batch(&items, None, None)?;
            }
            ("name", ColumnWriter::ByteArrayColumnWriter(writer)) => {
                let names: Vec<ByteArray> = names.iter().map(|name| name.as_str().into()).collect();
                writer.write_batch(&names, None, None)?;
            }
            ("label", ColumnWriter::Int64ColumnWriter(writer)) => {
                writer.write_batch(labels.as_deref().unwrap_or_default(), None, None)?;
            }
            ("embedding", ColumnWriter::FloatColumnWriter(writer)) => {
                // Level 0 begins a new list, 1 goes on with it; every list has its values.
                let repetition: Vec<i16> =
                    (0..n * width).map(|i| i16::from(i % width != 0)).collect();
                writer.write_batch(&flat, Some(&vec![1; n * width]), Some(&repetition))?;
            }
            (name, _) => bail!("the Parquet column {name} has another type than its schema"),
        }
        column.close()?;
    }
    group.close()?;
    file.close().context("cannot finish the Parquet file")?;
    Ok(bytes)
}

fn schema(labelled: bool) -> Result<Type> {
    let plain = |name: &str, physical, logical| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(logical)
            .build()
    };
    let mut fields = vec![
        plain("item", Physical::INT64, None)?,
        plain("name", Physical::BYTE_ARRAY, Some(LogicalType::String))?,
    ];
    if labelled {
        fields.push(plain("label", Physical::INT64, None)?);
    }
    // The three levels that Parquet's specification asks of a list.
    let element = plain("element", Physical::FLOAT, None)?;
    let list = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(element)])
        .build()?;
    let embedding = Type::group_type_builder("embedding")
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(list)])
        .build()?;
    fields.push(embedding);
    let fields = fields.into_iter().map(Arc::new).collect();
    Ok(Type::group_type_builder("embeddings").with_fields(fields).build()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    fn features() -> Features {
        Features {
            x: Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([2, 3]),
            labels: Some(Tensor::from_slice(&[7i64, 8])),
            ids: vec![0, 4],
            skipped: Vec::new(),
        }
    }

    #[test]
    fn parquet_rows_come_back() {
        let names = ["a".to_owned(), "b".to_owned()];
        let bytes = parquet(&features(), &names).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let reader = SerializedFileReader::new(file.reopen().unwrap()).unwrap();
        let rows: Vec<String> =
            reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(rows.len(), 2);
        assert!(rows[1].contains("item: 4") && rows[1].contains("label: 8"), "{}", rows[1]);
        assert!(rows[1].contains("4.0") && rows[1].contains("6.0") && !rows[1].contains("3.0"));
    }

    #[test]
    fn npy_and_safetensors_hold_the_features() {
        let bytes = npy(&features()).unwrap();
        assert_eq!(&bytes[..6], b"\x93NUMPY");
        assert_eq!(&bytes[bytes.len() - 4..], 6f32.to_le_bytes());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        Form::of(&path).unwrap().write(&path, &features(), &[]).unwrap();
        let (tensors, _) = io::load(&path).unwrap();
        assert_eq!(tensors["features"], features().x);
        assert!(Form::of(Path::new("x.csv")).is_err());
    }
}
