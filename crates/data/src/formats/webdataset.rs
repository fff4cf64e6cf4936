//! Images in tar files, in the layout of WebDataset: members `KEY.jpg` and `KEY.cls` beside each
//! other, thousands in a shard.
//!
//! The headers of all shards are read once to find the position of each image, from which it is
//! then read. [`Source::shards`] tells the loader to read a shard from front to back.

use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tar::{Archive, EntryType};

use crate::error::{Error, Result, WithContext, ensure};
use crate::formats::labels::{MAX_LABEL, count_classes, numbered_classes};
use crate::formats::listing::EXTENSIONS;
use crate::source::{ImageData, Source};

/// The extension of a member that holds the label, a number as text.
const LABEL: &str = "cls";
/// The greatest size of such a member.
const LABEL_BYTES: u64 = 32;

/// One split: all images of one or several shards.
pub(crate) struct WebDataset {
    shards: Vec<Shard>,
    /// The number of each shard's first image in the split.
    first: Vec<usize>,
    classes: Vec<String>,
}

struct Shard {
    path: PathBuf,
    members: Vec<Member>,
}

/// An image in a shard.
struct Member {
    key: String,
    /// The position of its bytes.
    bytes: Range<u64>,
    label: Option<u32>,
}

impl WebDataset {
    /// Reads the headers and labels of the shards of one split. Numbers name the classes.
    pub(crate) fn open(files: &[PathBuf]) -> Result<Self> {
        let shards: Vec<Shard> = files
            .par_iter()
            .map(|path| {
                let members = read_headers(path)
                    .with_context(|| format!("cannot use the tar file {}", path.display()))?;
                Ok(Shard { path: path.clone(), members })
            })
            .collect::<Result<_>>()?;
        let mut first = Vec::new();
        let mut images = 0;
        for shard in &shards {
            first.push(images);
            images += shard.members.len();
        }
        ensure!(
            images > 0,
            Missing,
            "{} holds no image (a member KEY.jpg, .png, .webp, .tif or the like)",
            files[0].display()
        );
        let labels = || shards.iter().flat_map(|shard| &shard.members).map(|member| member.label);
        let count = count_classes(labels());
        ensure!(
            count == 0 || labels().all(|label| label.is_some()),
            Damaged,
            "some of the images in {} have a label (KEY.cls) and others none",
            files[0].display()
        );
        Ok(Self { shards, first, classes: numbered_classes(count) })
    }

    pub(crate) fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The shard of an item, and its member.
    fn locate(&self, index: usize) -> (&Shard, &Member) {
        let shard = self.first.partition_point(|&first| first <= index) - 1;
        (&self.shards[shard], &self.shards[shard].members[index - self.first[shard]])
    }
}

impl Source for WebDataset {
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.members.len()).sum()
    }

    fn image(&self, index: usize) -> Result<ImageData> {
        let (shard, member) = self.locate(index);
        // Opened for each read: threads would disturb each other's position in a shared file.
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&shard.path)?;
            file.seek(SeekFrom::Start(member.bytes.start))?;
            let mut bytes = vec![0; (member.bytes.end - member.bytes.start) as usize];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().with_context(|| format!("cannot read {}", self.describe(index)))?;
        Ok(ImageData::Encoded(bytes))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.locate(index).1.label
    }

    fn describe(&self, index: usize) -> String {
        let (shard, member) = self.locate(index);
        format!("{} in {}", member.key, shard.path.display())
    }

    fn shards(&self) -> Vec<Range<usize>> {
        let ends = self.first.iter().skip(1).copied().chain([self.len()]);
        self.first.iter().zip(ends).map(|(&first, end)| first..end).collect()
    }
}

/// The images of a shard, in their order in the file. The members of a key need not be neighbors.
fn read_headers(path: &Path) -> Result<Vec<Member>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut members: Vec<Member> = Vec::new();
    let mut labels = BTreeMap::new();
    let mut archive = Archive::new(BufReader::new(file));
    for entry in archive.entries_with_seek()? {
        let mut entry = entry.with_context(|| "it is cut short or no tar file".to_owned())?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let start = entry.raw_file_position();
        // Checked for each member, since the reader skips missing bytes without an error.
        let end = start
            .checked_add(entry.size())
            .filter(|&end| end <= length)
            .ok_or_else(|| Error::Damaged(format!("it is cut short: {name} ends beyond it")))?;
        if entry.header().entry_type() != EntryType::Regular {
            continue;
        }
        let Some((key, extension)) = split(&name) else { continue };
        if EXTENSIONS.contains(&extension.to_lowercase().as_str()) {
            members.push(Member { key: key.to_owned(), bytes: start..end, label: None });
        } else if extension == LABEL {
            ensure!(
                entry.size() <= LABEL_BYTES,
                Damaged,
                "{name} is longer than the number of a class"
            );
            let mut text = String::new();
            entry.read_to_string(&mut text).with_context(|| format!("{name} is no text"))?;
            let label = text.trim().parse::<u32>().ok().filter(|&label| label <= MAX_LABEL);
            let label = label.ok_or_else(|| {
                Error::Damaged(format!(
                    "{name} holds {text:?}, not the number of a class (0 to {MAX_LABEL})"
                ))
            })?;
            labels.insert(key.to_owned(), label);
        }
    }
    for member in &mut members {
        member.label = labels.get(&member.key).copied();
    }
    Ok(members)
}

