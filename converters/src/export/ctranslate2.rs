//! CTranslate2: `model.bin` with weights and what the engine cannot see in them, `config.json` and vocabularies.
//!
//! The engine has the passes of T5, BART and Whisper built in and is told which of their parts a model has, so that a family is
//! here where [`Architecture::transformer`](crate::Architecture::transformer) says its pass in a few words.
//!
//! # Numbers
//!
//! | weights | variables |
//! | --- | --- |
//! | 8-bit codes, symmetric, a scale a row | `X/weight` i8 `[rows, columns]`, `X/weight_scale` f32 `[rows]` |
//! | floats of a model without codes | `X/weight` of the one type that all have, else f32 |
//! | floats beside codes | `X/floats` f32, and an alias `X/weight` |
//!
//! `weight_scale` is what weights were multiplied by: a code means `code · (1 / weight_scale)`, each operation rounded. So the scale of
//! a row has to be the inverse of an f32 ([`graph::weights::inverse`]), which the scheme `int8-inv` sees to.
//!
//! The engine takes the type in which it computes from a variable whose name ends in `weight`, whichever it meets last, and converts
//! all others of such names to that. Hence the aliases: they are known after that, and floats stay what they are.
//!
//! Queries, keys and values of self-attention are one matrix, keys and values of cross-attention one, in this order; a part without a
//! bias has zeros in theirs. A table of positions begins with the row of the first token; rows before it are
//! `position_encodings/before`, which the engine does not look for. Weights that are the same one are stored once and have aliases.

mod builder;
mod file;
mod layout;
mod part;
mod place;
mod settings;
mod write;

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::names;
use graph::{AffineTensor, Def, Granularity, Op, Quantized, WeightData, Weights};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use file::{Dtype, FILE, ModelFile, Stored};

use crate::artifact::Artifact;
use crate::error::ExportError;
use crate::format::Format;
use crate::model::Model;
use builder::Layout;
use file::NAME;
use settings::Settings;

/// Options of the format; it has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CTranslate2 {}

impl CTranslate2 {
    /// The options of a recipe that sets none.
    pub const DEFAULT: CTranslate2 = CTranslate2 {};

    /// So many neighbours of a Linear's input share a scale in the engine's kernel, a whole row: `code = round(x · (127 / amax))`
    /// (`quantize_s8_row` of src/cpu/kernels.cc). `None` for weights that it does not multiply as codes.
    pub fn rounds_rows_of(&self, weight: &AffineTensor) -> Option<usize> {
        let [_, columns] = weight.shape;
        let is_held = (weight.bits, weight.block.per_row(columns)) == (8, 1) && weight.zeros.is_none();
        is_held.then_some(columns.max(1))
    }
}

/// Linears whose inputs the engine rounds and the graph does not, and roundings that it does not do.
fn misrounded(model: &Model) -> Vec<String> {
    let graph = &model.graph;
    let rounds_rows = |op: &Op| matches!(op, Op::DynamicQuant(Granularity::Block(_)));
    let mut faults = Vec::new();
    for value in &graph.values {
        match &value.def {
            Def::Op(Op::Linear, args) => {
                let expected = match graph.weight_of(args[1]).map(|id| &graph.weights.get(id).data) {
                    Some(WeightData::Quantized(Quantized::Affine(tensor))) => {
                        CTranslate2::DEFAULT.rounds_rows_of(tensor)
                    }
                    _ => None,
                };
                let found = match graph.op(args[0]) {
                    Some(Op::DynamicQuant(Granularity::Block(block))) => Some(*block),
                    _ => None,
                };
                if expected != found {
                    let told =
                        |block: Option<usize>| block.map_or("floats".to_owned(), |n| format!("rows of {n} in 8 bits"));
                    faults.push(format!(
                        "{}: the engine multiplies {}, the graph {}",
                        value.name,
                        told(expected),
                        told(found)
                    ));
                }
            }
            Def::Op(op @ (Op::DynamicQuant(_) | Op::FakeQuant(_)), _) if !rounds_rows(op) => {
                faults.push(format!("{}: the engine rounds activations in rows only", value.name));
            }
            Def::Op(..) | Def::Input | Def::Const(_) | Def::Weight(_) => {}
        }
    }
    faults
}

impl Format for CTranslate2 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, model: &mut Model) -> Result<Vec<String>, ExportError> {
        layout::described(model)?;
        Ok(Settings::of(model)?.said)
    }

    fn check(&self, model: &Model) -> Result<(), ExportError> {
        model.check_eps(NAME)?;
        let rounded = misrounded(model);
        match (Layout::of(model), rounded.is_empty()) {
            (Ok(_), true) => Ok(()),
            (Ok(_), false) => {
                let hint = "set `activations: none` for this artifact: the engine itself rounds what meets codes";
                Err(ExportError::CannotHold { format: NAME, items: rounded, hint: hint.to_owned() })
            }
            (Err(ExportError::CannotHold { format, items, hint }), _) => {
                Err(ExportError::CannotHold { format, items: [items, rounded].concat(), hint })
            }
            (Err(error), _) => Err(error),
        }
    }

    fn write(&self, model: &Model, dir: &Path) -> Result<Artifact, ExportError> {
        let layout = Layout::of(model)?;
        write::write(&dir.join(FILE), &layout)?;
        Settings::of(model)?.write(dir)?;
        copy_tokenizer(model, dir)?;
        Artifact::list(NAME, dir).map_err(|source| ExportError::Io { file: dir.to_owned(), source })
    }

    fn read_weights(&self, model: &Model, artifact: &Artifact) -> Result<Weights, ExportError> {
        let path = artifact.dir.join(FILE);
        let file = ModelFile::open(&path)?;
        Layout::of(model)?.read(&file).map_err(|message| ExportError::Malformed { file: path, message })
    }
}

/// The files of the tokenizer and the front end, with which callers make what the engine is fed. The checkpoint's configs are not among
/// them: the engine has a `config.json` of its own.
fn copy_tokenizer(model: &Model, dir: &Path) -> Result<(), ExportError> {
    let files = model.checkpoint.files();
    for name in names::FRONT_END.iter().chain(names::TOKENIZER) {
        let Some(bytes) = files.read(name)? else { continue };
        let file: PathBuf = dir.join(name);
        fs::write(&file, bytes).map_err(|source| ExportError::Io { file, source })?;
    }
    Ok(())
}
