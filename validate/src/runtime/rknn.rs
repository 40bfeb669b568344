//! Rockchip's RKNN simulator: NPU artifacts as an RK3588 would run them, in floats of 16 bits.
//!
//! The toolkit is Rockchip's and proprietary: it is found where the user installed it, never fetched.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use converters::Artifact;
use converters::export::npu::{Host, profile};

use crate::runtime::error::RuntimeError;
use crate::runtime::interface::{Fit, Options, Present, Program, Runtime, Session};
use crate::runtime::npu::{FORMAT, PythonEngine, PythonGraph, Steps};
use report::Engine;
use report::{Check, Link};

/// The newest opset that the toolkit reads.
const OPSET: i64 = 19;

static ENGINE: PythonEngine = PythonEngine {
    runtime: "rknn-simulator",
    argument: "rknn",
    package: "rknn",
    variable: "TREFOIL_RKNN_PYTHON",
    install: "python3.11 -I -m venv .venv-rknn && .venv-rknn/bin/pip install rknn-toolkit2==2.5.0 'onnx<=1.18' \
              'numpy<=1.26.4' 'torch<=2.4.0' setuptools && export \
              TREFOIL_RKNN_PYTHON=\"$PWD/.venv-rknn/bin/python\" # Rockchip's, proprietary; 5.6 GB",
    checks,
};

/// The simulator of RK3588.
#[derive(Clone, Copy, Debug)]
pub struct Rknn;

impl Program for Rknn {
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
        let Ok(Some(host)) = Host::read(&artifact.dir) else { return Fit::Runs };
        let Some(written) = profile(&host.profile) else { return Fit::Runs };
        let opset = written.writes.opset;
        if opset > OPSET {
            let profile = written.name;
            Fit::CannotRun(format!("it takes opset {OPSET} at most, and graphs for {profile} are of opset {opset}"))
        } else if written.writes.activations.is_some() {
            Fit::CannotRun("its compiler, of version 2.5.0, ends while it reads a graph in codes".to_owned())
        } else {
            Fit::Runs
        }
    }

    fn probe(&self, options: &Options) -> Result<Present, RuntimeError> {
        ENGINE.probe(options)
    }
}

impl Runtime for Rknn {
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn what_the_toolkit_cannot_read_is_known_before_it_starts() {
        for (profile, expected) in [
            ("npu-portable", None),
            ("rknn-fp16", None),
            ("rknn-w8a8", Some("ends while it reads a graph in codes")),
            ("qnn-htp-fp16", Some("it takes opset 19 at most, and graphs for qnn-htp-fp16 are of opset 20")),
        ] {
            let home = tempfile::tempdir().expect("temporary folder");
            let host = format!(r#"{{"profile":"{profile}","target":2,"pad_token_id":0,"buckets":[]}}"#);
            std::fs::write(home.path().join("npu.json"), host).expect("written");
            let artifact =
                Artifact { format: "npu", dir: home.path().to_owned(), files: vec![PathBuf::from("npu.json")] };
            match (Rknn.fit(&artifact), expected) {
                (Fit::Runs, None) => {}
                (Fit::CannotRun(why), Some(expected)) => assert!(why.ends_with(expected), "{profile}: {why}"),
                (found, _) => panic!("{profile}: {found:?}"),
            }
        }
    }
}
