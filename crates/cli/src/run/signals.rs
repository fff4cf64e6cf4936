//! Ctrl-C and SIGTERM: the step in progress is finished, and a checkpoint left.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Set by Ctrl-C and SIGTERM.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);
/// Which of the two it was.
static SIGNAL: AtomicI32 = AtomicI32::new(SIGTERM);

/// What a program that was asked to stop exits with, as schedulers expect it: 130 after Ctrl-C; 143 after SIGTERM, and where another
/// process of the job was asked.
pub(crate) fn stopped() -> ExitCode {
    ExitCode::from(128 + SIGNAL.load(Ordering::Relaxed) as u8)
}

/// Whether the program was asked to stop.
pub(crate) fn stopping() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Ctrl-C and SIGTERM end the run after the step in progress; a second one ends it at once.
pub(crate) fn listen_for_stop() -> Result<()> {
    static ONCE: OnceLock<()> = OnceLock::new();
    if ONCE.set(()).is_err() {
        return Ok(());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for Ctrl-C")?;
    let listen = move || {
        for signal in signals.forever() {
            SIGNAL.store(signal, Ordering::Relaxed);
            if STOP.swap(true, Ordering::Relaxed) {
                std::process::exit(128 + signal);
            }
            eprintln!("stopping after this step, to leave a checkpoint (again to stop at once)");
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    Ok(())
}
