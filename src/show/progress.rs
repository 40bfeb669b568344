//! Progress on stderr: a bar on a terminal, one line a stage elsewhere, nothing when quiet.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use graph::Progress;
use graph::progress::Unit;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::show::terminal::printable;

/// Where progress goes.
pub enum Display {
    /// Nowhere.
    Quiet,
    /// Stderr, a line when a stage begins.
    Lines,
    /// Stderr, a bar for the stage at hand.
    Bar(Mutex<ProgressBar>),
}

impl Display {
    /// A bar when stderr is a terminal, else lines; nothing when `quiet`.
    pub fn new(quiet: bool) -> Display {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Display::Quiet,
            (false, false) => Display::Lines,
            (false, true) => Display::Bar(Mutex::new(ProgressBar::hidden())),
        }
    }

    /// Takes the bar away, so that what is printed next has the screen for itself.
    pub fn finish(&self) {
        if let Display::Bar(bar) = self {
            bar.lock().expect("no panic while holding the lock").finish_and_clear();
        }
    }
}

/// The same display, each stage named after the artifact at hand.
pub struct Of<'a> {
    /// The artifact.
    pub name: &'a str,
    /// Where it goes.
    pub display: &'a Display,
}

impl Progress for Of<'_> {
    fn stage(&self, name: &str, total: u64, unit: Unit) {
        self.display.stage(&format!("{}: {name}", self.name), total, unit);
    }

    fn advance(&self, n: u64) {
        self.display.advance(n);
    }

    fn say(&self, sentence: &str) {
        self.display.say(sentence);
    }
}

impl Progress for Display {
    fn say(&self, sentence: &str) {
        let sentence = printable(sentence);
        match self {
            Display::Quiet => {}
            // A closed stderr is no reason to stop a conversion.
            Display::Lines => drop(writeln!(std::io::stderr(), "{sentence}")),
            Display::Bar(bar) => bar.lock().expect("no panic while holding the lock").suspend(|| {
                drop(writeln!(std::io::stderr(), "{sentence}"));
            }),
        }
    }

    fn stage(&self, name: &str, total: u64, unit: Unit) {
        match self {
            Display::Quiet => {}
            Display::Lines => self.say(name),
            Display::Bar(bar) => {
                let template = match (unit, total) {
                    (_, 0) => "{prefix}",
                    (Unit::Bytes, _) => "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}",
                    (Unit::Trials, _) => "{prefix} [{bar:30}] {pos}/{len} trials, {eta} left",
                    (Unit::Samples, _) => "{prefix} [{bar:30}] {pos}/{len} samples",
                };
                let style = ProgressStyle::with_template(template)
                    .expect("the templates are written above")
                    .progress_chars("=> ");
                let next = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
                    .with_style(style)
                    .with_prefix(printable(name).into_owned());
                let mut bar = bar.lock().expect("no panic while holding the lock");
                bar.finish_and_clear();
                *bar = next;
                bar.tick();
            }
        }
    }

    fn advance(&self, n: u64) {
        if let Display::Bar(bar) = self {
            bar.lock().expect("no panic while holding the lock").inc(n);
        }
    }
}
