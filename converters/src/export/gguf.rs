//! GGUF: one file with metadata, tokenizer and weights: as llama.cpp reads it, where it runs the model, and in its manner
//! elsewhere. With the keys of [`keys`] the file is whole: it opens as a checkpoint.

pub(super) mod container;
mod inputs;
mod keys;
pub(crate) mod names;
pub(super) mod pack;
mod read;
mod vocabulary;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use graph::passes::{FoldLogitScale, PassError, logit_scale, run_one};
use graph::{Blob, FloatType, GgmlType, Graph, Op, Weight, WeightData, WeightId, Weights};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use checkpoint::gguf::keys::VERSION_KEY;
pub use checkpoint::gguf::{Array, FILE, GgufFile, TensorEntry, TensorType, Value};
pub use inputs::Inputs;
pub use names::gguf_name;

use crate::artifact::Artifact;
use crate::dialect::{Dialect, Engine, TensorTypes};
use crate::error::ExportError;
use crate::export::companions::copy_companions;
use crate::format::Format;
use crate::model::Model;
use vocabulary::{Held, unsupported};

/// Encoder-decoders that llama.cpp runs, by `general.architecture`.
pub const LLAMA_CPP: &[&str] = &["t5"];
/// Encoders without a decoder, of the same.
pub const ENCODER: &str = "t5encoder";

const TOKENS: &str = "token_embd.weight";
/// The decoder's table of tokens in every dialect.
const EMBEDDINGS: &[&str] = &["dec.token_embd.weight", "shared.embed.weight", TOKENS];

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
    /// The engine that the file is written for. When absent: llama.cpp where it runs the family, else names of our own.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Which part of the model the file holds.
    #[serde(skip_serializing_if = "Inputs::is_model")]
    pub inputs: Inputs,
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

/// A tensor of the file: a weight, or a table that an engine asks for and no checkpoint has, under no name of a checkpoint.
struct Plan<'m> {
    weight: Cow<'m, Weight>,
    name: String,
    kind: TensorType,
}

/// Weights of a model with their names in the file, or each that has none.
type Named = Result<Vec<(WeightId, String)>, Vec<String>>;

impl Gguf {
    /// The options of a recipe that sets none.
    pub const DEFAULT: Gguf =
        Gguf { fallback: Fallback::Nearest, name: None, imatrix: false, engine: None, inputs: Inputs::Model };

