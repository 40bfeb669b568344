//! The way from a float graph to what an artifact computes.

use std::borrow::Cow;

use converters::{Artifact, ExportError, Model};
use graph::eval::kernel;
use graph::passes::{QuantizeActivations, QuantizeActivationsInBlocks, QuantizeStatically, run_each, run_one};
use graph::{AffineTensor, Granularity, Graph, Scratch, Type, WeightData};
use quant::{Activations, Calibration, Equalize, Method, Plan, TensorRecord};
use validate::report::Note;

use crate::build::ctranslate2;
use crate::build::edits;
use crate::build::error::PipelineError;
use crate::build::manifest::{Calibrated, Decided, Manifest};
use crate::build::npu;
use crate::build::observed::Observed;
use crate::build::part;
use crate::build::source::Source;
use crate::build::whisper_cpp;
use crate::recipe::rescale::{Factors, RescaleResidual};
use crate::recipe::target::Target;
use crate::show::progress::{Display, Of};

/// What an artifact is meant to compute.
pub struct Grown {
    /// Prepared for its format and quantized.
    pub model: Model,
    /// What became of every weight.
    pub records: Vec<TensorRecord>,
    /// Exact edits, and replacements that the recipe allowed.
    pub substitutions: Vec<Note>,
    /// What followed from samples.
    pub calibrated: Option<Calibrated>,
}

impl Grown {
    /// Edits a copy of the exact model for the target's format and quantizes it.
    pub fn new(
        source: &Source,
        target: &Target,
        observed: Option<&Observed>,
        scratch: &Scratch,
        display: &Display,
    ) -> Result<Grown, PipelineError> {
        let samples = observed;
        let observed = observed.filter(|_| target.is_calibrated());
        let (mut model, mut substitutions) = prepared(source, target)?;
        let (policy, unedited) = (target.policy(), model.graph.clone());
        let mut is_edited = policy.equalize != Equalize::None;
        let mut decided = Decided::default();
        if let Some(wanted) = target.rescale_residual {
            let (factors, notes) = edits::rescale(&mut model.graph, wanted, observed, display)?;
            substitutions.extend(notes);
            is_edited |= factors != [1.0; 2];
            decided.residual_factors = (wanted == RescaleResidual::Auto).then_some(factors);
        }
        let plan = plan(target, &model.graph)?;
        substitutions.extend(plan.weights.iter().filter_map(|planned| match &planned.decided_by {
            quant::Decider::Fallback { .. } => {
                Some(Note { about: planned.name.clone(), text: format!("{}, {}", planned.scheme, planned.decided_by) })
            }
            _ => None,
        }));
        let quant_error = |source| PipelineError::Quant { artifact: target.name().to_owned(), source };
        let moved = edits::equalize(&mut model.graph, policy, &plan, observed, display)?.map_err(quant_error)?;
        substitutions.extend(moved);
        if is_edited {
            let name = target.name();
            substitutions.push(edits::prove(&unedited, &model.graph, name, source, observed, display)?);
        }
        let progress = Of { name: target.name(), display };
        let exact = model.graph.clone();
        let mut quantize = |calibration: Option<&Calibration>| {
            quant::quantize_calibrated(&mut model.graph, &plan, calibration, scratch, &progress)
        };
        let statistics = observed.map(|observed| observed.statistics(&exact, &[], display)).transpose()?;
        let watched = observed.zip(statistics.as_deref());
        let records = match watched {
            None => quantize(None),
            Some((observed, statistics)) => observed.with(statistics, policy.gptq, |known| quantize(Some(known))),
        };
        let mut records = records.map_err(quant_error)?;
        let mut follow: Vec<String> = Vec::new();
        if watched.is_some() {
            // Factors that samples chose are in every weight beside which they moved, and that is not known by name here.
            let all_follow = policy.equalize.is_calibrated() || decided.residual_factors.is_some();
            follow.extend(records.iter().filter(|r| all_follow || r.method != Method::Nearest).map(|r| r.name.clone()));
        }
        if let (true, Some((_, statistics))) = (policy.bias_correction, watched) {
            let corrected = quant::bias::correct(&exact, &mut model.graph, statistics);
            let corrected = corrected.map_err(|source| quant_error(source.into()))?;
            let text = format!("{} biases take up the mean that rounding the weights adds", corrected.len());
            substitutions.push(Note { about: "bias_correction".to_owned(), text });
            follow.extend(corrected);
        }
        match (policy.activations, watched) {
            (Activations::None | Activations::Dynamic, ..) => round_at_run_time(target, &mut model.graph)?,
            (Activations::Static(wanted), Some((observed, _))) if target.npu().is_some() => {
                let npu = target.npu().expect("just asked");
                let before = types(&model.graph);
                let steps = npu::steps(&model, &exact, npu, wanted, observed, display)?;
                if let Some(steps) = steps {
                    substitutions.extend(npu::round(&mut model, npu, &steps)?);
                    model.evidence = steps.evidence;
                    (decided.groups, decided.hidden) = (steps.groups, Some(steps.hidden));
                }
                npu::renew(&mut records, &exact, &model.graph)?;
                // Tables and biases whose steps are those of the values that they become.
                let now = types(&model.graph);
                follow.extend(now.into_iter().filter(|one| !before.contains(one)).map(|(name, _)| name));
            }
            (Activations::Static(wanted), Some((_, statistics))) => {
                decided.steps = statistics.steps(wanted)?;
                run_one(&mut model.graph, &QuantizeStatically { steps: &decided.steps })?;
            }
            _ => {}
        }
        if let (Some(npu), Some(samples), None) = (target.npu(), samples, &model.evidence) {
            npu::watch(&mut model, npu, samples, display)?;
        }
        let cautions = quant::cautions(policy, &plan, &model.graph).into_iter();
        substitutions.extend(cautions.map(|caution| Note { about: caution.about.to_owned(), text: caution.text }));
        if let Cow::Owned(part) = target.format().held(&model.graph) {
            records.retain(|record| part.weights.find(&record.name).is_some());
        }
        follow.sort();
        follow.dedup();
        let depends = !follow.is_empty() || decided != Decided::default();
        let calibrated = depends.then(|| Calibrated { kernel: kernel(), weights: follow, decided });
        Ok(Grown { model, records, substitutions, calibrated })
    }

