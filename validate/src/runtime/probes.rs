//! Which engines are on this machine.

use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use converters::FORMATS;

use super::all::programs;
use super::child::SECONDS;
use super::environments::variable;
use super::error::RuntimeError;
use super::interface::{Options, Present, Program};

/// For each engine to start, unless the options or `TREFOIL_ENGINE_SECONDS` say otherwise: Python imports torch.
const PATIENCE: Duration = Duration::from_secs(180);

/// An engine that was looked for.
#[derive(Debug)]
pub struct Probed {
    /// [`Program::name`].
    pub name: &'static str,
    /// The formats that it opens.
    pub runs: Vec<&'static str>,
    /// What is there, or why not and what would bring it.
    pub found: Result<Present, RuntimeError>,
}

/// The engines that can be looked for: those of [`programs`], in that order.
pub fn names() -> Vec<&'static str> {
    programs().map(|program| program.name()).collect()
}

/// Looks for engines, for all of them at once; in the order of [`names`]. `only`: some of the names; all when empty.
pub fn probes(options: &Options, only: &[String]) -> Vec<Probed> {
    let patience = options.patience.or_else(|| variable(SECONDS).is_none().then_some(PATIENCE));
    let options = Options { patience, ..options.clone() };
    let is_wanted = |program: &&dyn Program| only.is_empty() || only.iter().any(|name| name == program.name());
    let one = |program: &dyn Program| Probed {
        name: program.name(),
        runs: FORMATS.iter().map(|format| format.name()).filter(|format| program.runs(format)).collect(),
        found: program.probe(&options),
    };
    let one = &one;
    thread::scope(|scope| {
        let wanted = programs().filter(is_wanted);
        let started: Vec<_> = wanted.map(|program| scope.spawn(move || one(program))).collect();
        started.into_iter().map(|probe| probe.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}
