//! The tensors of an artifact, read once more by its format's own reader and held against what the manifest says of each.
//!
//! The model is made of the configs in the folder and of the names and shapes in the manifest: no checkpoint is needed. Digests tell
//! that files are what was written; this tells that what was written can be read, whoever wrote the digests.

use std::collections::HashSet;
use std::path::Path;

use converters::checkpoint::names;
use converters::checkpoint::{Checkpoint, CheckpointError, check_finite};
use converters::export::gguf::{Gguf, Inputs};
use converters::export::{ctranslate2, whisper_cpp};
use converters::{Artifact, Model, import_config, import_listed};
use graph::{AffineTensor, FloatType, Quantized, Weight, WeightData, Weights};
use quant::TensorRecord;
use quant::report::{ScaleStats, stored_bytes};
use validate::runtime::ctranslate2::FORMAT;

use crate::build::growth::plan;
use crate::build::intact::Fault;
use crate::build::manifest::{self, Manifest};
use crate::recipe::load::Loaded;
use crate::recipe::target::Target;

/// What the safetensors format puts behind the name of a weight whose codes it packs.
const OF_CODES: [&str; 4] = ["_packed", "_scale", "_shape", "_zero_point"];

/// What the format npu puts behind the name of a table that an embedding and a Linear read, for the embedding's own.
const OF_EMBEDDING: &str = ".embedding";