    /// The graph of an artifact with the artifact's own weights, from what its manifest says that calibration decided. Where
    /// the files do not give them, the weights are nearest codes, and the export link says why.
    pub fn stored(
        source: &Source,
        target: &Target,
        manifest: &Manifest,
        artifact: &Artifact,
        scratch: &Scratch,
        display: &Display,
    ) -> Result<Grown, PipelineError> {
        let (mut model, _) = prepared(source, target)?;
        let decided = manifest.calibrated.as_ref().map(|calibrated| calibrated.decided.clone()).unwrap_or_default();
        let factors = decided.residual_factors.map(|[encoder, decoder]| Factors { encoder, decoder });
        if let Some(wanted) = factors.map(RescaleResidual::By).or(target.rescale_residual) {
            edits::rescale(&mut model.graph, wanted, None, display)?;
        }
        let policy = target.policy();
        let plan = plan(target, &model.graph)?.nearest();
        let progress = Of { name: target.name(), display };
        let quantized = quant::quantize(&mut model.graph, &plan, scratch, &progress);
        quantized.map_err(|source| PipelineError::Quant { artifact: target.name().to_owned(), source })?;
        match (policy.activations, target.npu()) {
            (Activations::None | Activations::Dynamic, _) => round_at_run_time(target, &mut model.graph)?,
            (Activations::Static(_), Some(npu)) if !decided.groups.is_empty() => {
                let hidden = decided.hidden.unwrap_or(npu.hidden());
                let steps = npu::Steps { groups: decided.groups, hidden, evidence: None };
                npu::round(&mut model, npu, &steps)?;
            }
            (Activations::Static(_), None) => {
                run_one(&mut model.graph, &QuantizeStatically { steps: &decided.steps })?;
            }
            (Activations::Static(_), Some(_)) => {}
        }
        if let Ok(read) = target.format().read_weights(&model, artifact) {
            let ids: Vec<_> = model.graph.weights.iter().map(|(id, _)| id).collect();
            for id in ids {
                let weight = model.graph.weights.get_mut(id);
                let own = read.find(&weight.name).map(|own| read.get(own));
                if let Some(own) = own.filter(|own| own.shape == weight.shape) {
                    weight.data = own.data.clone();
                }
            }
        }
        let calibrated = manifest.calibrated.clone();
        let (records, substitutions) = (manifest.tensors.clone(), manifest.substitutions.clone());
        Ok(Grown { model, records, substitutions, calibrated })
    }
}

