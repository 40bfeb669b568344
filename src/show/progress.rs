//! Progress on stderr: a bar on a terminal, one line a stage elsewhere, nothing when quiet. The record gets every stage with the
//! seconds that it took.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use graph::Progress;
use graph::progress::Unit;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::show::left::{self, Left};
use crate::show::terminal::printable;

/// How often a bar counts down while nothing is done.
const TICK: Duration = Duration::from_secs(1);

/// What a person sees of the work.
pub struct Display {
    place: Place,
    /// The stage at hand and when it began.
    stage: Mutex<Option<(String, Instant)>>,
}

/// Where progress goes.
enum Place {
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
        let place = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Place::Quiet,
            (false, false) => Place::Lines,
            (false, true) => Place::Bar(Mutex::new(ProgressBar::hidden())),
        };
        Display { place, stage: Mutex::new(None) }
    }

    /// Nothing.
    pub fn quiet() -> Display {
        Display::new(true)
    }

    /// Takes the bar away, so that what is printed next has the screen for itself.
    pub fn finish(&self) {
        self.begins(None);
        if let Place::Bar(bar) = &self.place {
            bar.lock().expect("no panic while holding the lock").finish_and_clear();
        }
    }

    /// Records how long the stage before took, and what comes next.
    fn begins(&self, next: Option<&str>) {
        let begun = next.map(|name| (name.to_owned(), Instant::now()));
        let before = std::mem::replace(&mut *unpoisoned(&self.stage), begun);
        if let Some((name, start)) = before {
            log::info!("{name}: took {:.2} s", start.elapsed().as_secs_f64());
        }
        if let Some(name) = next {
            log::info!("{name}");
        }
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bar of its own look for what is counted.
fn style(total: u64, unit: Unit) -> ProgressStyle {
    let template = match (unit, total) {
        (_, 0) => "{prefix}",
        (Unit::Bytes, _) => "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}{left}",
        (Unit::Trials, _) => "{prefix} [{bar:30}] {pos}/{len} trials{left}",
        (Unit::Samples, _) => "{prefix} [{bar:30}] {pos}/{len} samples{left}",
    };
    let left = Arc::new(Mutex::new(Left::default()));
    let told = move |state: &ProgressState, out: &mut dyn fmt::Write| {
        let (elapsed, total) = (state.elapsed().as_secs_f64(), state.len().unwrap_or(0));
        if let Some(seconds) = unpoisoned(&left).seconds(elapsed, state.pos(), total) {
            // A terminal that takes no more text shows none.
            let _ = write!(out, ", {}", left::told(seconds));
        }
    };
    let style = ProgressStyle::with_template(template).expect("the templates are written above");
    style.with_key("left", told).progress_chars("=> ")
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
        log::info!("{sentence}");
        let sentence = printable(sentence);
        match &self.place {
            Place::Quiet => {}
            // A closed stderr is no reason to stop a conversion.
            Place::Lines => drop(writeln!(std::io::stderr(), "{sentence}")),
            Place::Bar(bar) => bar.lock().expect("no panic while holding the lock").suspend(|| {
                drop(writeln!(std::io::stderr(), "{sentence}"));
            }),
        }
    }

    fn stage(&self, name: &str, total: u64, unit: Unit) {
        self.begins(Some(name));
        match &self.place {
            Place::Quiet => {}
            Place::Lines => drop(writeln!(std::io::stderr(), "{}", printable(name))),
            Place::Bar(bar) => {
                let next = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
                    .with_style(style(total, unit))
                    .with_prefix(printable(name).into_owned());
                let mut bar = bar.lock().expect("no panic while holding the lock");
                bar.finish_and_clear();
                *bar = next;
                bar.tick();
                bar.enable_steady_tick(TICK);
            }
        }
    }

    fn advance(&self, n: u64) {
        if let Place::Bar(bar) = &self.place {
            bar.lock().expect("no panic while holding the lock").inc(n);
        }
    }
}
