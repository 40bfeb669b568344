//! ONNX as NPU toolchains take it: static shapes, a batch of one, one decoder step a call.
//!
//! For each source length an encoder, which returns the keys and values of its output for every decoder layer, and a decoder
//! step with caches of fixed length; one weight file for all, and [`HOST_FILE`] for who runs them. Of a model that was watched
//! with samples, [`EVIDENCE_FILE`] tells what its tensors held.
//!
//! A profile with 8- or 16-bit activations expects a graph in which every value is rounded
//! ([`graph::passes::QuantizeValues`]); the others a float graph.

pub mod host;
mod lower;
mod names;
mod options;
pub mod profile;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use graph::passes::{
    AbsorbScales, Expand, FoldHeads, Lengths, MakeStatic, Pass, UntieEmbeddings, Update, run_each, run_one,
};
use graph::{Block, ENC, Graph, Weight, WeightData, WeightId, Weights};
use onnx::tensors::{Layout, Reader};
use onnx::{read, write};

pub use crate::evidence::{EVIDENCE_FILE, Evidence, Range};
pub use host::{Bucket, HOST_FILE, Host, Numbers, Place, Port};
pub use names::Names;
pub use options::{CacheUpdate, Caches, Npu};
pub use profile::{Form, Gelu, Norm, Operator, PROFILES, Profile, Quantized, Severity, Takes, Writes, profile};

use super::onnx::DATA_FILE;
use crate::artifact::{Artifact, write_json};
use crate::error::ExportError;
use crate::export::companions::copy_companions;
use crate::format::Format;
use crate::model::Model;
use lower::{Lowered, Lowering};

const FORMAT: &str = "npu";

/// Source length of a recipe that names none.
const SOURCE: usize = 128;

/// Rows of the tables that rotary positions become before a graph gets its lengths: for sequences that only calibrate.
const ROTARY_POSITIONS: usize = 4096;

impl Npu {
    /// Spells out what toolchains have no op for, and makes masks finite; `hidden` in place of the profile's number.
    pub fn expand(&self, graph: &mut Graph, hidden: Option<f32>) -> Result<(), ExportError> {
        let lengths = self.buckets(graph).into_iter().chain([self.target, ROTARY_POSITIONS]);
        let positions = lengths.max().unwrap_or(ROTARY_POSITIONS);
        let hidden = hidden.unwrap_or(self.known()?.writes.hidden);
        let split_bias = self.widths().is_some();
        run_one(graph, &Expand { hidden, split_bias, positions }).map(drop).map_err(unsupported)
    }

