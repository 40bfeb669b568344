//! Graphs of fixed shapes in engines that live in Python: a process of its own holds all of an artifact's.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Deserialize;
use serde_json::json;

use super::ports::{Found, Signature};
use super::session::{Step, Steps};
use super::value::{Codes, Value, with_codes};
use crate::runtime::child::Patience;
use crate::runtime::environments::{isolated, program, python_with, roots, variable};
use crate::runtime::error::RuntimeError;
use crate::runtime::interface::{Options, Present};
use crate::runtime::pipe::Pipe;
use report::Check;

/// The far side; the protocol is described at its top.
const SCRIPT: &str = concat!(include_str!("../far_side.py"), include_str!("../npu_session.py"));
/// Outputs of one call; a reply that announces more is nonsense.
const OUTPUT_BYTES: usize = 4 << 30;

/// An engine that the far side knows.
#[derive(Debug)]
pub(in crate::runtime) struct PythonEngine {
    /// [`crate::Runtime::name`].
    pub(in crate::runtime) runtime: &'static str,
    /// As the far side calls it.
    pub(in crate::runtime) argument: &'static str,
    /// The package that it is in.
    pub(in crate::runtime) package: &'static str,
    /// Environment variable that names the Python which has it.
    pub(in crate::runtime) variable: &'static str,
    /// The command that brings it.
    pub(in crate::runtime) install: &'static str,
    /// What it tells of itself after it has run.
    pub(in crate::runtime) checks: fn(&mut Steps<PythonGraph>) -> Vec<Check>,
}

impl PythonEngine {
    fn unavailable(&self, why: String) -> RuntimeError {
        RuntimeError::Unavailable { runtime: self.runtime, why, install: self.install.to_owned() }
    }

    fn failed(&self, message: String) -> RuntimeError {
        RuntimeError::Failed { runtime: self.runtime, message }
    }

    fn python(&self, named: Option<PathBuf>, roots: &[PathBuf]) -> Result<PathBuf, RuntimeError> {
        match named {
            Some(python) => program(&python).ok_or_else(|| {
                self.unavailable(format!("{} is {}, which is not there", self.variable, python.display()))
            }),
            None => python_with(self.package, roots).ok_or_else(|| {
                let (package, variable) = (self.package, self.variable);
                self.unavailable(format!(
                    "no Python environment in ${variable}, --python, $VIRTUAL_ENV or $CONDA_PREFIX has {package}"
                ))
            }),
        }
    }

    /// Starts it. Errors: `Unavailable` when it is not installed; never fetches it.
    pub(in crate::runtime) fn start(&'static self, options: &Options) -> Result<Process, RuntimeError> {
        self.start_in(&self.found(options)?, options)
    }

    /// Starts it and ends it.
    pub(in crate::runtime) fn probe(&'static self, options: &Options) -> Result<Present, RuntimeError> {
        let python = self.found(options)?;
        let version = self.start_in(&python, options)?.version;
        Ok(Present { version, place: python.display().to_string() })
    }

    fn found(&self, options: &Options) -> Result<PathBuf, RuntimeError> {
        self.python(variable(self.variable), &roots(options.python.as_deref()))
    }

    fn start_in(&'static self, python: &Path, options: &Options) -> Result<Process, RuntimeError> {
        let patience = Patience::of(options).map_err(|e| self.failed(e))?;
        let threads = options.threads.max(1).to_string();
        let mut command = isolated(python);
        command
            .args(["-c", SCRIPT, self.argument, "--threads", &threads])
            .env("OMP_NUM_THREADS", &threads)
            // Waiting threads that spin would take the processor from the one that works.
            .env("OMP_WAIT_POLICY", "PASSIVE");
        let pipe = Pipe::spawn("the Python process", self.runtime, &mut command, patience).map_err(|e| {
            let message = format!("{}: {e}", python.display());
            let absent = e.kind() == io::ErrorKind::NotFound && !python.exists();
            if absent { self.unavailable(message) } else { self.failed(message) }
        })?;
        let mut process = Process { engine: self, pipe, version: String::new() };
        process.version = process.call(&json!({ "call": "versions" }), Vec::new())?.version.unwrap_or_default();
        Ok(process)
    }
}

