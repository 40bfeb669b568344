//! Checkpoints in, artifacts out.
//!
//! [`Checkpoint`] reads a Hugging Face folder; an [`Architecture`] writes its forward pass as a graph; a [`Format`]
//! writes a graph as files and reads their weights back.

pub mod artifact;
pub mod audio;
pub mod checkpoint;
pub mod export;
pub mod import;
pub mod limits;
mod protobuf;
pub mod tokenizer;

use std::collections::BTreeMap;
use std::path::Path;

use graph::{Build, Def, Graph, Op, Weights};

pub use artifact::Artifact;
pub use checkpoint::{Checkpoint, ImportError};
pub use export::{ExportError, FORMATS};
pub use import::{ARCHITECTURES, import, import_config, import_gguf};
pub use tokenizer::Tokenizer;

/// A family of checkpoints: one file that writes the forward pass.
pub trait Architecture: Sync {
    /// The words of config.json's `model_type` that it reads.
    fn model_types(&self) -> &'static [&'static str];

    /// Whether the tensors of a checkpoint without a `model_type` are of this family.
    fn recognises(&self, _checkpoint: &Checkpoint) -> bool {
        false
    }

    /// Writes the entry `full(input_ids, attention_mask, decoder_input_ids) -> logits, encoder_hidden`.
    ///
    /// Errors: shapes and keys that do not fit are recorded in the builder and the checkpoint, and told together.
    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError>;

    /// The module of transformers that makes the logits. Where it shares its weight with an embedding, the checkpoint has no
    /// tensor of this name.
    fn head(&self) -> &'static str {
        "lm_head"
    }

    /// Token ids that the reference's config class has for keys that config.json leaves out, such as `bos_token_id`. Asked
    /// where there is no generation_config.json.
    fn decoding_defaults(&self) -> &'static [(&'static str, u32)] {
        &[]
    }

    /// What it makes of clips, if it recognizes speech.
    fn hears(&self) -> Option<audio::Features> {
        None
    }

    /// Whether its checkpoints may name no end-of-sequence token, so that only the limit ends a sequence.
    fn may_lack_an_end(&self) -> bool {
        false
    }

    /// What the graph takes for granted about its inputs and the reference does not, and where versions of the reference
    /// differ; a sentence each, shown in the report.
    fn assumes(&self) -> &'static [&'static str] {
        &[]
    }

    /// GGUF's tensor names: module of the checkpoint -> module of GGUF, `{i}` a layer number; `.weight` and `.bias` follow.
    /// A GGUF name that ends in either names one tensor (`final_logits_bias` -> `output.bias`). In the order of the file
    /// within a stack of layers.
    fn gguf_names(&self) -> &'static [(&'static str, &'static str)];

    /// GGUF's metadata of the architecture, in order, keys whole (`t5.embedding_length`).
    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, export::gguf::Value)>, ImportError>;
}

/// Choices a reference implementation makes that a checkpoint alone does not settle; shown in the report.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Semantics {
    /// The implementation and version whose numbers are the reference.
    pub reference: &'static str,
    /// What multiplies the decoder's output before the head: `none` or `d_model^-0.5`, with the reason.
    pub logit_scale: String,
}

/// A checkpoint and the graph grown from it.
///
/// Cloning is cheap: weights are handles to bytes on disk.
#[derive(Clone)]
pub struct Model {
    /// Config, tokenizer files and folder.
    pub checkpoint: std::sync::Arc<Checkpoint>,
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
    pub evidence: Option<export::npu::Evidence>,
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

/// A kind of artifact, with its options set by the recipe.
pub trait Format: Sync {
    /// `onnx`, `gguf`, `safetensors`.
    fn name(&self) -> &'static str;

    /// Exact edits of the graph that this format needs, such as folding a scale into a norm. Returns a sentence for each,
    /// which the report lists as a substitution.
    fn prepare(&self, model: &mut Model) -> Result<Vec<String>, ExportError>;

    /// Everything that the format cannot hold, before the first byte is written.
    fn check(&self, model: &Model) -> Result<(), ExportError>;

    /// Writes all files into the existing folder `dir`. Never changes a number: it may widen a float, never round one.
    fn write(&self, model: &Model, dir: &Path) -> Result<Artifact, ExportError>;

    /// The weights of an artifact under the names of the checkpoint. Read as f32, they equal `model.graph.weights` bit
    /// for bit; the round trip is part of the format.
    fn read_weights(&self, model: &Model, artifact: &Artifact) -> Result<Weights, ExportError>;
}
