//! Every place where Portolan reads what others made, as a function of bytes that may be anything.
//!
//! Each must return: an error is a good answer, a panic, a hang or memory without bound is not.
//! `cargo fuzz run NAME --features fuzzing` searches for bytes that break that (docs/fuzzing.md);
//! what it found worth keeping lies in `corpus/NAME`, and the test `corpus` runs all of it on a
//! stable compiler.

use portolan_data::{Options, Source};
use portolan_interchange::LoadedEncoder;
use std::cell::LazyCell;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Reads bytes that may be anything.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Target); 8] = [
    ("decode", decode),
    ("parquet", parquet),
    ("tar", tar),
    ("cifar", cifar),
    ("stl10", stl10),
    ("safetensors", safetensors),
    ("pth", pth),
    ("settings", settings),
];

thread_local! {
    /// A folder for the files that are read by path.
    static FOLDER: LazyCell<TempDir> =
        LazyCell::new(|| tempfile::tempdir().expect("a folder for temporary files"));
}

/// Calls `read` with a folder in which `files` are.
fn with_files(files: &[(&str, &[u8])], read: impl FnOnce(&Path)) {
    FOLDER.with(|folder| {
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).expect("room for temporary files");
        }
        read(folder.path());
        for (name, _) in files {
            fs::remove_file(folder.path().join(name)).expect("the file that was written");
        }
    });
}

/// Opens data at `path` and reads all of it, as training would.
fn read_all(path: &Path) {
    let Ok(data) = portolan_data::open(&path.to_string_lossy(), &Options::default()) else {
        return;
    };
    for source in
        [Some(&data.train), data.unlabeled.as_ref(), data.test.as_ref()].into_iter().flatten()
    {
        read_source(&**source);
    }
}

fn read_source(source: &dyn Source) {
    for index in 0..source.len().min(100) {
        let _ = source.label(index);
        let _ = source.describe(index);
        let _ = source.image(index).and_then(|image| image.decode());
    }
}

/// The bytes of an image file.
pub fn decode(bytes: &[u8]) {
    let _ = portolan_data::decode(bytes);
}

/// A Parquet file of images.
pub fn parquet(bytes: &[u8]) {
    with_files(&[("x.parquet", bytes)], |folder| read_all(&folder.join("x.parquet")));
}

/// A tar shard.
pub fn tar(bytes: &[u8]) {
    with_files(&[("x.tar", bytes)], |folder| read_all(&folder.join("x.tar")));
}

/// A file of CIFAR-100.
pub fn cifar(bytes: &[u8]) {
    let files =
        [("train.bin", bytes), ("test.bin", bytes), ("fine_label_names.txt", b"cat\ndog\n")];
    with_files(&files, read_all);
}

/// The files of STL-10: the first byte is the label.
pub fn stl10(bytes: &[u8]) {
    let (labels, pixels) = bytes.split_at(bytes.len().min(1));
    let files = [
        ("train_X.bin", pixels),
        ("train_y.bin", labels),
        ("test_X.bin", pixels),
        ("test_y.bin", labels),
        ("unlabeled_X.bin", pixels),
        ("class_names.txt", b"cat\ndog\n"),
    ];
    with_files(&files, read_all);
}

/// A safetensors file.
pub fn safetensors(bytes: &[u8]) {
    with_files(&[("x.safetensors", bytes)], |folder| {
        let _ = portolan_tensor::io::load(&folder.join("x.safetensors"));
    });
}

/// A file of `torch.save`, of either form.
pub fn pth(bytes: &[u8]) {
    with_files(&[("x.pth", bytes)], |folder| {
        let _ = LoadedEncoder::open(&folder.join("x.pth"), None);
    });
}

/// A file of settings.
pub fn settings(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = portolan_cli::check_settings(text);
    }
}
