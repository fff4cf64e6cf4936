//! The display of a run's progress: a bar on a terminal, lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use portolan_tensor::distributed;
use std::io::IsTerminal;
use std::time::Instant;

/// Fewest seconds between lines; short epochs would otherwise fill the screen.
const FASTEST: f64 = 2.0;
/// Most seconds without a line, even in the middle of an epoch.
const SLOWEST: f64 = 60.0;

/// Displays the progress: a bar on a terminal, otherwise lines.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    epochs: u64,
    /// What an item is called.
    noun: &'static str,
    /// When the last line was printed, if any.
    last_line: Option<Instant>,
    started: Instant,
    /// Whether to display nothing, as in all processes of a job but the first.
    quiet: bool,
}

/// The progress of a run.
#[derive(Clone, Copy)]
pub(crate) struct Standing {
    /// Steps done.
    pub(crate) done: u64,
    /// The epoch in progress, counted from 0.
    pub(crate) epoch: u64,
    /// The last loss that was read back.
    pub(crate) loss: f64,
    /// Items a second.
    pub(crate) speed: f64,
    /// Seconds until the end of the run, including the final evaluation.
    pub(crate) left: f64,
}

impl Progress {
    pub(crate) fn new(done: u64, total: u64, epochs: u64, noun: &'static str) -> Self {
        let quiet = distributed::rank() > 0;
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total).with_position(done);
            if let Ok(style) = ProgressStyle::with_template("{bar:32} {percent:>3} %  {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Progress { bar, epochs, noun, last_line: None, started: Instant::now(), quiet }
    }

    /// After some steps.
    pub(crate) fn steps(&mut self, now: Standing) {
        let text = self.text(now);
        match &self.bar {
            Some(bar) => {
                bar.set_position(now.done);
                bar.set_message(text);
            }
            None if self.since_last_line() >= SLOWEST => self.print(&text),
            None => {}
        }
    }

    /// At the end of an epoch. The first and the last always get a line.
    pub(crate) fn epoch(&mut self, now: Standing) {
        let first_or_last = self.last_line.is_none() || now.epoch + 1 == self.epochs;
        if self.bar.is_none() && (first_or_last || self.since_last_line() >= FASTEST) {
            self.print(&self.text(now));
        }
    }

    fn text(&self, now: Standing) -> String {
        let Standing { epoch, loss, speed, left, .. } = now;
        let (epoch, epochs, left) = (epoch + 1, self.epochs, duration(left));
        let noun = self.noun;
        format!("epoch {epoch}/{epochs}  loss {loss:.4}  {speed:.0} {noun}/s  {left} left")
    }

    fn since_last_line(&self) -> f64 {
        self.last_line.unwrap_or(self.started).elapsed().as_secs_f64()
    }

    fn print(&mut self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
        self.last_line = Some(Instant::now());
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

/// Formats seconds for people: `12 s`, `2 min 5 s`, `2 h 1 min`, `3 days 4 h`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..172_800 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} days {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_said() {
        assert_eq!(duration(12.4), "12 s");
        assert_eq!(duration(125.0), "2 min 5 s");
        assert_eq!(duration(7_260.0), "2 h 1 min");
        assert_eq!(duration(50.0 * 3600.0), "2 days 2 h");
    }

    #[test]
    fn what_is_left_is_said_of_the_whole_run() {
        let progress = Progress::new(0, 100, 10, "images");
        let now = Standing { done: 10, epoch: 0, loss: 1.5, speed: 99.6, left: 125.0 };
        let said = "epoch 1/10  loss 1.5000  100 images/s  2 min 5 s left";
        assert_eq!(progress.text(now), said);
    }
}
