//! Writes features to files that other tools can read.

use anyhow::{Result, bail, ensure};
use ndarray::{Array2, Array3};
use ndarray_npy::WriteNpyExt;
use portolan_data::Source;
use portolan_evaluate::EmbeddedPatches;
use portolan_tensor::{Tensor, io};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::table::{self, Column};

const CSV_PATCHES: &str = "a .csv file has one vector per image, and --patches many; choose \
                           .npy, .parquet or .safetensors";

/// A file format for embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A header and one line per item: `path`, `label` if there are labels, and the features `f0`,
    /// `f1` and so on.
    Csv,
    /// NumPy: only the features, `[n, width]` float32.
    Npy,
    /// One row per item: `item`, `name`, `label` if there are labels, and `embedding`, a list of
    /// floats.
    Parquet,
    /// `features` `[n, width]`, `items` `[n]` and, if there are labels, `labels` `[n]`.
    Safetensors,
}

impl Form {
    /// The format that belongs to the extension of a file.
    ///
    /// # Errors
    /// If the extension is unknown.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Ok(Form::Csv),
            Some("npy") => Ok(Form::Npy),
            Some("parquet") => Ok(Form::Parquet),
            Some("safetensors") => Ok(Form::Safetensors),
            _ => bail!("{} does not end in .csv, .npy, .parquet or .safetensors", path.display()),
        }
    }

    /// Writes the patch features of these `n` images to `path` atomically: `[n, rows · columns,
    /// width]`, float32, row by row. In Parquet a row holds all patches of an image one after
    /// another, and the grid; a safetensors file has the grid and the names of the images in its
    /// metadata.
    ///
    /// # Errors
    /// If the file cannot be written, or the format has only two dimensions.
    pub(crate) fn write_patches(
        self,
        path: &Path,
        patches: &EmbeddedPatches,
        items: &Items,
    ) -> Result<()> {
        let bytes = match self {
            Form::Csv => bail!("{CSV_PATCHES}"),
            Form::Npy => npy_patches(&patches.x)?,
            Form::Parquet => parquet_patches(patches, items)?,
            Form::Safetensors => {
                let metadata = BTreeMap::from([
                    ("rows".to_owned(), patches.rows.to_string()),
                    ("columns".to_owned(), patches.columns.to_string()),
                    ("names".to_owned(), serde_json::to_string(&items.names)?),
                ]);
                return safetensors(path, &patches.x, items, &metadata);
            }
        };
        Ok(io::write_atomic(path, &bytes)?)
    }

    /// Checks that this format can hold patches.
    ///
    /// # Errors
    /// If it has only two dimensions.
    pub(crate) fn check_patches(self) -> Result<()> {
        ensure!(self != Form::Csv, "{CSV_PATCHES}");
        Ok(())
    }

    /// Writes the features (`[n, width]`, float32) of these `n` items to `path` atomically.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn write(self, path: &Path, features: &Tensor, items: &Items) -> Result<()> {
        let bytes = match self {
            Form::Csv => csv(features, items)?.into_bytes(),
            Form::Npy => npy(features)?,
            Form::Parquet => parquet(features, items)?,
            Form::Safetensors => {
                return safetensors(path, features, items, &BTreeMap::new());
            }
        };
        Ok(io::write_atomic(path, &bytes)?)
    }
}

/// What the features are of: images, or passages of a text.
pub(crate) struct Items {
    /// Their indices in the source.
    items: Vec<i64>,
    /// Their paths, or the names of their documents.
    names: Vec<String>,
    /// Their labels, -1 for one without; `None` if none has a label.
    labels: Option<Vec<i64>>,
}

impl Items {
    /// Passages of documents with these names.
    pub(crate) fn named(names: Vec<String>) -> Self {
        Items { items: (0..names.len() as i64).collect(), names, labels: None }
    }

    /// The images of `source` with these indices.
    pub(crate) fn of(source: &dyn Source, ids: &[usize]) -> Self {
        let labels = || ids.iter().map(|&id| source.label(id));
        Items {
            items: ids.iter().map(|&id| id as i64).collect(),
            names: ids.iter().map(|&id| source.describe(id)).collect(),
            labels: labels()
                .any(|label| label.is_some())
                .then(|| labels().map(|label| label.map_or(-1, i64::from)).collect()),
        }
    }
}

/// All features in row-major order, and the shape `[n, width]`.
fn values(features: &Tensor) -> Result<(Vec<f32>, usize, usize)> {
    let size = features.size();
    let flat = Vec::try_from(features.contiguous().view([-1]))?;
    Ok((flat, size[0] as usize, size[1] as usize))
}

fn csv(features: &Tensor, items: &Items) -> Result<String> {
    let (flat, _, width) = values(features)?;
    let mut text = String::from("path");
    if items.labels.is_some() {
        text.push_str(",label");
    }
    (0..width).try_for_each(|i| write!(text, ",f{i}"))?;
    text.push('\n');
    for (i, (name, row)) in items.names.iter().zip(flat.chunks(width)).enumerate() {
        text.push_str(&quoted(name));
        if let Some(labels) = &items.labels {
            write!(text, ",{}", labels[i])?;
        }
        row.iter().try_for_each(|value| write!(text, ",{value}"))?;
        text.push('\n');
    }
    Ok(text)
}

/// Quotes a CSV field if it needs quotes, and doubles the quotes in it (RFC 4180, section 2).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

