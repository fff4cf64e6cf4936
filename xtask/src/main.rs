//! `cargo xtask`: brings libtorch to this checkout, and runs what needs it.
//!
//! It links no libtorch itself and has few dependencies, so that it is compiled within seconds on a
//! machine that has nothing yet.
//!
//! | file | what it does |
//! |---|---|
//! | `setup.rs` | decides which libtorch this checkout uses, and links it as `.libtorch` |
//! | `cache.rs` | puts a set of wheels into the user's cache: all of it, or nothing |
//! | `wheels.rs` | knows which wheels make a set, and which of their files it keeps |
//! | `pip.rs` | downloads wheels without installing them |
//! | `launch.rs` | runs portolan in several processes |
//! | `gpu.rs` | runs or packs everything that only a GPU can show |
//! | `structure.rs` | checks the length of files and the spelling |
//! | `cycles.rs` | checks that the modules of a crate import each other in one direction |
//! | `chaos.rs` | kills and resumes a run until nothing but its result is left to compare |

mod cache;
mod chaos;
mod cycles;
mod gpu;
mod launch;
mod pip;
mod setup;
mod structure;
mod wheels;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::wheels::Flavor;

/// The version that tch 0.24 is made for.
const LIBTORCH_VERSION: &str = "2.11.0";

/// The benchmarks hold no tests, and what they need would change features of crates that
/// `reproduce` has built.
const TESTS: [&str; 5] = ["test", "--release", "--workspace", "--exclude", "portolan-benches"];

/// The end of each message about something that the download of libtorch lacks.
const WAYS_AROUND: &str = "or set LIBTORCH to the folder of a libtorch 2.11.0, or set \
     LIBTORCH_USE_PYTORCH=1 to use the PyTorch 2.11.0 of your Python";

/// Brings libtorch to this checkout, and runs what needs it.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch libtorch once for this user, and link it into this checkout as .libtorch.
    Setup(SetupArgs),
    /// Set up, build in release mode, and run `portolan reproduce METHOD [OPTIONS]`.
    Reproduce {
        /// The method, then any options of `portolan reproduce`.
        #[arg(value_name = "METHOD [OPTIONS]", required = true, num_args = 1.., trailing_var_arg = true)]
        #[arg(allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, build in release mode, and run portolan in several processes of this machine.
    Launch(launch::LaunchArgs),
    /// Set up, build in release mode, and kill, stop and resume a small run at random; it must end
    /// as one left alone.
    Chaos(chaos::ChaosArgs),
    /// Set up with CUDA, build in release mode, and run everything that only a GPU can show, within
    /// twelve minutes.
    Gpu(gpu::GpuArgs),
    /// Set up, and run all tests, doc tests included.
    Test(CargoArgs),
    /// Set up, and run the benchmarks.
    Bench(CargoArgs),
    /// Set up, and check the formatting and clippy's lints.
    Lint,
}

#[derive(Args)]
struct SetupArgs {
    /// The set for NVIDIA GPUs [default: where an NVIDIA driver is present].
    #[arg(long)]
    cuda: bool,
    /// The small set without CUDA [default: where no NVIDIA driver is present].
    #[arg(long, conflicts_with = "cuda")]
    cpu: bool,
}

#[derive(Args)]
struct CargoArgs {
    /// Passed on to cargo.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let root = workspace_root()?;
    let wish = match &task {
        Task::Setup(SetupArgs { cuda: true, .. }) => Some(Flavor::Cuda),
        Task::Setup(SetupArgs { cpu: true, .. }) => Some(Flavor::Cpu),
        Task::Gpu(args) if !args.toy => Some(Flavor::Cuda),
        _ => None,
    };
    setup::setup(&root, wish)?;
    match task {
        Task::Setup(_) => {
            println!("{}", setup::describe(&root)?);
            Ok(ExitCode::SUCCESS)
        }
        // `cargo run` makes way for the program it has built, as `become_cargo` does for cargo.
        Task::Reproduce { args } => {
            let portolan = ["run", "--release", "--package", "portolan-cli", "--", "reproduce"];
            become_cargo(&root, &portolan, &args)
        }
        Task::Launch(args) => launch::launch(&root, &args),
        Task::Chaos(args) => chaos::chaos(&root, &args),
        Task::Test(CargoArgs { args }) => {
            let error = cargo_for_tests(&root).args(TESTS).args(args).exec();
            Err(error).context("cannot start cargo")
        }
        Task::Gpu(args) => gpu::gpu(&root, &args),
        Task::Bench(CargoArgs { args }) => become_cargo(&root, &["bench", "--workspace"], &args),
        Task::Lint => {
            let format = cargo(&root).args(["fmt", "--all", "--check"]).status();
            if !format.context("cannot start cargo")?.success() {
                bail!("the code is not formatted: run `cargo fmt --all`");
            }
            structure::check(&root)?;
            // The release profile has libtorch's C++ built already.
            let clippy =
                ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
            become_cargo(&root, &clippy, &[])
        }
    }
}

/// The folder of the workspace's Cargo.toml.
fn workspace_root() -> Result<PathBuf> {
    // `cargo run` sets it; the one at compile time would be wrong in a checkout that was moved.
    let here =
        std::env::var_os("CARGO_MANIFEST_DIR").context("start this program with `cargo xtask`")?;
    let root = Path::new(&here).parent().context("xtask lies outside a workspace")?;
    Ok(root.to_path_buf())
}

/// Cargo, with libtorch found by whatever it runs.
fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // `.cargo/config.toml` sees to this, unless CARGO_TARGET_DIR or RUSTFLAGS are set: the first
    // moves the binaries away from `.libtorch`, the second replaces the flags that lead there.
    let mut folders = vec![root.join(".libtorch/lib")];
    if let Some(own) = std::env::var_os("LD_LIBRARY_PATH") {
        folders.extend(std::env::split_paths(&own));
    }
    if let Ok(path) = std::env::join_paths(folders) {
        command.env("LD_LIBRARY_PATH", path);
    }
    // Variables that `cargo run` sets for xtask. Build scripts that read them (ring's) would
    // otherwise run again whenever plain cargo and xtask alternate, and their dependents would be
    // rebuilt.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// Cargo for tests: in the release profile with checks on (`.cargo/tests.toml`), so that crates of
/// others, and libtorch's C++, are those that `reproduce` has built. The programs go to a folder of
/// their own: `target/release/portolan` stays the one without checks.
fn cargo_for_tests(root: &Path) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |own| root.join(own));
    let mut command = cargo(root);
    command
        .arg("--config")
        .arg(root.join(".cargo/tests.toml"))
        .env("CARGO_TARGET_DIR", target.join("tests"))
        .env("CARGO_BUILD_BUILD_DIR", target);
    command
}

/// Replaces this process by cargo, so that its exit code is ours and Ctrl-C reaches what it runs.
/// Returns only if cargo can't be started.
fn become_cargo(root: &Path, subcommand: &[&str], args: &[OsString]) -> Result<ExitCode> {
    let error = cargo(root).args(subcommand).args(args).exec();
    Err(error).context("cannot start cargo")
}
