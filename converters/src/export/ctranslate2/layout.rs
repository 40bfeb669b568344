//! Which variable holds which rows of which weight.

use std::collections::BTreeMap;

use graph::{Quantized, Unary, WeightData, Weights};

use super::builder::{Builder, Layout};
use super::file::{ModelFile, NAME};
use super::part::{self, Variable};
use super::place;
use crate::error::ExportError;
use crate::export::gguf::names::gguf_name;
use crate::model::Model;
use crate::transformer::{Source, Transformer};

fn unsupported(message: impl Into<String>) -> ExportError {
    ExportError::Unsupported { format: NAME, message: message.into() }
}

/// The pass of a model that the engine has built in. Errors: it has none such; what the engine computes otherwise.
pub(super) fn described(model: &Model) -> Result<Transformer, ExportError> {
    let family = model.checkpoint.config().model_type().unwrap_or("this family").to_owned();
    let Some(mut pass) = model.architecture.transformer(&model.checkpoint)? else {
        let message = format!(
            "{family}: CTranslate2 opens t5, mt5, bart, mbart, pegasus, marian, m2m_100 and whisper; onnx, gguf and safetensors hold \
             {family}"
        );
        return Err(unsupported(message));
    };
    if model.folded_logit_scale.is_some() {
        pass.logit_scale = None;
    }
    if pass.source == Source::Features && pass.activation != Unary::Gelu {
        let message = format!(
            "{family}: expected the activation gelu, found {:?}; its encoder has no other there",
            pass.activation
        );
        return Err(unsupported(message));
    }
    Ok(pass)
}

/// The rows that all tables of a model have and the engine does without: its start token has no row there, and zeros in its place.
///
/// `None` where the row is another than the last, or holds something. Errors: a table cannot be read.
pub(super) fn rows_without_start(model: &Model, pass: &Transformer) -> Result<Option<usize>, ExportError> {
    let Some(start) = pass.added_start else { return Ok(None) };
    let tables = ["token_embd.weight", "dec.token_embd.weight", "output.weight", "output.bias"];
    for (_, weight) in model.graph.weights.iter() {
        let name = gguf_name(&weight.name, model.architecture.gguf_names()).unwrap_or_default();
        if !tables.contains(&name.as_str()) {
            continue;
        }
        let has_numbers = match &weight.data {
            WeightData::Quantized(Quantized::Affine(tensor)) => !tensor.scales.is_empty(),
            WeightData::Quantized(_) => false,
            WeightData::Stored { .. } | WeightData::Derived(..) | WeightData::Computed(_) => true,
        };
        let mut row = Vec::new();
        let [rows, columns] = weight.matrix();
        let is_bias = name == "output.bias";
        if start + 1 != if is_bias { columns } else { rows } {
            return Ok(None);
        }
        // A weight that has a type and no numbers yet is any.
        if has_numbers {
            weight.rows(rows - 1..rows, &mut row)?;
        }
        let kept = if is_bias { start } else { 0 };
        if row.iter().skip(kept).any(|x| *x != 0.0) {
            return Ok(None);
        }
    }
    Ok(Some(start))
}

impl<'a> Layout<'a> {
    /// Errors: every weight that has no place, or cannot be held exactly there.
    pub(super) fn of(model: &'a Model) -> Result<Layout<'a>, ExportError> {
        let pass = described(model)?;
        let mut builder = Builder::new(model);
        builder.tokens = rows_without_start(model, &pass)?;
        place::all(&mut builder, &pass);
        builder.finish(match pass.source {
            Source::Tokens => ("TransformerSpec", 7),
            Source::Features => ("WhisperSpec", 3),
        })
    }

    /// The weights of a file that holds the same. Errors: a sentence about all that is otherwise.
    pub(super) fn read(&self, file: &ModelFile) -> Result<Weights, String> {
        let mut faults = Vec::new();
        if (file.spec.0.as_str(), file.spec.1) != self.spec {
            faults.push(format!("expected {:?}, found {:?}", self.spec, file.spec));
        }
        if file.aliases != self.aliases {
            faults.push(format!("expected the aliases {:?}, found {:?}", self.aliases, file.aliases));
        }
        let expected: BTreeMap<&str, &Variable> = self.variables.iter().map(|v| (v.name.as_str(), v)).collect();
        let mut found = BTreeMap::new();
        for stored in &file.variables {
            match expected.get(stored.name.as_str()) {
                None => faults.push(format!("{} is no variable of this model", stored.name)),
                Some(own) if (&own.shape, own.dtype) != (&stored.shape, stored.dtype) => faults.push(format!(
                    "{}: expected {:?} {:?}, found {:?} {:?}",
                    stored.name, own.dtype, own.shape, stored.dtype, stored.shape
                )),
                Some(_) => drop(found.insert(stored.name.as_str(), &stored.data)),
            }
        }
        faults
            .extend(expected.keys().filter(|name| !found.contains_key(*name)).map(|name| format!("{name} is missing")));
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        part::weights(&self.variables, &found)
    }
}
