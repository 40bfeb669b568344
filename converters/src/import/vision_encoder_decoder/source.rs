//! What a decoder of images is written from.

use checkpoint::{self, Checkpoint, Size};
use graph::{Build, DEC, Val, Visible, Weight};

use crate::import::fairseq::{Layers, Memory, Shared, Stack};
use crate::import::layers::{TIED_HEAD, tied_or_own};

/// Where a decoder of BART's kind stands.
const STACK: &str = "decoder.model.decoder";

/// What a decoder is written from.
pub(super) struct Source<'b> {
    pub b: &'b Build,
    pub checkpoint: &'b Checkpoint,
    /// i64[b, dec]
    pub ids: Val<'b>,
    /// f32[b, n, width]: the encoder's output, projected where the widths differ.
    pub memory: Val<'b>,
    pub width: Size,
}

impl Source<'_> {
    /// The table of tokens and the head. Where config.json ties them, a head counts that the files hold and that differs.
    pub fn table_and_head(&self, c: &checkpoint::Config, names: [&str; 2], shape: [Size; 2]) -> [Weight; 2] {
        let [table, head] = names;
        let is_own = self.checkpoint.has(head) && !self.checkpoint.same(table, head);
        let tied = c.bool_or("tie_word_embeddings", true) && !is_own;
        tied_or_own(self.checkpoint, tied, names, TIED_HEAD, &shape)
    }
}

impl<'b> Source<'b> {
    /// The logits of a decoder of BART's kind. `head`: the module that makes them.
    pub fn stack(
        &self,
        c: &'b checkpoint::Config,
        head: &str,
        shared: &Shared,
        layers: Layers,
        vocab: Size,
    ) -> Val<'b> {
        let Source { b, checkpoint, ids, memory, width } = *self;
        let names = [format!("{STACK}.embed_tokens.weight"), format!("{head}.weight")];
        let names = names.each_ref().map(String::as_str);
        let [table, head] = self.table_and_head(c, names, [vocab, shared.d_model]).map(|weight| b.weight(weight));
        let path = STACK.to_owned();
        let stack = Stack { b, shared, checkpoint, config: c, name: "decoder", path, layers, length: DEC.into() };
        let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);
        let memory = Memory { hidden: memory, width, mask: None };
        stack.write(stack.embed(ids, table), causal, Some(memory)).linear(head, None)
    }
}
