//! The families of checkpoints.

use std::path::Path;
use std::sync::Arc;

use checkpoint::gguf::keys::DIALECT;
use checkpoint::{Checkpoint, CheckpointError, Size};
use graph::{Build, Graph, Weight, WeightData};

use crate::architecture::Architecture;
use crate::error::ImportError;
use crate::export::gguf::names::gguf_name;
use crate::model::{Model, norm_eps};

mod bart;
mod fairseq;
mod gemma;
mod layers;
mod m2m_100;
mod marian;
mod module;
mod moonshine;
mod mu;
mod t5;
mod t5gemma;
mod t5gemma2;
mod transcribe;
mod vision_encoder_decoder;
mod whisper;
mod windows;

/// Every family.
pub const ARCHITECTURES: &[&dyn Architecture] = &[
    &bart::Bart,
    &m2m_100::M2m100,
    &marian::Marian,
    &moonshine::Moonshine,
    &mu::Mu,
    &t5::T5,
    &t5gemma::T5Gemma,
    &t5gemma2::T5Gemma2,
    &vision_encoder_decoder::VisionEncoderDecoder,
    &whisper::Whisper,
];

/// Readers of images that are no encoder-decoders, by the words of their `model_type`.
const DECODERS_ALONE: [&str; 8] =
    ["git", "glm_ocr", "got_ocr2", "kosmos-2", "kosmos-2.5", "lighton_ocr", "paddleocr_vl", "smolvlm"];

/// Reads a Hugging Face folder as a graph with the one entry `full`.
///
/// Errors: files that are not what they say; an unknown `model_type`; else all problems of config and tensors at once.
pub fn import(dir: &Path) -> Result<Model, ImportError> {
    import_checkpoint(Checkpoint::open(dir)?)
}

/// The same of a GGUF artifact under any name, with nothing but the file.
pub fn import_gguf(file: &Path) -> Result<Model, ImportError> {
    import_checkpoint(Checkpoint::open_gguf(file)?)
}

/// What a config.json alone says of a model: its family's graph, of weights that have shapes and no bytes.
///
/// Errors: as those of [`import()`], without those about tensors.
pub fn import_config(file: &Path) -> Result<Model, ImportError> {
    import_checkpoint(Checkpoint::of_config(file)?)
}

/// What an artifact's folder says of the model that it was made from: the graph, of the tensors that its manifest lists, with
/// shapes and no bytes.
///
/// Errors: as those of [`import()`].
pub fn import_listed(
    dir: &Path,
    tensors: impl IntoIterator<Item = (String, Vec<usize>)>,
) -> Result<Model, ImportError> {
    import_checkpoint(Checkpoint::listed(dir, tensors)?)
}

fn import_checkpoint(mut checkpoint: Checkpoint) -> Result<Model, ImportError> {
    let architecture = architecture(&checkpoint)?;
    checkpoint.take_family(architecture.model_types()[0], architecture.decoding_defaults());
    check_names(&checkpoint, architecture)?;
    let build = Build::new();
    if !architecture.may_lack_an_end() {
        checkpoint.require_end();
    }
    let semantics = architecture.build(&build, &checkpoint)?;
    let mut graph = build.finish();
    if let (Ok(graph), Some(_)) = (&mut graph, checkpoint.whole()) {
        stored_tables(graph, &checkpoint);
    }
    // A graph with stand-ins for missing weights is not a graph of this checkpoint, so this comes first.
    checkpoint.finish()?;
    let mut graph = graph?;
    let folded_logit_scale = checkpoint.whole().and_then(|whole| whole.folded_logit_scale);
    if let Some(c) = folded_logit_scale {
        graph::passes::run_one(&mut graph, &graph::passes::DropLogitScale { c })
            .map_err(|error| CheckpointError::malformed(checkpoint.config_file(), error))?;
    }
    let imported_eps = norm_eps(&graph).map(|(name, eps)| (name.to_owned(), eps)).collect();
    Ok(Model {
        graph,
        checkpoint: Arc::new(checkpoint),
        architecture,
        semantics,
        folded_logit_scale,
        imported_eps,
        evidence: None,
    })
}

/// Tables that checkpoints leave out stand in a GGUF artifact, and in the type that they were quantized to.
fn stored_tables(graph: &mut Graph, checkpoint: &Checkpoint) {
    let computed = |(id, weight): (_, &Weight)| matches!(weight.data, WeightData::Computed(_)).then_some(id);
    let ids: Vec<_> = graph.weights.iter().filter_map(computed).collect();
    for id in ids {
        let weight = graph.weights.get_mut(id);
        if checkpoint.has(&weight.name) {
            let shape: Vec<Size> = weight.shape.iter().map(|len| Size { len: *len, name: "as computed" }).collect();
            *weight = checkpoint.weight(&weight.name, &shape);
        }
    }
}

/// Whether the tensors of a GGUF artifact have the names that the architecture gives them for the file's engine. Errors: all that do not.
fn check_names(checkpoint: &Checkpoint, architecture: &dyn Architecture) -> Result<(), ImportError> {
    let Some(whole) = checkpoint.whole() else { return Ok(()) };
    let dialect = match &whole.dialect {
        None => None,
        Some(engine) => match architecture.dialects().iter().find(|dialect| dialect.engine.name() == engine) {
            Some(dialect) => Some(dialect),
            None => {
                let message = format!("{DIALECT}: this family has no names for {engine}");
                return Err(CheckpointError::malformed(checkpoint.config_file(), message).into());
            }
        },
    };
    let names = dialect.map_or(architecture.gguf_names(), |dialect| dialect.names);
    let wrong = |(name, found): &(String, String)| match gguf_name(name, names) {
        Some(expected) if expected == *found => None,
        Some(expected) => Some(format!("{found}: expected {expected}, the name of {name}")),
        None => Some(format!("{found}: {name} has no GGUF name")),
    };
    let faults: Vec<String> = whole.names.iter().filter_map(wrong).collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(CheckpointError::malformed(checkpoint.config_file(), faults.join("; ")).into()),
    }
}

/// The family that reads checkpoints of this `model_type`.
pub fn family(model_type: &str) -> Option<&'static dyn Architecture> {
    ARCHITECTURES.iter().find(|a| a.model_types().contains(&model_type)).copied()
}

/// Who reads this checkpoint: by its `model_type`, and without one by its tensors. Errors: nobody does.
fn architecture(checkpoint: &Checkpoint) -> Result<&'static dyn Architecture, ImportError> {
    let found = checkpoint.config().model_type();
    let reads = |a: &&&'static dyn Architecture| match found {
        Some(found) => a.model_types().contains(&found),
        None => a.recognises(checkpoint),
    };
    if let Some(architecture) = ARCHITECTURES.iter().find(reads) {
        return Ok(*architecture);
    }
    if !checkpoint.config_file().is_file() {
        return Err(CheckpointError::NotACheckpoint {
            dir: checkpoint.dir().to_owned(),
            expected: "config.json".to_owned(),
        }
        .into());
    }
    if let Some(found) = found.filter(|found| DECODERS_ALONE.contains(found)) {
        return Err(ImportError::DecoderAlone { file: checkpoint.config_file().to_owned(), found: found.to_owned() });
    }
    Err(ImportError::UnknownModelType {
        file: checkpoint.config_file().to_owned(),
        found: found.map_or_else(|| "missing".to_owned(), |found| format!("{found:?}")),
        known: ARCHITECTURES.iter().flat_map(|a| a.model_types()).copied().collect(),
    })
}
