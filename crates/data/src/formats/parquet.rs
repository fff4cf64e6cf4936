//! Images in Parquet files, in the layout of the Hugging Face hub.
//!
//! They are read with the column readers of the `parquet` crate, without Arrow: only two columns of
//! a flat table are needed, and Arrow would more than double the dependencies. A row group is read
//! when one of its images is first asked for, and its encoded bytes are kept, since training visits
//! all images again and again in random order. Encoded data must therefore fit into memory.

mod columns;

use parquet::basic::Type;
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::file::reader::FileReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use self::columns::{class_names, labels, leaf, no_panic, open, row_count, values};
use crate::error::{Error, Result, WithContext, ensure};
use crate::formats::labels::{count_classes, numbered_classes};
use crate::source::{ImageData, Source};

/// The columns that may hold the image: a struct with a field `bytes`, or the bytes themselves.
const IMAGE_COLUMNS: [&str; 4] = ["img.bytes", "image.bytes", "img", "image"];
const LABEL_COLUMNS: [&str; 3] = ["label", "labels", "fine_label"];

/// One split: all rows of one or several files.
pub(crate) struct Parquet {
    groups: Vec<RowGroup>,
    labels: Vec<Option<u32>>,
    classes: Vec<String>,
}

struct RowGroup {
    file: PathBuf,
    /// Which row group of the file.
    group: usize,
    /// The number of its first row in the file, and in the split.
    first_in_file: usize,
    first: usize,
    /// The leaf column that holds the images' bytes.
    column: usize,
    /// Kept from the first use on; `None` for a row without an image.
    images: OnceLock<Result<Vec<Option<ByteArray>>, Arc<Error>>>,
}

impl Parquet {
    /// Opens the files of one split and reads their labels.
    ///
    /// Class names come from the `huggingface` entry of the first file's metadata. Without one,
    /// numbers name the classes.
    pub(crate) fn open(files: &[PathBuf]) -> Result<Self> {
        let mut split = Self { groups: Vec::new(), labels: Vec::new(), classes: Vec::new() };
        for file in files {
            no_panic(|| split.add(file))
                .with_context(|| format!("cannot use the Parquet file {}", file.display()))?;
        }
        ensure!(!split.labels.is_empty(), Missing, "{} holds no rows", files[0].display());
        let count = count_classes(split.labels.iter().copied());
        if count == 0 {
            split.classes.clear(); // classes are named, but no row has a label
        } else if split.classes.is_empty() {
            split.classes = numbered_classes(count);
        }
        let named = split.classes.len();
        ensure!(
            count as usize <= named,
            Damaged,
            "{} has the label {}, and names {named} classes",
            files[0].display(),
            count.saturating_sub(1)
        );
        Ok(split)
    }

    fn add(&mut self, file: &Path) -> Result<()> {
        let reader = open(file)?;
        let metadata = reader.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let column = leaf(schema, &IMAGE_COLUMNS, &[Type::BYTE_ARRAY]).ok_or_else(|| {
            Error::Unsupported(
                "it has no column `image` or `img` that holds encoded images (binary, or a struct \
                 with a binary field `bytes`)"
                    .to_owned(),
            )
        })?;
        let label_column = leaf(schema, &LABEL_COLUMNS, &[Type::INT64, Type::INT32]);
        if self.classes.is_empty()
            && let Some(label_column) = label_column
        {
            self.classes = class_names(metadata, schema.column(label_column).name());
        }
        let bytes = file.metadata()?.len();
        let mut first_in_file = 0usize;
        for group in 0..metadata.num_row_groups() {
            let rows = row_count(metadata, group)?;
            // Checked before memory is reserved for them: an image takes at least one byte.
            let all = first_in_file.saturating_add(rows);
            ensure!(
                all as u64 <= bytes,
                Damaged,
                "it announces {all} rows, which its {bytes} bytes cannot hold"
            );
            self.groups.push(RowGroup {
                file: file.to_owned(),
                group,
                first_in_file,
                first: self.labels.len(),
                column,
                images: OnceLock::new(),
            });
            match label_column {
                Some(column) => self.labels.extend(labels(&reader, group, column, rows)?),
                None => self.labels.extend(vec![None; rows]),
            }
            first_in_file += rows;
        }
        Ok(())
    }

    pub(crate) fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The row group of an item, and its row in the group.
    fn locate(&self, index: usize) -> (&RowGroup, usize) {
        let group = &self.groups[self.groups.partition_point(|group| group.first <= index) - 1];
        (group, index - group.first)
    }
}

impl Source for Parquet {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn image(&self, index: usize) -> Result<ImageData> {
        let (group, row) = self.locate(index);
        let images = group
            .images
            .get_or_init(|| no_panic(|| group.read()).map_err(Arc::new))
            .as_ref()
            .map_err(Arc::clone)
            .with_context(|| {
                format!("cannot read row group {} of {}", group.group, group.file.display())
            })?;
        let bytes = images
            .get(row)
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::Missing("the row holds no image bytes".to_owned()))?;
        Ok(ImageData::Encoded(bytes.data().to_vec()))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels[index]
    }

    fn describe(&self, index: usize) -> String {
        let (group, row) = self.locate(index);
        format!("row {} of {}", group.first_in_file + row, group.file.display())
    }
}

