//! Which engines are on this machine, and in which versions.

use std::cell::RefCell;
use std::collections::BTreeMap;

use converters::Artifact;
use validate::RuntimeError;
use validate::runtime::{ANSWERERS, ENCODERS, Fit, Options, RUNTIMES};

/// Engines that were asked, each once for a format.
#[derive(Default)]
pub struct Installed {
    /// By name and format.
    known: RefCell<BTreeMap<(String, &'static str), Option<String>>>,
}

impl Installed {
    /// Every engine that opens such an artifact, with its version; without one when it is not here. One that is here and cannot open the
    /// artifact has an empty version.
    pub fn of(&self, artifact: &Artifact, options: &Options) -> BTreeMap<String, Option<String>> {
        let mut found = BTreeMap::new();
        for runtime in RUNTIMES.iter().chain(ENCODERS).filter(|runtime| runtime.fit(artifact) == Fit::Runs) {
            for (name, options) in runtime.runs_of(options) {
                let mut known = self.known.borrow_mut();
                let version = known.entry((name.clone(), artifact.format)).or_insert_with(|| {
                    match runtime.open(artifact, &options) {
                        Ok(session) => Some(session.engine().version),
                        Err(RuntimeError::Unavailable { .. }) => None,
                        Err(_) => Some(String::new()),
                    }
                });
                found.insert(name, version.clone());
            }
        }
        for answerer in ANSWERERS.iter().filter(|answerer| answerer.fit(artifact) == Fit::Runs) {
            let name = answerer.name().to_owned();
            let mut known = self.known.borrow_mut();
            let version =
                known.entry((name.clone(), artifact.format)).or_insert_with(|| match answerer.probe(options) {
                    Ok(present) => Some(present.version),
                    Err(RuntimeError::Unavailable { .. }) => None,
                    Err(_) => Some(String::new()),
                });
            found.insert(name, version.clone());
        }
        found
    }
}
