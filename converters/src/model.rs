//! A checkpoint as a graph.

use std::collections::BTreeMap;
use std::sync::Arc;

use checkpoint::Checkpoint;
use graph::{Def, Graph, Op};

use crate::architecture::{Architecture, Semantics};
use crate::error::ExportError;
use crate::evidence::Evidence;

/// A checkpoint and the graph grown from it.
///
/// Cloning is cheap: weights are handles to bytes on disk.
#[derive(Clone)]
pub struct Model {
    /// Config, tokenizer files and folder.
    pub checkpoint: Arc<Checkpoint>,
    /// Who wrote the graph.
    pub architecture: &'static dyn Architecture,
    /// What the reference does.
    pub semantics: Semantics,
    /// The forward pass; after the passes, all entries.
    pub graph: Graph,
    /// What the last norm's weight is multiplied by, in place of the decoder's output.
    pub folded_logit_scale: Option<f32>,
    /// eps of each norm of the imported graph, by the name of its value: what the checkpoint's config says.
    pub imported_eps: BTreeMap<String, f32>,
    /// What the graph's values held while samples ran, by their names, for formats that tell it. `None`: no samples ran.
    pub evidence: Option<Evidence>,
}

impl Model {
    /// Errors: a norm has another eps than the checkpoint's config gives it, as after `rescale_residual`. For formats whose
    /// readers take the forward pass from the config.
    pub(crate) fn check_eps(&self, format: &'static str) -> Result<(), ExportError> {
        let changed = norm_eps(&self.graph).find(|(name, eps)| self.imported_eps.get(*name) != Some(eps));
        let Some((name, eps)) = changed else { return Ok(()) };
        let expected = self.imported_eps.get(name).map_or_else(|| "none".to_owned(), |eps| format!("{eps:e}"));
        let message = format!(
            "{name}: expected the eps of the checkpoint's config, {expected}, found {eps:e}; readers of this format take eps \
             and all nodes from the config, so that a rescaled residual stream can be written as onnx only"
        );
        Err(ExportError::Unsupported { format, message })
    }
}

/// Norms by the names of their values.
pub(crate) fn norm_eps(graph: &Graph) -> impl Iterator<Item = (&str, f32)> {
    graph.values.iter().filter_map(|value| match value.def {
        Def::Op(Op::RmsNorm { eps } | Op::LayerNorm { eps }, _) => Some((value.name.as_str(), eps)),
        _ => None,
    })
}
