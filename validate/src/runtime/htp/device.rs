//! Sessions on the simulator, and why it refuses nodes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ort::logging::LogLevel;
use ort::session::Session as OrtSession;

use super::library::{EP, Provider};
use crate::runtime::error::RuntimeError;
use crate::runtime::names::HTP;

/// Reasons that an error shows; a graph of many layers is refused for the same one in each.
const REASONS_SHOWN: usize = 12;
/// Nodes that an error names.
const NODES_SHOWN: usize = 24;

pub(super) fn failed(message: String) -> RuntimeError {
    RuntimeError::Failed { runtime: HTP, message }
}

/// What sessions are opened on.
#[derive(Clone)]
pub(super) struct Device {
    pub(super) provider: Provider,
    pub(super) soc_model: u32,
}

impl Device {
    /// A session with all nodes on the simulator. Errors: the provider's words, and which nodes it refuses why.
    pub(super) fn session(&self, file: &Path, config: &[(&str, &str)]) -> Result<OrtSession, String> {
        let heard = Arc::new(Mutex::new(Refused::default()));
        let session = self.builder(config, &heard).and_then(|mut builder| builder.commit_from_file(file));
        session.map_err(|error| {
            let refused = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
            refused.told(&error.to_string())
        })
    }

    fn builder(
        &self,
        config: &[(&str, &str)],
        heard: &Arc<Mutex<Refused>>,
    ) -> ort::Result<ort::session::builder::SessionBuilder> {
        let environment = &self.provider.loaded.environment;
        let devices = environment.devices().filter(|device| device.ep().is_ok_and(|ep| ep == EP)).take(1);
        let option = |key: &str, value: String| (format!("{EP}.{key}"), value);
        let options = [
            option("backend_path", self.provider.backend.to_string_lossy().into_owned()),
            option("soc_model", self.soc_model.to_string()),
        ];
        let heard = heard.clone();
        let mut builder = OrtSession::builder(environment)?
            .with_disable_cpu_fallback()?
            .with_config_entry("session.record_ep_graph_assignment_info", "1")?
            // Reasons are told in its most talkative log only.
            .with_log_level(LogLevel::Verbose)?
            .with_logger(Arc::new(move |level, _, _, _, message: &str| {
                heard.lock().unwrap_or_else(PoisonError::into_inner).hear(level, message);
            }))?
            .with_devices(devices, Some(&options))?;
        for (key, value) in config {
            builder = builder.with_config_entry(*key, *value)?;
        }
        Ok(builder)
    }
}

/// What the provider says in its log about nodes that it does not take.
#[derive(Default)]
pub(super) struct Refused {
    /// `operator: reason` and the nodes.
    reasons: BTreeMap<String, Vec<String>>,
    /// Its own summary, and other errors.
    errors: Vec<String>,
}

impl Refused {
    /// onnxruntime-qnn 2.7 writes `Validation FAILED for … :`, then for each node of a unit a line `Operator type: … Node
    /// name: … Node index: …` and one `REASON : …`.
    pub(super) fn hear(&mut self, level: LogLevel, message: &str) {
        if message.contains("Validation FAILED") {
            let between = |line: &str, from: &str, to: &str| {
                let rest = &line[line.find(from)? + from.len()..];
                Some(rest[..rest.find(to).unwrap_or(rest.len())].trim().to_owned())
            };
            let reason = message.lines().find_map(|line| between(line, "REASON :", "\n")).unwrap_or_default();
            for line in message.lines() {
                let operator = between(line, "Operator type:", "Node name:");
                if let (Some(operator), Some(node)) = (operator, between(line, "Node name:", "Node index:")) {
                    self.reasons.entry(format!("{operator}: {reason}")).or_default().push(node);
                }
            }
        } else if matches!(level, LogLevel::Error | LogLevel::Fatal) && !self.errors.iter().any(|e| e == message) {
            self.errors.push(message.to_owned());
        }
    }

    /// The error with the nodes that it does not name.
    pub(super) fn told(mut self, error: &str) -> String {
        let mut lines = vec![error.to_owned()];
        let more = self.reasons.len().saturating_sub(REASONS_SHOWN);
        for (reason, nodes) in self.reasons.iter_mut().take(REASONS_SHOWN) {
            // A graph is asked about more than once.
            nodes.sort();
            nodes.dedup();
            let rest = nodes.len().saturating_sub(NODES_SHOWN);
            nodes.truncate(NODES_SHOWN);
            let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            lines.push(format!("{reason} ({}{rest})", nodes.join(", ")));
        }
        if more > 0 {
            lines.push(format!("and {more} more reasons"));
        }
        if self.reasons.is_empty() {
            let said = self.errors.iter().map(|e| e.trim()).filter(|e| !error.contains(e));
            lines.extend(said.take(REASONS_SHOWN).map(str::to_owned));
        }
        lines.join("\n  ")
    }
}
