//! Which of PyTorch's and NVIDIA's wheels make up libtorch, and which of their files are kept.
//!
//! Wheels, because they are what every mirror and every air-gapped site already has, and because
//! pip checks their checksums. `libtorch_cpu.so` of the one wheel there is for Linux needs two
//! small libraries of CUDA's even where there is no GPU; everything else of CUDA is left out of the
//! CPU set.

use anyhow::{Context, Result, ensure};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Component, Path, PathBuf};
use zip::ZipArchive;

const CPU_WHEELS: [&str; 3] =
    ["torch==2.11.0", "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"];

/// What a CUDA set has on top. Versions as torch 2.11.0's wheel requires them, by way of
/// `cuda-toolkit==13.0.2`. The first two hold nothing but headers.
const CUDA_WHEELS: [&str; 15] = [
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-cccl==13.0.85",
    "nvidia-cublas==13.1.0.3",
    "nvidia-cuda-nvrtc==13.0.88",
    "nvidia-cudnn-cu13==9.19.0.56",
    "nvidia-cufft==12.0.0.61",
    "nvidia-cufile==1.15.1.6",
    "nvidia-curand==10.4.0.35",
    "nvidia-cusolver==12.0.4.66",
    "nvidia-cusparse==12.6.3.3",
    "nvidia-cusparselt-cu13==0.8.0",
    "nvidia-nccl-cu13==2.28.9",
    "nvidia-nvjitlink==13.0.88",
    "nvidia-nvshmem-cu13==3.4.5",
    "nvidia-nvtx==13.0.85",
];

/// What `libtorch_cpu.so` needs of CUDA.
const CUDA_LIBRARIES_OF_CPU: [&str; 2] = ["libcudart.so.13", "libcupti.so.13"];

/// A libtorch without or with CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    Cpu,
    Cuda,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavor::Cpu => "cpu",
            Flavor::Cuda => "cuda",
        })
    }
}

impl Flavor {
    /// The wheels of this set, as pip wants them named.
    pub(crate) fn wheels(self) -> Vec<&'static str> {
        match self {
            Flavor::Cpu => CPU_WHEELS.to_vec(),
            Flavor::Cuda => [&CPU_WHEELS[..], &CUDA_WHEELS].concat(),
        }
    }

    /// How much there is to download, in MB (x86-64; a little less on aarch64).
    pub(crate) fn download_megabytes(self) -> u32 {
        match self {
            Flavor::Cpu => 544,
            Flavor::Cuda => 2516,
        }
    }

    /// Where a wheel's file goes inside of the libtorch folder; `None` if it is not wanted.
    ///
    /// All shared libraries lie side by side in `lib/`, for one rpath to find them and for those
    /// which open others by name (cuDNN's and cuBLAS's parts, NVRTC) to find these.
    fn destination(self, entry: &str) -> Option<PathBuf> {
        let parts: Vec<&str> = entry.split('/').collect();
        match parts[..] {
            ["torch", "include", ..] => Some(parts[1..].iter().collect()),
            ["torch", "lib", name] if self.wants_torch_library(name) => {
                Some(Path::new("lib").join(name))
            }
            ["nvidia", _, "lib", name] if self.wants_cuda_library(name) => {
                Some(Path::new("lib").join(name))
            }
            ["nvidia", _, "include", ..] if self == Flavor::Cuda => {
                Some(Path::new("cuda").join(parts[2..].iter().collect::<PathBuf>()))
            }
            _ => None,
        }
    }

    fn wants_torch_library(self, name: &str) -> bool {
        let of_cuda = ["cuda", "nvrtc", "nvshmem"].iter().any(|part| name.contains(part));
        is_shared_library(name)
            && name != "libtorch_python.so"
            && (self == Flavor::Cuda || !of_cuda)
    }

    fn wants_cuda_library(self, name: &str) -> bool {
        match self {
            Flavor::Cpu => CUDA_LIBRARIES_OF_CPU.contains(&name),
            Flavor::Cuda => is_shared_library(name),
        }
    }
}

fn is_shared_library(name: &str) -> bool {
    name.ends_with(".so") || name.contains(".so.")
}

