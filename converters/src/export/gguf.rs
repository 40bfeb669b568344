//! GGUF: one file with metadata, tokenizer and weights: as llama.cpp reads it, where it runs the model, and in its manner
//! elsewhere. With the keys of [`keys`] the file is whole: it opens as a checkpoint.

pub(super) mod container;
mod keys;
pub(crate) mod names;
mod pack;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use graph::passes::{FoldLogitScale, PassError, logit_scale, run_one};
use graph::{FloatType, GgmlType, Op, Quantized, Weight, WeightData, WeightId, Weights};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use checkpoint::gguf::keys::VERSION_KEY;
pub use checkpoint::gguf::{Array, FILE, GgufFile, TensorEntry, TensorType, Value};
pub use names::gguf_name;

use crate::artifact::Artifact;
use crate::error::ExportError;
use crate::export::companions::copy_companions;
use crate::format::Format;
use crate::model::Model;
use tokenizer::{PieceType, Tokenizer, TokenizerError, Vocabulary};

/// Encoder-decoders that llama.cpp runs, by `general.architecture`.
pub const LLAMA_CPP: &[&str] = &["t5"];
/// Score of a piece that fills the vocabulary up, as in llama.cpp's own converter.
const PAD_SCORE: f32 = -10000.0;

/// Options of the format.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gguf {
    /// What a weight becomes whose rows do not divide into blocks of its type.
    pub fallback: Fallback,
    /// `general.name`; the name of the checkpoint's folder when absent.
    pub name: Option<String>,
    /// Also writes `imatrix.gguf`, what calibration found of the inputs of matrices, for `llama-quantize --imatrix`.
    pub imatrix: bool,
}

/// What a weight becomes whose rows do not divide into the blocks of its scheme.
///
/// All but `none` are applied when the weights are quantized. `f32` also writes integer codes that no block type holds as
/// the numbers that they mean, which is exact.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// The nearest type with blocks of 32 and no fewer bits, else half precision, as `llama-quantize` has it; the report names
    /// each such weight.
    #[default]
    Nearest,
    /// Refused, listing all.
    None,
    /// Half precision.
    F16,
    /// Single precision.
    F32,
    /// 8 bits in blocks of 32, for rows that only the blocks of 256 cannot divide.
    Q8_0,
}

/// A tensor of the file: whose, under which name, as what.
struct Plan {
    id: WeightId,
    name: String,
    kind: TensorType,
}

impl Gguf {
    /// The options of a recipe that sets none.
    pub const DEFAULT: Gguf = Gguf { fallback: Fallback::Nearest, name: None, imatrix: false };

    /// Every tensor, in the order of the file. Errors: every weight that cannot be held exactly.
    fn plan(&self, model: &Model) -> Result<Vec<Plan>, Vec<String>> {
        let weights = &model.graph.weights;
        let mut faults = Vec::new();
        let mut plans = Vec::new();
        for (id, name) in names::in_order(weights, model.architecture.gguf_names())? {
            let weight = weights.get(id);
            match pack::exact_type(&name, weight) {
                Ok(kind) => plans.push(Plan { id, name, kind }),
                Err(_) if self.fallback == Fallback::F32 => {
                    plans.push(Plan { id, name, kind: TensorType::Float(FloatType::F32) });
                }
                Err(why) => faults.push(format!("{} ({}): {why}", weight.name, weight.data.type_name())),
            }
        }
        if faults.is_empty() { Ok(plans) } else { Err(faults) }
    }

