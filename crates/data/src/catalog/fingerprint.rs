//! One checksum for all files of a data set, so that figures are compared on the same data only.

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Up to this many bytes, contents are read in full, which takes some seconds. Above, names and
/// sizes stand for them.
const READ_IN_FULL: u64 = 2 << 30;

/// The checksum of `files`, given relative to `root`.
///
/// It is the SHA-256 of the listing that `sha256sum` prints for the files, sorted by path (a line
/// `<sha256>  <path>` each); a file that cannot be read has `unreadable` there. Above 2 GiB in all,
/// the lines hold sizes in bytes instead (`<size>  <path>`), and the result starts with `sizes:`.
pub(crate) fn fingerprint(root: &Path, files: &[PathBuf]) -> String {
    let sizes: Vec<u64> =
        files.iter().map(|file| root.join(file).metadata().map_or(0, |m| m.len())).collect();
    let in_full = sizes.iter().sum::<u64>() <= READ_IN_FULL;
    let mut lines: Vec<String> = files
        .par_iter()
        .zip(sizes)
        .map(|(file, size)| {
            let content = if in_full {
                sha256_of(&root.join(file)).unwrap_or_else(|_| "unreadable".into())
            } else {
                size.to_string()
            };
            format!("{content}  {}\n", file.to_string_lossy().replace('\\', "/"))
        })
        .collect();
    lines.sort_by(|a, b| path_in(a).cmp(path_in(b)));
    let digest = hex(&Sha256::digest(lines.concat()));
    if in_full { digest } else { format!("sizes:{digest}") }
}

fn path_in(line: &str) -> &str {
    line.split_once("  ").map_or(line, |(_, path)| path)
}

/// The SHA-256 of a file's content, in hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            n => digest.update(&buffer[..n]),
        }
    }
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn is_what_sha256sum_of_sha256sum_gives() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.png"), "two").unwrap();
        std::fs::write(folder.path().join("a.png"), "one").unwrap();
        // printf one > a.png; printf two > b.png; sha256sum a.png b.png | sha256sum
        assert_eq!(
            fingerprint(folder.path(), &["b.png".into(), "a.png".into()]),
            "659bbb695e8db1737d528aba3bbb9ab8457ed00faa379f7a293f59e80507e662"
        );
    }

    #[test]
    fn changes_with_one_byte_and_with_a_name() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["cat", "dog"] {
            std::fs::create_dir(folder.path().join(class)).unwrap();
        }
        let of = |name: &str, content: &str| {
            std::fs::write(folder.path().join(name), content).unwrap();
            fingerprint(folder.path(), &[name.into()])
        };
        let first = of("cat/1.png", "pixels");
        assert_ne!(first, of("cat/1.png", "pixelz"));
        assert_ne!(first, of("dog/1.png", "pixels"));
        assert_eq!(first, of("cat/1.png", "pixels"));
    }
}
