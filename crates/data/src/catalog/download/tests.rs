//! Against a server on the loopback interface that serves a small archive, well or badly.
#![allow(clippy::unwrap_used)]

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use tempfile::TempDir;

use super::*;
use crate::catalog::fingerprint::hex;
use crate::catalog::{Installed, get};
use crate::error::with_causes;

/// How the server answers, given the archive and the first byte asked for.
type Answer = fn(&[u8], Option<usize>) -> Vec<u8>;

fn response(status: &str, headers: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn with_ranges(archive: &[u8], from: Option<usize>) -> Vec<u8> {
    let Some(from) = from else { return response("200 OK", "", archive.len(), archive) };
    let range = format!("Content-Range: bytes {from}-{}/{}\r\n", archive.len() - 1, archive.len());
    response("206 Partial Content", &range, archive.len() - from, &archive[from..])
}

fn without_ranges(archive: &[u8], _: Option<usize>) -> Vec<u8> {
    response("200 OK", "", archive.len(), archive)
}

fn breaking_off(archive: &[u8], _: Option<usize>) -> Vec<u8> {
    response("200 OK", "", archive.len(), &archive[..archive.len() / 2])
}

fn log_in_page(_: &[u8], _: Option<usize>) -> Vec<u8> {
    response("200 OK", "", 13, b"<html></html>")
}

fn missing(_: &[u8], _: Option<usize>) -> Vec<u8> {
    response("404 Not Found", "", 0, b"")
}

/// Serves until the test process ends; what each request asked for comes out of the receiver.
fn serve(archive: Vec<u8>, answer: Answer) -> (String, mpsc::Receiver<Option<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/toy.tar.gz", listener.local_addr().unwrap());
    let (send, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let from = range_of(&stream);
            send.send(from).ok(); // nobody may be listening
            stream.write_all(&answer(&archive, from)).unwrap();
        }
    });
    (url, asked)
}

/// The first byte that a request's `Range` asks for.
fn range_of(stream: &TcpStream) -> Option<usize> {
    let head =
        BufReader::new(stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty());
    let lines: Vec<String> = head.map(|line| line.to_lowercase()).collect();
    let range = lines.iter().find_map(|line| line.strip_prefix("range: bytes="))?;
    Some(range.trim_end_matches('-').parse().unwrap())
}

/// A `.tar.gz` with one file; paths are written as they are, however bad.
fn archive_with(path: &str, kind: EntryType) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::none()));
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    let content = if kind == EntryType::Regular { b"content".repeat(1000) } else { Vec::new() };
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.append(&header, content.as_slice()).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

fn toy() -> Vec<u8> {
    archive_with("inner/data.bin", EntryType::Regular)
}

fn described(archive: &[u8], url: &str) -> KnownDataset {
    let mut toy = get("cifar10").unwrap();
    toy.name = "toy";
    toy.download = vec![file(archive, url)];
    toy
}

fn file(content: &[u8], url: &str) -> Archive {
    Archive {
        url: url.to_owned(),
        bytes: content.len() as u64,
        sha256: hex(&Sha256::digest(content)),
        sha256_source: "the test".to_owned(),
        checked_against_real_bytes: false,
    }
}

fn assert_unpacked(cache: &TempDir) {
    let content = fs::read(cache.path().join("toy/inner/data.bin")).unwrap();
    assert_eq!(content, b"content".repeat(1000));
    let names: Vec<_> =
        fs::read_dir(cache.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the folder and the lock are all that stays: {names:?}");
}

fn fails(known: &KnownDataset, cache: &TempDir) -> String {
    with_causes(&fetch(known, cache.path()).unwrap_err())
}

#[test]
fn downloads_once_verifies_and_unpacks() {
    let (url, asked) = serve(toy(), with_ranges);
    let cache = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        assert_eq!(
            fetch(&described(&toy(), &url), cache.path()).unwrap(),
            cache.path().join("toy")
        );
    }
    assert_unpacked(&cache);
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [None]);
}

#[test]
fn a_broken_download_is_continued() {
    let archive = toy();
    let cache = tempfile::tempdir().unwrap();
    let (url, _) = serve(archive.clone(), breaking_off);
    let error = fails(&described(&archive, &url), &cache);
    assert!(error.contains("run the command again to continue"), "{error}");
    let (url, asked) = serve(archive.clone(), with_ranges);
    fetch(&described(&archive, &url), cache.path()).unwrap();
    assert_unpacked(&cache);
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [Some(archive.len() / 2)]);
}