/// Reads every tensor. Returns how many were found under their names; those of graphs with fixed lengths may have become tables.
///
/// Errors: everything that is wrong.
pub fn reread(dir: &Path, manifest: &Manifest) -> Result<usize, Vec<Fault>> {
    let told = |error: &dyn std::fmt::Display| vec![Fault::new(manifest::FILE, error.to_string())];
    let loaded = Loaded::of_artifact(dir, &manifest.recipe.text).map_err(|error| told(&error))?;
    let target = loaded.recipe.artifacts.iter().find(|target| target.name() == manifest.name);
    let target = target.filter(|target| target.format().name() == manifest.format).ok_or_else(|| {
        told(&format!("expected an artifact {} of format {} in its recipe, found none", manifest.name, manifest.format))
    })?;
    if let Some(read) = without_a_graph(dir, &manifest.format) {
        return read.map_err(|text| vec![Fault::new("tensors", text)]);
    }
    let read = weights(dir, manifest, target).map_err(|text| vec![Fault::new("tensors", text)])?;
    let mut faults: Vec<Fault> = Vec::new();
    let mut found = 0;
    for record in &manifest.tensors {
        match read.find(&record.name).map(|id| read.get(id)) {
            Some(weight) => {
                found += 1;
                faults.extend(misfit(record, weight).map(|text| Fault::new(&record.name, text)));
            }
            None if target.npu().is_some() => {}
            None => faults.push(Fault::new(&record.name, "expected a tensor, found none")),
        }
    }
    match check_finite(&read) {
        Ok(()) => {}
        Err(CheckpointError::NotFinite(all)) => faults.extend(all.iter().map(|one| {
            let text = format!("expected numbers, found {} at [{}, {}]", one.value, one.row, one.column);
            Fault::new(&one.weight, text)
        })),
        Err(error) => faults.push(Fault::new("tensors", error.to_string())),
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

/// How many tensors a file holds of a format whose folder says nothing of the graph, so that names are the engine's. Errors: in words.
fn without_a_graph(dir: &Path, format: &str) -> Option<Result<usize, String>> {
    let found = match format {
        FORMAT => ctranslate2::ModelFile::open(&dir.join(ctranslate2::FILE)).map(|file| file.variables.len()),
        whisper_cpp::NAME => whisper_cpp::ModelFile::open(&dir.join(whisper_cpp::FILE)).map(|file| file.tensors.len()),
        _ => return None,
    };
    Some(found.map_err(|error| error.to_string()))
}

/// The weights as the files have them. Errors: in words.
fn weights(dir: &Path, manifest: &Manifest, target: &Target) -> Result<Weights, String> {
    let model = model(dir, manifest, target)?;
    let format = target.format();
    let artifact = Artifact::list(format.name(), dir).map_err(|error| error.to_string())?;
    format.read_listed(&model, &artifact).map_err(|error| error.to_string())
}

fn model(dir: &Path, manifest: &Manifest, target: &Target) -> Result<Model, String> {
    let is_made = |record: &TensorRecord| {
        let stem = record.name.strip_suffix(OF_EMBEDDING);
        is_computed(record) || stem.is_some_and(|stem| manifest.tensors.iter().any(|other| other.name == stem))
    };
    let mut listed: Vec<(String, Vec<usize>)> = manifest
        .tensors
        .iter()
        .filter(|record| !is_made(record))
        .map(|record| (record.name.clone(), record.shape.clone()))
        .collect();
    if manifest.format == "safetensors" {
        listed.extend(carried(dir, manifest).map_err(|error| error.to_string())?);
    }
    let imported = match target.gguf() {
        // Of an encoder alone the manifest does not list what the graph has besides.
        Some(Gguf { inputs: Inputs::Encoder, .. }) => import_config(&dir.join(names::CONFIG)),
        _ => import_listed(dir, listed),
    };
    let mut model = imported.map_err(|error| error.to_string())?;
    graph::passes::run(&mut model.graph).map_err(|error| error.to_string())?;
    target.format().prepare(&mut model).map_err(|error| error.to_string())?;
    let plan = plan(target, &model.graph).map_err(|error| error.to_string())?;
    plan.typed(&mut model.graph);
    Ok(model)
}

/// Whether the checkpoint left a table out, which the importer computes.
fn is_computed(record: &TensorRecord) -> bool {
    record.stored.starts_with("sinusoid") || record.stored.starts_with("row ")
}

/// Tensors beside those of the manifest: what belongs to a model but not to the pass is stored as the checkpoint had it.
fn carried(dir: &Path, manifest: &Manifest) -> Result<Vec<(String, Vec<usize>)>, CheckpointError> {
    let known: HashSet<&str> = manifest.tensors.iter().map(|record| record.name.as_str()).collect();
    let is_known = |name: &str| {
        let mut stems = OF_CODES.iter().filter_map(|suffix| name.strip_suffix(suffix));
        known.contains(name) || stems.any(|stem| known.contains(stem))
    };
    let checkpoint = Checkpoint::open(dir)?;
    let others = checkpoint.tensors().filter(|(name, ..)| !is_known(name));
    Ok(others.map(|(name, _, shape)| (name.to_owned(), shape.to_vec())).collect())
}

/// What a tensor has of another kind than its record says. A format may widen a float, repeat the scale of a row for each of its
/// blocks, have zero points that are all 0, and put codes into a block type of as many bits.
fn misfit(record: &TensorRecord, weight: &Weight) -> Option<String> {
    if record.shape != weight.shape {
        return Some(format!("expected {:?}, found {:?}", record.shape, weight.shape));
    }
    let (found, is_codes) = (weight.data.type_name(), record.scheme.is_quantized());
    match &weight.data {
        _ if found == record.stored => other_bytes(record, weight).or_else(|| other_scales(record, weight)),
        WeightData::Quantized(Quantized::Affine(codes)) if are_codes_of(codes, &found, &record.stored) => {
            other_scales(record, weight)
        }
        WeightData::Stored { dtype: FloatType::F32, .. } if !is_codes || is_rounded_with_values(record) => None,
        WeightData::Quantized(Quantized::Ggml { kind, .. }) if is_codes => {
            let bits = kind_of_codes(&record.stored).0.strip_prefix("int");
            let is_as_wide = bits.is_some_and(|bits| kind.name().starts_with(&format!("Q{bits}_")));
            (!is_as_wide).then(|| format!("expected {}, found {found}", record.stored))
        }
        _ => Some(format!("expected {}, found {found}", record.stored)),
    }
}

/// Whether a tensor has the steps of the values that it becomes, which readers multiply out.
fn is_rounded_with_values(record: &TensorRecord) -> bool {
    record.stored.starts_with("uint") || record.stored == "int32 per element"
}

/// Whether codes of one kind are what a record calls otherwise.
fn are_codes_of(codes: &AffineTensor, found: &str, stored: &str) -> bool {
    let ([(bits, has_zeros), (known, knows_zeros)], zeros) = ([found, stored].map(kind_of_codes), &codes.zeros);
    let say_nothing = || zeros.as_ref().is_some_and(|zeros| zeros.iter().all(|zero| *zero == 0));
    bits == known && (has_zeros == knows_zeros || has_zeros && say_nothing())
}

/// `int8`, and whether it has zero points, of `int8 per 32 asymmetric`.
fn kind_of_codes(type_name: &str) -> (&str, bool) {
    (type_name.split(' ').next().unwrap_or(type_name), type_name.ends_with(" asymmetric"))
}

fn other_bytes(record: &TensorRecord, weight: &Weight) -> Option<String> {
    let bytes = stored_bytes(weight);
    (bytes != record.bytes).then(|| format!("expected {} bytes, found {bytes}", record.bytes))
}

fn other_scales(record: &TensorRecord, weight: &Weight) -> Option<String> {
    let scales: Vec<f32> = match &weight.data {
        WeightData::Quantized(Quantized::Affine(tensor)) => tensor.scales.iter().map(|scale| scale.to_f32()).collect(),
        WeightData::Quantized(Quantized::Float8(tensor)) => tensor.scales.clone(),
        WeightData::Quantized(Quantized::Ggml { .. })
        | WeightData::Stored { .. }
        | WeightData::Derived(..)
        | WeightData::Computed(_) => return None,
    };
    let found = ScaleStats::of(&scales);
    (found != record.scales).then(|| {
        let told = |stats: &Option<ScaleStats>| {
            stats.as_ref().map_or("none".to_owned(), |s| format!("{:e} to {:e} around {:e}", s.min, s.max, s.median))
        };
        format!("expected scales from {}, found {}", told(&record.scales), told(&found))
    })
}