    /// What the recipe's engine reads of this family; `None` for llama.cpp and for names of our own. Errors: it runs no such family.
    fn dialect(&self, model: &Model) -> Result<Option<&'static Dialect>, ExportError> {
        if self.inputs == Inputs::Encoder {
            return Inputs::encoder_of(model, self.engine).map(Some);
        }
        let Some(engine) = self.engine else { return Ok(None) };
        let dialects = model.architecture.dialects();
        if let Some(dialect) = dialects.iter().find(|dialect| dialect.engine == engine) {
            return Ok(Some(dialect));
        }
        let metadata = model.architecture.gguf_metadata(&model.checkpoint)?;
        let family = architecture(&metadata);
        let llama = LLAMA_CPP.contains(&family).then_some(Engine::LlamaCpp);
        if llama == Some(engine) {
            return Ok(None);
        }
        let known = llama.into_iter().chain(dialects.iter().map(|dialect| dialect.engine));
        let known: Vec<String> = known.map(|engine| format!("`for: {engine}`")).collect();
        let hint = match known.is_empty() {
            true => "leave out `for`: the file is then for trefoil's own engine".to_owned(),
            false => format!("a {family} opens with {}", known.join(" or ")),
        };
        Err(cannot_hold(vec![format!("{engine} does not run the architecture {family}")], &hint))
    }

    /// The name of a tensor of the checkpoint in the file.
    pub fn tensor_name(&self, model: &Model, name: &str) -> Option<String> {
        gguf_name(name, self.names(model).ok()?)
    }

    /// The weights of the file in its order.
    fn named(&self, model: &Model) -> Result<Named, ExportError> {
        let part = self.held(&model.graph);
        let named = names::in_order(&part.weights, self.names(model)?);
        let Cow::Owned(part) = &part else { return Ok(named) };
        let of_model = |id| model.graph.weights.find(&part.weights.get(id).name);
        Ok(named.map(|named| named.into_iter().filter_map(|(id, name)| Some((of_model(id)?, name))).collect()))
    }

    fn names(&self, model: &Model) -> Result<names::Table, ExportError> {
        Ok(self.dialect(model)?.map_or(model.architecture.gguf_names(), |dialect| dialect.names))
    }

    /// Every tensor, in the order of the file. Errors: every weight that cannot be held exactly.
    fn plan<'m>(&self, model: &'m Model) -> Result<Result<Vec<Plan<'m>>, Vec<String>>, ExportError> {
        let dialect = self.dialect(model)?;
        let weights = &model.graph.weights;
        let (reader, types) = dialect.map_or(("llama.cpp", &TensorTypes::LLAMA_CPP), |d| (d.engine.name(), &d.types));
        let named = match self.named(model)? {
            Ok(named) => named,
            Err(faults) => return Ok(Err(faults)),
        };
        let mut plans = tables(dialect, model)?;
        let mut faults = Vec::new();
        for (id, name) in named {
            let weight = weights.get(id);
            match pack::exact_type(&name, weight, types, reader) {
                Ok(kind) => plans.push(Plan { weight: Cow::Borrowed(weight), name, kind }),
                Err(_) if self.fallback == Fallback::F32 => {
                    let kind = TensorType::Float(FloatType::F32);
                    plans.push(Plan { weight: Cow::Borrowed(weight), name, kind });
                }
                Err(why) => faults.push(format!("{} ({}): {why}", weight.name, weight.data.type_name())),
            }
        }
        Ok(if faults.is_empty() { Ok(plans) } else { Err(faults) })
    }

    fn metadata(&self, model: &Model, plans: &[Plan<'_>]) -> Result<Vec<(String, Value)>, ExportError> {
        let dialect = self.dialect(model)?;
        let of_model = match dialect {
            Some(dialect) => (dialect.keys)(&model.checkpoint)?,
            None => model.architecture.gguf_metadata(&model.checkpoint)?,
        };
        let prefix = dialect.map_or_else(|| architecture(&of_model), |dialect| dialect.architecture).to_owned();
        let folder = model.checkpoint.dir().file_name().map(|name| name.to_string_lossy().into_owned());
        let mut metadata = vec![("general.architecture".to_owned(), Value::string(prefix.as_str()))];
        let mut add = |key: &str, value: Value| metadata.push((key.to_owned(), value));
        if let Some(name) = self.name.clone().or(folder) {
            add("general.name", Value::String(name));
        }
        add("general.file_type", Value::U32(file_type(plans)));
        if plans.iter().any(|plan| matches!(plan.kind, TensorType::Ggml(_))) {
            add("general.quantization_version", Value::U32(2));
        }
        metadata.extend(of_model);
        // llama.cpp reads the tokenizer of an encoder as that of a whole model.
        let (keys, holds_files) = match dialect.filter(|_| self.inputs.is_model()) {
            Some(dialect) => vocabulary::in_dialect(model, dialect, rows(plans, EMBEDDINGS))?
                .map_err(|why| cannot_hold(vec![why], WITHOUT_FOR))?,
            None => tokenizer_keys(model, &prefix, rows(plans, &[TOKENS]))?,
        };
        metadata.extend(keys);
        // Half a model opens as no checkpoint.
        if self.inputs.is_model() {
            let names = plans.iter().map(|plan| plan.weight.name.clone()).collect();
            metadata.extend(keys::whole(model, dialect, names, holds_files)?);
        }
        Ok(metadata)
    }
}

