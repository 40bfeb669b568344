//! Qualcomm's HTP simulator, through the execution provider QNN of onnxruntime: NPU artifacts as a chip would run them.
//!
//! The provider's libraries are Qualcomm's and proprietary: they are found where the user installed them, never fetched.

mod context;
mod library;
mod placement;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use converters::Artifact;
use ort::logging::LogLevel;
use ort::session::Session as OrtSession;

use crate::runtime::npu::{FORMAT, Signature, Step, Steps, Value};
use crate::runtime::onnx::{fetch, fixed};
use crate::runtime::{Options, Runtime, RuntimeError, Session, host};
use report::Engine;
use report::{Check, Link};

use library::Provider;

const NAME: &str = "htp-simulator";
/// As the provider calls itself.
const EP: &str = "QNNExecutionProvider";
/// The chip when none is asked for: Snapdragon X Elite, of HTP v73.
pub const SOC_MODEL: u32 = 60;
/// Samples on each chip after the first: whether it takes the graphs, and computes as the first does, is seen on few.
const FURTHER_SAMPLES: usize = 20;
/// Reasons that an error shows; a graph of many layers is refused for the same one in each.
const REASONS_SHOWN: usize = 12;
/// Nodes that an error names.
const NODES_SHOWN: usize = 24;

/// The simulator, with every node that it refuses an error.
#[derive(Clone, Copy, Debug)]
pub struct Htp;

impl Runtime for Htp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn runs(&self, format: &str) -> bool {
        format == FORMAT
    }

    fn runs_of(&self, options: &Options) -> Vec<(String, Options)> {
        let socs = if options.soc_models.is_empty() { &[SOC_MODEL][..] } else { &options.soc_models };
        let few = options.simulated_samples.unwrap_or(FURTHER_SAMPLES).min(FURTHER_SAMPLES);
        let one = |(at, soc): (usize, &u32)| {
            let simulated_samples = if at == 0 { options.simulated_samples } else { Some(few) };
            (called(*soc), Options { soc_models: vec![*soc], simulated_samples, ..options.clone() })
        };
        socs.iter().enumerate().map(one).collect()
    }

    fn samples(&self, options: &Options) -> Option<usize> {
        options.simulated_samples
    }

    /// For the first of the options' `soc_models`.
    fn open(&self, artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        if let Some(program) = &options.host {
            let provider = library::find(options)?;
            let variables = [(library::VARIABLE, provider), (fetch::VARIABLE, fetch::library(options)?)];
            return host::open(NAME, program, artifact, options, &variables);
        }
        let provider = library::load(options)?;
        let soc_model = options.soc_models.first().copied().unwrap_or(SOC_MODEL);
        let device = Device { provider, soc_model };
        let engine = Engine {
            name: called(soc_model),
            version: device.provider.version.clone(),
            settings: format!(
                "HTP simulator of onnxruntime-qnn in onnxruntime {}, soc_model = {soc_model}, no node on the CPU",
                device.provider.loaded.version
            ),
        };
        let steps = Steps::open(NAME, engine, &artifact.dir, |file| device.open(file))?;
        Ok(Box::new(steps))
    }
}

fn called(soc_model: u32) -> String {
    format!("{NAME} (soc {soc_model})")
}

fn failed(message: String) -> RuntimeError {
    RuntimeError::Failed { runtime: NAME, message }
}

/// What sessions are opened on.
#[derive(Clone)]
struct Device {
    provider: Provider,
    soc_model: u32,
}

impl Device {
    fn open(&self, file: &Path) -> Result<HtpGraph, RuntimeError> {
        let session = self.session(file, &[]).map_err(|e| failed(format!("{}: {e}", file.display())))?;
        let nodes = placement::nodes(&session).map_err(|e| failed(format!("{}: {e}", file.display())))?;
        Ok(HtpGraph { device: self.clone(), file: file.to_owned(), session, nodes, last: None })
    }

    /// A session with all nodes on the simulator. Errors: the provider's words, and which nodes it refuses why.
    fn session(&self, file: &Path, config: &[(&str, &str)]) -> Result<OrtSession, String> {
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
struct Refused {
    /// `operator: reason` and the nodes.
    reasons: BTreeMap<String, Vec<String>>,
    /// Its own summary, and other errors.
    errors: Vec<String>,
}

impl Refused {
    /// onnxruntime-qnn 2.7 writes `Validation FAILED for … :`, then for each node of a unit a line `Operator type: … Node
    /// name: … Node index: …` and one `REASON : …`.
    fn hear(&mut self, level: LogLevel, message: &str) {
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
    fn told(mut self, error: &str) -> String {
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

/// A graph that was compiled for the simulator.
struct HtpGraph {
    device: Device,
    file: std::path::PathBuf,
    session: OrtSession,
    /// By provider.
    nodes: BTreeMap<String, usize>,
    /// What it was last given and what it made of it.
    last: Option<Call>,
}

/// Inputs and outputs of a run, by name.
struct Call {
    inputs: Vec<(String, Value)>,
    outputs: Vec<(String, Value)>,
}

impl Step for HtpGraph {
    fn signature(&self) -> Signature {
        fixed::signature(&self.session)
    }

    fn run(&mut self, inputs: &[(&str, &Value)], outputs: &[&str]) -> Result<Vec<Value>, String> {
        let made = fixed::run(&mut self.session, inputs, outputs)?;
        // One of several runs is enough to compare a reloaded graph with.
        if self.last.is_none() {
            self.last = Some(Call {
                inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect(),
                outputs: outputs.iter().map(|name| (*name).to_owned()).zip(made.iter().cloned()).collect(),
            });
        }
        Ok(made)
    }

    fn checks(steps: &mut Steps<HtpGraph>) -> Vec<Check> {
        let engine = steps.engine();
        let called = format!("{} {}", engine.name, engine.version);
        vec![placed(&called, steps), context::check(&called, steps)]
    }
}

/// Whether every node that was left after constants were folded is the simulator's.
fn placed(called: &str, steps: &mut Steps<HtpGraph>) -> Check {
    let (mut here, mut elsewhere) = (0, Vec::new());
    for (file, graph) in steps.graphs() {
        for (provider, nodes) in &graph.nodes {
            match provider == EP {
                true => here += nodes,
                false => elsewhere.push((format!("{nodes} of {file} in {provider}"), nodes)),
            }
        }
    }
    let all = here + elsewhere.iter().map(|(_, nodes)| **nodes).sum::<usize>();
    let what = format!("{called}: every node on the NPU, {here} of {all}");
    match elsewhere.is_empty() && here > 0 {
        true => Check::passed(Link::Runtime, what, ""),
        false => {
            let places: Vec<String> = elsewhere.into_iter().map(|(place, _)| place).collect();
            Check::failed(Link::Runtime, what, format!("nodes elsewhere: {}", places.join("; ")))
        }
    }
}

#[cfg(test)]
mod tests;
