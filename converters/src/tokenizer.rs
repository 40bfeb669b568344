//! outline
/// .
pub struct Tokenizer;
