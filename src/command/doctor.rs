//! `trefoil doctor`: which engines are here, why others are not and what brings them, and what the machine has.

use std::io;
use std::path::PathBuf;

use graph::Progress;
use graph::progress::Unit;
use serde::Serialize;
use validate::bench::machine;
use validate::runtime::{Present, Probed, names, probes};
use validate::{RuntimeError, cache_folder};

use crate::build::cache;
use crate::build::folder::free_bytes;
use crate::command::arguments::{Common, Verdict};
use crate::command::engines::options;
use crate::recipe::yaml::nearest;
use crate::show::progress::Display;
use crate::show::table::{aligned, size};
use crate::show::terminal::{one_line, print, printable};

/// Arguments of `doctor`.
#[derive(clap::Args)]
pub struct Doctor {
    /// Only this engine; may be given several times [default: all]
    #[arg(long, value_name = "NAME")]
    engine: Vec<String>,
    /// Python of an environment that has engines [default: that of the active one]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Fails where one of the engines is not here or does not start
    #[arg(long)]
    strict: bool,
}

/// Nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// No engine of that name.
    #[error("no engine is named {found}{}; expected one of {}", suggested(.found, .known), .known.join(", "))]
    NoEngine {
        /// What was asked for.
        found: String,
        /// All names.
        known: Vec<&'static str>,
    },
    /// Nobody listens.
    #[error("stdout: {0}")]
    Stdout(#[from] io::Error),
}

fn suggested(found: &str, known: &[&str]) -> String {
    nearest(found, known).map_or(String::new(), |word| format!("; did you mean {word}?"))
}

/// How an engine is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It starts.
    Here,
    /// It is not on this machine.
    Missing,
    /// It is there and does not start.
    Broken,
}

#[derive(Serialize)]
struct EngineRow {
    name: &'static str,
    /// Formats that it opens.
    runs: Vec<&'static str>,
    state: State,
    version: Option<String>,
    place: Option<String>,
    /// Why it is not here, or what it says instead of starting.
    why: Option<String>,
    /// The command that brings it.
    hint: Option<String>,
}

impl EngineRow {
    fn of(probed: Probed) -> EngineRow {
        let Probed { name, runs, found } = probed;
        let row = EngineRow { name, runs, state: State::Here, version: None, place: None, why: None, hint: None };
        match found {
            Ok(Present { version, place }) => EngineRow { version: Some(version), place: Some(place), ..row },
            Err(RuntimeError::Unavailable { why, install, .. }) => {
                EngineRow { state: State::Missing, why: Some(why), hint: Some(install), ..row }
            }
            Err(RuntimeError::Failed { message, .. }) => EngineRow { state: State::Broken, why: Some(message), ..row },
        }
    }

    /// Its line of the table.
    fn told(&self) -> Vec<String> {
        let found = match (self.state, &self.version, &self.why) {
            (State::Here, version, _) => {
                let [version, place] = [version, &self.place].map(|text| text.as_deref().unwrap_or_default());
                format!("{version}, {place}")
            }
            (State::Missing, _, why) => format!("not here: {}", why.as_deref().unwrap_or_default()),
            (State::Broken, _, why) => format!("broken: {}", why.as_deref().unwrap_or_default()),
        };
        vec![self.name.to_owned(), self.runs.join(", "), one_line(&found)]
    }
}

/// What work may take; nothing where the system does not tell.
#[derive(Serialize)]
struct Machine {
    processor: Option<String>,
    /// Of matrix products; what is calibrated depends on it in its last bits.
    kernel: String,
    threads: usize,
    memory_bytes: Option<u64>,
    available_memory_bytes: Option<u64>,
    /// Where results are kept between runs; absent without a home folder.
    cache: Option<PathBuf>,
    cached_bytes: u64,
    /// Free bytes where artifacts of this folder, temporary files and the cache go.
    free: Vec<Free>,
}

