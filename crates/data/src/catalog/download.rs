//! Fetching a data set once: download with resume, verify, unpack.

use flate2::read::GzDecoder;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use tar::EntryType;

use crate::catalog::fingerprint::sha256_of;
use crate::catalog::{Archive, KnownDataset};
use crate::error::{Error, Result, WithContext, ensure};

/// An archive that unpacks to more is refused.
const MAX_UNPACKED: u64 = 4 << 30;

/// The user's folder for downloaded data, e.g. `~/.cache/portolan/datasets`.
///
/// # Errors
/// If the system names no cache folder.
pub fn default_cache() -> Result<PathBuf> {
    let none = "this system has no cache folder for the user; set HOME or XDG_CACHE_HOME";
    let cache = dirs::cache_dir().ok_or_else(|| Error::Missing(none.to_owned()))?;
    Ok(cache.join("portolan").join("datasets"))
}

/// The folder with the unpacked files of a data set: that of the operating system's package if it
/// is installed, else in `cache`. They are downloaded first if they are missing.
///
/// The next call continues an interrupted download; files get their name only when complete. A file
/// that the user put where the download would is used instead.
///
/// # Errors
/// If the download fails, with instructions to do it by hand, and if a checksum is wrong.
pub(crate) fn fetch(known: &KnownDataset, cache: &Path) -> Result<PathBuf> {
    if let Some(package) = known.installed.as_ref().filter(|package| package.folder.is_dir()) {
        return Ok(package.folder.clone());
    }
    if known.download.is_empty() {
        return Err(Error::Missing(format!(
            "{} cannot be downloaded by a program. {} ({})",
            known.title, known.by_hand, known.homepage
        )));
    }
    let folder = cache.join(known.name);
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // Two programs at once: the second waits, then finds the first one's result.
    let lock = File::create(cache.join(format!("{}.lock", known.name)))
        .with_context(|| format!("cannot write to {}", cache.display()))?;
    lock.lock()?;
    if folder.is_dir() {
        return Ok(folder);
    }

    let files = known.download.iter().map(|download| fetch_file(known, download, cache));
    let files = files.collect::<Result<Vec<PathBuf>>>()?;
    let aside = folder.with_extension("unpacking");
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    fs::create_dir_all(&aside)?;
    for file in files {
        if file.to_string_lossy().ends_with(".tar.gz") {
            unpack(&file, &aside).with_context(|| format!("cannot unpack {}", file.display()))?;
            fs::remove_file(&file)?;
        } else {
            fs::rename(&file, aside.join(file.file_name().unwrap_or_default()))?;
        }
    }
    fs::rename(&aside, &folder)?;
    Ok(folder)
}

/// A verified file in `cache`, downloaded if it is not there.
fn fetch_file(known: &KnownDataset, download: &Archive, cache: &Path) -> Result<PathBuf> {
    let path = cache.join(download.url.rsplit('/').next().unwrap_or(known.name));
    if path.is_file() {
        verify(download, &path)?;
        return Ok(path);
    }
    let part = path.with_extension("gz.part");
    tracing::info!(
        "downloading {} ({:.1} MB) to {}",
        download.url,
        download.bytes as f64 / 1e6,
        cache.display()
    );
    get(download, &part).map_err(|error| Error::Download {
        advice: by_hand(known, download, &path),
        source: Box::new(error),
    })?;
    if let Err(error) = verify(download, &part) {
        fs::remove_file(&part)?;
        return Err(error)
            .with_context(|| "the download was removed; the next run starts it again".to_owned());
    }
    fs::rename(&part, &path)?;
    Ok(path)
}

fn by_hand(known: &KnownDataset, download: &Archive, path: &Path) -> String {
    let package = known.installed.as_ref();
    let package = package.map_or(String::new(), |package| format!("; or {}", package.command));
    format!(
        "cannot download {}; run the command again to continue, or get {} by other means, put it \
         at {} and run the command again, or unpack it anywhere and give that folder with \
         --data{package}",
        known.title,
        download.url,
        path.display()
    )
}

/// Downloads to `part`, continuing what is there already.
fn get(download: &Archive, part: &Path) -> Result<()> {
    let mut have = part.metadata().map_or(0, |metadata| metadata.len());
    if have >= download.bytes {
        return Ok(()); // The checksum tells whether it is right.
    }
    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        .build()
        .new_agent();
    let mut request = agent.get(&download.url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let mut response = request.call()?;
    match response.status().as_u16() {
        200 => have = 0, // the whole file, although a part may have been asked for
        206 => {
            let range =
                response.headers().get("Content-Range").and_then(|range| range.to_str().ok());
            ensure!(
                range.is_some_and(|range| range.starts_with(&format!("bytes {have}-"))),
                Damaged,
                "the server sent another part than the one asked for ({range:?})"
            );
        }
        416 => {
            fs::remove_file(part)?;
            return Err(Error::Damaged(
                "the server has less than an earlier run downloaded, which was removed".to_owned(),
            ));
        }
        status => {
            return Err(Error::Missing(format!("the server answered with status {status}")));
        }
    }
    // A login or error page must not be saved as the start of the archive.
    let length = response.body().content_length().unwrap_or(download.bytes - have);
    ensure!(
        have + length == download.bytes,
        Damaged,
        "the server's file has {} bytes, not {}",
        have + length,
        download.bytes
    );

    let mut file = OpenOptions::new().create(true).append(true).open(part)?;
    file.set_len(have)?;
    // One byte more than expected is enough to fail the checksum.
    let mut body = response.body_mut().as_reader().take(download.bytes - have + 1);
    let copied =
        io::copy(&mut body, &mut file).with_context(|| "the connection broke off".to_owned())?;
    file.sync_all()?;
    ensure!(
        have + copied >= download.bytes,
        Damaged,
        "only {} of {} bytes came",
        have + copied,
        download.bytes
    );
    Ok(())
}

fn verify(download: &Archive, archive: &Path) -> Result<()> {
    let found = sha256_of(archive)?;
    let doubt = if download.checked_against_real_bytes {
        ""
    } else {
        ", a figure that we copied and have not yet checked against the real file"
    };
    ensure!(
        found == download.sha256,
        Damaged,
        "{} is not the file it should be: its SHA-256 is {found}, and {} says {}{doubt}",
        archive.display(),
        download.sha256_source,
        download.sha256
    );
    Ok(())
}

/// Unpacks a `.tar.gz` into a folder.
fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    let mut unpacked = 0;
    for entry in tar::Archive::new(GzDecoder::new(File::open(archive)?)).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        ensure!(
            path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)),
            Damaged,
            "it holds the path {}, which leads out of the folder",
            path.display()
        );
        match entry.header().entry_type() {
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            EntryType::Regular => {}
            _ => {
                return Err(Error::Damaged(format!(
                    "it holds {}, which is neither a file nor a folder",
                    path.display()
                )));
            }
        }
        unpacked += entry.size();
        ensure!(unpacked <= MAX_UNPACKED, Damaged, "it unpacks to more than {MAX_UNPACKED} bytes");
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        io::copy(&mut entry, &mut File::create(&path)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
