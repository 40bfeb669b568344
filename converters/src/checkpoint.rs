//! outline
/// .
pub struct Checkpoint;
/// .
#[derive(Debug, thiserror::Error)]
pub enum ImportError {}