/// What every weight of a graph becomes that was prepared for the target's format.
///
/// Errors: a policy that does not fit the model.
pub fn plan(target: &Target, graph: &Graph) -> Result<Plan, PipelineError> {
    let plan = target.policy().plan_with_fallback(graph, target.fallback());
    let artifact = || target.name().to_owned();
    let mut plan = plan.map_err(|source| PipelineError::Policy { artifact: artifact(), source })?;
    if target.npu().is_some_and(|npu| npu.widths().is_some()) {
        npu::keep_tables(&mut plan);
    }
    if target.ctranslate2().is_some() {
        ctranslate2::invert_scales(&mut plan);
    }
    if target.whisper_cpp().is_some() {
        whisper_cpp::of_one_type(&mut plan, target.policy().scheme);
    }
    if let Cow::Owned(part) = target.format().held(graph) {
        part::keep_others(&mut plan, &part);
    }
    Ok(plan)
}

/// A copy of the exact model as the target's format wants it, and a sentence for each edit.
pub fn prepared(source: &Source, target: &Target) -> Result<(Model, Vec<Note>), PipelineError> {
    let mut model = source.exact.clone();
    let edits = target.format().prepare(&mut model).map_err(|source| export(target, source))?;
    let about = target.format().name();
    Ok((model, edits.into_iter().map(|text| Note { about: about.to_owned(), text }).collect()))
}

/// Puts into the graph what engines of the target's format round while they run: the inputs of Linears, as the recipe asks, and
/// the rest as the kernels do that the format asks for.
fn round_at_run_time(target: &Target, graph: &mut Graph) -> Result<(), PipelineError> {
    if let (Activations::Dynamic, Some(granularity)) = (target.policy().activations, target.granularity()) {
        run_one(graph, &QuantizeActivations::all(granularity))?;
    }
    if let Some(onnx) = target.onnx() {
        let is_wanted = |input: &Type| onnx.rounds_whole(input);
        let whole = QuantizeActivations { granularity: Granularity::Tensor, is_wanted: &is_wanted };
        let block_of = |weight: &AffineTensor| onnx.rounds_blocks_of(weight);
        run_each(graph, &[&whole, &QuantizeActivationsInBlocks { block_of: &block_of }])?;
    }
    if let Some(ctranslate2) = target.ctranslate2() {
        let block_of = |weight: &AffineTensor| ctranslate2.rounds_rows_of(weight);
        run_one(graph, &QuantizeActivationsInBlocks { block_of: &block_of })?;
    }
    Ok(())
}

fn export(target: &Target, source: ExportError) -> PipelineError {
    PipelineError::Export { artifact: target.name().to_owned(), source }
}

fn types(graph: &Graph) -> Vec<(String, String)> {
    graph.weights.iter().map(|(_, weight)| (weight.name.clone(), weight.data.type_name())).collect()
}

/// What a target takes while it is made, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Need {
    /// Codes that wait to be written.
    pub scratch: u64,
    /// Its weights, as the format holds them or a little less.
    pub artifact: u64,
}

/// Everything that can be refused without computing, and what making it takes.
///
/// Errors: the policy does not fit the model, or the format cannot hold what it asks for.
pub fn refused(source: &Source, target: &Target) -> Result<Need, PipelineError> {
    let (mut model, _) = prepared(source, target)?;
    if let Some(wanted @ RescaleResidual::By(_)) = target.rescale_residual {
        edits::rescale(&mut model.graph, wanted, None, &Display::quiet())?;
    }
    let plan = plan(target, &model.graph)?;
    plan.typed(&mut model.graph);
    if !matches!(target.policy().activations, Activations::Static(_)) {
        round_at_run_time(target, &mut model.graph)?;
    }
    // Values in codes and their tables come with calibration.
    match target.npu().filter(|npu| npu.widths().is_some()) {
        Some(npu) => npu.fits(&model),
        None => target.format().check(&model),
    }
    .map_err(|source| export(target, source))?;
    let mut need = Need::default();
    for (_, weight) in model.graph.weights.iter() {
        need.artifact += quant::report::stored_bytes(weight);
        need.scratch += match &weight.data {
            WeightData::Quantized(graph::Quantized::Affine(tensor)) => tensor.codes.len(),
            WeightData::Quantized(graph::Quantized::Ggml { blocks, .. }) => blocks.len(),
            WeightData::Quantized(graph::Quantized::Float8(tensor)) => tensor.codes.len(),
            WeightData::Stored { .. } | WeightData::Derived(..) | WeightData::Computed(_) => 0,
        };
    }
    Ok(need)
}
