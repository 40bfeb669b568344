//! Reading an artifact's weights back from its files alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use checkpoint::safetensors::{Entry, entries};
use graph::{
    AffineTensor, Blob, Block, Float8Tensor, FloatType, GgmlType, Quantized, ScalePer, Scratch, Weight, WeightData,
    Weights, transposed,
};
use half::f16;
use serde::Deserialize;

use super::compressed::{packed_bytes, unpack};
use super::small_floats::{MX_BLOCK, blocks};
use crate::artifact::Artifact;
use crate::error::ExportError;
use crate::model::Model;

/// The weights of `model` as the artifact stores them.
///
/// Errors: a file that is no safetensors file; a weight that is missing or has another shape; scales that are no f16
/// numbers; a tensor that belongs to no weight; an index that disagrees with the files.
pub fn weights(model: &Model, artifact: &Artifact) -> Result<Weights, ExportError> {
    let mut files = Files::open(artifact)?;
    let scratch = Scratch::new().map_err(|source| ExportError::Io { file: artifact.dir.clone(), source })?;
    let mut weights = Weights::default();
    for (_, weight) in model.graph.weights.iter() {
        if let (WeightData::Computed(_), false) = (&weight.data, files.tensors.contains_key(&weight.name)) {
            weights.push(weight.clone());
            continue;
        }
        let data = match files.take_if(&weight.name, |entry| float_type(&entry.dtype).is_some()) {
            Some(entry) => {
                let dtype = float_type(&entry.dtype).expect("just asked");
                match model.architecture.is_transposed(&weight.name) {
                    false => {
                        files.expect_shape(&entry, &weight.shape)?;
                        WeightData::Stored { blob: entry.bytes, dtype }
                    }
                    true => {
                        let [n, e] = weight.matrix();
                        files.expect_shape(&entry, &[e, n])?;
                        let blob = Blob::memory(transposed(&files.read(&entry)?, [e, n], dtype.bytes()));
                        WeightData::Stored { blob, dtype }
                    }
                }
            }
            None => WeightData::Quantized(files.quantized(weight, &scratch)?),
        };
        weights.push(Weight { name: weight.name.clone(), shape: weight.shape.clone(), data });
    }
    for carried in model.checkpoint.carried() {
        files.tensors.remove(&carried.name);
    }
    for known in model.checkpoint.integers() {
        let Some(entry) = files.tensors.remove(&known.name) else { continue };
        files.expect_shape(&entry, &known.shape)?;
        let same = files.read(&entry)?.chunks(8).eq(known.values.iter().map(|n| n.to_le_bytes()));
        if entry.dtype != "I64" || !same {
            return Err(files.malformed(format!("{} holds other integers than its checkpoint", known.name)));
        }
    }
    match files.tensors.keys().next() {
        None => Ok(weights),
        Some(name) => Err(files.malformed(format!("{name} belongs to no weight of the model"))),
    }
}

fn float_type(dtype: &str) -> Option<FloatType> {
    match dtype {
        "F32" => Some(FloatType::F32),
        "F16" => Some(FloatType::F16),
        "BF16" => Some(FloatType::BF16),
        _ => None,
    }
}

/// Tensors that no weight has claimed yet.
struct Files {
    tensors: BTreeMap<String, Entry>,
    /// From config.json.
    bits: u8,
    dir: PathBuf,
}

/// The part of config.json that says how to read codes.
#[derive(Deserialize, Default)]
struct Config {
    quantization_config: Option<QuantizationConfig>,
}

#[derive(Deserialize)]
struct QuantizationConfig {
    config_groups: BTreeMap<String, ConfigGroup>,
}

#[derive(Deserialize)]
struct ConfigGroup {
    weights: WeightsConfig,
}

