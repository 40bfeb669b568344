//! What happened, with times: for `--verbose` on stderr, for `--log` in a file. Never on stdout, and in no artifact.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use log::{LevelFilter, Log, Metadata, Record as Line};

use crate::show::terminal::one_line;

/// Crates whose lines are kept; what others say is their own business.
const OURS: [&str; 11] = [
    "trefoil",
    "trefoil_engine",
    "validate",
    "report",
    "metrics",
    "quant",
    "converters",
    "checkpoint",
    "tokenizer",
    "frontend",
    "graph",
];

static RECORD: OnceLock<Record> = OnceLock::new();

/// Takes lines of the facade `log`.
struct Record {
    start: Instant,
    /// What stderr gets.
    verbosity: LevelFilter,
    /// Gets all.
    file: Option<Mutex<File>>,
}

/// Keeps a record from now on. `verbose`: how often it was asked for, once for stages, engines and the cache, twice for files and
/// what engines say too. Errors: the file cannot be opened.
pub fn keep(verbose: u8, file: Option<&Path>) -> io::Result<()> {
    let verbosity = match verbose {
        0 => LevelFilter::Off,
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    };
    let file = file.map(|file| OpenOptions::new().create(true).append(true).open(file)).transpose()?;
    let most = if file.is_some() { LevelFilter::Debug } else { verbosity };
    let record = Record { start: Instant::now(), verbosity, file: file.map(Mutex::new) };
    // A process keeps one.
    if log::set_logger(RECORD.get_or_init(|| record)).is_ok() {
        log::set_max_level(most);
    }
    Ok(())
}

impl Log for Record {
    fn enabled(&self, metadata: &Metadata) -> bool {
        let krate = metadata.target().split("::").next().unwrap_or_default();
        OURS.contains(&krate)
    }

    fn log(&self, line: &Line) {
        if !self.enabled(line.metadata()) {
            return;
        }
        let seconds = self.start.elapsed().as_secs_f64();
        let text = format!("{seconds:10.3} s  {}\n", one_line(&line.args().to_string()));
        // A record that cannot be written does not stop the work.
        if line.level() <= self.verbosity {
            let _ = io::stderr().write_all(text.as_bytes());
        }
        if let Some(file) = &self.file {
            let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes());
        }
    }

    fn flush(&self) {}
}