#[test]
fn a_server_that_cannot_continue_starts_again() {
    let (url, asked) = serve(toy(), without_ranges);
    let cache = tempfile::tempdir().unwrap();
    fs::write(cache.path().join("toy.tar.gz.part"), "something else").unwrap();
    fetch(&described(&toy(), &url), cache.path()).unwrap();
    assert_unpacked(&cache);
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [Some(14)]);
}

#[test]
fn a_wrong_checksum_removes_the_download_and_says_so() {
    let mut other = toy();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    let (url, _) = serve(other, with_ranges);
    let cache = tempfile::tempdir().unwrap();
    let error = fails(&described(&toy(), &url), &cache);
    assert!(
        error.contains("the download was removed") && error.contains("the test says"),
        "{error}"
    );
    assert!(!cache.path().join("toy.tar.gz.part").exists() && !cache.path().join("toy").exists());
}

#[test]
fn a_file_of_another_length_is_not_begun() {
    let (url, _) = serve(toy(), log_in_page);
    let cache = tempfile::tempdir().unwrap();
    assert!(fails(&described(&toy(), &url), &cache).contains("the server's file has 13 bytes"));
    assert!(!cache.path().join("toy.tar.gz.part").exists());
}

#[test]
fn without_a_server_the_manual_way_is_told_and_works() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let toy_known = described(&toy(), &format!("http://{closed}/toy.tar.gz"));
    let cache = tempfile::tempdir().unwrap();
    let error = fails(&toy_known, &cache);
    let archive = cache.path().join("toy.tar.gz");
    assert!(error.contains(&format!("put it at {}", archive.display())), "{error}");
    assert!(error.contains("refused"), "{error}");
    fs::write(&archive, toy()).unwrap();
    fetch(&toy_known, cache.path()).unwrap();
    assert_unpacked(&cache);
}

#[test]
fn several_files_come_into_one_folder_and_a_package_goes_first() {
    let cache = tempfile::tempdir().unwrap();
    let (url, _) = serve(b"labels".to_vec(), with_ranges);
    let mut known = described(&toy(), &url);
    known.download = vec![
        file(b"labels", &url.replace("toy.tar.gz", "labels-ubyte.gz")),
        file(b"pixels", "http://127.0.0.1:9/pixels-ubyte.gz"),
    ];
    let package = cache.path().join("package");
    let command = "apt install toy".to_owned();
    known.installed = Some(Installed { folder: package.clone(), command });
    let error = fails(&known, &cache);
    assert!(error.contains("pixels-ubyte.gz") && error.contains("or apt install toy"), "{error}");
    assert!(!cache.path().join("toy").exists());
    // The one that came is not asked for again.
    fs::write(cache.path().join("pixels-ubyte.gz"), "pixels").unwrap();
    known.download[0].url = "http://127.0.0.1:9/labels-ubyte.gz".to_owned();
    let folder = fetch(&known, cache.path()).unwrap();
    assert_eq!(fs::read(folder.join("labels-ubyte.gz")).unwrap(), b"labels");
    assert_eq!(fs::read(folder.join("pixels-ubyte.gz")).unwrap(), b"pixels");
    fs::create_dir(&package).unwrap();
    assert_eq!(fetch(&known, cache.path()).unwrap(), package);
}

#[test]
fn the_servers_refusal_is_told() {
    let (url, _) = serve(toy(), missing);
    let cache = tempfile::tempdir().unwrap();
    assert!(fails(&described(&toy(), &url), &cache).contains("status 404"));
}

#[test]
fn nothing_is_unpacked_outside_of_the_folder() {
    for (path, kind) in [
        ("../escaped.bin", EntryType::Regular),
        ("/tmp/portolan-escaped.bin", EntryType::Regular),
        ("inner/../../escaped.bin", EntryType::Regular),
        ("link", EntryType::Symlink),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let archive = archive_with(path, kind);
        fs::write(cache.path().join("toy.tar.gz"), &archive).unwrap();
        let error = fails(&described(&archive, "http://127.0.0.1:9/toy.tar.gz"), &cache);
        assert!(
            error.contains("leads out of the folder") || error.contains("neither a file"),
            "{error}"
        );
        assert!(!cache.path().join("toy").exists() && !cache.path().join("escaped.bin").exists());
    }
}