#[derive(Deserialize)]
struct WeightsConfig {
    num_bits: u8,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Files {
    fn open(artifact: &Artifact) -> Result<Files, ExportError> {
        let mut tensors = BTreeMap::new();
        let mut places = BTreeMap::new();
        for name in &artifact.files {
            if name.extension().is_none_or(|extension| extension != "safetensors") {
                continue;
            }
            let file = artifact.dir.join(name);
            for entry in entries(&file)? {
                places.insert(entry.name.clone(), name.to_string_lossy().into_owned());
                if let Some(twice) = tensors.insert(entry.name.clone(), entry) {
                    let message = format!("{} is in another file too", twice.name);
                    return Err(ExportError::Malformed { file, message });
                }
            }
        }
        let config: Config = json(&artifact.dir.join("config.json"))?;
        let groups = config.quantization_config.map(|config| config.config_groups).unwrap_or_default();
        // Packed codes have one width in a whole model; see the head of the format's file.
        let bits = groups.values().map(|group| group.weights.num_bits).max().unwrap_or(8);
        let files = Files { tensors, bits, dir: artifact.dir.clone() };
        if ![4, 8].contains(&bits) {
            return Err(files.malformed(format!("expected codes of 4 or 8 bits in config.json, found {bits}")));
        }
        let index_file = artifact.dir.join("model.safetensors.index.json");
        if index_file.exists() {
            let index: Index = json(&index_file)?;
            if index.weight_map != places {
                let message = "expected the tensors of the files in weight_map, found others".to_owned();
                return Err(ExportError::Malformed { file: index_file, message });
            }
        }
        Ok(files)
    }

    fn malformed(&self, message: String) -> ExportError {
        ExportError::Malformed { file: self.dir.clone(), message }
    }

    fn take_if(&mut self, name: &str, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        self.tensors.get(name).is_some_and(wanted).then(|| self.tensors.remove(name))?
    }

    fn take(&mut self, name: &str, dtype: &str, shape: &[usize]) -> Result<Entry, ExportError> {
        match self.take_if(name, |entry| entry.dtype == dtype) {
            Some(entry) => self.expect_shape(&entry, shape).map(|()| entry),
            None => Err(self.malformed(format!("{name}: expected {dtype} {shape:?}, found no such tensor"))),
        }
    }

    fn expect_shape(&self, entry: &Entry, shape: &[usize]) -> Result<(), ExportError> {
        match entry.shape == shape {
            true => Ok(()),
            false => Err(self.malformed(format!("{}: expected {shape:?}, found {:?}", entry.name, entry.shape))),
        }
    }

    fn read(&self, entry: &Entry) -> Result<Vec<u8>, ExportError> {
        entry.bytes.read().map_err(|source| ExportError::Io { file: self.dir.clone(), source })
    }

    /// A weight with codes, by the type of the tensor that holds them.
    fn quantized(&mut self, weight: &Weight, scratch: &Scratch) -> Result<Quantized, ExportError> {
        let is = |name: &str, dtype: &str| self.tensors.get(name).is_some_and(|entry| entry.dtype == dtype);
        if is(&weight.name, "F8_E4M3") {
            return Ok(Quantized::Float8(self.float8(weight)?));
        }
        if is(&format!("{}_packed", weight.name), "U8") {
            return Ok(Quantized::Ggml { kind: GgmlType::Mxfp4, blocks: self.mxfp4(weight, scratch)? });
        }
        Ok(Quantized::Affine(self.codes(weight, scratch)?))
    }

    /// E4M3 codes and their f32 scales, one per row or one.
    fn float8(&mut self, weight: &Weight) -> Result<Float8Tensor, ExportError> {
        let shape = weight.matrix();
        let codes = self.take(&weight.name, "F8_E4M3", &shape)?.bytes;
        let name = format!("{}_scale", weight.name);
        let per = match self.tensors.get(&name).map(|entry| &entry.shape[..]) {
            Some([1]) => ScalePer::Tensor,
            _ => ScalePer::Row,
        };
        let entry = match per {
            ScalePer::Tensor => self.take(&name, "F32", &[1])?,
            ScalePer::Row => self.take(&name, "F32", &[shape[0], 1])?,
        };
        let mut scales = vec![0.0; entry.shape[0]];
        FloatType::F32.decode(&self.read(&entry)?, &mut scales);
        match scales.iter().all(|scale| scale.is_finite() && *scale > 0.0) {
            true => Ok(Float8Tensor { shape, per, codes, scales }),
            false => Err(self.malformed(format!("{name}: expected finite numbers above 0"))),
        }
    }

    /// E2M1 codes and their E8M0 scales as blocks, in the scratch file.
    fn mxfp4(&mut self, weight: &Weight, scratch: &Scratch) -> Result<Blob, ExportError> {
        let [rows, columns] = weight.matrix();
        if !columns.is_multiple_of(MX_BLOCK) {
            return Err(self.malformed(format!("{}: rows of {columns} are not a multiple of {MX_BLOCK}", weight.name)));
        }
        let codes = self.take(&format!("{}_packed", weight.name), "U8", &[rows, columns / 2])?;
        let scales = self.take(&format!("{}_scale", weight.name), "U8", &[rows, columns / MX_BLOCK])?;
        let exponents = self.read(&scales)?;
        // OCP Microscaling v1.0, 5.4.1: this one is no number. ggml takes it for 2^128.
        if exponents.contains(&u8::MAX) {
            return Err(self.malformed(format!("{}: expected exponents below 255, found 255", scales.name)));
        }
        let blocks = blocks(&self.read(&codes)?, &exponents);
        let failed = |source| ExportError::Io { file: self.dir.clone(), source };
        let room = scratch.reserve(blocks.len() as u64).map_err(failed)?;
        room.write_at(0, &blocks).map_err(failed)?;
        Ok(room.into_blob())
    }

    /// Codes, scales and zeros of a weight, packed or not.
    fn codes(&mut self, weight: &Weight, scratch: &Scratch) -> Result<AffineTensor, ExportError> {
        let name = |suffix: &str| format!("{}{suffix}", weight.name);
        let &[rows, columns] = weight.shape.as_slice() else {
            return Err(self.malformed(format!("{}: expected floats", weight.name)));
        };
        let packed = self.tensors.contains_key(&name("_packed"));
        let bits = if packed { self.bits } else { 8 };
        let scales = match self.take_if(&name("_scale"), |entry| entry.dtype == "F32" && entry.shape.len() == 2) {
            Some(entry) => entry,
            None => return Err(self.malformed(format!("{}: found neither floats nor scales", weight.name))),
        };
        let groups = scales.shape[1];
        self.expect_shape(&scales, &[rows, groups])?;
        if groups == 0 || columns % groups != 0 {
            return Err(self.malformed(format!("{}: {groups} scales do not divide {columns} columns", weight.name)));
        }
        let mut floats = vec![0.0; rows * groups];
        FloatType::F32.decode(&self.read(&scales)?, &mut floats);
        let halves: Vec<f16> = floats.iter().map(|scale| f16::from_f32(*scale)).collect();
        if halves.iter().zip(&floats).any(|(half, scale)| half.to_f32() != *scale || *scale <= 0.0) {
            return Err(self.malformed(format!("{}: expected f16 numbers above 0", scales.name)));
        }
        let words = |count: usize| packed_bytes(count, bits) / 4;
        let codes = match packed {
            true => {
                let entry = self.take(&name("_packed"), "I32", &[rows, words(columns)])?;
                let shape = self.take(&name("_shape"), "I64", &[2])?;
                if self.read(&shape)? != [rows, columns].map(|n| (n as u64).to_le_bytes()).concat() {
                    return Err(self.malformed(format!("{}: expected [{rows}, {columns}]", shape.name)));
                }
                self.unpacked(&entry.bytes, rows, columns, bits, scratch)?
            }
            false => self.take(&weight.name, "I8", &[rows, columns])?.bytes,
        };
        let zeros = match self.tensors.contains_key(&name("_zero_point")) {
            false => None,
            true if packed => {
                let entry = self.take(&name("_zero_point"), "I32", &[words(rows), groups])?;
                Some(unpacked_columns(&self.read(&entry)?, rows, groups, bits))
            }
            true => {
                let entry = self.take(&name("_zero_point"), "I8", &[rows, groups])?;
                Some(self.read(&entry)?.into_iter().map(u8::cast_signed).collect())
            }
        };
        let block = if groups == 1 { Block::Row } else { Block::Group(columns / groups) };
        Ok(AffineTensor { shape: [rows, columns], bits, block, codes, scales: halves, zeros })
    }

    /// Packed rows, unpacked into the scratch file.
    fn unpacked(
        &self,
        packed: &Blob,
        rows: usize,
        columns: usize,
        bits: u8,
        scratch: &Scratch,
    ) -> Result<Blob, ExportError> {
        let failed = |source| ExportError::Io { file: self.dir.clone(), source };
        let room = scratch.reserve((rows * columns) as u64).map_err(failed)?;
        let row_bytes = packed_bytes(columns, bits);
        let step = ((1 << 20) / row_bytes.max(1)).max(1);
        for start in (0..rows).step_by(step) {
            let mut bytes = vec![0; row_bytes * step.min(rows - start)];
            packed.read_at((start * row_bytes) as u64, &mut bytes).map_err(failed)?;
            let codes: Vec<u8> = unpack(&bytes, columns, bits).into_iter().map(i8::cast_unsigned).collect();
            room.write_at((start * columns) as u64, &codes).map_err(failed)?;
        }
        Ok(room.into_blob())
    }
}

/// Zeros packed along the rows, in row order.
fn unpacked_columns(bytes: &[u8], rows: usize, groups: usize, bits: u8) -> Vec<i8> {
    let mut zeros = vec![0; rows * groups];
    for group in 0..groups {
        let words = bytes.chunks(4).skip(group).step_by(groups);
        let column: Vec<u8> = words.flatten().copied().collect();
        for (row, zero) in unpack(&column, rows, bits).into_iter().enumerate() {
            zeros[row * groups + group] = zero;
        }
    }
    zeros
}

fn json<T: for<'de> Deserialize<'de>>(file: &Path) -> Result<T, ExportError> {
    Ok(checkpoint::json::read(file)?)
}