/// Key and extension, split at the first dot of the file name as WebDataset does. `None` for hidden
/// files and those without an extension.
fn split(name: &str) -> Option<(&str, &str)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.')?;
    (dot > base).then(|| (&name[..dot], &name[dot + 1..]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use crate::error::with_causes;
    use tar::{Builder, Header};

    /// Writes a shard of these members.
    pub(crate) fn write(path: &Path, members: &[(&str, &[u8])]) {
        let mut shard = Builder::new(File::create(path).unwrap());
        for (name, bytes) in members {
            let mut header = Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            shard.append_data(&mut header, name, *bytes).unwrap();
        }
        shard.finish().unwrap();
    }

    fn bytes(source: &WebDataset, index: usize) -> Vec<u8> {
        match source.image(index).unwrap() {
            ImageData::Encoded(bytes) => bytes,
            ImageData::Decoded(_) => panic!("a shard holds encoded images"),
        }
    }

    #[test]
    fn images_and_labels_are_matched_by_key() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("a-0.tar"), folder.path().join("a-1.tar"));
        write(
            &one,
            &[
                ("x/000.jpg", b"first"),
                ("x/000.cls", b"7\n"),
                ("x/000.json", b"{}"),
                ("x/001.cls", b"2"), // before its image
                ("x/001.seg.png", b"a mask"),
                ("x/001.JPG", b"the second"),
                ("x/.hidden.jpg", b""),
                ("readme", b"no extension"),
            ],
        );
        write(&two, &[("x/000.png", b"of another shard"), ("x/000.cls", b"0")]);
        let source = WebDataset::open(&[one, two]).unwrap();
        assert_eq!(source.len(), 3);
        assert_eq!(bytes(&source, 1), b"the second");
        assert_eq!(bytes(&source, 2), b"of another shard");
        let labels: Vec<_> = (0..3).map(|i| source.label(i)).collect();
        assert_eq!(labels, [Some(7), Some(2), Some(0)]);
        assert_eq!(source.classes().len(), 8);
        assert_eq!(source.shards(), [0..2, 2..3]);
        assert!(source.describe(1).starts_with("x/001 in "), "{}", source.describe(1));
    }

    #[test]
    fn long_names_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let name = format!("{}/1.jpg", "deep/".repeat(60));
        write(&path, &[(&name, b"x")]);
        assert_eq!(bytes(&WebDataset::open(&[path]).unwrap(), 0), b"x");
    }

    #[test]
    fn what_is_no_whole_shard_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let refusal = || {
            let opened = WebDataset::open(std::slice::from_ref(&path));
            with_causes(&opened.err().expect("it was accepted"))
        };
        write(&path, &[("1.jpg", &[7; 2000]), ("2.jpg", &[7; 2000])]);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..4000]).unwrap();
        assert!(refusal().contains("a.tar: it is cut short"), "{}", refusal());
        std::fs::write(&path, &whole[..700]).unwrap();
        assert!(refusal().contains("it is cut short"), "{}", refusal());
        write(&path, &[("1.jpg", b"a"), ("1.cls", b"12\n")]);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..1537]).unwrap(); // within the label, after its 1
        assert!(refusal().contains("cut short: 1.cls ends beyond it"), "{}", refusal());
        write(&path, &[("1.jpg", b""), ("1.cls", &[b'0'; 40])]);
        assert!(refusal().contains("1.cls is longer than"), "{}", refusal());
        std::fs::write(&path, [b'x'; 1024]).unwrap();
        assert!(refusal().contains("no tar file"), "{}", refusal());
        write(&path, &[("1.jpg", b""), ("1.cls", b"cat")]);
        assert!(refusal().contains("1.cls holds \"cat\""), "{}", refusal());
        write(&path, &[("1.jpg", b""), ("1.cls", b"4294967295")]);
        assert!(refusal().contains("not the number of a class"), "{}", refusal());
        write(&path, &[("1.jpg", b""), ("1.cls", b"1"), ("2.jpg", b"")]);
        assert!(refusal().contains("have a label"), "{}", refusal());
        write(&path, &[("1.txt", b"")]);
        assert!(refusal().contains("holds no image"), "{}", refusal());
    }
}
