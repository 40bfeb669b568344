//! A stack of BART's kind.

use checkpoint::limits::COMPUTED_POSITIONS;
use checkpoint::{self, Checkpoint, Size};
use graph::{Build, Computed, Dim, Unary, Val, Weight, WeightData};

use crate::import::layers::{attention, head_scale};
use crate::import::module::Module;

/// The default of `nn.LayerNorm`; no key changes it.
pub(in crate::import) const EPS: f32 = 1e-5;

/// The norm of the embeddings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::import) enum EmbeddingNorm {
    /// None.
    Absent,
    /// Of tokens and positions together.
    OfSum,
    /// In the encoder of both together, in the decoder of the tokens alone, which are not scaled (`BlenderbotSmallDecoder`).
    OfTokensInDecoder,
}

impl EmbeddingNorm {
    pub fn name(self) -> &'static str {
        match self {
            EmbeddingNorm::Absent => "none",
            EmbeddingNorm::OfSum => "sum",
            EmbeddingNorm::OfTokensInDecoder => "tokens_in_decoder",
        }
    }
}

/// The table of positions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::import) enum Positions {
    /// Stored; the first token has row `offset`.
    Learned { offset: usize },
    /// Sines, then cosines. A stored table counts; most files leave it out.
    Sinusoid,
    /// Sines, then cosines, never read from a file. The first token has the row after that of `pad_token_id`.
    SinusoidAfterPad,
}

/// What differs between the stacks.
#[derive(Clone, Copy)]
pub(in crate::import) struct Layers {
    pub count: usize,
    pub heads: Size,
    pub ffn: Size,
}

/// What the stacks of a model have in common.
#[derive(Clone, Copy)]
pub(in crate::import) struct Shared {
    pub d_model: Size,
    pub max_positions: Size,
    pub activation: Unary,
    /// As [`super::Family::norm_before`].
    pub norm_before: bool,
    pub embedding_norm: EmbeddingNorm,
    pub positions: Positions,
    /// What embeddings are multiplied by; `None`: they are not.
    pub embedding_scale: Option<f32>,
    pub pad: usize,
}

/// Encoder or decoder.
pub(in crate::import) struct Stack<'b, 'c> {
    pub b: &'b Build,
    pub shared: &'c Shared,
    pub checkpoint: &'b Checkpoint,
    /// The object of config.json that says how many positions there are.
    pub config: &'b checkpoint::Config,
    /// In the graph.
    pub name: &'static str,
    /// In the checkpoint.
    pub path: String,
    pub layers: Layers,
    pub length: Dim,
}

/// What a decoder attends to.
#[derive(Clone, Copy)]
pub(in crate::import) struct Memory<'b> {
    /// `[b, n, width]`
    pub hidden: Val<'b>,
    pub width: Size,
    /// Added to its scores.
    pub mask: Option<Val<'b>>,
}

