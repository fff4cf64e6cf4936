//! Decides which libtorch this checkout uses, and links it as `.libtorch`.
//!
//! One ignored link in the checkout lets one committed `.cargo/config.toml` serve everyone: it
//! names `.libtorch` to the build and to the binaries, wherever libtorch really lies.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::wheels::Flavor;
use crate::{LIBTORCH_VERSION, WAYS_AROUND, cache, pip};

/// Makes `.libtorch` in the checkout `root` lead to a libtorch: the user's own if LIBTORCH or
/// LIBTORCH_USE_PYTORCH names one, else the wished flavor from the cache, else the one that is
/// linked already, else what suits this machine.
pub(crate) fn setup(root: &Path, wish: Option<Flavor>) -> Result<()> {
    require_compiler()?;
    let link = root.join(".libtorch");
    let libtorch = match (users_own(&link)?, wish) {
        (Some(own), _) => own,
        (None, Some(flavor)) => provision(flavor, "as asked for")?,
        (None, None) if check(&link).is_ok() => return Ok(()),
        (None, None) if has_nvidia_driver() => {
            provision(Flavor::Cuda, "there is an NVIDIA driver")?
        }
        (None, None) => provision(Flavor::Cpu, "there is no NVIDIA driver")?,
    };
    point(&link, &libtorch)
}

/// One line on what `.libtorch` leads to.
pub(crate) fn describe(root: &Path) -> Result<String> {
    let libtorch = root.join(".libtorch").canonicalize()?;
    let cuda = if has_cuda(&libtorch) { "with" } else { "without" };
    Ok(format!("libtorch {LIBTORCH_VERSION} ({cuda} CUDA) is ready: {}", libtorch.display()))
}

/// The libtorch that the user's environment names.
fn users_own(link: &Path) -> Result<Option<PathBuf>> {
    if std::env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        let own = pytorch_of_python()?;
        check(&own).context(
            "LIBTORCH_USE_PYTORCH is set, but cannot be used; unset it or install PyTorch 2.11.0",
        )?;
        return Ok(Some(own));
    }
    // Cargo itself sets LIBTORCH to the link where the user has not set it (`.cargo/config.toml`).
    let set = std::env::var_os("LIBTORCH").map(PathBuf::from);
    let Some(own) = set.filter(|set| set.file_name() != link.file_name()) else {
        return Ok(None);
    };
    check(&own).context("LIBTORCH is set, but cannot be used; change it or unset it")?;
    Ok(Some(own.canonicalize()?))
}

/// The folder of the PyTorch that torch-sys would find: the active virtual environment's, or
/// python3's.
fn pytorch_of_python() -> Result<PathBuf> {
    let python = if std::env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
    let program =
        "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])";
    let output = Command::new(python).args(["-c", program]).output();
    match output {
        Ok(output) if output.status.success() => {
            Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
        }
        _ => bail!(
            "LIBTORCH_USE_PYTORCH is set, but {python} has no PyTorch: \
             install torch=={LIBTORCH_VERSION} there, or unset it"
        ),
    }
}

/// Whether a folder holds the libtorch that tch is made for.
fn check(folder: &Path) -> Result<()> {
    let place = folder.display();
    for part in ["include", "lib/libtorch_cpu.so"] {
        ensure!(folder.join(part).exists(), "{place} holds no libtorch: it has no {part}");
    }
    // Much older versions have this header elsewhere, and are wrong in any case.
    let header =
        fs::read_to_string(folder.join("include/torch/headeronly/version.h")).unwrap_or_default();
    let version = version_in(&header).unwrap_or_else(|| "of another version".to_owned());
    ensure!(
        version == LIBTORCH_VERSION,
        "{place} holds libtorch {version}, and this needs {LIBTORCH_VERSION}"
    );
    Ok(())
}

/// Reads `#define TORCH_VERSION_MAJOR 2` and its like.
fn version_in(header: &str) -> Option<String> {
    let number = |part: &str| {
        let line = header
            .lines()
            .find_map(|line| line.strip_prefix(&format!("#define TORCH_VERSION_{part} ")));
        line.map(str::trim)
    };
    Some(format!("{}.{}.{}", number("MAJOR")?, number("MINOR")?, number("PATCH")?))
}

fn has_cuda(libtorch: &Path) -> bool {
    libtorch.join("lib/libtorch_cuda.so").exists()
}

fn has_nvidia_driver() -> bool {
    // The kernel's module, a container's device, Windows' subsystem for Linux.
    ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1"]
        .iter()
        .any(|path| Path::new(path).exists())
}