    fn known(&self) -> Result<&'static Profile, ExportError> {
        self.profile().ok_or_else(|| {
            let known: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
            unsupported(format!("profile: expected one of {}, found {}", known.join(", "), self.profile))
        })
    }

    /// Lengths of the encoder's input, shortest first.
    fn buckets(&self, graph: &Graph) -> Vec<usize> {
        let inputs = graph.entry("encoder").map_or(&[][..], |entry| &entry.inputs);
        let shapes = inputs.iter().map(|port| &graph.value(port.value).ty.shape);
        // A model whose input has one length has no symbol for it.
        if let Some(length) = shapes.clone().flat_map(|shape| shape.last()?.literal()).max()
            && !shapes.flatten().any(|dim| dim.symbols().contains(&ENC))
        {
            return vec![length];
        }
        let mut lengths = if self.source.is_empty() { vec![SOURCE] } else { self.source.clone() };
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }

    /// The graphs, by source length.
    pub fn graphs(&self, graph: &Graph) -> Result<Vec<(usize, Graph)>, ExportError> {
        let mut open = graph.clone();
        self.expand(&mut open, None)?;
        let bucket = |source| {
            let update = match self.update {
                CacheUpdate::Host => Update::Caller,
                CacheUpdate::Where => Update::Step,
            };
            let lengths = Lengths { source, target: self.target, update };
            let mut fixed = open.clone();
            run_each(&mut fixed, &[&MakeStatic { lengths }, &FoldHeads]).map_err(unsupported)?;
            Ok((source, fixed))
        };
        self.buckets(graph).into_iter().map(bucket).collect()
    }

    /// Errors: the weights are more than one file may hold that toolchains take. Types count, numbers are not read.
    pub fn fits(&self, model: &Model) -> Result<(), ExportError> {
        let mut parts: BTreeMap<String, u64> = BTreeMap::new();
        for (_, graph) in self.graphs(&model.graph)? {
            for (id, layout) in self.layouts(&graph)? {
                let of = layout.parts(graph.weights.get(id));
                parts.extend(of.into_iter().map(|part| (part.name.clone(), part.bytes())));
            }
        }
        let bytes: u64 = parts.values().sum();
        if bytes <= MAX_DATA_BYTES {
            return Ok(());
        }
        let items = vec![format!(
            "weights of {bytes} bytes beside the graphs: {} takes at most {MAX_DATA_BYTES} in a file",
            self.profile
        )];
        let hint = "fewer bits (`scheme: f16`, or a profile with codes), or a smaller model".to_owned();
        Err(ExportError::CannotHold { format: FORMAT, items, hint })
    }

    fn layouts(&self, graph: &Graph) -> Result<HashMap<WeightId, Layout>, ExportError> {
        let widths = self.widths();
        let takes_nibbles = self.known()?.takes.quantized.is_some_and(|quantized| quantized.weights.contains(&"int4"));
        let (per_row, schemes) = match takes_nibbles {
            true => ("int8 or int4 per row", "`scheme: int8`, `int4` or `f32`"),
            false => ("int8 per row", "`scheme: int8` or `f32`"),
        };
        let mut items = Vec::new();
        let mut layouts = HashMap::new();
        for (id, weight) in graph.weights.iter() {
            let layout = Layout::of(weight, Reader::Floats).and_then(|layout| match (layout, widths) {
                (Layout::Float(_), _) => Ok(layout),
                (Layout::Rows { zeros: false, .. } | Layout::Steps { .. } | Layout::Multiples, Some(_)) => Ok(layout),
                (Layout::Blocks { bits: 4, zeros: false, .. }, Some(_)) if takes_nibbles && is_per_row(weight) => {
                    Ok(Layout::Nibbles)
                }
                (_, Some(_)) => Err(format!("{} where {} takes {per_row}", weight.data.type_name(), self.profile)),
                (_, None) => Err(format!("{} in a float profile", weight.data.type_name())),
            });
            match layout {
                Ok(layout) => drop(layouts.insert(id, layout)),
                Err(why) => items.push(format!("{}: {why}", weight.name)),
            }
        }
        if items.is_empty() {
            return Ok(layouts);
        }
        let hint = match widths {
            Some(_) => format!("use {schemes} for these weights"),
            None => format!("use `scheme: f32` or `f16` with {}, or a profile with activations in codes", self.profile),
        };
        Err(ExportError::CannotHold { format: FORMAT, items, hint })
    }
}

/// Whether a row of codes has one scale.
fn is_per_row(weight: &Weight) -> bool {
    matches!(&weight.data, WeightData::Quantized(graph::Quantized::Affine(affine)) if affine.block == Block::Row)
}

fn unsupported(message: impl ToString) -> ExportError {
    ExportError::Unsupported { format: FORMAT, message: message.to_string() }
}

/// Bytes of a weight file: protobuf's own limit, which readers of external data often have too.
pub const MAX_DATA_BYTES: u64 = i32::MAX as u64;

fn encoder_file(source: usize) -> String {
    format!("encoder_{source}.onnx")
}

fn decoder_file(source: usize) -> String {
    format!("decoder_{source}.onnx")
}

impl Format for Npu {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn prepare(&self, model: &mut Model) -> Result<Vec<String>, ExportError> {
        self.known()?;
        let passes: &[&dyn Pass] = match self.widths() {
            Some(_) => &[&UntieEmbeddings, &AbsorbScales],
            None => &[&AbsorbScales],
        };
        let fired = run_each(&mut model.graph, passes).map_err(unsupported)?;
        Ok(fired.into_iter().flat_map(|fired| fired.notes).collect())
    }

    fn check(&self, model: &Model) -> Result<(), ExportError> {
        self.fits(model)?;
        for (source, graph) in self.graphs(&model.graph)? {
            self.lower(source, &graph, None)?;
        }
        Ok(())
    }