fn npy(features: &Tensor) -> Result<Vec<u8>> {
    let (flat, n, width) = values(features)?;
    let mut bytes = Vec::new();
    Array2::from_shape_vec((n, width), flat)?.write_npy(&mut bytes)?;
    Ok(bytes)
}

fn safetensors(
    path: &Path,
    features: &Tensor,
    items: &Items,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut tensors = vec![
        ("features".to_owned(), features.shallow_clone()),
        ("items".to_owned(), Tensor::from_slice(&items.items)),
    ];
    if let Some(labels) = &items.labels {
        tensors.push(("labels".to_owned(), Tensor::from_slice(labels)));
    }
    Ok(io::save(path, &tensors, metadata)?)
}

fn npy_patches(patches: &Tensor) -> Result<Vec<u8>> {
    let (n, count, width) = patches.size3()?;
    let flat = Vec::<f32>::try_from(patches.contiguous().view([-1]))?;
    let mut bytes = Vec::new();
    let shape = (n as usize, count as usize, width as usize);
    Array3::from_shape_vec(shape, flat)?.write_npy(&mut bytes)?;
    Ok(bytes)
}

fn parquet(features: &Tensor, items: &Items) -> Result<Vec<u8>> {
    let (flat, _, width) = values(features)?;
    let mut columns = columns_of(items);
    columns.push(("embedding", Column::Lists(&flat, width)));
    table::parquet("embeddings", &columns)
}

fn parquet_patches(patches: &EmbeddedPatches, items: &Items) -> Result<Vec<u8>> {
    let (flat, _, width) = values(&patches.x.flatten(1, 2))?;
    let all = |count: i64| vec![count; items.items.len()];
    let (rows, in_rows) = (all(patches.rows), all(patches.columns));
    let mut columns = columns_of(items);
    columns.push(("rows", Column::Int64(&rows)));
    columns.push(("columns", Column::Int64(&in_rows)));
    columns.push(("patches", Column::Lists(&flat, width)));
    table::parquet("patches", &columns)
}

/// Item, name and, if there are any, label.
fn columns_of(items: &Items) -> Vec<(&'static str, Column<'_>)> {
    let names = items.names.iter().map(|name| Some(name.as_str())).collect();
    let mut columns = vec![("item", Column::Int64(&items.items)), ("name", Column::Text(names))];
    columns.extend(items.labels.as_deref().map(|labels| ("label", Column::Int64(labels))));
    columns
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use portolan_tensor::{Device, Kind};

    fn features() -> Tensor {
        Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.5, 6.0]).view([2, 3])
    }

    fn items(labels: Option<Vec<i64>>) -> Items {
        let names = ["a.png", "b, \"c\".png"].map(str::to_owned).to_vec();
        Items { items: vec![0, 4], names, labels }
    }

    #[test]
    fn csv_has_a_header_and_quotes_what_needs_it() {
        let labeled = csv(&features(), &items(Some(vec![7, -1]))).unwrap();
        let wanted = "path,label,f0,f1,f2\na.png,7,1,2,3\n\"b, \"\"c\"\".png\",-1,4,5.5,6\n";
        assert_eq!(labeled, wanted);
        let plain = csv(&features(), &items(None)).unwrap();
        assert!(plain.starts_with("path,f0,f1,f2\na.png,1,2,3\n"), "{plain}");
        assert_eq!(Form::of(Path::new("x.csv")).unwrap(), Form::Csv);
    }

    #[test]
    fn parquet_rows_come_back() {
        let bytes = parquet(&features(), &items(Some(vec![7, 8]))).unwrap();
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
    fn patches_are_written_with_their_grid_and_the_names_of_their_images() {
        let x = Tensor::linspace(0, 23, 24, (Kind::Float, Device::Cpu)).view([2, 4, 3]);
        let patches =
            EmbeddedPatches { x, rows: 2, columns: 2, ids: vec![0, 4], skipped: Vec::new() };
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str| {
            let path = folder.path().join(name);
            Form::of(&path).unwrap().write_patches(&path, &patches, &items(None)).unwrap();
            path
        };
        let npy = std::fs::read(written("x.npy")).unwrap();
        assert!(String::from_utf8_lossy(&npy[..100]).contains("(2, 4, 3)"));
        let (tensors, metadata) = io::load(&written("x.safetensors")).unwrap();
        assert_eq!(tensors["features"], patches.x);
        assert_eq!((&*metadata["rows"], &*metadata["columns"]), ("2", "2"));
        assert!(metadata["names"].starts_with("[\"a.png\",") && metadata["names"].contains("c"));
        let file = std::fs::File::open(written("x.parquet")).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let row = reader.get_row_iter(None).unwrap().nth(1).unwrap().unwrap().to_string();
        assert!(
            row.contains("item: 4") && row.contains("rows: 2") && row.contains("23.0"),
            "{row}"
        );
        assert!(Form::Csv.check_patches().is_err() && Form::Npy.check_patches().is_ok());
    }

    #[test]
    fn npy_and_safetensors_hold_the_features() {
        let bytes = npy(&features()).unwrap();
        assert_eq!(&bytes[..6], b"\x93NUMPY");
        assert_eq!(&bytes[bytes.len() - 4..], 6f32.to_le_bytes());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        Form::of(&path).unwrap().write(&path, &features(), &items(None)).unwrap();
        let (tensors, _) = io::load(&path).unwrap();
        assert_eq!(tensors["features"], features());
        assert!(Form::of(Path::new("x.xlsx")).is_err());
    }
}