    fn metadata(&self, model: &Model, plans: &[Plan]) -> Result<Vec<(String, Value)>, ExportError> {
        let of_model = model.architecture.gguf_metadata(&model.checkpoint)?;
        let folder = model.checkpoint.dir().file_name().map(|name| name.to_string_lossy().into_owned());
        let mut metadata = vec![("general.architecture".to_owned(), Value::string(architecture(&of_model)))];
        let mut add = |key: &str, value: Value| metadata.push((key.to_owned(), value));
        if let Some(name) = self.name.clone().or(folder) {
            add("general.name", Value::String(name));
        }
        add("general.file_type", Value::U32(file_type(model, plans)));
        if plans.iter().any(|plan| matches!(plan.kind, TensorType::Ggml(_))) {
            add("general.quantization_version", Value::U32(2));
        }
        let prefix = architecture(&of_model).to_owned();
        let vocab_size = plans.iter().find(|plan| plan.name == "token_embd.weight");
        let vocab_size = vocab_size.map_or(0, |plan| model.graph.weights.get(plan.id).matrix()[0]);
        metadata.extend(of_model);
        let (tokenizer, _) = Held::of(model, &prefix)?;
        match &tokenizer {
            Held::Pieces(tokenizer) => metadata.extend(tokenizer_metadata(vocabulary(tokenizer)?, vocab_size)?),
            Held::Files | Held::Nothing => {
                // llama.cpp then takes ids as they come, and asks here how many there are.
                let count = u32::try_from(vocab_size).map_err(|_| unsupported("the vocabulary is too large"))?;
                metadata.push((format!("{prefix}.vocab_size"), Value::U32(count)));
                metadata.push(("tokenizer.ggml.model".to_owned(), Value::string("none")));
            }
        }
        let names = plans.iter().map(|plan| model.graph.weights.get(plan.id).name.clone()).collect();
        metadata.extend(keys::whole(model, names, matches!(tokenizer, Held::Files))?);
        Ok(metadata)
    }
}

fn unsupported(message: impl Into<String>) -> ExportError {
    ExportError::Unsupported { format: "gguf", message: message.into() }
}

const ALLOW_F32: &str = "give these weights a ggml scheme such as q8_0, or store the numbers that their codes mean with \
                         `gguf: { fallback: f32 }`";

fn cannot_hold(items: Vec<String>, hint: &str) -> ExportError {
    ExportError::CannotHold { format: "gguf", items, hint: hint.to_owned() }
}

/// The prefix of the architecture's own keys.
fn architecture(metadata: &[(String, Value)]) -> &str {
    metadata.first().and_then(|(key, _)| key.split('.').next()).unwrap_or_default()
}

/// The form in which a file has the tokenizer.
enum Held {
    /// SentencePiece's pieces, the only form that llama.cpp's T5 reads.
    Pieces(Box<Tokenizer>),
    /// The checkpoint's own files, which say all: what surrounds a text, languages, merges.
    Files,
    /// None.
    Nothing,
}

impl Held {
    /// Pieces for llama.cpp, files for our own engine; with the reason when it is not pieces.
    fn of(model: &Model, family: &str) -> Result<(Held, String), ExportError> {
        let tokenizer = match Tokenizer::of(model.checkpoint.files()) {
            Ok(tokenizer) => tokenizer,
            Err(TokenizerError::Missing { .. }) => {
                return Ok((Held::Nothing, "the checkpoint has no tokenizer".to_owned()));
            }
            Err(TokenizerError::Files(error)) => return Err(error.into()),
            Err(
                TokenizerError::Malformed { file, message }
                | TokenizerError::Language { file, message }
                | TokenizerError::Failed { file, message },
            ) => return Err(ExportError::Malformed { file, message }),
        };
        Ok(match tokenizer.vocabulary().err().map(str::to_owned) {
            None if LLAMA_CPP.contains(&family) => (Held::Pieces(Box::new(tokenizer)), String::new()),
            why => (Held::Files, why.unwrap_or_default()),
        })
    }
}

fn vocabulary(tokenizer: &Tokenizer) -> Result<&Vocabulary, ExportError> {
    tokenizer.vocabulary().map_err(unsupported)
}

