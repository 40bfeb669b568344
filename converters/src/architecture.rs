//! What a family of checkpoints says of itself.

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use frontend::Kind;
use graph::Build;

use crate::dialect::Dialect;
use crate::error::ImportError;
use crate::transformer::Transformer;
use crate::whisper_cpp::Described;

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
    fn head(&self, _checkpoint: &Checkpoint) -> &'static str {
        "lm_head"
    }

    /// Whether the checkpoint has this matrix as `[in, out]`, and the graph as a Linear's. Their module is none to transformers.
    fn is_transposed(&self, _name: &str) -> bool {
        false
    }

    /// Token ids that the reference's config class has for keys that config.json leaves out, such as `bos_token_id`. Asked
    /// where there is no generation_config.json.
    fn decoding_defaults(&self) -> &'static [(&'static str, u32)] {
        &[]
    }

    /// What makes its encoder's inputs.
    fn front_end(&self) -> Kind {
        Kind::Text
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

    /// Its forward pass for engines that have it built in; `None` where no few words say it.
    fn transformer(&self, _checkpoint: &Checkpoint) -> Result<Option<Transformer>, ImportError> {
        Ok(None)
    }

    /// GGUF's tensor names: module of the checkpoint -> module of GGUF, `{i}` a layer number; `.weight` and `.bias` follow.
    /// A GGUF name that ends in either, or stands behind `=`, names one tensor (`final_logits_bias` -> `output.bias`). In the order of the file
    /// within a stack of layers.
    fn gguf_names(&self) -> &'static [(&'static str, &'static str)];

    /// GGUF's metadata of the architecture, in order, keys whole (`t5.embedding_length`).
    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError>;

    /// What engines other than llama.cpp read of it in GGUF.
    fn dialects(&self) -> &'static [Dialect] {
        &[]
    }

    /// How an engine wants the encoder without the decoder in GGUF; `None` where no engine runs it.
    fn encoder_alone(&self) -> Option<&'static Dialect> {
        None
    }

    /// What whisper.cpp is told of it; `None` where it is no Whisper.
    fn whisper_cpp(&self, _checkpoint: &Checkpoint) -> Result<Option<Described>, ImportError> {
        Ok(None)
    }
}

/// Choices a reference implementation makes that a checkpoint alone does not settle; shown in the report.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Semantics {
    /// The implementation and version whose numbers are the reference.
    pub reference: &'static str,
    /// What multiplies the decoder's output before the head: `none` or `d_model^-0.5`, with the reason.
    pub logit_scale: String,
}