/// The C++ compiler that the `cc` crate will use for tch.
fn require_compiler() -> Result<()> {
    let own = std::env::var("CXX").unwrap_or_default();
    let mut words = own.split_whitespace(); // such as `ccache g++`
    let program = words.next().unwrap_or("c++");
    let version = Command::new(program).args(words).arg("--version").output();
    ensure!(
        version.is_ok_and(|output| output.status.success()),
        "the C++ compiler `{program}`, which tch is compiled with, is missing: install one \
         (for example `apt install g++`), or set CXX to yours"
    );
    Ok(())
}

/// The cached libtorch of this flavor, which is downloaded if it is not there.
fn provision(flavor: Flavor, why: &str) -> Result<PathBuf> {
    require_known_platform()?;
    let cache = cache::folder()?;
    cache::provide(&cache, flavor, |downloads| {
        let pip = pip::find()?;
        eprintln!(
            "Fetching libtorch {LIBTORCH_VERSION} for {flavor} ({why}), {} MB, \
             once for all your checkouts, into {}",
            flavor.download_megabytes(),
            cache::place(&cache, flavor).display()
        );
        pip::download(pip, &flavor.wheels(), downloads)
    })
}

fn require_known_platform() -> Result<()> {
    let known = cfg!(all(target_os = "linux", target_env = "gnu"))
        && cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    ensure!(
        known,
        "setup fetches libtorch for Linux with glibc on x86-64 and aarch64 only: \
         use such a machine, {WAYS_AROUND}"
    );
    Ok(())
}

/// Makes `link` lead to `libtorch`, in one step.
fn point(link: &Path, libtorch: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|present| present == libtorch) {
        return Ok(());
    }
    let is_a_folder = fs::symlink_metadata(link).is_ok_and(|present| present.is_dir());
    ensure!(
        !is_a_folder,
        "{} is a folder, where a link is to be made: move it away",
        link.display()
    );

    let cuda_changes = link.exists() && has_cuda(link) != has_cuda(libtorch);
    let new = link.with_extension(format!("new-{}", std::process::id()));
    symlink(libtorch, &new).with_context(|| format!("cannot create the link {}", new.display()))?;
    fs::rename(&new, link)
        .with_context(|| format!("cannot replace the link {}", link.display()))?;
    if cuda_changes {
        forget_builds()?;
    }
    Ok(())
}

/// Has torch-sys built anew. It has recorded which libraries to link, and can't tell that what
/// `.libtorch` leads to now has others.
fn forget_builds() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    for profile in ["dev", "release"] {
        let status: ExitStatus = Command::new(&cargo)
            .args(["clean", "--quiet", "--package", "torch-sys", "--profile", profile])
            .status()
            .context("cannot start cargo")?;
        ensure!(
            status.success(),
            "`cargo clean --package torch-sys` failed: run it before the next build"
        );
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Writes what `check` looks at.
    fn write_libtorch(folder: &Path, version: [u32; 3]) {
        let [major, minor, patch] = version;
        let headers = folder.join("include/torch/headeronly");
        fs::create_dir_all(&headers).unwrap();
        fs::create_dir_all(folder.join("lib")).unwrap();
        fs::write(folder.join("lib/libtorch_cpu.so"), "").unwrap();
        let version = format!(
            "#pragma once\n#define TORCH_VERSION_MAJOR {major}\n\
             #define TORCH_VERSION_MINOR {minor}\n#define TORCH_VERSION_PATCH {patch}\n"
        );
        fs::write(headers.join("version.h"), version).unwrap();
    }

    #[test]
    fn only_the_right_version_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let missing = check(folder.path()).unwrap_err().to_string();
        assert!(missing.contains("holds no libtorch"), "{missing}");
        write_libtorch(folder.path(), [2, 9, 1]);
        let other = check(folder.path()).unwrap_err().to_string();
        assert!(other.contains("libtorch 2.9.1"), "{other}");
        write_libtorch(folder.path(), [2, 11, 0]);
        check(folder.path()).unwrap();
    }

    #[test]
    fn the_link_is_made_replaced_and_never_put_over_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        write_libtorch(&first, [2, 11, 0]);
        write_libtorch(&second, [2, 11, 0]);
        let link = folder.path().join(".libtorch");
        for target in [&first, &second, &second] {
            point(&link, target).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), *target);
        }
        let error = point(&first, &second).unwrap_err().to_string();
        assert!(error.contains("move it away"), "{error}");
        assert!(first.join("include").exists());
    }
}