/// The keys below `tokenizer.ggml`, with the vocabulary filled up to the rows of the embedding.
fn tokenizer_metadata(vocabulary: &Vocabulary, vocab_size: usize) -> Result<Vec<(String, Value)>, ExportError> {
    let count = vocabulary.pieces.len();
    if count > vocab_size {
        return Err(unsupported(format!("the tokenizer has {count} pieces and the embedding {vocab_size} rows")));
    }
    let mut pieces = vocabulary.pieces.clone();
    pieces.extend((count..vocab_size).map(|id| format!("[PAD{id}]")));
    let mut scores = vocabulary.scores.clone();
    scores.resize(vocab_size, PAD_SCORE);
    let mut types: Vec<i32> = vocabulary.types.iter().map(|kind| *kind as i32).collect();
    types.resize(vocab_size, PieceType::Unused as i32);

    let mut metadata = Vec::new();
    let mut add = |key: &str, value: Value| metadata.push((format!("tokenizer.ggml.{key}"), value));
    add("model", Value::string("t5"));
    add("pre", Value::string("default"));
    add("tokens", Value::Array(Array::String(pieces)));
    add("scores", Value::Array(Array::F32(scores)));
    add("token_type", Value::Array(Array::I32(types)));
    add("add_space_prefix", Value::Bool(vocabulary.add_space_prefix));
    add("remove_extra_whitespaces", Value::Bool(vocabulary.remove_extra_whitespaces));
    if !vocabulary.charsmap.is_empty() {
        add("precompiled_charsmap", Value::Array(Array::U8(vocabulary.charsmap.clone())));
    }
    for (key, id) in [
        ("eos_token_id", vocabulary.eos),
        ("unknown_token_id", vocabulary.unknown()),
        ("padding_token_id", vocabulary.pad),
    ] {
        if let Some(id) = id {
            add(key, Value::U32(id));
        }
    }
    add("add_bos_token", Value::Bool(false));
    add("add_eos_token", Value::Bool(true));
    Ok(metadata)
}

/// `enum llama_ftype` of llama.h: the type that holds most elements of matrices.
fn file_type(model: &Model, plans: &[Plan]) -> u32 {
    let mut elements: BTreeMap<u32, usize> = BTreeMap::new();
    for plan in plans {
        let weight = model.graph.weights.get(plan.id);
        let file_type = match plan.kind {
            _ if weight.shape.len() < 2 => continue,
            TensorType::Float(FloatType::F32) => 0,
            TensorType::Float(FloatType::F16) => 1,
            TensorType::Float(FloatType::BF16) => 32,
            TensorType::Ggml(GgmlType::Q4_0) => 2,
            TensorType::Ggml(GgmlType::Q4_1) => 3,
            TensorType::Ggml(GgmlType::Q8_0) => 7,
            TensorType::Ggml(GgmlType::Q5_0) => 8,
            TensorType::Ggml(GgmlType::Q5_1) => 9,
            // The "small" mixes, which name the type alone.
            TensorType::Ggml(GgmlType::Q4K) => 14,
            TensorType::Ggml(GgmlType::Q5K) => 16,
            TensorType::Ggml(GgmlType::Q6K) => 18,
            TensorType::Ggml(GgmlType::Mxfp4) => 38,
        };
        *elements.entry(file_type).or_default() += weight.len();
    }
    elements.into_iter().max_by_key(|(_, count)| *count).map_or(0, |(file_type, _)| file_type)
}

/// Activations that are to be quantized, which no GGUF file can say.
fn quantized_activations(model: &Model) -> Vec<String> {
    let rounds = |def: &graph::Def| matches!(def, graph::Def::Op(Op::DynamicQuant(_) | Op::FakeQuant(_), _));
    let quantized = model.graph.values.iter().filter(|value| rounds(&value.def));
    quantized.map(|value| format!("{}: activations are not quantized in GGUF", value.name)).collect()
}