    fn write(&self, model: &Model, dir: &Path) -> Result<Artifact, ExportError> {
        let mut out = write::Files::create(dir, Some(DATA_FILE))?;
        let version = write::Version::opset(self.known()?.writes.opset);
        let mut host = Host {
            profile: self.profile.to_string(),
            target: self.target,
            pad_token_id: model.checkpoint.generation().pad_token_id,
            buckets: Vec::new(),
        };
        let mut seen = BTreeMap::new();
        for (source, graph) in self.graphs(&model.graph)? {
            let layouts = self.layouts(&graph)?;
            let [encoder, decoder] = self.lower(source, &graph, model.evidence.as_ref())?;
            seen.extend(encoder.seen.into_iter().chain(decoder.seen));
            let bucket = Bucket { source, encoder: encoder.place, decoder: decoder.place };
            out.write(&graph, &layouts, &bucket.encoder.file, encoder.file, version)?;
            out.write(&graph, &layouts, &bucket.decoder.file, decoder.file, version)?;
            host.buckets.push(bucket);
        }
        out.finish()?;
        write_json(&dir.join(HOST_FILE), &host)?;
        if let Some(Evidence { samples, .. }) = model.evidence {
            Evidence { samples, values: seen }.write(dir)?;
        }
        copy_companions(model, dir)?;
        Artifact::list(FORMAT, dir).map_err(|source| ExportError::Io { file: dir.to_owned(), source })
    }

    /// Weights that became tables (positions, biases by distance) are compared as these tables here, and given as they are.
    fn read_weights(&self, model: &Model, artifact: &Artifact) -> Result<Weights, ExportError> {
        let dir = &artifact.dir;
        let (stored, read) = self.read_stored(model, dir)?;
        let given = &model.graph.weights;
        for (id, expected) in stored.iter().filter(|(_, weight)| given.find(&weight.name).is_none()) {
            let (expected, found) = (expected.read()?, read.get(id).read()?);
            let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
            if let Some(i) = expected.iter().zip(&found).position(differs) {
                let name = &stored.get(id).name;
                let message = format!("{name}[{i}]: expected {:?}, found {:?}", expected[i], found[i]);
                return Err(ExportError::Malformed { file: dir.clone(), message });
            }
        }
        let mut out = Weights::default();
        for (_, weight) in given.iter() {
            out.push(read.find(&weight.name).map_or(weight, |id| read.get(id)).clone());
        }
        Ok(out)
    }

    fn read_listed(&self, model: &Model, artifact: &Artifact) -> Result<Weights, ExportError> {
        let (_, read) = self.read_stored(model, &artifact.dir)?;
        let mut out = Weights::default();
        for (_, weight) in read.iter().filter(|(_, weight)| model.graph.weights.find(&weight.name).is_some()) {
            out.push(weight.clone());
        }
        Ok(out)
    }
}

impl Npu {
    /// The weights of the graphs with fixed lengths: those of `model`, and as the files have them.
    fn read_stored(&self, model: &Model, dir: &Path) -> Result<(Weights, Weights), ExportError> {
        let mut stored = Weights::default();
        let mut files = Vec::new();
        for (source, graph) in self.graphs(&model.graph)? {
            for (_, weight) in graph.weights.iter().filter(|(_, weight)| weight.shape.iter().all(|n| *n > 0)) {
                if stored.find(&weight.name).is_none() {
                    stored.push(weight.clone());
                }
            }
            files.extend([encoder_file(source), decoder_file(source)].map(|file| dir.join(file)));
        }
        let read = read::weights(&stored, dir, files.into_iter())?;
        Ok((stored, read))
    }

    /// Encoder and decoder of one source length.
    fn lower(&self, source: usize, graph: &Graph, evidence: Option<&Evidence>) -> Result<[Lowered; 2], ExportError> {
        let layouts = self.layouts(graph)?;
        let writes = self.known()?.writes;
        let one = |entry: &str, file: String| {
            let at = |message: String| unsupported(format!("{file}: {message}"));
            let entry = graph.entry(entry).ok_or_else(|| at(format!("expected an entry {entry}, found none")))?;
            Lowering::new(graph, &layouts, writes, self, evidence).lower(entry, file.clone()).map_err(at)
        };
        Ok([one("encoder", encoder_file(source))?, one("decoder", decoder_file(source))?])
    }
}
