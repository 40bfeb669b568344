//! The vocabulary that GGUF wants.

/// SentencePiece's word for what a piece is, with the numbers that its file and GGUF share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PieceType {
    /// Learned from text.
    Normal = 1,
    /// Stands for whatever no other piece fits.
    Unknown = 2,
    /// Never matches text; skipped when decoding: padding, the end of a sequence, sentinels.
    Control = 3,
    /// Always one token wherever it stands in a text.
    UserDefined = 4,
    /// In the vocabulary for its place only.
    Unused = 5,
    /// A byte, `<0x00>` to `<0xFF>`.
    Byte = 6,
}

/// A SentencePiece Unigram vocabulary (Kudo, arXiv 1804.10959).
#[derive(Clone, PartialEq, Debug)]
pub struct Vocabulary {
    /// By id; a space is `▁`.
    pub pieces: Vec<String>,
    /// Log probabilities, by id.
    pub scores: Vec<f32>,
    /// By id.
    ///
    /// tokenizer.json knows no types. What it lists as added is taken for control (special) or user defined; an unused
    /// piece, or a byte of a vocabulary whose byte fallback is off, is normal there and keeps its type in spiece.model.
    pub types: Vec<PieceType>,
    /// The normalizer's compiled replacements, as SentencePiece stores them; empty when there are none.
    pub charsmap: Vec<u8>,
    /// Whether a text begins with a space of its own.
    pub add_space_prefix: bool,
    /// Whether runs of spaces are one space.
    pub remove_extra_whitespaces: bool,
    /// The end of a sequence.
    pub eos: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
}

impl Vocabulary {
    /// The id of the unknown piece.
    pub fn unknown(&self) -> Option<u32> {
        let at = self.types.iter().position(|kind| *kind == PieceType::Unknown);
        at.map(|id| u32::try_from(id).expect("a vocabulary has fewer than 2^32 pieces"))
    }
}