impl Format for Gguf {
    fn name(&self) -> &'static str {
        "gguf"
    }

    fn prepare(&self, model: &mut Model) -> Result<Vec<String>, ExportError> {
        let mut said = Vec::new();
        let metadata = model.architecture.gguf_metadata(&model.checkpoint)?;
        let family = architecture(&metadata);
        if LLAMA_CPP.contains(&family) {
            let refused = |error: PassError| unsupported(error.to_string());
            if let Some(scale) = logit_scale(&model.graph).map_err(refused)? {
                run_one(&mut model.graph, &FoldLogitScale).map_err(refused)?;
                said.push(format!(
                    "the decoder's output times {scale} is folded into dec.output_norm.weight, because llama.cpp does not \
                     scale it"
                ));
                model.folded_logit_scale = Some(scale);
            }
        } else {
            said.push(format!(
                "llama.cpp does not run the architecture {family}; the file follows its naming all the same, and trefoil's \
                 interpreter runs it"
            ));
        }
        match Held::of(model, family)? {
            (Held::Pieces(_), _) => {}
            (Held::Nothing, why) => {
                said.push(format!("the file has no tokenizer and its consumer must bring ids: {why}"));
            }
            (Held::Files, why) if LLAMA_CPP.contains(&family) => {
                said.push(format!("llama.cpp has no tokenizer for the file and must be brought ids: {why}"));
            }
            (Held::Files, _) => {}
        }
        Ok(said)
    }

    fn check(&self, model: &Model) -> Result<(), ExportError> {
        model.check_eps("gguf")?;
        let activations = quantized_activations(model);
        match (self.plan(model), activations.is_empty()) {
            (Ok(plans), true) => self.metadata(model, &plans).map(|_| ()),
            (Ok(_), false) => Err(cannot_hold(activations, "set `activations: none` for this artifact")),
            (Err(items), _) => Err(cannot_hold([items, activations].concat(), ALLOW_F32)),
        }
    }

    fn write(&self, model: &Model, dir: &Path) -> Result<Artifact, ExportError> {
        let plans = self.plan(model).map_err(|items| cannot_hold(items, ALLOW_F32))?;
        let metadata = self.metadata(model, &plans)?;
        let weights = &model.graph.weights;
        let tensors: Vec<_> = plans
            .iter()
            .map(|plan| {
                let shape = &weights.get(plan.id).shape;
                container::Planned { name: plan.name.clone(), shape, kind: plan.kind }
            })
            .collect();
        let path = dir.join(FILE);
        container::write(&path, &metadata, &tensors, |index, out| {
            pack::write(weights.get(plans[index].id), plans[index].kind, out)
        })?;
        copy_companions(model, dir)?;
        Artifact::list("gguf", dir).map_err(|source| ExportError::Io { file: dir.to_owned(), source })
    }

    fn read_weights(&self, model: &Model, artifact: &Artifact) -> Result<Weights, ExportError> {
        let path = artifact.dir.join(FILE);
        let file = GgufFile::open(&path)?;
        let malformed = |message| ExportError::Malformed { file: path.clone(), message };
        let named = names::in_order(&model.graph.weights, model.architecture.gguf_names())
            .map_err(|faults| malformed(faults.join("; ")))?;
        let mut faults = Vec::new();
        let mut found = BTreeMap::new();
        let known: HashSet<&str> = named.iter().map(|(_, name)| name.as_str()).collect();
        for (id, name) in &named {
            let weight = model.graph.weights.get(*id);
            match file.tensor(name) {
                None => faults.push(format!("{name} is missing")),
                Some(tensor) if tensor.shape != weight.shape => {
                    faults.push(format!("{name}: expected {:?}, found {:?}", weight.shape, tensor.shape));
                }
                Some(tensor) => {
                    let data = match tensor.kind {
                        TensorType::Float(dtype) => WeightData::Stored { blob: tensor.data.clone(), dtype },
                        TensorType::Ggml(kind) => {
                            WeightData::Quantized(Quantized::Ggml { kind, blocks: tensor.data.clone() })
                        }
                    };
                    found.insert(*id, Weight { name: weight.name.clone(), shape: weight.shape.clone(), data });
                }
            }
        }
        let unknown = file.tensors.iter().filter(|tensor| !known.contains(tensor.name.as_str()));
        faults.extend(unknown.map(|tensor| format!("{} is no tensor of this model", tensor.name)));
        if !faults.is_empty() {
            return Err(malformed(faults.join("; ")));
        }
        let mut weights = Weights::default();
        for weight in found.into_values() {
            weights.push(weight);
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests;