/// The far side.
pub(in crate::runtime) struct Process {
    engine: &'static PythonEngine,
    pipe: Pipe,
    /// Of the package.
    pub(in crate::runtime) version: String,
}

/// A tensor as a header lists it; a length that is not fixed is absent.
#[derive(Deserialize)]
struct Listed {
    name: String,
    dtype: String,
    shape: Vec<Option<usize>>,
}

/// Where an engine runs an operator of its own.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(in crate::runtime) struct Placed {
    pub(in crate::runtime) operator: String,
    /// `NPU`, `CPU`.
    pub(in crate::runtime) target: String,
    pub(in crate::runtime) name: String,
}

/// Every reply's header; values follow where the call implies them.
#[derive(Deserialize)]
struct Reply {
    ok: bool,
    error: Option<String>,
    /// The package that is not installed, when that is why.
    lacks: Option<String>,
    version: Option<String>,
    graph: Option<usize>,
    #[serde(default)]
    inputs: Vec<Listed>,
    #[serde(default)]
    outputs: Vec<Listed>,
    #[serde(default)]
    placed: Vec<Placed>,
    #[serde(default)]
    words: usize,
    #[serde(default)]
    tensors: Vec<Listed>,
    equal: Option<bool>,
}

impl Process {
    fn call(&mut self, request: &serde_json::Value, values: Vec<Vec<u8>>) -> Result<Reply, RuntimeError> {
        let reply: Reply = self.pipe.call(request, values).map_err(|e| self.engine.failed(e))?;
        if reply.ok {
            return Ok(reply);
        }
        let error = reply.error.unwrap_or_else(|| "refused without a reason".to_owned());
        Err(if reply.lacks.is_some() { self.engine.unavailable(error) } else { self.engine.failed(error) })
    }

    /// The values of what a reply lists, when that is what was asked for.
    fn received(&mut self, listed: &[Listed], names: &[&str]) -> Result<Vec<Value>, String> {
        if !listed.iter().map(|l| l.name.as_str()).eq(names.iter().copied()) {
            let found: Vec<&str> = listed.iter().map(|l| l.name.as_str()).collect();
            let (expected, found) = (names.join(", "), found.join(", "));
            return Err(self.pipe.nonsense(&format!("expected outputs {expected}, found {found}")));
        }
        let mut values = Vec::new();
        let mut left = OUTPUT_BYTES;
        for Listed { name, dtype, shape } in listed {
            let width = match dtype.as_str() {
                "int32" | "float32" => 4,
                "uint16" | "int16" => 2,
                "uint8" => 1,
                other => {
                    let what = format!("{name}: expected int32, float32, uint8, uint16 or int16, found {other}");
                    return Err(self.pipe.nonsense(&what));
                }
            };
            let lengths: Option<Vec<usize>> = shape.iter().copied().collect();
            let bytes = lengths.iter().flatten().try_fold(width, |product: usize, n| product.checked_mul(*n));
            let (Some(lengths), Some(bytes)) = (lengths, bytes.filter(|bytes| *bytes <= left)) else {
                return Err(self.pipe.nonsense(&format!("{name}: expected a shape, found {shape:?}")));
            };
            left -= bytes;
            let data = self.pipe.values(bytes, name)?;
            let words = || data.as_chunks::<4>().0.iter();
            let halves = || data.as_chunks::<2>().0.iter();
            let codes = match dtype.as_str() {
                "int32" => Codes::Int32(words().map(|b| i32::from_le_bytes(*b)).collect()),
                "float32" => Codes::Float32(words().map(|b| f32::from_le_bytes(*b)).collect()),
                "uint16" => Codes::Uint16(halves().map(|b| u16::from_le_bytes(*b)).collect()),
                "int16" => Codes::Int16(halves().map(|b| i16::from_le_bytes(*b)).collect()),
                _ => Codes::Uint8(data),
            };
            values.push(Value { shape: lengths, codes });
        }
        Ok(values)
    }
}