/// The rows of the first of these tensors; 0 when there is none.
fn rows(plans: &[Plan<'_>], names: &[&str]) -> usize {
    let found = names.iter().find_map(|name| plans.iter().find(|plan| plan.name == *name));
    found.map_or(0, |plan| plan.weight.matrix()[0])
}

/// The tables of a dialect.
fn tables(dialect: Option<&Dialect>, model: &Model) -> Result<Vec<Plan<'static>>, ExportError> {
    let Some(dialect) = dialect else { return Ok(Vec::new()) };
    let plan = |(name, table): (&str, graph::Tensor)| {
        let bytes = f32_bytes(table.as_f32().expect("tables are f32"));
        let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
        let weight = Weight { name: String::new(), shape: table.shape().to_vec(), data };
        Plan { weight: Cow::Owned(weight), name: name.to_owned(), kind: TensorType::Float(FloatType::F32) }
    };
    Ok((dialect.tables)(&model.checkpoint)?.into_iter().map(plan).collect())
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; 4 * values.len()];
    FloatType::F32.encode(values, &mut bytes);
    bytes
}

/// The tokenizer's keys for llama.cpp and for our own engine, and whether its files are held too.
fn tokenizer_keys(model: &Model, family: &str, vocab_size: usize) -> Result<(Vec<(String, Value)>, bool), ExportError> {
    let (tokenizer, _) = Held::of(model, family == ENCODER || LLAMA_CPP.contains(&family))?;
    if let Held::Pieces(tokenizer) = &tokenizer {
        return Ok((vocabulary::pieces(vocabulary::vocabulary(tokenizer)?, vocab_size)?, false));
    }
    // llama.cpp then takes ids as they come, and asks here how many there are.
    let count = u32::try_from(vocab_size).map_err(|_| unsupported("the vocabulary is too large"))?;
    let keys = vec![
        (format!("{family}.vocab_size"), Value::U32(count)),
        ("tokenizer.ggml.model".to_owned(), Value::string("none")),
    ];
    Ok((keys, matches!(tokenizer, Held::Files)))
}

const ALLOW_F32: &str = "give these weights a ggml scheme such as q8_0, or store the numbers that their codes mean with \
                         `gguf: { fallback: f32 }`";

const WITHOUT_FOR: &str = "without `for`, the file is for trefoil's own engine";

fn cannot_hold(items: Vec<String>, hint: &str) -> ExportError {
    ExportError::CannotHold { format: "gguf", items, hint: hint.to_owned() }
}

/// The prefix of the architecture's own keys.
fn architecture(metadata: &[(String, Value)]) -> &str {
    metadata.first().and_then(|(key, _)| key.split('.').next()).unwrap_or_default()
}

