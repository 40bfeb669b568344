//! An artifact through the chain of comparisons.

use converters::Artifact;
use quant::TensorRecord;
use validate::chain::{Baseline, Context, Limits, validate_artifact};
use validate::report::{ArtifactReport, OutputFile, TensorRow};
use validate::runtime::Options;

use crate::build::error::PipelineError;
use crate::build::growth::Grown;
use crate::recipe::target::Target;
use crate::show::progress::Display;

/// Runs the chain on an artifact. `files`: as they are, and as its manifest has them where that is to be checked.
#[expect(clippy::too_many_arguments, reason = "each is one thing that the chain is about")]
pub fn validated(
    baseline: &Baseline,
    grown: &Grown,
    target: &Target,
    artifact: &Artifact,
    (files, manifest): (Vec<OutputFile>, Option<&[OutputFile]>),
    limits: &Limits,
    options: &Options,
    display: &Display,
) -> Result<ArtifactReport, PipelineError> {
    let context = Context {
        baseline,
        name: target.name(),
        quantized: &grown.model,
        artifact,
        format: target.format(),
        limits,
        options,
        tensors: grown.records.iter().map(row).collect(),
        substitutions: grown.substitutions.clone(),
        files,
        manifest,
    };
    Ok(validate_artifact(context, display)?)
}

fn row(record: &TensorRecord) -> TensorRow {
    TensorRow {
        name: record.name.clone(),
        role: record.role.to_string(),
        type_name: record.stored.clone(),
        shape: record.shape.clone(),
        bytes: record.bytes,
        bits_per_weight: record.bits_per_weight,
        sqnr_db: record.sqnr_db,
        rel_l2: record.relative_l2_error,
        max_abs_error: record.max_abs_error,
        method: record.method.name().to_owned(),
        output_sqnr_db: record.outputs.and_then(|outputs| outputs.sqnr_db),
        nearest_output_sqnr_db: record.outputs.and_then(|outputs| outputs.nearest_sqnr_db),
        histogram: None,
        notes: record.notes.clone(),
    }
}