/// One graph of a process.
pub(in crate::runtime) struct PythonGraph {
    process: Rc<RefCell<Process>>,
    graph: usize,
    signature: Signature,
    /// Where its operators run, of engines that tell.
    pub(in crate::runtime) placed: Vec<Placed>,
    /// Roundings to 16 bits that its file asks for, of engines that leave them out.
    pub(in crate::runtime) words: usize,
    /// What it was first given.
    first: Option<Vec<(String, Value)>>,
}

impl PythonGraph {
    /// Opens a file in a process.
    pub(in crate::runtime) fn open(process: &Rc<RefCell<Process>>, file: &Path) -> Result<PythonGraph, RuntimeError> {
        let mut far = process.borrow_mut();
        let absolute = std::path::absolute(file).ok().and_then(|file| file.to_str().map(str::to_owned));
        let absolute =
            absolute.ok_or_else(|| far.engine.failed(format!("{}: expected a path in UTF-8", file.display())))?;
        let reply =
            far.call(&json!({ "call": "open", "file": absolute }), Vec::new()).map_err(|error| match error {
                RuntimeError::Failed { runtime, message } => {
                    RuntimeError::Failed { runtime, message: format!("{}: {message}", file.display()) }
                }
                other => other,
            })?;
        let Some(graph) = reply.graph else {
            let what = far.pipe.nonsense("expected the number of a graph, found none");
            return Err(far.engine.failed(what));
        };
        let found = |listed: &[Listed]| {
            let of = |l: &Listed| {
                let shape: Vec<String> = l.shape.iter().map(|n| n.map_or("?".to_owned(), |n| n.to_string())).collect();
                Found { name: l.name.clone(), ty: format!("{}[{}]", l.dtype, shape.join(", ")) }
            };
            listed.iter().map(of).collect()
        };
        let signature = Signature { inputs: found(&reply.inputs), outputs: found(&reply.outputs) };
        let process = process.clone();
        Ok(PythonGraph { process, graph, signature, placed: reply.placed, words: reply.words, first: None })
    }

    /// Whether it gives the same bits for what it was first given when its roundings to 16 bits are taken out; `None`
    /// before it was given something.
    pub(in crate::runtime) fn without_words(&mut self) -> Option<Result<bool, String>> {
        let first = self.first.as_ref()?;
        let inputs: Vec<(&str, &Value)> = first.iter().map(|(name, value)| (name.as_str(), value)).collect();
        let reply = self.request("without_words", &inputs, &[]);
        Some(reply.map(|reply| reply.equal == Some(true)))
    }

    fn request(&self, call: &str, inputs: &[(&str, &Value)], outputs: &[&str]) -> Result<Reply, String> {
        let listed = inputs
            .iter()
            .map(|(name, value)| json!({ "name": name, "dtype": value.codes.type_name(), "shape": value.shape }));
        let listed: Vec<serde_json::Value> = listed.collect();
        let header = json!({ "call": call, "graph": self.graph, "outputs": outputs, "tensors": listed });
        let bytes = |value: &Value| match &value.codes {
            Codes::Uint8(list) => list.clone(),
            codes => with_codes!(codes, list => list.iter().flat_map(|x| x.to_le_bytes()).collect()),
        };
        let values: Vec<Vec<u8>> = inputs.iter().map(|(_, value)| bytes(value)).collect();
        let reply = self.process.borrow_mut().call(&header, values);
        reply.map_err(|error| match error {
            RuntimeError::Failed { message, .. } => message,
            other => other.to_string(),
        })
    }
}

impl Step for PythonGraph {
    fn signature(&self) -> Signature {
        self.signature.clone()
    }

    fn run(&mut self, inputs: &[(&str, &Value)], outputs: &[&str]) -> Result<Vec<Value>, String> {
        let reply = self.request("run", inputs, outputs)?;
        let made = self.process.borrow_mut().received(&reply.tensors, outputs)?;
        if self.first.is_none() {
            self.first = Some(inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect());
        }
        Ok(made)
    }

    fn checks(steps: &mut Steps<PythonGraph>) -> Vec<Check> {
        let checks = steps.graphs().next().map(|(_, graph)| graph.process.borrow().engine.checks);
        checks.map_or(Vec::new(), |checks| checks(steps))
    }
}
