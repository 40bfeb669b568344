//! Rockchip's RKNN simulator: NPU artifacts as an RK3588 would run them, in floats of 16 bits.
//!
//! The toolkit is Rockchip's and proprietary: it is found where the user installed it, never fetched.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use converters::Artifact;
use converters::export::npu::{Numbers, profile};

use crate::report::{Check, Link};
use crate::runtime::npu::{FORMAT, PythonEngine, PythonGraph, Steps, read};
use crate::runtime::{Engine, Fit, Options, Runtime, RuntimeError, Session};

/// The newest opset that the toolkit reads.
const OPSET: i64 = 19;

static ENGINE: PythonEngine = PythonEngine {
    runtime: "rknn-simulator",
    argument: "rknn",
    package: "rknn",
    variable: "TREFOIL_RKNN_PYTHON",
    environment: ".venv-rknn",
    install: "python3.11 -m venv .venv-rknn && .venv-rknn/bin/python -m pip install rknn-toolkit2==2.5.0 'onnx<=1.18' \
              'numpy<=1.26.4' 'torch<=2.4.0' setuptools (Rockchip's, proprietary; 5.6 GB)",
    checks,
};

/// The simulator of RK3588.
#[derive(Clone, Copy, Debug)]
pub struct Rknn;

impl Runtime for Rknn {
    fn name(&self) -> &'static str {
        ENGINE.runtime
    }

    fn runs(&self, format: &str) -> bool {
        format == FORMAT
    }

    fn fit(&self, artifact: &Artifact) -> Fit {
        if !self.runs(artifact.format) {
            return Fit::Foreign;
        }
        // What cannot be read is told by who opens it.
        let Ok(host) = read(&artifact.dir) else { return Fit::Runs };
        let Some(written) = profile(&host.profile) else { return Fit::Runs };
        let places = host.buckets.iter().flat_map(|bucket| [&bucket.encoder, &bucket.decoder]);
        let mut ports = places.flat_map(|place| place.inputs.iter().chain(&place.outputs));
        let opset = written.writes.opset;
        if opset > OPSET {
            let profile = written.name;
            Fit::CannotRun(format!("it takes opset {OPSET} at most, and graphs for {profile} are of opset {opset}"))
        } else if ports.any(|port| matches!(port.numbers, Numbers::Uint16 { .. } | Numbers::Int16 { .. })) {
            Fit::CannotRun("it takes codes of 8 bits, and these are of 16".to_owned())
        } else {
            Fit::Runs
        }
    }

    fn samples(&self, options: &Options) -> Option<usize> {
        options.simulated_samples
    }

    fn open(&self, artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        let process = ENGINE.start(options)?;
        let engine = Engine {
            name: ENGINE.runtime.to_owned(),
            version: process.version.clone(),
            settings: "target_platform = rk3588, optimization_level = 2, do_quantization = False".to_owned(),
        };
        let process = Rc::new(RefCell::new(process));
        let steps = Steps::open(ENGINE.runtime, engine, &artifact.dir, |file| PythonGraph::open(&process, file))?;
        Ok(Box::new(steps))
    }
}

/// Where the operators run. Tables that ids look up are on the CPU whatever a graph is like, so that nothing is judged but
/// a simulator that says nothing.
fn checks(steps: &mut Steps<PythonGraph>) -> Vec<Check> {
    let engine = Session::engine(steps);
    let (mut here, mut all) = (0, 0);
    let mut elsewhere: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, graph) in steps.graphs() {
        all += graph.placed.len();
        here += graph.placed.iter().filter(|p| p.target == "NPU").count();
        for placed in graph.placed.iter().filter(|p| p.target != "NPU") {
            let nodes = elsewhere.entry(format!("{file}, {}", placed.target)).or_default();
            nodes.push(format!("{} {}", placed.operator, placed.name));
        }
    }
    let what = format!("{} {}: operators on the NPU, {here} of {all}", engine.name, engine.version);
    if here == 0 {
        return vec![Check::failed(Link::Runtime, what, "its log tells of no operator on the NPU")];
    }
    let places = elsewhere.into_iter().map(|(place, nodes)| format!("{place}: {}", nodes.join(", ")));
    vec![Check::seen(Link::Runtime, what, places.collect::<Vec<_>>().join("; "))]
}
