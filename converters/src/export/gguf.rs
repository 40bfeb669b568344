//! outline
use crate::{Artifact, ExportError, Format, Model};
use graph::Weights;
use std::path::Path;

pub mod value;
pub use value::{Array, Value};
/// .
pub struct Gguf;
impl Gguf {
    /// .
    pub const DEFAULT: Gguf = Gguf;
}
impl Format for Gguf {
    fn name(&self) -> &'static str {
        "gguf"
    }
    fn prepare(&self, _model: &mut Model) -> Result<Vec<String>, ExportError> {
        todo!()
    }
    fn check(&self, _model: &Model) -> Result<(), ExportError> {
        todo!()
    }
    fn write(&self, _model: &Model, _dir: &Path) -> Result<Artifact, ExportError> {
        todo!()
    }
    fn read_weights(&self, _model: &Model, _artifact: &Artifact) -> Result<Weights, ExportError> {
        todo!()
    }
}