impl<'b> Stack<'b, '_> {
    fn module(&self) -> Module<'b> {
        Module::new(self.b, self.checkpoint, &self.path)
    }

    /// Tokens and positions, with their norm.
    pub fn embed(&self, ids: Val<'b>, table: Val<'b>) -> Val<'b> {
        let _stack = self.b.scope(self.name);
        self.placed(ids.embed(table))
    }

    /// What stands for tokens `[b, length, d_model]`, with positions and their norm.
    pub fn place(&self, tokens: Val<'b>) -> Val<'b> {
        let _stack = self.b.scope(self.name);
        self.placed(tokens)
    }

    fn placed(&self, tokens: Val<'b>) -> Val<'b> {
        let norm = |x| self.module().layer_norm(x, "layernorm_embedding", self.shared.d_model, EPS);
        let scaled = || self.shared.embedding_scale.map_or(tokens, |scale| tokens * scale);
        match self.shared.embedding_norm {
            EmbeddingNorm::Absent => scaled() + self.positions(),
            // Unscaled: the norm takes a factor away all the same, but for its eps.
            EmbeddingNorm::OfTokensInDecoder if self.name == "decoder" => norm(tokens) + self.positions(),
            EmbeddingNorm::OfSum | EmbeddingNorm::OfTokensInDecoder => norm(scaled() + self.positions()),
        }
    }

    /// f32[length, d_model].
    fn positions(&self) -> Val<'b> {
        let Shared { d_model, max_positions, pad, .. } = *self.shared;
        let rows = |extra: usize, name| Size { len: max_positions.len + extra, name };
        let computed = |name: String, rows: Size, computed| {
            if max_positions.len > COMPUTED_POSITIONS {
                let why = format!("expected at most {COMPUTED_POSITIONS} where the table of positions is computed");
                self.config.unsupported(max_positions.name, why);
            }
            let data = WeightData::Computed(computed);
            self.b.weight(Weight { name, shape: vec![rows.len, d_model.len], data })
        };
        let (start, table) = match self.shared.positions {
            Positions::Learned { offset } => {
                let name = if offset == 0 { max_positions.name } else { "max_position_embeddings + 2" };
                (offset, self.module().get("embed_positions", [rows(offset, name), d_model]))
            }
            Positions::Sinusoid => {
                let name = format!("{}.embed_positions.weight", self.path);
                let table = match self.checkpoint.has(&name) {
                    true => self.module().get("embed_positions", [max_positions, d_model]),
                    false => computed(name, max_positions, Computed::Sinusoid),
                };
                (0, table)
            }
            Positions::SinusoidAfterPad => {
                let name = format!("{}.embed_positions.weights", self.path);
                // Not persistent: transformers computes it anew beside a stored one. `_float_tensor` tells 4.x its type.
                self.checkpoint.ignore_tensor(&name);
                self.checkpoint.ignore_tensor(&format!("{}.embed_positions._float_tensor", self.path));
                let rows = rows(2, "max_position_embeddings + 2");
                (pad + 1, computed(name, rows, Computed::SinusoidBetweenEnds { zero_row: Some(pad) }))
            }
        };
        self.b.positions(start, self.length.clone()).embed(table)
    }

    /// The layers, and the last norm if there is one. `mask` is added to every self-attention; `memory` makes this a decoder.
    pub fn write(&self, mut x: Val<'b>, mask: Val<'b>, memory: Option<Memory<'b>>) -> Val<'b> {
        let (d_model, ffn) = (self.shared.d_model, self.layers.ffn);
        for i in 0..self.layers.count {
            let _layer = self.b.scope(format!("{}.{i}", self.name));
            let layer = self.module().at(format!("layers.{i}"));
            {
                let _attn = self.b.scope("attn");
                let w = layer.at("self_attn");
                let itself = |x| Memory { hidden: x, width: d_model, mask: Some(mask) };
                x = self.residual(&layer, "self_attn_layer_norm", x, |x| self.attention(&w, x, itself(x)));
            }
            if let Some(memory) = memory {
                let _cross = self.b.scope("cross");
                let w = layer.at("encoder_attn");
                x = self.residual(&layer, "encoder_attn_layer_norm", x, |x| self.attention(&w, x, memory));
            }
            let _ffn = self.b.scope("ffn");
            x = self.residual(&layer, "final_layer_norm", x, |x| {
                let hidden = layer.linear(x, "fc1", [ffn, d_model]).activation(self.shared.activation);
                layer.linear(hidden, "fc2", [d_model, ffn])
            });
        }
        let _stack = self.b.scope(self.name);
        if self.shared.norm_before { self.module().layer_norm(x, "layer_norm", d_model, EPS) } else { x }
    }

    /// `x + sublayer(norm(x))`, or `norm(x + sublayer(x))`.
    fn residual(&self, w: &Module<'b>, norm: &str, x: Val<'b>, sublayer: impl FnOnce(Val<'b>) -> Val<'b>) -> Val<'b> {
        let norm = |x| w.layer_norm(x, norm, self.shared.d_model, EPS);
        if self.shared.norm_before { x + sublayer(norm(x)) } else { norm(x + sublayer(x)) }
    }

    fn attention(&self, w: &Module<'b>, x: Val<'b>, memory: Memory<'b>) -> Val<'b> {
        let (d_model, heads) = (self.shared.d_model, self.layers.heads);
        let q = w.linear(x, "q_proj", [d_model, d_model]).heads(heads.len);
        let [k, v] =
            ["k_proj", "v_proj"].map(|name| w.linear(memory.hidden, name, [d_model, memory.width]).heads(heads.len));
        let mixed = attention([q, k, v], head_scale(d_model, heads), memory.mask);
        w.linear(mixed, "out_proj", [d_model, d_model])
    }
}