/// Unpacks what is wanted of a wheel into the folder `into`.
pub(crate) fn unpack(wheel: &Path, flavor: Flavor, into: &Path) -> Result<()> {
    let file = File::open(wheel)?;
    let mut archive = ZipArchive::new(BufReader::new(file))
        .with_context(|| format!("{} is not a whole wheel", wheel.display()))?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        if !entry.is_file() {
            continue;
        }
        let name = entry.name()?.into_owned();
        let Some(path) = flavor.destination(&name) else { continue };
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(inside, "{} would unpack {name} outside of its folder", wheel.display());

        let target = into.join(path);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        io::copy(&mut entry, &mut File::create(&target)?)
            .with_context(|| format!("cannot unpack {}", target.display()))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    const ENTRIES: [&str; 13] = [
        "torch/__init__.py",
        "torch/include/ATen/ATen.h",
        "torch/lib/libc10.so",
        "torch/lib/libc10_cuda.so",
        "torch/lib/libgomp.so.1",
        "torch/lib/libtorch_cuda.so",
        "torch/lib/libtorch_python.so",
        "torch/lib/libshm/alloc_info.h",
        "nvidia/cu13/include/crt/host_config.h",
        "nvidia/cu13/lib/libcudart.so.13",
        "nvidia/cu13/lib/libcudart_static.a",
        "nvidia/cu13/lib/libnvperf_host.so",
        "nvidia/nccl/include/nccl.h",
    ];

    /// Writes a wheel whose files hold their own names.
    fn write_wheel(path: &Path, entries: &[&str]) {
        let mut wheel = ZipWriter::new(File::create(path).unwrap());
        for entry in entries {
            wheel.start_file(*entry, SimpleFileOptions::default()).unwrap();
            wheel.write_all(entry.as_bytes()).unwrap();
        }
        wheel.finish().unwrap();
    }

    fn files_below(folder: &Path) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(folder).unwrap().display().to_string());
                }
            }
        }
        files.sort();
        files
    }

    fn unpacked(flavor: Flavor) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("tiny.whl");
        write_wheel(&wheel, &ENTRIES);
        let into = folder.path().join("libtorch");
        unpack(&wheel, flavor, &into).unwrap();
        let header = fs::read_to_string(into.join("include/ATen/ATen.h")).unwrap();
        assert_eq!(header, "torch/include/ATen/ATen.h");
        files_below(&into)
    }

    #[test]
    fn the_cpu_set_leaves_cuda_and_python_out() {
        let expected =
            ["include/ATen/ATen.h", "lib/libc10.so", "lib/libcudart.so.13", "lib/libgomp.so.1"];
        assert_eq!(unpacked(Flavor::Cpu), expected);
    }

    #[test]
    fn the_cuda_set_has_all_libraries_side_by_side_and_headers_apart() {
        let expected = [
            "cuda/include/crt/host_config.h",
            "cuda/include/nccl.h",
            "include/ATen/ATen.h",
            "lib/libc10.so",
            "lib/libc10_cuda.so",
            "lib/libcudart.so.13",
            "lib/libgomp.so.1",
            "lib/libnvperf_host.so",
            "lib/libtorch_cuda.so",
        ];
        assert_eq!(unpacked(Flavor::Cuda), expected);
    }

    #[test]
    fn a_wheel_cannot_write_outside_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("evil.whl");
        write_wheel(&wheel, &["torch/include/../../evil.h"]);
        let error = unpack(&wheel, Flavor::Cpu, &folder.path().join("libtorch")).unwrap_err();
        assert!(error.to_string().contains("outside"), "{error}");
        assert!(!folder.path().join("evil.h").exists());
    }

    #[test]
    fn half_a_wheel_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("half.whl");
        write_wheel(&wheel, &ENTRIES);
        let bytes = fs::read(&wheel).unwrap();
        fs::write(&wheel, &bytes[..bytes.len() / 2]).unwrap();
        assert!(unpack(&wheel, Flavor::Cpu, &folder.path().join("libtorch")).is_err());
    }
}
