//! `cargo xtask gpu`: everything that only a GPU can show, here or packed for a machine without
//! Rust.
//!
//! `portolan gpu-check` defines the stages and their time limits.

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::{become_cargo, launch};

/// The most bytes that a packed folder may have.
const LARGEST: u64 = 60_000_000;
/// The script that starts it there.
const SCRIPT: &str = include_str!("gpu/run.sh");

#[derive(Args)]
pub(crate) struct GpuArgs {
    /// CIFAR-10 as JPEG: the folder of its Parquet files.
    #[arg(long, value_name = "FOLDER", required_unless_present = "toy")]
    data: Option<PathBuf>,
    /// The folder of gpu_lightly.py, to measure lightly too where Python has it.
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,
    /// The folder for the results, new or empty.
    #[arg(long, value_name = "FOLDER", default_value = "runs/gpu")]
    out: PathBuf,
    /// Write a folder for a machine with PyTorch 2.11 and no Rust, and run nothing.
    #[arg(long, value_name = "FOLDER", conflicts_with = "toy")]
    pack: Option<PathBuf>,
    /// The same stages on the CPU, at a size that takes a minute; needs no images.
    #[arg(long)]
    pub(crate) toy: bool,
}

/// Builds portolan, and runs it or packs it.
pub(crate) fn gpu(root: &Path, args: &GpuArgs) -> Result<ExitCode> {
    if let (Some(folder), Some(data)) = (&args.pack, &args.data) {
        launch::build(root)?;
        let bytes = pack(&launch::program(root), data, args.peers.as_deref(), folder)?;
        println!("{} ({:.1} MB); start run.sh there", folder.display(), bytes as f64 / 1e6);
        return Ok(ExitCode::SUCCESS);
    }
    let run = ["run", "--release", "--package", "portolan-cli", "--", "gpu-check"];
    become_cargo(root, &run, &options(args))
}

/// The arguments of `portolan gpu-check`.
fn options(args: &GpuArgs) -> Vec<OsString> {
    let mut options: Vec<OsString> = vec!["--out".into(), args.out.clone().into()];
    if args.toy {
        options.extend(["--plan", "toy", "--device", "cpu"].map(OsString::from));
    }
    for (name, folder) in [("--data", &args.data), ("--peers", &args.peers)] {
        options.extend(folder.iter().flat_map(|folder| [name.into(), folder.clone().into()]));
    }
    options
}

/// Writes program, images, peers and script into a new folder; how many bytes they are.
fn pack(program: &Path, data: &Path, peers: Option<&Path>, folder: &Path) -> Result<u64> {
    let taken = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(!taken, "the folder {} is not empty; choose another --pack", folder.display());
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut strip = Command::new("strip");
    let stripped = strip.arg("-o").arg(folder.join("portolan")).arg(program).status();
    let stripped = stripped.context("cannot start `strip` (apt install binutils)")?;
    ensure!(stripped.success(), "`strip` failed on {}", program.display());
    let mut bytes = fs::metadata(folder.join("portolan"))?.len();
    bytes += copy(data, "parquet", &folder.join("data"))?;
    if let Some(peers) = peers {
        bytes += copy(peers, "py", &folder.join("peers"))?;
    }
    let script = folder.join("run.sh");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    bytes += SCRIPT.len() as u64;
    ensure!(
        bytes <= LARGEST,
        "the folder has {bytes} bytes, more than {LARGEST}; give --data a smaller set of images"
    );
    Ok(bytes)
}

/// Copies a folder's files of this ending; how many bytes they are.
fn copy(from: &Path, ending: &str, to: &Path) -> Result<u64> {
    fs::create_dir_all(to)?;
    let mut bytes = 0;
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let path = entry?.path();
        if let Some(name) =
            path.file_name().filter(|_| path.extension().is_some_and(|e| e == ending))
        {
            let target = to.join(name);
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
            // Copies from a read-only folder must be removable.
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644))?;
            bytes += fs::metadata(&target)?.len();
        }
    }
    if bytes == 0 {
        bail!("there is no .{ending} file in {}", from.display());
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn write_script(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_packed_folder_starts_its_program_with_the_machines_libtorch() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| folder.path().join(name);
        fs::create_dir_all(of("images")).unwrap();
        fs::write(of("images/train.parquet"), [1; 1000]).unwrap();
        fs::write(of("images/README.md"), "not packed").unwrap();
        fs::create_dir_all(of("others")).unwrap();
        fs::write(of("others/gpu_lightly.py"), "pass").unwrap();
        let program = std::env::current_exe().unwrap();
        let (images, others, packed) = (of("images"), of("others"), of("packed"));
        let bytes = pack(&program, &images, Some(&others), &packed).unwrap();
        assert!(bytes > 1000 && fs::metadata(packed.join("portolan")).unwrap().len() < bytes);
        assert!(packed.join("data/train.parquet").exists());
        assert!(!packed.join("data/README.md").exists());
        assert!(pack(&program, &images, None, &packed).is_err(), "the folder is taken");
        assert!(pack(&program, &others, None, &of("no-images")).is_err());

        write_script(&packed.join("portolan"), "#!/bin/sh\necho \"$LD_LIBRARY_PATH\" \"$@\"\n");
        write_script(&of("python"), "#!/bin/sh\necho /site/torch/lib:/site/nvidia/cu13/lib\n");
        let start = |name: &str, value: &Path| {
            let mut script = Command::new(packed.join("run.sh"));
            script.args(["--plan", "toy"]).env_remove("LD_LIBRARY_PATH").env_remove("LIBTORCH");
            let output = script.env(name, value).output().unwrap();
            (output.status.success(), String::from_utf8(output.stdout).unwrap())
        };
        let place = packed.canonicalize().unwrap();
        let options = format!(
            "gpu-check --data {0}/data --out {0}/results --peers {0}/peers --plan toy\n",
            place.display()
        );
        let with_python = format!("/site/torch/lib:/site/nvidia/cu13/lib {options}");
        assert_eq!(start("PYTHON", &of("python")), (true, with_python));
        let with_own = format!("/own/lib {options}");
        assert_eq!(start("LIBTORCH", Path::new("/own")), (true, with_own));
        write_script(&of("python"), "#!/bin/sh\nexit 1\n");
        assert_eq!(start("PYTHON", &of("python")), (false, String::new()));
    }
}
