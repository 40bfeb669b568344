//! Qualcomm's HTP simulator, through the execution provider QNN of onnxruntime: NPU artifacts as a chip would run them.
//!
//! The provider's libraries are Qualcomm's and proprietary: they are found where the user installed them, never fetched.

mod context;
mod device;
mod library;
mod placement;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use converters::Artifact;
use ort::session::Session as OrtSession;

use crate::runtime::error::RuntimeError;
use crate::runtime::host;
use crate::runtime::interface::{Options, Present, Program, Runtime, Session};
use crate::runtime::names::HTP;
use crate::runtime::npu::{FORMAT, Signature, Step, Steps, Value};
use crate::runtime::onnx::{fetch, fixed};
use report::Engine;
use report::{Check, Link};

use context::{Call, reloaded};
use device::{Device, failed};
use library::EP;

/// The chip when none is asked for: Snapdragon X Elite, of HTP v73.
pub const SOC_MODEL: u32 = 60;
/// Samples on each chip after the first: whether it takes the graphs, and computes as the first does, is seen on few.
const FURTHER_SAMPLES: usize = 20;
/// The simulator, with every node that it refuses an error.
#[derive(Clone, Copy, Debug)]
pub struct Htp;

impl Program for Htp {
    fn name(&self) -> &'static str {
        HTP
    }

    fn runs(&self, format: &str) -> bool {
        format == FORMAT
    }

    fn probe(&self, options: &Options) -> Result<Present, RuntimeError> {
        if let Some(program) = &options.host {
            let variables = [(library::VARIABLE, library::find(options)?), (fetch::VARIABLE, fetch::local()?)];
            return host::probe(HTP, program, options, &variables);
        }
        let provider = library::load(options)?;
        Ok(Present { version: provider.version, place: provider.backend.display().to_string() })
    }
}

impl Runtime for Htp {
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
            return host::open(HTP, program, artifact, options, &variables);
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
        let steps = Steps::open(HTP, engine, &artifact.dir, |file| HtpGraph::open(&device, file))?;
        Ok(Box::new(steps))
    }
}

fn called(soc_model: u32) -> String {
    format!("{HTP} (soc {soc_model})")
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

impl HtpGraph {
    fn open(device: &Device, file: &Path) -> Result<HtpGraph, RuntimeError> {
        let session = device.session(file, &[]).map_err(|e| failed(format!("{}: {e}", file.display())))?;
        let nodes = placement::nodes(&session).map_err(|e| failed(format!("{}: {e}", file.display())))?;
        Ok(HtpGraph { device: device.clone(), file: file.to_owned(), session, nodes, last: None })
    }
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
        vec![placed(&called, steps), reloads(&called, steps)]
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

/// Writes each graph as a context binary, opens that and runs it on what the graph was given.
fn reloads(called: &str, steps: &mut Steps<HtpGraph>) -> Check {
    let (mut written, mut bytes, mut took) = (0, 0, Duration::ZERO);
    let mut chips = BTreeSet::new();
    let mut wrong = Vec::new();
    for (file, graph) in steps.graphs() {
        // Of a bucket that no sample needed.
        let Some(call) = &graph.last else { continue };
        match reloaded(&graph.device, &graph.file, call) {
            Ok(context) => {
                written += 1;
                bytes += context.bytes;
                took += context.took;
                chips.insert(context.chip);
            }
            Err(message) => wrong.push(format!("{file}: {message}")),
        }
    }
    let binaries = if written == 1 { "binary" } else { "binaries" };
    let chips = if chips.is_empty() { String::new() } else { format!(" for {}", Vec::from_iter(chips).join(", ")) };
    let what = format!("{called}: {written} context {binaries}{chips}, {bytes} bytes, written, reloaded, equal output");
    match (wrong.is_empty(), written) {
        (true, 0) => Check::not_run(Link::Runtime, what, "no graph has run"),
        (true, _) => Check::passed(Link::Runtime, what, format!("reloaded in {:.2} s", took.as_secs_f64())),
        (false, _) => {
            let broken = "the binary that a device would load computes something else, or cannot be made";
            Check::failed(Link::Runtime, what, format!("{broken}: {}", wrong.join("; ")))
        }
    }
}

#[cfg(test)]
mod tests;
