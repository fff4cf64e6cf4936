//! What a person sees while training: a bar on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use portolan_tensor::distributed;
use std::io::IsTerminal;

/// Shows how far a run is. On a terminal a bar; otherwise a line at the end of each epoch.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    epochs: u64,
    /// Nothing is shown, as in all processes of a job but the first.
    quiet: bool,
}

impl Progress {
    pub(crate) fn new(done: u64, total: u64, epochs: u64) -> Self {
        let quiet = distributed::rank() > 0;
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total).with_position(done);
            let style = "{bar:32} {percent:>3} %  {msg}  {eta} left";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar.reset_eta();
            bar
        });
        Progress { bar, epochs, quiet }
    }

    /// After `done` steps, in epoch `epoch` (counted from 0).
    pub(crate) fn steps(&self, done: u64, epoch: u64, loss: f64, speed: f64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(format!(
                "epoch {}/{}  loss {loss:.4}  {speed:.0} images/s",
                epoch + 1,
                self.epochs
            ));
        }
    }

    /// At the end of an epoch (counted from 0), with the seconds that are left where known.
    pub(crate) fn epoch(&self, epoch: u64, loss: f64, speed: f64, left: f64) {
        if self.bar.is_none() && !self.quiet {
            let (epoch, epochs) = (epoch + 1, self.epochs);
            let left = duration(left);
            eprintln!("epoch {epoch}/{epochs}  loss {loss:.4}  {speed:.0} images/s  {left} left");
        }
    }

    /// A line of its own, above the bar.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None if self.quiet => {}
            None => eprintln!("{text}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Seconds as a person says them.
fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_read_as_said() {
        assert_eq!(duration(12.4), "12 s");
        assert_eq!(duration(125.0), "2 min 5 s");
        assert_eq!(duration(7_260.0), "2 h 1 min");
    }
}
