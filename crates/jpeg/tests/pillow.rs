//! Against Pillow: `tests/images` has small JPEGs of each kind, and as Pillow 13 decodes them. The
//! program `tests/images.py` made both.
#![allow(clippy::unwrap_used)]

use image::RgbImage;
use portolan_jpeg::decode;
use std::path::{Path, PathBuf};

/// Kinds that are not decoded here.
const OTHERS: [&str; 3] = ["progressive", "inks", "as-it-is"];

fn jpegs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut jpegs: Vec<_> = paths.filter(|path| path.extension().unwrap() == "jpg").collect();
    jpegs.sort();
    jpegs
}

fn is_other(path: &Path) -> bool {
    OTHERS.contains(&path.file_stem().unwrap().to_str().unwrap())
}

fn whole(bytes: &[u8]) -> Option<RgbImage> {
    decode(bytes, |header| Some(header.whole()))
}

#[test]
fn every_level_is_pillows() {
    let mut compared = 0;
    for path in jpegs().iter().filter(|path| !is_other(path)) {
        let found = whole(&std::fs::read(path).unwrap()).unwrap_or_else(|| panic!("{path:?}"));
        let pillow = image::open(path.with_extension("png")).unwrap().into_rgb8();
        assert_eq!(found.dimensions(), pillow.dimensions(), "{path:?}");
        let differs =
            found.enumerate_pixels().find(|&(x, y, pixel)| pixel != pillow.get_pixel(x, y));
        assert!(differs.is_none(), "{path:?}: {differs:?}");
        compared += 1;
    }
    assert_eq!(compared, 15);
}

#[test]
fn other_kinds_are_left_to_others() {
    for path in jpegs().iter().filter(|path| is_other(path)) {
        assert!(whole(&std::fs::read(path).unwrap()).is_none(), "{path:?}");
    }
    assert!(whole(b"").is_none() && whole(b"just some text").is_none());
}

#[test]
fn a_part_has_the_pixels_of_the_whole() {
    for path in jpegs().iter().filter(|path| !is_other(path)) {
        let bytes = std::fs::read(path).unwrap();
        let all = whole(&bytes).unwrap();
        let (width, height) = all.dimensions();
        for i in 0..40 {
            let cut = |n: u32, side: u32| n * 7919 % (side + 1);
            let (x, y) = (cut(i, width), cut(3 * i + 1, height));
            let (columns, rows) =
                (x..x + cut(5 * i, width + 4 - x), y..y + cut(7 * i, height + 4 - y));
            let part = decode(&bytes, |_| Some((columns.clone(), rows.clone()))).unwrap();
            assert_eq!(part.dimensions(), all.dimensions());
            for (x, y, pixel) in part.enumerate_pixels() {
                if columns.contains(&x) && rows.contains(&y) {
                    assert_eq!(
                        pixel,
                        all.get_pixel(x, y),
                        "{path:?} at {x}, {y} of {columns:?}, {rows:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_cut_short_is_not_decoded() {
    for path in jpegs().iter().filter(|path| !is_other(path)) {
        let bytes = std::fs::read(path).unwrap();
        for end in 0..bytes.len() {
            assert!(whole(&bytes[..end]).is_none(), "{path:?} cut at {end}");
        }
    }
}

#[test]
fn tables_that_no_usual_file_has_are_not_used() {
    let path = &jpegs()[0];
    assert!(!is_other(path));
    let bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(2).rposition(|pair| pair == [0xFF, 0xC4]).unwrap();
    let length = 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
    let twice = [&bytes[..at + length], &bytes[at..]].concat();
    assert!(whole(&bytes).is_some() && whole(&twice).is_none());
}

#[test]
fn damaged_bytes_are_survived() {
    for path in jpegs() {
        let bytes = std::fs::read(path).unwrap();
        for at in 0..bytes.len() {
            for value in [0, 0xFF, bytes[at] ^ 0x55] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                // The caller has to refuse a forged size.
                let small = |header: &portolan_jpeg::Header| header.width * header.height < 1 << 16;
                decode(&damaged, |header| small(header).then(|| header.whole()));
            }
        }
    }
}

#[test]
fn exif_data_are_handed_over() {
    let bytes = std::fs::read(jpegs().into_iter().find(|path| !is_other(path)).unwrap()).unwrap();
    let exif = [&bytes[..2], &[0xFF, 0xE1, 0, 11], b"Exif\0\0abc", &bytes[2..]].concat();
    let mut seen = None;
    let image = decode(&exif, |header| {
        seen.clone_from(&header.exif);
        Some(header.whole())
    });
    assert_eq!(seen.as_deref(), Some(b"abc".as_slice()));
    assert_eq!(image, whole(&bytes));
}

#[test]
fn tables_of_the_file_before_are_not_used() {
    let path = jpegs().into_iter().find(|path| path.ends_with("444-fine.jpg")).unwrap();
    let bytes = std::fs::read(path).unwrap();
    assert!(whole(&bytes).is_some());
    let mut rest = bytes[..2].to_vec();
    let mut at = 2;
    while bytes[at + 1] != 0xDA {
        let end = at + 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        if bytes[at + 1] != 0xC4 {
            rest.extend_from_slice(&bytes[at..end]);
        }
        at = end;
    }
    rest.extend_from_slice(&bytes[at..]);
    assert!(whole(&rest).is_none(), "there is no Huffman table in it");
}
