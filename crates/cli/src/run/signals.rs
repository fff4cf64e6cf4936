//! Ctrl-C and SIGTERM: a run finishes its step and writes a checkpoint.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Set by Ctrl-C and SIGTERM.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);
/// The signal that was received.
static SIGNAL: AtomicI32 = AtomicI32::new(SIGTERM);

/// The exit code of a program that was asked to stop, as schedulers expect it: 130 after Ctrl-C;
/// 143 after SIGTERM, or if another process of the job was asked.
pub(crate) fn stopped() -> ExitCode {
    ExitCode::from(128 + SIGNAL.load(Ordering::Relaxed) as u8)
}

/// Whether the program was asked to stop.
pub(crate) fn stopping() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Installs the handlers. The first signal ends the run after the current step; a second one ends
/// it at once.
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
            eprintln!("finishing this step and writing a checkpoint (repeat to stop at once)");
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    Ok(())
}
