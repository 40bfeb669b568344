//! What a decoder of images is written from.

use checkpoint::{self, Checkpoint, Size};
use graph::{Build, Val, Weight};

use crate::import::layers::{TIED_HEAD, tied_or_own};

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