impl RowGroup {
    /// Opens the file for each read: threads would disturb each other's position in a shared file.
    fn read(&self) -> Result<Vec<Option<ByteArray>>> {
        let reader = open(&self.file)?;
        let rows = row_count(reader.metadata(), self.group)?;
        match reader.get_row_group(self.group)?.get_column_reader(self.column)? {
            ColumnReader::ByteArrayColumnReader(column) => {
                values(column, rows, reader.metadata(), self.column)
            }
            _ => Err(Error::Unsupported("the image column is not binary".to_owned())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use parquet::basic::Compression;
    use parquet::data_type::{ByteArrayType, Int64Type};
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use std::fs::File;
    use std::sync::Arc;

    /// One row: the image's bytes or a null, and the label or a null.
    pub(crate) type Row<'a> = (Option<&'a [u8]>, Option<i64>);

    /// Writes a file as Hugging Face's `datasets` does, each slice of rows a row group.
    pub(crate) fn write(path: &Path, groups: &[&[Row]], names: Option<&str>) {
        let schema = "message schema {
            optional group img { optional binary bytes; optional binary path (UTF8); }
            optional int64 label;
        }";
        let entry = names.map(|names| {
            let json = format!(
                r#"{{"info": {{"features": {{"img": {{"_type": "Image"}}, "label": {{"names": {names}, "_type": "ClassLabel"}}}}}}}}"#
            );
            vec![KeyValue::new("huggingface".to_owned(), json)]
        });
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_key_value_metadata(entry)
            .build();
        let mut writer = SerializedFileWriter::new(
            File::create(path).unwrap(),
            Arc::new(parse_message_type(schema).unwrap()),
            Arc::new(properties),
        )
        .unwrap();
        for rows in groups {
            let mut group = writer.next_row_group().unwrap();
            let images: Vec<ByteArray> =
                rows.iter().filter_map(|row| row.0).map(ByteArray::from).collect();
            let levels: Vec<i16> =
                rows.iter().map(|row| if row.0.is_some() { 2 } else { 1 }).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&images, Some(&levels), None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<ByteArrayType>()
                .write_batch(&[], Some(&vec![1; rows.len()]), None)
                .unwrap();
            column.close().unwrap();
            let labels: Vec<i64> = rows.iter().filter_map(|row| row.1).collect();
            let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.1.is_some())).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&labels, Some(&levels), None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    fn bytes(source: &Parquet, index: usize) -> Vec<u8> {
        match source.image(index).unwrap() {
            ImageData::Encoded(bytes) => bytes,
            ImageData::Decoded(_) => panic!("decoded already"),
        }
    }

    #[test]
    fn rows_keep_their_images_labels_and_places_over_groups_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a.parquet", "b.parquet"].map(|name| folder.path().join(name));
        let groups: [&[Row]; 2] = [
            &[(Some(b"zero"), Some(1)), (None, Some(0))],
            &[(Some(b"two"), None), (Some(b"three"), Some(-1))],
        ];
        write(&files[0], &groups, Some(r#"["cat", "dog"]"#));
        write(&files[1], &[&[(Some(b"four"), Some(0))]], Some(r#"["cat", "dog"]"#));
        let source = Parquet::open(&files).unwrap();
        assert_eq!(
            (source.len(), source.classes()),
            (5, ["cat".to_owned(), "dog".to_owned()].as_slice())
        );
        let labels: Vec<_> = (0..5).map(|i| source.label(i)).collect();
        assert_eq!(labels, [Some(1), Some(0), None, None, Some(0)]);
        for (index, wanted) in [(0, "zero"), (2, "two"), (3, "three"), (4, "four")] {
            assert_eq!(bytes(&source, index), wanted.as_bytes());
        }
        assert!(source.image(1).unwrap_err().to_string().contains("no image bytes"));
        assert_eq!(source.describe(3), format!("row 3 of {}", files[0].display()));
        assert_eq!(source.describe(4), format!("row 0 of {}", files[1].display()));
    }

    #[test]
    fn without_names_the_numbers_name_the_classes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.parquet");
        write(&file, &[&[(Some(b"0"), Some(2))]], None);
        assert_eq!(Parquet::open(std::slice::from_ref(&file)).unwrap().classes(), ["0", "1", "2"]);

        write(&file, &[&[(Some(b"0"), Some(2))]], Some(r#"["cat", "dog"]"#));
        let error = Parquet::open(&[file]).err().unwrap().to_string();
        assert!(error.contains("has the label 2, and names 2 classes"), "{error}");
    }

    #[test]
    fn all_threads_may_ask_at_once() {
        use rayon::prelude::*;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.parquet");
        let contents: Vec<Vec<u8>> = (0..200_u32).map(|i| i.to_le_bytes().repeat(50)).collect();
        let rows: Vec<Row> = contents.iter().map(|bytes| (Some(bytes.as_slice()), None)).collect();
        write(&file, &rows.chunks(10).collect::<Vec<_>>(), None);
        let source = Parquet::open(&[file]).unwrap();
        (0..200).into_par_iter().for_each(|i| assert_eq!(bytes(&source, i), contents[i]));
    }

    #[test]
    fn what_is_no_parquet_or_has_no_image_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.parquet");
        std::fs::write(&file, "no parquet").unwrap();
        let Err(error) = Parquet::open(std::slice::from_ref(&file)) else { panic!("accepted") };
        assert!(error.to_string().contains("x.parquet"), "{error}");
    }

    #[test]
    fn the_real_files_decode() {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/datasets/cifar10-jpeg");
        let file = folder.join("test-00000-of-00001.parquet");
        if !file.exists() {
            println!("skipped: {} is not there", file.display());
            return;
        }
        let source = Parquet::open(&[file]).unwrap();
        assert_eq!((source.len(), source.classes().len()), (10_000, 10));
        assert_eq!(source.classes()[9], "truck");
        let mut counts = [0; 10];
        for index in 0..source.len() {
            counts[source.label(index).unwrap() as usize] += 1;
        }
        assert_eq!(counts, [1000; 10]);
        for index in (0..10_000).step_by(97) {
            assert_eq!(source.image(index).unwrap().decode().unwrap().dimensions(), (32, 32));
        }
    }
}