#[derive(Serialize)]
struct Free {
    what: &'static str,
    place: PathBuf,
    bytes: u64,
}

impl Machine {
    fn of_this() -> Machine {
        let memory = machine::memory();
        let cache = cache_folder();
        let places = [
            ("working folder", std::env::current_dir().ok()),
            ("temporary files", Some(std::env::temp_dir())),
            ("cache", cache.clone()),
        ];
        let free = places.into_iter().filter_map(|(what, place)| {
            let place = place?;
            // A cache that nobody has needed yet.
            let bytes = free_bytes(place.ancestors().find(|folder| folder.is_dir())?)?;
            Some(Free { what, place, bytes })
        });
        Machine {
            processor: machine::processor(),
            kernel: graph::eval::kernel(),
            threads: rayon::current_num_threads(),
            memory_bytes: memory.map(|[all, _]| all),
            available_memory_bytes: memory.map(|[_, available]| available),
            cached_bytes: cache::entries().iter().map(|entry| entry.bytes).sum(),
            free: free.collect(),
            cache,
        }
    }

    fn told(&self) -> Vec<Vec<String>> {
        let row = |what: &str, value: String| vec![what.to_owned(), one_line(&value)];
        let mut rows = vec![
            row("processor", self.processor.clone().unwrap_or_else(|| std::env::consts::ARCH.to_owned())),
            row("matrix kernel", self.kernel.clone()),
            row("threads", self.threads.to_string()),
        ];
        if let (Some(all), Some(available)) = (self.memory_bytes, self.available_memory_bytes) {
            rows.push(row("memory", format!("{} free of {}", size(available), size(all))));
        }
        for Free { what, place, bytes } in &self.free {
            rows.push(row(what, format!("{} free, {}", size(*bytes), place.display())));
        }
        rows.push(match self.cache {
            Some(_) => row("kept in the cache", format!("{}; `trefoil cache` shows what", size(self.cached_bytes))),
            None => row("cache", "none: no home folder to keep it in".to_owned()),
        });
        rows
    }
}

#[derive(Serialize)]
struct Findings {
    trefoil: &'static str,
    engines: Vec<EngineRow>,
    machine: Machine,
}

/// Looks for all engines at once and prints what is there.
pub fn doctor(arguments: &Doctor, common: &Common, display: &Display) -> Result<Verdict, DoctorError> {
    let known = names();
    if let Some(found) = arguments.engine.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(DoctorError::NoEngine { found: found.clone(), known });
    }
    display.stage("start every engine", 0, Unit::Samples);
    let engines: Vec<EngineRow> =
        probes(&options(arguments.python.clone()), &arguments.engine).into_iter().map(EngineRow::of).collect();
    display.finish();
    let findings = Findings { trefoil: env!("CARGO_PKG_VERSION"), engines, machine: Machine::of_this() };
    let text = match common.json {
        true => serde_json::to_string_pretty(&findings).expect("only JSON types") + "\n",
        false => printable(&told(&findings)).into_owned(),
    };
    print(&text)?;
    let is_whole = findings.engines.iter().all(|engine| engine.state == State::Here);
    Ok(if is_whole || !arguments.strict { Verdict::Passed } else { Verdict::Failed })
}

fn told(findings: &Findings) -> String {
    let engines: Vec<Vec<String>> = findings.engines.iter().map(EngineRow::told).collect();
    let mut text = format!("trefoil {}\n\nengines\n{}", findings.trefoil, aligned(2, &engines));
    let hints = findings.engines.iter().filter_map(|engine| Some((engine.name, engine.hint.as_ref()?)));
    let hints: Vec<String> = hints.map(|(name, hint)| format!("  {name}\n    {hint}\n")).collect();
    if !hints.is_empty() {
        text.push_str(&format!("\nwhat brings those that are not here\n{}", hints.concat()));
    }
    text + &format!("\nmachine\n{}", aligned(2, &findings.machine.told()))
}
