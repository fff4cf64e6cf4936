//! `cargo xtask launch`: one run in several processes of this machine, as torchrun would start
//! them, without Python.

use anyhow::{Context, Result, bail};
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cargo;

/// How long the others may take to end, once one process has.
const GRACE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// portolan's exit code after it was stopped by Ctrl-C or SIGTERM and wrote a checkpoint.
const STOPPED: [i32; 2] = [130, 143];

#[derive(Args)]
pub(crate) struct LaunchArgs {
    /// Processes; on a machine with GPUs, one for each.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    nproc: u16,
    /// How often the run is started again, from its last checkpoint, when a process has failed;
    /// wants --out.
    #[arg(long, value_name = "N", default_value_t = 0)]
    restarts: u32,
    /// What portolan is to do: `reproduce simclr`, with any options.
    #[arg(value_name = "COMMAND", required = true, num_args = 1.., trailing_var_arg = true)]
    #[arg(allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Builds portolan and runs it in all processes, until they have ended.
pub(crate) fn launch(root: &Path, args: &LaunchArgs) -> Result<ExitCode> {
    let out = args.args.windows(2).find(|pair| pair[0] == "--out").map(|pair| pair[1].clone());
    if args.restarts > 0 && out.is_none() {
        bail!(
            "--restarts needs the run's folder, to go on with what is in it: give --out FOLDER too"
        );
    }
    build(root)?;
    // Set by Ctrl-C and SIGTERM, which are passed on.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .context("cannot listen for Ctrl-C")?;
    }
    let mut command = args.args.clone();
    for attempt in 0..=args.restarts {
        let code = run(root, args.nproc, &command, &stop)?;
        if code == 0 || STOPPED.contains(&code) || attempt == args.restarts {
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        if let Some(out) = out.as_ref().filter(|out| Path::new(out).join("config.toml").exists()) {
            command = ["pretrain".into(), "--resume".into(), out.clone()].to_vec();
        }
        eprintln!("starting again ({} of {})", attempt + 1, args.restarts);
    }
    Ok(ExitCode::FAILURE)
}

/// Builds portolan in release mode.
pub(crate) fn build(root: &Path) -> Result<()> {
    let built = cargo(root).args(["build", "--release", "--package", "portolan-cli"]).status();
    if !built.context("cannot start cargo")?.success() {
        bail!("portolan could not be built");
    }
    Ok(())
}

/// Runs the processes until all have ended. Returns 0, or the exit code of the first that failed.
fn run(root: &Path, processes: u16, command: &[OsString], stop: &AtomicBool) -> Result<i32> {
    // The port was free a moment ago; torchrun chooses it in the same way.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let port = port.context("no port is free")?.port();
    let mut running: Vec<(u16, Child)> = (0..processes)
        .map(|rank| {
            let child = self::command(root, rank, processes, port, command).spawn();
            Ok((rank, child.context("cannot start portolan")?))
        })
        .collect::<Result<_>>()?;
    let mut failed: Option<(i32, Instant)> = None;
    let mut told = false;
    while !running.is_empty() {
        std::thread::sleep(POLL);
        let mut still = Vec::new();
        for (rank, mut child) in running {
            match child.try_wait().context("cannot wait for a process")? {
                None => still.push((rank, child)),
                Some(status) if status.success() || failed.is_some() => {}
                Some(status) => {
                    if !status.code().is_some_and(|code| STOPPED.contains(&code)) {
                        eprintln!("process {rank} of {processes} ended: {status}");
                    }
                    let code = status.code().or(status.signal().map(|signal| 128 + signal));
                    failed = Some((code.unwrap_or(1), Instant::now()));
                }
            }
        }
        running = still;
        if stop.load(Ordering::Relaxed) && !told {
            told = true;
            running.iter().for_each(|(_, child)| terminate(child));
        }
        if failed.is_some_and(|(_, since)| since.elapsed() > GRACE) {
            for (rank, child) in &mut running {
                eprintln!("process {rank} of {processes} does not end by itself and is killed");
                let _ = child.kill();
            }
        }
    }
    Ok(failed.map_or(0, |(code, _)| code))
}

/// Where [`build`] leaves portolan.
pub(crate) fn program(root: &Path) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    target.join("release/portolan")
}

/// One process of a job, as torchrun would start it.
pub(crate) fn command(
    root: &Path,
    rank: u16,
    processes: u16,
    port: u16,
    args: &[OsString],
) -> Command {
    let mut command = Command::new(program(root));
    command
        .args(args)
        .env("RANK", rank.to_string())
        .env("LOCAL_RANK", rank.to_string())
        .env("WORLD_SIZE", processes.to_string())
        .env("LOCAL_WORLD_SIZE", processes.to_string())
        .env("MASTER_ADDR", "127.0.0.1")
        .env("MASTER_PORT", port.to_string())
        .process_group(0); // Ctrl-C is ours to pass on: twice would mean at once
    command
}

/// SIGTERM: finish the step, write a checkpoint, end.
fn terminate(child: &Child) {
    let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
}
