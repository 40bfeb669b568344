//! Which type each tensor has in the file, and the weights that a file holds.

use checkpoint::gguf::TensorType;
use graph::{FloatType, GgmlType, Quantized, Weight, WeightData, Weights};

use super::file::{ModelFile, NAME, VERSION_FACTOR};
use crate::dialect::TensorTypes;
use crate::export::gguf::{names, pack};
use crate::model::Model;
use crate::whisper_cpp::Described;

/// Tables of positions and all that is no matrix are F32; convolutions are told apart by their rank.
const TYPES: TensorTypes = TensorTypes {
    only_f32: &["positional_embedding"],
    no_bf16: &[],
    blocks: &[
        GgmlType::Q8_0,
        GgmlType::Q5_0,
        GgmlType::Q5_1,
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q4K,
        GgmlType::Q5K,
        GgmlType::Q6K,
    ],
};
const F16: TensorType = TensorType::Float(FloatType::F16);
/// `GGML_QNT_VERSION`.
const QUANTIZATION_VERSION: u32 = 2;

/// A tensor of the file.
pub(super) struct Planned<'m> {
    pub name: String,
    pub weight: &'m Weight,
    /// Outermost first.
    pub shape: Vec<usize>,
    pub kind: TensorType,
}

/// All tensors, in the order of the file.
pub(super) struct Layout<'m> {
    /// `ftype`: of matrices, with the version of blocks.
    pub file_type: u32,
    pub tensors: Vec<Planned<'m>>,
}

/// What a tensor is to whisper.cpp.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Matrix,
    Convolution,
    Other,
}

impl Place {
    fn of(name: &str, weight: &Weight) -> Place {
        match weight.shape.len() {
            3 => Place::Convolution,
            2 if !name.ends_with("positional_embedding") => Place::Matrix,
            _ => Place::Other,
        }
    }
}

impl<'m> Layout<'m> {
    /// Errors: every weight that the file cannot hold, one line each.
    pub(super) fn of(model: &'m Model, described: &Described) -> Result<Layout<'m>, Vec<String>> {
        let weights = &model.graph.weights;
        let mut faults = Vec::new();
        let mut tensors = Vec::new();
        for (id, name) in names::in_order(weights, described.names)? {
            let weight = weights.get(id);
            match pack::exact_type(&name, weight, &TYPES, NAME) {
                Ok(kind) => tensors.push(Planned { shape: file_shape(&name, weight), name, weight, kind }),
                Err(why) => faults.push(format!("{} ({}): {why}", weight.name, weight.data.type_name())),
            }
        }
        let matrices: Vec<&Planned> =
            tensors.iter().filter(|t| Place::of(&t.name, t.weight) == Place::Matrix).collect();
        let of_matrices = one_type(&matrices);
        faults.extend(of_matrices.as_ref().err().cloned());
        let is_other = |t: &&Planned| Place::of(&t.name, t.weight) == Place::Convolution && t.kind != F16;
        for Planned { weight, .. } in tensors.iter().filter(is_other) {
            faults.push(format!("{} ({}): convolutions are F16", weight.name, weight.data.type_name()));
        }
        match of_matrices {
            Ok(kind) if faults.is_empty() => Ok(Layout { file_type: file_type(kind), tensors }),
            _ => Err(faults),
        }
    }
}

/// The type that all matrices have. Errors: they have several, or one of floats that is not F16.
fn one_type(matrices: &[&Planned]) -> Result<TensorType, String> {
    let Some(first) = matrices.first() else { return Ok(F16) };
    if matches!(first.kind, TensorType::Float(_)) && first.kind != F16 {
        return Err(format!("matrices are F16 or blocks, and here {} is {}", first.weight.name, first.kind));
    }
    let others: Vec<&&Planned> = matrices.iter().filter(|tensor| tensor.kind != first.kind).collect();
    match others.first() {
        None => Ok(first.kind),
        Some(other) => Err(format!(
            "all matrices have one type, and here {} is {} and {} of {} are not, {} ({}) the first of them",
            first.weight.name,
            first.kind,
            others.len(),
            matrices.len(),
            other.weight.name,
            other.kind
        )),
    }
}

/// `enum ggml_ftype` of ggml.h.
fn file_type(of_matrices: TensorType) -> u32 {
    let of_blocks = match of_matrices {
        TensorType::Float(FloatType::F32) => return 0,
        TensorType::Float(FloatType::F16) => return 1,
        TensorType::Float(FloatType::BF16) => return 24,
        TensorType::Ggml(GgmlType::Q4_0) => 2,
        TensorType::Ggml(GgmlType::Q4_1) => 3,
        TensorType::Ggml(GgmlType::Q8_0) => 7,
        TensorType::Ggml(GgmlType::Q5_0) => 8,
        TensorType::Ggml(GgmlType::Q5_1) => 9,
        TensorType::Ggml(GgmlType::Q4K) => 12,
        TensorType::Ggml(GgmlType::Q5K) => 13,
        TensorType::Ggml(GgmlType::Q6K) => 14,
        TensorType::Ggml(GgmlType::Mxfp4) => 25,
    };
    of_blocks + VERSION_FACTOR * QUANTIZATION_VERSION
}

/// The bias of a convolution has an innermost dimension of 1.
fn file_shape(name: &str, weight: &Weight) -> Vec<usize> {
    match name.starts_with("encoder.conv") && name.ends_with(".bias") {
        true => weight.shape.iter().copied().chain([1]).collect(),
        false => weight.shape.clone(),
    }
}

/// The weights of a file under the names of the checkpoint. Errors: what is missing, of another shape, or of no model.
pub(super) fn read(model: &Model, described: &Described, file: &ModelFile) -> Result<Weights, Vec<String>> {
    let weights = &model.graph.weights;
    let named = names::in_order(weights, described.names)?;
    let mut faults = Vec::new();
    let mut found = std::collections::BTreeMap::new();
    for (id, name) in &named {
        let weight = weights.get(*id);
        let expected = file_shape(name, weight);
        match file.tensors.iter().find(|tensor| tensor.name == *name) {
            None => faults.push(format!("{name} is missing")),
            Some(tensor) if tensor.shape != expected => {
                faults.push(format!("{name}: expected {expected:?}, found {:?}", tensor.shape));
            }
            Some(tensor) => {
                let blob = tensor.data.clone();
                let data = match tensor.kind {
                    TensorType::Float(dtype) => WeightData::Stored { blob, dtype },
                    TensorType::Ggml(kind) => WeightData::Quantized(Quantized::Ggml { kind, blocks: blob }),
                };
                found.insert(*id, Weight { name: weight.name.clone(), shape: weight.shape.clone(), data });
            }
        }
    }
    let unknown = file.tensors.iter().filter(|tensor| !named.iter().any(|(_, name)| *name == tensor.name));
    faults.extend(unknown.map(|tensor| format!("{} is no tensor of this model", tensor.name)));
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut read = Weights::default();
    for weight in found.into_values() {
        read.push(weight);
    }
    Ok(read)
}