/// `enum llama_ftype` of llama.h: the type that holds most elements of matrices.
fn file_type(plans: &[Plan<'_>]) -> u32 {
    let mut elements: BTreeMap<u32, usize> = BTreeMap::new();
    for plan in plans {
        let file_type = match plan.kind {
            _ if plan.weight.shape.len() < 2 => continue,
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
        *elements.entry(file_type).or_default() += plan.weight.len();
    }
    elements.into_iter().max_by_key(|(_, count)| *count).map_or(0, |(file_type, _)| file_type)
}

/// Activations that are to be quantized, which no GGUF file can say.
fn quantized_activations(model: &Model) -> Vec<String> {
    let rounds = |def: &graph::Def| matches!(def, graph::Def::Op(Op::DynamicQuant(_) | Op::FakeQuant(_), _));
    let quantized = model.graph.values.iter().filter(|value| rounds(&value.def));
    quantized.map(|value| format!("{}: activations are not quantized in GGUF", value.name)).collect()
}

/// Moves what multiplies the decoder's output into the weight of the last norm. Returns the sentence that says so.
fn fold_logit_scale(model: &mut Model) -> Result<Option<String>, ExportError> {
    let refused = |error: PassError| unsupported(error.to_string());
    let Some(scale) = logit_scale(&model.graph).map_err(refused)? else { return Ok(None) };
    run_one(&mut model.graph, &FoldLogitScale).map_err(refused)?;
    model.folded_logit_scale = Some(scale);
    Ok(Some(format!(
        "the decoder's output times {scale} is folded into dec.output_norm.weight, because llama.cpp does not scale it"
    )))
}

impl Format for Gguf {
    fn name(&self) -> &'static str {
        "gguf"
    }

    fn prepare(&self, model: &mut Model) -> Result<Vec<String>, ExportError> {
        let mut said = Vec::new();
        if let Some(dialect) = self.dialect(model)? {
            if dialect.folds_logit_scale {
                said.extend(fold_logit_scale(model)?);
            }
            if !self.inputs.is_model() {
                said.push(
                    "the file holds the encoder alone; the decoder that it is judged with is the checkpoint's"
                        .to_owned(),
                );
            }
            said.push(format!("the file has the names and keys of {}, which runs it", dialect.engine));
            if !vocabulary::has_tokenizer(model)? {
                said.push(format!("the checkpoint has no tokenizer: {} is told numbers as its tokens", dialect.engine));
            }
            return Ok(said);
        }
        let metadata = model.architecture.gguf_metadata(&model.checkpoint)?;
        let family = architecture(&metadata);
        let in_llama_cpp = LLAMA_CPP.contains(&family);
        if in_llama_cpp {
            said.extend(fold_logit_scale(model)?);
        } else {
            said.push(format!(
                "llama.cpp does not run the architecture {family}; the file follows its naming all the same, and trefoil's \
                 interpreter runs it"
            ));
        }
        match Held::of(model, in_llama_cpp)? {
            (Held::Pieces(_), _) => {}
            (Held::Nothing, why) => {
                said.push(format!("the file has no tokenizer and its consumer must bring ids: {why}"));
            }
            (Held::Files, why) if in_llama_cpp => {
                said.push(format!("llama.cpp has no tokenizer for the file and must be brought ids: {why}"));
            }
            (Held::Files, _) => {}
        }
        Ok(said)
    }

    fn held<'g>(&self, graph: &'g Graph) -> Cow<'g, Graph> {
        self.inputs.part(graph)
    }

    fn check(&self, model: &Model) -> Result<(), ExportError> {
        model.check_eps("gguf")?;
        let dialect = self.dialect(model)?;
        let mut items = dialect.map_or(Ok(Vec::new()), |dialect| (dialect.refused)(&model.checkpoint))?;
        let hint = if items.is_empty() { "set `activations: none` for this artifact" } else { WITHOUT_FOR };
        let activations = quantized_activations(model);
        let (plans, faults) = match self.plan(model)? {
            Ok(plans) => (plans, Vec::new()),
            Err(faults) => (Vec::new(), faults),
        };
        let hint = if faults.is_empty() { hint } else { ALLOW_F32 };
        items.extend(faults);
        items.extend(activations);
        if items.is_empty() { self.metadata(model, &plans).map(|_| ()) } else { Err(cannot_hold(items, hint)) }
    }

    fn write(&self, model: &Model, dir: &Path) -> Result<Artifact, ExportError> {
        let plans = self.plan(model)?.map_err(|items| cannot_hold(items, ALLOW_F32))?;
        let metadata = self.metadata(model, &plans)?;
        let tensors: Vec<_> = plans
            .iter()
            .map(|plan| container::Planned { name: plan.name.clone(), shape: &plan.weight.shape, kind: plan.kind })
            .collect();
        let path = dir.join(FILE);
        container::write(&path, &metadata, &tensors, |index, out| {
            pack::write(&plans[index].weight, plans[index].kind, out)
        })?;
        copy_companions(model, dir)?;
        Artifact::list("gguf", dir).map_err(|source| ExportError::Io { file: dir.to_owned(), source })
    }

    fn read_weights(&self, model: &Model, artifact: &Artifact) -> Result<Weights, ExportError> {
        let path = artifact.dir.join(FILE);
        let file = GgufFile::open(&path)?;
        let malformed = |message| ExportError::Malformed { file: path.clone(), message };
        let named = self.named(model)?.map_err(|faults| malformed(faults.join("; ")))?;
        let tables = tables(self.dialect(model)?, model)?.into_iter();
        let tables = tables.map(|plan| Ok((plan.name, f32_bytes(&plan.weight.read()?))));
        let tables = tables.collect::<Result<Vec<_>, ExportError>>()?;
        let read = read::weights(model, &named, &tables, (&path, &file))?;
        read.map_err(|faults| malformed(faults.join("; ")))
    }
}

#[cfg(test)]
mod tests;
