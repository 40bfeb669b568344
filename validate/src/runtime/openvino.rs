//! OpenVINO's CPU plugin: NPU artifacts in an engine that reads ONNX with a front end of its own.

use std::cell::RefCell;
use std::rc::Rc;

use converters::Artifact;

use crate::runtime::error::RuntimeError;
use crate::runtime::interface::{Options, Present, Program, Runtime, Session};
use crate::runtime::npu::{FORMAT, PythonEngine, PythonGraph, Steps};
use report::Engine;
use report::figures::counted;
use report::{Check, Link};

static ENGINE: PythonEngine = PythonEngine {
    runtime: "openvino",
    argument: "openvino",
    package: "openvino",
    variable: "TREFOIL_OPENVINO_PYTHON",
    install: "python3 -I -m venv .venv-openvino && .venv-openvino/bin/pip install openvino==2026.4.1 && export \
              TREFOIL_OPENVINO_PYTHON=\"$PWD/.venv-openvino/bin/python\"",
    checks,
};

/// As the far side has it.
const LEAST_THREADS: usize = 2;

/// The plugin in floats of 32 bits, on a process of Python.
#[derive(Clone, Copy, Debug)]
pub struct OpenVino;

impl Program for OpenVino {
    fn name(&self) -> &'static str {
        ENGINE.runtime
    }

    fn runs(&self, format: &str) -> bool {
        format == FORMAT
    }

    fn probe(&self, options: &Options) -> Result<Present, RuntimeError> {
        ENGINE.probe(options)
    }
}

impl Runtime for OpenVino {
    fn open(&self, artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        let process = ENGINE.start(options)?;
        let engine = Engine {
            name: ENGINE.runtime.to_owned(),
            version: process.version.clone(),
            settings: format!(
                "CPU plugin, INFERENCE_PRECISION_HINT = f32, {}",
                counted(options.threads.max(LEAST_THREADS) as u64, "thread")
            ),
        };
        let process = Rc::new(RefCell::new(process));
        let steps = Steps::open(ENGINE.runtime, engine, &artifact.dir, |file| PythonGraph::open(&process, file))?;
        Ok(Box::new(steps))
    }
}

/// Its CPU plugin takes roundings to 16 bits out of a graph (`qdq_stripping.cpp`) and keeps those to 8: whether it did is seen
/// by taking them out beforehand.
fn checks(steps: &mut Steps<PythonGraph>) -> Vec<Check> {
    let engine = Session::engine(steps);
    let (mut words, mut ran, mut kept, mut errors) = (0, false, Vec::new(), Vec::new());
    for (file, graph) in steps.graphs().filter(|(_, graph)| graph.words > 0) {
        match graph.without_words() {
            None => continue,
            Some(Ok(true)) => words += graph.words,
            Some(Ok(false)) => kept.push(format!("{} of {file}", graph.words)),
            Some(Err(error)) => errors.push(format!("{file}: {error}")),
        }
        ran = true;
    }
    if !ran {
        return Vec::new();
    }
    let what = format!("{} {}: roundings of activations to 16 bits", engine.name, engine.version);
    vec![if !errors.is_empty() {
        Check::not_run(Link::Runtime, what, errors.join("\n  "))
    } else if kept.is_empty() {
        let sentence = format!(
            "none of {words} is computed: without them the graphs give the same bits, so what ran is the float graph with \
             the artifact's weights"
        );
        Check::seen(Link::Runtime, what, sentence)
    } else {
        let sentence = format!("{} are computed: without them the graph gives other numbers", kept.join(", "));
        Check::seen(Link::Runtime, what, sentence)
    }]
}
