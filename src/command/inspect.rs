//! `trefoil inspect`: what a checkpoint or an artifact holds.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use converters::checkpoint::CheckpointError;
use converters::export::ctranslate2::{FILE, ModelFile, Stored};
use converters::export::gguf::{GgufFile, TensorEntry, Value};
use converters::export::onnx::{Folder, Initializer, describe};
use converters::export::whisper_cpp::{self, ModelFile as ModelBin};
use converters::{Checkpoint, ExportError, ImportError};
use graph::passes::PassError;
use graph::{Entry, Graph};
use serde::Serialize;
use validate::runtime::ctranslate2::{FORMAT, is_ctranslate2};

use crate::build::folder::settle_around;
use crate::build::manifest::{self, Manifest};
use crate::build::there;
use crate::command::arguments::{Common, Verdict};
use crate::show::table::{aligned, size};
use crate::show::terminal::{one_line, print, printable};

/// Arguments of `inspect`.
#[derive(clap::Args)]
pub struct Inspect {
    /// A checkpoint's folder, an artifact's folder, or a .gguf or .onnx file
    path: PathBuf,
    /// Prints the graph of an entry of a checkpoint: full, encoder, decoder, decoder_with_past
    #[arg(long, value_name = "ENTRY", conflicts_with = "json")]
    graph: Option<String>,
}

/// Something cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Not a folder or file of a known kind.
    #[error("{}: expected a checkpoint (config.json and weights), *.onnx, *.gguf, *.safetensors, a model.bin of CTranslate2 or a ggml-model.bin of whisper.cpp, found none", .0.display())]
    Unknown(PathBuf),
    /// No entry of that name.
    #[error("no entry is named {found}; expected one of {}", .known.join(", "))]
    NoEntry {
        /// What was asked for.
        found: String,
        /// Every entry.
        known: Vec<String>,
    },
    /// `--graph` on an artifact.
    #[error("{}: only a checkpoint has a graph to print, found {kind}", .path.display())]
    NoGraph {
        /// What was to be inspected.
        path: PathBuf,
        /// Its kind.
        kind: &'static str,
    },
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of weights cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint is none of a known family.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The artifact cannot be read.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A pass refused the graph.
    #[error(transparent)]
    Pass(#[from] PassError),
}

/// What was found.
#[derive(Serialize)]
struct Inspection {
    path: PathBuf,
    /// `checkpoint`, `onnx`, `gguf`, `safetensors`, `ctranslate2`, `whisper.cpp`.
    kind: &'static str,
    /// Architecture, semantics, metadata.
    facts: Vec<(String, String)>,
    /// What can be called.
    entries: Vec<EntryRow>,
    tensors: Vec<TensorRow>,
    /// Weights of the model, each counted once; unknown for a foreign artifact with packed weights.
    parameters: Option<u64>,
    /// Of all tensors.
    bytes: u64,
    bits_per_weight: Option<f64>,
}

#[derive(Serialize)]
struct EntryRow {
    name: String,
    inputs: Vec<PortRow>,
    outputs: Vec<PortRow>,
}

#[derive(Serialize)]
struct PortRow {
    name: String,
    #[serde(rename = "type")]
    ty: String,
}

#[derive(Serialize)]
struct TensorRow {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    shape: Vec<usize>,
    bytes: u64,
}

/// Prints what `arguments.path` holds.
pub fn inspect(arguments: &Inspect, common: &Common) -> Result<Verdict, InspectError> {
    let path = &arguments.path;
    let kind = kind(path)?;
    settle_around(path);
    let stdout = |text: &str| print(text).map_err(|source| InspectError::Io { file: "stdout".into(), source });
    if let Some(entry) = &arguments.graph {
        if kind != "checkpoint" {
            return Err(InspectError::NoGraph { path: path.clone(), kind });
        }
        let graph = with_passes(path)?.graph;
        let found = graph.entry(entry).ok_or_else(|| InspectError::NoEntry {
            found: entry.clone(),
            known: graph.entries.iter().map(|e| e.name.clone()).collect(),
        })?;
        stdout(&printable(&graph::text::print_entry(&graph, found)))?;
        return Ok(Verdict::Passed);
    }
    let found = match kind {
        "checkpoint" => checkpoint(path)?,
        "gguf" => gguf(path)?,
        "onnx" => onnx(path)?,
        FORMAT => ctranslate2(path)?,
        whisper_cpp::NAME => whisper_bin(path)?,
        _ => safetensors(path)?,
    };
    let json = || serde_json::to_string_pretty(&found).expect("only JSON types") + "\n";
    stdout(&if common.json { json() } else { found.to_string() })?;
    Ok(Verdict::Passed)
}

