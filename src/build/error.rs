//! Why a command could not do its work.

use std::io;
use std::path::{Path, PathBuf};

use converters::checkpoint::CheckpointError;
use converters::tokenizer::TokenizerError;
use converters::{ExportError, ImportError};
use frontend::FrontEndError;
use graph::passes::PassError;
use quant::{PolicyError, QuantError};
use validate::RuntimeError;
use validate::calibration::CalibratedError;
use validate::chain::ChainError;
use validate::report::diff::Incomparable;
use validate::task::DataError;

use crate::build::folder::FolderError;
use crate::build::inputs::Changed;
use crate::build::lock::LockError;
use crate::recipe::load::RecipeError;
use crate::show::table::size;

/// A command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// `--only` names no artifact.
    #[error("--only {found}: the recipe has no such artifact; it has {}", .known.join(", "))]
    NoArtifact {
        /// What was asked for.
        found: String,
        /// Every artifact.
        known: Vec<String>,
    },
    /// Artifacts or a report would replace what is not theirs; a sentence each.
    #[error("{}\nhint: give the artifacts another folder with `out`, or another `name`", .0.join("\n"))]
    Places(Vec<String>),
    /// The folder of the artifacts.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The hub.
    #[error(transparent)]
    Hub(#[from] hub::HubError),
    /// A checkpoint that begins as one of the hub and is none.
    #[error("--model: expected `hub:org/name` or `hub:org/name@revision`, found `{0}`")]
    NotAnId(String),
    /// A word that is neither a path nor on the hub.
    #[error(
        "{named}: expected a recipe, a checkpoint's folder, a GGUF file or `org/name` of the hub; there is no such file or folder, and {found}"
    )]
    NoSource {
        /// What was asked for.
        named: String,
        /// What is wrong with it as a name.
        found: String,
    },
    /// An argument of a recipe where there is a checkpoint, or the other way about.
    #[error("{argument}: expected {expected}, found {found}")]
    OtherSource {
        /// The argument.
        argument: &'static str,
        /// A recipe, or a checkpoint.
        expected: &'static str,
        /// The other of them, with its name.
        found: String,
    },
    /// Artifacts that a checkpoint cannot become.
    #[error("{name} cannot become what was asked for\n{}", .problems.join("\n"))]
    Draft {
        /// The checkpoint.
        name: String,
        /// What was asked for, and why not.
        problems: Vec<String>,
    },
    /// The checkpoint was written to.
    #[error(transparent)]
    Changed(#[from] Changed),
    /// Several artifacts are refused.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<PipelineError>),
    /// There is too little room.
    #[error(
        "{}: expected room for about {}, found {} free\nhint: make room there, or take another disk: `out` or --out is where \
         artifacts go, and the variable TMPDIR where temporary files do",
        .place.display(), size(*.need), size(*.free)
    )]
    Room {
        /// A folder on the disk.
        place: PathBuf,
        /// Bytes.
        need: u64,
        /// Bytes.
        free: u64,
    },
    /// A join found less than all.
    #[error(
        "{recipe}: {}; expected what all shards made in {}\n\
         hint: run the shards that hold them again with this cache, or build without --join, which makes what is missing",
        .missing.join("\n  "), .cache.display()
    )]
    NeverCame {
        /// The recipe.
        recipe: String,
        /// `onnx: never came`.
        missing: Vec<String>,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// A shard's work would be lost.
    #[error("{}: what this shard made cannot be kept for the join: {source}", .folder.display())]
    NotKept {
        /// The cache.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The front end is not portable.
    #[error(
        "{}: --portable cannot hold for what clips make of themselves: their spectra are computed by the processor's vectors; expected a model \
         that reads tokens or samples, or artifacts that follow from no samples", .model.display()
    )]
    NotPortable {
        /// The checkpoint.
        model: PathBuf,
    },
    /// The lock of a recipe.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The files of a checkpoint or of an artifact.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint as a model.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Settings of decoding that do not fit the checkpoint.
    #[error("{}: {}", .dir.display(), .problems.join("\n  "))]
    Decode {
        /// The checkpoint.
        dir: PathBuf,
        /// One sentence a setting.
        problems: Vec<String>,
    },
    /// A pass refused the graph.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The policy does not fit the model.
    #[error("{artifact}: {source}")]
    Policy {
        /// The artifact.
        artifact: String,
        /// Every misfit.
        source: PolicyError,
    },
    /// A weight cannot be quantized.
    #[error("{artifact}: {source}")]
    Quant {
        /// The artifact.
        artifact: String,
        /// Which and why.
        source: QuantError,
    },
    /// The format cannot hold the model, or a file cannot be written.
    #[error("{artifact}: {source}")]
    Export {
        /// The artifact.
        artifact: String,
        /// What and why.
        source: ExportError,
    },
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The front end of a model that hears or sees.
    #[error(transparent)]
    FrontEnd(#[from] FrontEndError),
    /// An edit of the float model that should change nothing does.
    #[error(
        "{artifact}: the edits of the float model change its logits by {difference:.1e} of the largest one, above {limit:e}; \
         `exact: true` keeps the factors of `equalize` to powers of two, which round nothing"
    )]
    NotExact {
        /// The artifact.
        artifact: String,
        /// Relative to the largest logit.
        difference: f64,
        /// f32 noise.
        limit: f64,
    },
    /// The evaluation data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The recipe has nothing to tune.
    #[error("{}: {message}", .recipe.display())]
    Tune {
        /// The recipe.
        recipe: PathBuf,
        /// Expected and found.
        message: String,
    },
    /// The calibration data.
    #[error(transparent)]
    Calibrated(#[from] CalibratedError),
    /// The model on the calibration data.
    #[error(transparent)]
    Calibration(#[from] quant::CalibrationError),
    /// Validation broke off.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that should hold a report.
    #[error("{}: expected a report of trefoil {}: {message}", .file.display(), env!("CARGO_PKG_VERSION"))]
    Report {
        /// The file.
        file: PathBuf,
        /// What is wrong there.
        message: String,
    },
    /// Scores that do not fit a report.
    #[error("{}: {message}", .file.display())]
    Scores {
        /// The file of the scores.
        file: PathBuf,
        /// What does not fit, and what to do.
        message: String,
    },
    /// An engine that is compared with another.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Reports of different things.
    #[error(transparent)]
    Incomparable(#[from] Incomparable),
    /// An artifact without `trefoil.json`, or one that does not fit.
    #[error("{}: {message}", .dir.display())]
    Artifact {
        /// Its folder.
        dir: PathBuf,
        /// Expected and found.
        message: String,
    },
}

impl PipelineError {
    pub(crate) fn io(file: &Path) -> impl FnOnce(io::Error) -> PipelineError {
        |source| PipelineError::Io { file: file.to_owned(), source }
    }
}
