//! TrOCR's decoder: modeling_trocr.py of transformers 5.23, which is BART's with keys of a width of their own.

use checkpoint::{self, Checkpoint, Size};
use graph::{DEC, Val, Visible};

use super::source::Source;
use crate::import::fairseq::{EmbeddingNorm, Layers, Memory, Positions, Shared, Stack, root_of};
use crate::import::layers::{activation, check_heads};

/// The module that makes the logits.
pub(super) const HEAD: &str = "decoder.output_projection";

const STACK: &str = "decoder.model.decoder";

/// Training.
const IGNORED: &[&str] = &["activation_dropout", "attention_dropout", "decoder_layerdrop", "dropout"];

/// config.json's `decoder` as TrOCRConfig reads it.
pub(super) struct Config<'c> {
    shared: Shared,
    layers: Layers,
    vocab: Size,
    config: &'c checkpoint::Config,
}

impl<'c> Config<'c> {
    pub fn read(c: &'c checkpoint::Config, checkpoint: &Checkpoint) -> Config<'c> {
        let d_model = c.size("d_model");
        let layers = Layers {
            count: checkpoint.layers_of(c, "decoder_layers"),
            heads: c.size("decoder_attention_heads"),
            ffn: c.size("decoder_ffn_dim"),
        };
        check_heads(c, layers.heads, d_model);
        // Other names of three keys, which transformers 5 lets overwrite what they are names of.
        c.only("num_hidden_layers", layers.count);
        c.only("num_attention_heads", layers.heads.len);
        c.only("hidden_size", d_model.len);
        c.ignore(IGNORED);
        let positions = match c.bool_or("use_learned_position_embeddings", true) {
            true => Positions::Learned { offset: 2 },
            false => Positions::SinusoidAfterPad,
        };
        let embedding_norm = match c.bool_or("layernorm_embedding", true) {
            true => EmbeddingNorm::OfSum,
            false => EmbeddingNorm::Absent,
        };
        let shared = Shared {
            d_model,
            max_positions: Size { len: c.usize_or("max_position_embeddings", 512), name: "max_position_embeddings" },
            activation: activation(c, "activation_function", "gelu"),
            norm_before: false,
            embedding_norm,
            positions,
            embedding_scale: c.bool_or("scale_embedding", false).then(|| root_of(d_model)),
            pad: c.token("pad_token_id").unwrap_or(1),
        };
        Config { shared, layers, vocab: c.size("vocab_size"), config: c }
    }

    pub fn width(&self) -> Size {
        self.shared.d_model
    }
}

impl<'c> Config<'c> {
    /// The logits.
    pub fn write(&self, source: &Source<'c>) -> Val<'c> {
        let Source { b, checkpoint, ids, memory, width } = *source;
        let names = [format!("{STACK}.embed_tokens.weight"), format!("{HEAD}.weight")];
        let names = names.each_ref().map(String::as_str);
        let shape = [self.vocab, self.shared.d_model];
        let [table, head] = source.table_and_head(self.config, names, shape).map(|weight| b.weight(weight));
        let stack = Stack {
            b,
            shared: &self.shared,
            checkpoint,
            config: self.config,
            name: "decoder",
            path: STACK.to_owned(),
            layers: self.layers,
            length: DEC.into(),
        };
        let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);
        let memory = Memory { hidden: memory, width, mask: None };
        stack.write(stack.embed(ids, table), causal, Some(memory)).linear(head, None)
    }
}