/// What lies at a path, by its files.
pub fn kind(path: &Path) -> Result<&'static str, InspectError> {
    if path.is_dir() {
        // Our own safetensors folders are checkpoints too; those with quantized weights have no graph yet.
        let quantized = || {
            let config = converters::limits::read_text(&path.join("config.json")).unwrap_or_default();
            config.contains("\"quantization_config\"")
        };
        return match files_of(path, &["onnx", "gguf", "safetensors", "bin", "json"])? {
            files if files.iter().any(|f| has_extension(f, "onnx")) => Ok("onnx"),
            files if files.iter().any(|f| has_extension(f, "gguf")) => Ok("gguf"),
            _ if is_ctranslate2(path) => Ok(FORMAT),
            files if files.iter().any(|f| f.ends_with(whisper_cpp::FILE)) => Ok(whisper_cpp::NAME),
            // Of a repository on the hub, what lies in `onnx/` is one of several forms.
            files if files.iter().all(|f| has_extension(f, "json")) && Folder::find(path).encoder().exists() => {
                Ok("onnx")
            }
            files if files.iter().any(|f| f.ends_with("config.json")) && !quantized() => Ok("checkpoint"),
            files if files.iter().any(|f| has_extension(f, "safetensors")) => Ok("safetensors"),
            _ => Err(InspectError::Unknown(path.to_owned())),
        };
    }
    match path.extension().and_then(|e| e.to_str()) {
        Some("onnx") => Ok("onnx"),
        Some("gguf") => Ok("gguf"),
        Some("bin") if ModelBin::is_at(path) => Ok(whisper_cpp::NAME),
        _ if path.exists() => Err(InspectError::Unknown(path.to_owned())),
        _ => Err(InspectError::Io { file: path.to_owned(), source: there::absent() }),
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e == extension)
}

