//! One artifact through the links quantization, export and runtime, in every engine that opens it.

use std::path::Path;

use converters::export::npu::HOST_FILE;
use graph::{Progress, WeightError, progress};
use report::{ArtifactReport, Check, Link};

use super::error::ChainError;
use super::walk::{Context, Walk, in_engine};
use super::{answers, histograms, links};
use crate::runtime::{ANSWERERS, Answerer, ENCODERS, Fit, RUNTIMES, Runtime};

/// Tests the links quantization, export and runtime of one artifact, in every engine that opens its format.
///
/// A broken stage is a failed check that names it. Errors: the scratch file or the artifact's folder cannot be read.
pub fn validate_artifact(context: Context, progress: &dyn Progress) -> Result<ArtifactReport, ChainError> {
    validate_in(RUNTIMES, ANSWERERS, context, progress)
}

/// The same in the given engines.
pub fn validate_in(
    runtimes: &[&dyn Runtime],
    answerers: &[&dyn Answerer],
    context: Context,
    progress: &dyn Progress,
) -> Result<ArtifactReport, ChainError> {
    let Context { baseline, name, artifact, .. } = context;
    let mut walk = Walk::new(&context);
    progress.stage(&format!("{name}: quantized graph"), baseline.plan.samples as u64, progress::Unit::Samples);
    let quantized = walk.quantization(progress)?;
    if let Some(quantized) = &quantized {
        walk.trace_quantization(quantized)?;
    }
    let held = context.format.held(&context.quantized.graph);
    walk.checks.push(links::export(&held, context.format.read_weights(context.quantized, artifact)));
    walk.checks.extend(context.manifest.map(|manifest| links::digests(manifest, &context.files)));
    // Engines of the host take much that toolchains refuse, so this comes before them.
    if artifact.files.iter().any(|file| file == Path::new(HOST_FILE)) {
        walk.checks.push(links::lint(&artifact.dir));
    }
    let mut foreign = true;
    for runtime in runtimes {
        match runtime.fit(artifact) {
            Fit::Foreign => continue,
            Fit::CannotRun(why) => walk.checks.push(Check::not_run(Link::Runtime, in_engine(runtime.name()), why)),
            Fit::Runs => {
                for (called, options) in runtime.runs_of(context.options) {
                    let samples = runtime.samples(&options).unwrap_or(usize::MAX).min(baseline.plan.samples);
                    progress.stage(&format!("{name}: {called}"), samples as u64, progress::Unit::Samples);
                    if !walk.runtime(*runtime, &called, &options, quantized.as_ref(), progress)? {
                        break;
                    }
                }
            }
        }
        foreign = false;
    }
    for runtime in ENCODERS.iter().filter(|runtime| runtime.fit(artifact) == Fit::Runs) {
        progress.stage(&format!("{name}: {}", runtime.name()), baseline.plan.samples as u64, progress::Unit::Samples);
        walk.encoder(*runtime, &held, progress)?;
        foreign = false;
    }
    for answerer in answerers {
        match answerer.fit(artifact) {
            Fit::Foreign => continue,
            Fit::CannotRun(why) => walk.checks.push(Check::not_run(Link::Runtime, in_engine(answerer.name()), why)),
            Fit::Runs => walk.answerer(*answerer, quantized.as_ref(), progress),
        }
        foreign = false;
    }
    if foreign {
        let why = format!("no engine of trefoil opens {} artifacts", artifact.format);
        walk.checks.push(Check::not_run(Link::Runtime, "the artifact in an engine", why));
    }

    let Walk { checks, runs, said, partings, values, .. } = walk;
    let mut tensors = context.tensors;
    histograms::fill(&mut tensors, &baseline.subject.exact.graph, &context.quantized.graph)
        .map_err(|WeightError { source, .. }| ChainError::Io(source))?;
    let weights: u64 = tensors.iter().map(|t| t.shape.iter().product::<usize>() as u64).sum();
    let weight_bytes: u64 = tensors.iter().map(|t| t.bytes).sum();
    Ok(ArtifactReport {
        name: name.to_owned(),
        folder: name.to_owned(),
        format: artifact.format.to_owned(),
        bytes: context.files.iter().map(|f| f.bytes).sum(),
        files: context.files,
        bits_per_weight: 8.0 * weight_bytes as f64 / weights.max(1) as f64,
        checks,
        runs,
        speed: Vec::new(),
        generations: answers::side_by_side(baseline, &said, partings),
        values,
        tensors,
        substitutions: context.substitutions,
    })
}
