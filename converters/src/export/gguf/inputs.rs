//! Which part of a model a file holds.

use std::borrow::Cow;

use graph::Graph;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dialect::{Dialect, Engine};
use crate::error::ExportError;
use crate::model::Model;

/// Of what whoever reads the file makes its inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Inputs {
    /// Texts for a model that answers: the whole model.
    #[default]
    Model,
    /// What the encoder makes of a text, as image programs take it: the encoder without the decoder, whose weights stay as they are
    /// while the artifact is judged, so that what is lost is the encoder's.
    Encoder,
}

impl Inputs {
    pub(super) fn is_model(&self) -> bool {
        *self == Inputs::Model
    }

    /// The part of a graph after the passes whose weights the file holds.
    pub(super) fn part(self, graph: &Graph) -> Cow<'_, Graph> {
        match self {
            Inputs::Model => Cow::Borrowed(graph),
            Inputs::Encoder => {
                let mut part = graph.clone();
                part.entries.retain(|entry| entry.name == "encoder");
                part.sweep();
                Cow::Owned(part)
            }
        }
    }

    /// How the encoder of a model is written, for the engine that a recipe names. Errors: no engine runs it alone, or not that one.
    pub(super) fn encoder_of(model: &Model, engine: Option<Engine>) -> Result<&'static Dialect, ExportError> {
        let Some(dialect) = model.architecture.encoder_alone() else {
            let hint =
                "T5, mT5 and UMT5 have an encoder that stands alone; without `inputs` the file holds the whole model";
            let why = "`inputs: encoder`: no engine runs the encoder of this family alone";
            return Err(refused(why.to_owned(), hint.to_owned()));
        };
        match engine {
            Some(engine) if engine != dialect.engine => {
                let why = format!("`inputs: encoder`: {engine} runs no encoder alone");
                Err(refused(why, format!("leave out `for`: {} runs it", dialect.engine)))
            }
            _ => Ok(dialect),
        }
    }
}

fn refused(why: String, hint: String) -> ExportError {
    ExportError::CannotHold { format: "gguf", items: vec![why], hint }
}