/// Files directly in a folder with one of these extensions, sorted.
fn files_of(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, InspectError> {
    let failed = |source| InspectError::Io { file: dir.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if extensions.iter().any(|e| has_extension(&path, e)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The files of a kind: those of a folder, or the file itself.
fn files_at(path: &Path, extension: &str) -> Result<Vec<PathBuf>, InspectError> {
    if path.is_dir() { files_of(path, &[extension]) } else { Ok(vec![path.to_owned()]) }
}

fn with_passes(dir: &Path) -> Result<converters::Model, InspectError> {
    let mut model = converters::import(dir)?;
    graph::passes::run(&mut model.graph)?;
    Ok(model)
}

fn checkpoint(dir: &Path) -> Result<Inspection, InspectError> {
    let model = with_passes(dir)?;
    let mut facts = vec![
        ("model_type".to_owned(), model.checkpoint.config().model_type().unwrap_or_default().to_owned()),
        ("reference".to_owned(), model.semantics.reference.to_owned()),
        ("logit scale".to_owned(), model.semantics.logit_scale.clone()),
    ];
    facts.extend(model.architecture.assumes().iter().map(|fact| ("assumes".to_owned(), (*fact).to_owned())));
    let tensors = model.graph.weights.iter().map(|(_, weight)| TensorRow {
        name: weight.name.clone(),
        ty: weight.data.type_name(),
        shape: weight.shape.clone(),
        bytes: quant::report::stored_bytes(weight),
    });
    let tensors: Vec<TensorRow> = tensors.collect();
    let entries = model.graph.entries.iter().map(|entry| entry_row(&model.graph, entry)).collect();
    let parameters = model.graph.weights.iter().map(|(_, weight)| weight.len() as u64).sum();
    Ok(Inspection::new(dir, "checkpoint", facts, entries, tensors, Some(parameters)))
}

fn entry_row(graph: &Graph, entry: &Entry) -> EntryRow {
    let ports = |ports: &[graph::Port]| {
        let port = |port: &graph::Port| PortRow { name: port.name.clone(), ty: graph.value(port.value).ty.to_string() };
        ports.iter().map(port).collect()
    };
    EntryRow { name: entry.name.clone(), inputs: ports(&entry.inputs), outputs: ports(&entry.outputs) }
}

/// Weights of the model that an artifact was made from, if its manifest is there.
fn parameters_of(dir: &Path) -> Result<Option<u64>, InspectError> {
    let manifest = read_manifest(dir)?;
    Ok(manifest.map(|m| m.tensors.iter().map(|t| t.shape.iter().product::<usize>() as u64).sum()))
}

/// The manifest in a folder, if there is one.
pub fn read_manifest(dir: &Path) -> Result<Option<Manifest>, InspectError> {
    Manifest::read(dir).map_err(|source| InspectError::Io { file: dir.join(manifest::FILE), source })
}

fn gguf(path: &Path) -> Result<Inspection, InspectError> {
    let (mut facts, mut tensors) = (Vec::new(), Vec::new());
    for file in files_at(path, "gguf")? {
        let gguf = GgufFile::open(&file)?;
        facts.extend(gguf.metadata.iter().map(|(key, value)| (key.clone(), shown(value))));
        tensors.extend(gguf.tensors);
    }
    Ok(of_ggml(path, "gguf", facts, &tensors))
}

/// A file whose tensors are the weights, one for one.
fn of_ggml(path: &Path, kind: &'static str, facts: Vec<(String, String)>, tensors: &[TensorEntry]) -> Inspection {
    let row = |tensor: &TensorEntry| TensorRow {
        name: tensor.name.clone(),
        ty: tensor.kind.name().to_owned(),
        shape: tensor.shape.clone(),
        bytes: tensor.data.len(),
    };
    let tensors: Vec<TensorRow> = tensors.iter().map(row).collect();
    let parameters = tensors.iter().map(|t| t.shape.iter().product::<usize>() as u64).sum();
    Inspection::new(path, kind, facts, Vec::new(), tensors, Some(parameters))
}

fn onnx(path: &Path) -> Result<Inspection, InspectError> {
    let (mut facts, mut entries, mut tensors) = (Vec::new(), Vec::new(), BTreeMap::new());
    let beside = files_at(path, "onnx")?;
    let files = if beside.is_empty() { Folder::find(path).graphs().collect() } else { beside };
    for file in files {
        let found = describe(&file).map_err(ExportError::from)?;
        let name = file.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
        facts.extend(found.facts.into_iter().map(|(key, value)| (format!("{name}: {key}"), value)));
        let ports = |ports: Vec<(String, String)>| ports.into_iter().map(|(name, ty)| PortRow { name, ty }).collect();
        entries.push(EntryRow { name, inputs: ports(found.inputs), outputs: ports(found.outputs) });
        // Graphs of one folder share their weights.
        for Initializer { name, type_name, shape, bytes } in found.tensors {
            tensors.entry(name.clone()).or_insert(TensorRow { name, ty: type_name, shape, bytes });
        }
    }
    let parameters = if path.is_dir() { parameters_of(path)? } else { None };
    Ok(Inspection::new(path, "onnx", facts, entries, tensors.into_values().collect(), parameters))
}

/// A metadata value; of a list, its length.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(array) => format!("[{} elements]", array.len()),
        number => {
            // `U32(512)`
            let text = format!("{number:?}");
            text.trim_end_matches(')').rsplit('(').next().unwrap_or(&text).to_owned()
        }
    }
}

fn ctranslate2(dir: &Path) -> Result<Inspection, InspectError> {
    let file = ModelFile::open(&dir.join(FILE))?;
    let facts = vec![
        ("spec".to_owned(), format!("{} {}", file.spec.0, file.spec.1)),
        ("aliases".to_owned(), file.aliases.len().to_string()),
    ];
    let row = |stored: &Stored| TensorRow {
        name: stored.name.clone(),
        ty: stored.dtype.name().to_owned(),
        shape: stored.shape.clone(),
        bytes: stored.data.len(),
    };
    let tensors = file.variables.iter().map(row).collect();
    Ok(Inspection::new(dir, FORMAT, facts, Vec::new(), tensors, parameters_of(dir)?))
}

fn whisper_bin(path: &Path) -> Result<Inspection, InspectError> {
    let file = ModelBin::open(&if path.is_dir() { path.join(whisper_cpp::FILE) } else { path.to_owned() })?;
    let facts = file.facts().map(|(key, value)| (key.to_owned(), value.to_string())).collect();
    Ok(of_ggml(path, whisper_cpp::NAME, facts, &file.tensors))
}

fn safetensors(dir: &Path) -> Result<Inspection, InspectError> {
    let checkpoint = Checkpoint::open(dir)?;
    let config = checkpoint.config_json();
    let quantization = config.pointer("/quantization_config/format").and_then(|v| v.as_str());
    let facts = vec![
        ("model_type".to_owned(), checkpoint.config().model_type().unwrap_or_default().to_owned()),
        ("quantization".to_owned(), quantization.unwrap_or("none").to_owned()),
    ];
    let tensors = checkpoint.tensors().map(|(name, dtype, shape)| TensorRow {
        name: name.to_owned(),
        ty: dtype.to_owned(),
        shape: shape.to_vec(),
        bytes: shape.iter().product::<usize>() as u64 * bits(dtype) / 8,
    });
    let tensors = tensors.collect();
    Ok(Inspection::new(dir, "safetensors", facts, Vec::new(), tensors, parameters_of(dir)?))
}

/// Bits of an element, from safetensors' name of its type: `BF16`, `I8`, `F8_E4M3`, `BOOL`.
fn bits(dtype: &str) -> u64 {
    let digits: String = dtype.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(8)
}

impl Inspection {
    fn new(
        path: &Path,
        kind: &'static str,
        facts: Vec<(String, String)>,
        entries: Vec<EntryRow>,
        tensors: Vec<TensorRow>,
        parameters: Option<u64>,
    ) -> Inspection {
        let bytes = tensors.iter().map(|t| t.bytes).sum();
        let bits_per_weight = parameters.filter(|n| *n > 0).map(|n| 8.0 * bytes as f64 / n as f64);
        Inspection { path: path.to_owned(), kind, facts, entries, tensors, parameters, bytes, bits_per_weight }
    }
}

impl std::fmt::Display for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: {}", one_line(&self.path.display().to_string()), self.kind)?;
        let facts: Vec<Vec<String>> =
            self.facts.iter().map(|(key, value)| vec![shortened(key, 90), shortened(value, 300)]).collect();
        f.write_str(&aligned(2, &facts))?;
        for entry in &self.entries {
            writeln!(f, "\n{}", one_line(&entry.name))?;
            let row = |way: &str, port: &PortRow| vec![way.to_owned(), one_line(&port.name), one_line(&port.ty)];
            let inputs = entry.inputs.iter().map(|port| row("in", port));
            let rows: Vec<Vec<String>> = inputs.chain(entry.outputs.iter().map(|port| row("out", port))).collect();
            f.write_str(&aligned(2, &rows))?;
        }
        let rows = self.tensors.iter().map(|t| {
            let shape: Vec<String> = t.shape.iter().map(usize::to_string).collect();
            vec![shortened(&t.name, 90), one_line(&t.ty), format!("[{}]", shape.join(", ")), size(t.bytes)]
        });
        write!(f, "\ntensors\n{}", aligned(2, &rows.collect::<Vec<_>>()))?;
        write!(f, "\n{} tensors, {}", self.tensors.len(), size(self.bytes))?;
        match (self.parameters, self.bits_per_weight) {
            (Some(parameters), Some(bits)) => writeln!(f, ", {parameters} parameters, {bits:.2} bits per weight"),
            _ => writeln!(f),
        }
    }
}

/// Long metadata and names on one line; JSON has them whole.
fn shortened(value: &str, chars: usize) -> String {
    let line = one_line(value);
    match line.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
