//! The user's cache of libtorch: one folder a version and flavor, shared by all checkouts.
//!
//! A folder is created under a temporary name and renamed when it is complete. A folder with the
//! final name is therefore complete, even after a crash. Only one set-up runs at a time.

use anyhow::{Context, Result};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::wheels::{self, Flavor};
use crate::{LIBTORCH_VERSION, WAYS_AROUND};

/// What the names of unfinished folders contain.
const UNFINISHED: &str = ".unfinished-";

/// `portolan` in the user's cache folder.
pub(crate) fn folder() -> Result<PathBuf> {
    let xdg =
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let user = match xdg {
        Some(folder) => folder,
        None => std::env::home_dir()
            .context(
                "neither XDG_CACHE_HOME nor HOME says where the user's cache is: set one of them",
            )?
            .join(".cache"),
    };
    Ok(user.join("portolan"))
}

/// Where a flavor of libtorch lies once it is complete.
pub(crate) fn place(cache: &Path, flavor: Flavor) -> PathBuf {
    cache.join(format!("libtorch-{LIBTORCH_VERSION}-{flavor}"))
}

/// Makes the flavor's folder unless it is there, from the wheels which `fetch` downloads into the
/// folder given to it.
pub(crate) fn provide(
    cache: &Path,
    flavor: Flavor,
    fetch: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let place = place(cache, flavor);
    if place.is_dir() {
        return Ok(place);
    }
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let _lock = lock(cache)?;
    if place.is_dir() {
        return Ok(place); // by the set-up that was waited for
    }
    remove_unfinished(cache)?;

    let name = format!("libtorch-{flavor}{UNFINISHED}{}", std::process::id());
    let unfinished = cache.join(name);
    let made = make(&unfinished, flavor, fetch)
        .and_then(|()| fs::rename(&unfinished, &place).context("cannot rename it"));
    if let Err(error) = made {
        remove_unfinished(cache)?;
        return Err(explain_full_disk(error, cache));
    }
    Ok(place)
}

/// Waits until no other set-up is at work in this cache. Ends with the returned file, or the
/// process.
fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        eprintln!("Another set-up is at work in {}; waiting for it.", cache.display());
    }
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Removes the leftovers of failed set-ups. Call it with the lock held, since another set-up may be
/// running otherwise.
fn remove_unfinished(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains(UNFINISHED) {
            let path = entry.path();
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn make(folder: &Path, flavor: Flavor, fetch: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let downloads = folder.join("wheels");
    fs::create_dir_all(&downloads)?;
    fetch(&downloads)?;
    eprintln!("Unpacking.");
    for entry in fs::read_dir(&downloads)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            wheels::unpack(&path, flavor, folder)?;
            fs::remove_file(&path)?;
        }
    }
    fs::remove_dir_all(&downloads)?;
    Ok(())
}

fn explain_full_disk(error: anyhow::Error, cache: &Path) -> anyhow::Error {
    let full = error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull)
    });
    if full {
        error.context(format!(
            "the disk of {} is full: free some space or put the cache elsewhere with \
             XDG_CACHE_HOME, {WAYS_AROUND}",
            cache.display()
        ))
    } else {
        error
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use anyhow::bail;
    use std::io::Write;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    /// A pip that delivers one tiny wheel.
    fn fetch_tiny_wheel(into: &Path) -> Result<()> {
        let mut wheel = ZipWriter::new(File::create(into.join("tiny.whl"))?);
        wheel.start_file("torch/lib/libtorch_cpu.so", SimpleFileOptions::default())?;
        wheel.write_all(b"library")?;
        wheel.finish()?;
        Ok(())
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_download_leaves_nothing_and_the_next_one_succeeds() {
        let cache = tempfile::tempdir().unwrap();
        let failing = |into: &Path| {
            fetch_tiny_wheel(into)?;
            bail!("the connection broke")
        };
        let error = provide(cache.path(), Flavor::Cpu, failing).unwrap_err();
        assert_eq!(error.to_string(), "the connection broke");
        assert_eq!(names_in(cache.path()), ["setup.lock"]);

        let place = provide(cache.path(), Flavor::Cpu, fetch_tiny_wheel).unwrap();
        assert_eq!(names_in(&place), ["lib"]);
        assert_eq!(fs::read(place.join("lib/libtorch_cpu.so")).unwrap(), b"library");
    }

    #[test]
    fn a_broken_wheel_leaves_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let broken = |into: &Path| Ok(fs::write(into.join("half.whl"), "PK")?);
        provide(cache.path(), Flavor::Cpu, broken).unwrap_err();
        assert_eq!(names_in(cache.path()), ["setup.lock"]);
    }

    #[test]
    fn what_a_killed_set_up_left_is_removed() {
        let cache = tempfile::tempdir().unwrap();
        let left = cache.path().join(format!("libtorch-cpu{UNFINISHED}1/wheels"));
        fs::create_dir_all(left).unwrap();
        provide(cache.path(), Flavor::Cpu, fetch_tiny_wheel).unwrap();
        assert_eq!(names_in(cache.path()), ["libtorch-2.11.0-cpu", "setup.lock"]);
    }

    #[test]
    fn the_second_call_fetches_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let first = provide(cache.path(), Flavor::Cpu, fetch_tiny_wheel).unwrap();
        let second = provide(cache.path(), Flavor::Cpu, |_| bail!("fetched again")).unwrap();
        assert_eq!(first, second);
    }

    #[test]
    fn of_parallel_set_ups_one_fetches() {
        let cache = tempfile::tempdir().unwrap();
        let fetched = AtomicUsize::new(0);
        let counting = |into: &Path| {
            fetched.fetch_add(1, Ordering::SeqCst);
            fetch_tiny_wheel(into)
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| provide(cache.path(), Flavor::Cpu, counting).unwrap());
            }
        });
        assert_eq!(fetched.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_full_disk_is_named() {
        let cache = tempfile::tempdir().unwrap();
        let full = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
        let error = provide(cache.path(), Flavor::Cpu, full).unwrap_err();
        assert!(error.to_string().contains("is full"), "{error}");
    }
}
