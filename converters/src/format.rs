//! What a kind of artifact has to answer.

use std::borrow::Cow;
use std::path::Path;

use graph::{Graph, Weights};

use crate::artifact::Artifact;
use crate::error::ExportError;
use crate::model::Model;

/// A kind of artifact, with its options set by the recipe.
pub trait Format: Sync {
    /// `onnx`, `npu`, `gguf`, `safetensors`, `ctranslate2`, `whisper.cpp`.
    fn name(&self) -> &'static str;

    /// Exact edits of the graph that this format needs, such as folding a scale into a norm. Returns a sentence for each,
    /// which the report lists as a substitution.
    fn prepare(&self, model: &mut Model) -> Result<Vec<String>, ExportError>;

    /// The graph whose weights the files hold, of the whole graph of a model: all of it, but where they are to hold one part.
    fn held<'g>(&self, graph: &'g Graph) -> Cow<'g, Graph> {
        Cow::Borrowed(graph)
    }

    /// Everything that the format cannot hold, before the first byte is written.
    fn check(&self, model: &Model) -> Result<(), ExportError>;

    /// Writes all files into the existing folder `dir`. Never changes a number: it may widen a float, never round one.
    fn write(&self, model: &Model, dir: &Path) -> Result<Artifact, ExportError>;

    /// The weights of an artifact under the names of the checkpoint. Read as f32, they equal those of [`Format::held`] bit
    /// for bit; the round trip is part of the format.
    fn read_weights(&self, model: &Model, artifact: &Artifact) -> Result<Weights, ExportError>;

    /// The same for a model whose weights have shapes and no numbers: what follows from numbers is not compared, and a weight
    /// that the files hold in another form alone is left out.
    fn read_listed(&self, model: &Model, artifact: &Artifact) -> Result<Weights, ExportError> {
        self.read_weights(model, artifact)
    }
}
