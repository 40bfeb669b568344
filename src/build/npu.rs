//! Fixed steps for all values of an NPU artifact, from what calibration sees.

use std::collections::HashSet;

use converters::Model;
use converters::export::npu::{Evidence, Npu, Range};
use graph::passes::{PassError, QuantizeValues, run_one, tied_values};
use graph::{Def, FakeQuant, Graph, Op, Value};
use quant::measure::Errors;
use quant::report::restored;
use quant::values::{Values, hidden};
use quant::{Plan, Role, Scheme, StaticActivations, TensorRecord};
use validate::report::Note;

use crate::build::error::PipelineError;
use crate::build::observed::Observed;
use crate::show::progress::Display;

/// Embeddings that nothing but the policy's own scheme would quantize stay as they are: their tables get the steps of the
/// activations that they become.
pub fn keep_tables(plan: &mut Plan) {
    for planned in plan.weights.iter_mut().filter(|planned| planned.role == Role::Embedding) {
        if matches!(planned.decided_by, quant::Decider::Scheme) {
            planned.scheme = Scheme::Keep;
            planned.clip = quant::Clip::None;
            planned.method = quant::Method::Nearest;
            planned.decided_by = quant::Decider::Default("its rows are activations and get their steps");
        }
    }
}

/// Fixed steps for every value of a graph.
pub struct Steps {
    /// A group of values at a time, in the order of [`tied_values`].
    pub groups: Vec<FakeQuant>,
    /// What is added to the scores of hidden keys.
    pub hidden: f32,
    /// What the values held, where samples ran.
    pub evidence: Option<Evidence>,
}

/// Steps for every value of `model`; `None` where the profile has floats. `exact`: the same graph with float weights, which
/// calibration runs.
pub fn steps(
    model: &Model,
    exact: &Graph,
    npu: &Npu,
    wanted: StaticActivations,
    observed: &Observed,
    display: &Display,
) -> Result<Option<Steps>, PipelineError> {
    let export = |source| PipelineError::Export { artifact: npu.profile.to_string(), source };
    let Some(widths) = npu.widths() else { return Ok(None) };
    let mut open = exact.clone();
    // A hidden key has no score that a range should hold.
    npu.expand(&mut open, Some(f32::NEG_INFINITY)).map_err(export)?;
    // Masks of any size: they have no part in which values are tied.
    let mut shape = exact.clone();
    npu.expand(&mut shape, None).map_err(export)?;
    let values = observed.values(&open, &tied_values(&shape, widths), display)?;
    let hidden = hidden(&shape, &tied_values(&shape, widths), &values, npu.hidden());
    let evidence = evidence(&open, &values, hidden);
    let mut quantized = model.graph.clone();
    npu.expand(&mut quantized, Some(hidden)).map_err(export)?;
    let groups = quant::values::steps(&quantized, &tied_values(&quantized, widths), &values, wanted.range)?;
    Ok(Some(Steps { groups, hidden, evidence: Some(evidence) }))
}

/// Rounds every value of `model` to steps that were found for it.
pub fn round(model: &mut Model, npu: &Npu, steps: &Steps) -> Result<Vec<Note>, PipelineError> {
    let export = |source| PipelineError::Export { artifact: npu.profile.to_string(), source };
    let Some(widths) = npu.widths() else { return Ok(Vec::new()) };
    let Steps { groups, hidden, evidence } = steps;
    let quantized = &mut model.graph;
    npu.expand(quantized, Some(*hidden)).map_err(export)?;
    let tied = tied_values(quantized, widths);
    if tied.len() != groups.len() {
        let message = format!("expected steps for {} groups of values, found {}", tied.len(), groups.len());
        return Err(PipelineError::Pass(PassError::Refused { pass: QuantizeValues::ABOUT.name, message }));
    }
    let groups: Vec<_> = tied.into_iter().zip(groups.iter().copied()).collect();
    let count = run_one(quantized, &QuantizeValues { groups: &groups })?.count;
    let samples = evidence.as_ref().map_or(0, |evidence| evidence.samples);
    let text = format!("{count} values are rounded to {} fixed steps, of {samples} samples", groups.len());
    let masks = format!("{hidden} is added to the scores of hidden keys");
    Ok([text, masks].map(|text| Note { about: "activations".to_owned(), text }).to_vec())
}

/// Keeps what the values of a model in floats hold.
pub fn watch(model: &mut Model, npu: &Npu, observed: &Observed, display: &Display) -> Result<(), PipelineError> {
    let export = |source| PipelineError::Export { artifact: npu.profile.to_string(), source };
    let mut open = model.graph.clone();
    npu.expand(&mut open, Some(f32::NEG_INFINITY)).map_err(export)?;
    let values = observed.values(&open, &[], display)?;
    model.evidence = Some(evidence(&open, &values, npu.hidden()));
    Ok(())
}

/// What calibration saw, with `hidden` in the place of the infinities of masks.
fn evidence(open: &Graph, values: &Values, hidden: f32) -> Evidence {
    let is_mask = |value: &&Value| matches!(value.def, Def::Op(Op::Mask { .. } | Op::PaddingMask { .. }, _));
    let masks: HashSet<&str> = open.values.iter().filter(is_mask).map(|value| value.name.as_str()).collect();
    let range = |(name, (min, max)): (&String, &(f32, f32))| {
        let min = if masks.contains(name.as_str()) { hidden } else { *min };
        (name.clone(), Range { min, max: *max })
    };
    Evidence { samples: values.samples as usize, values: values.extents.iter().map(range).collect() }
}

/// Tables and biases that were rounded with the values are other weights now.
pub fn renew(records: &mut [TensorRecord], exact: &Graph, quantized: &Graph) -> Result<(), PipelineError> {
    for record in records {
        let ids = [exact, quantized].map(|graph| graph.weights.find(&record.name).map(|id| graph.weights.get(id)));
        let [Some(before), Some(after)] = ids else { continue };
        if after.data.type_name() == record.stored {
            continue;
        }
        let [before, now] = [before.read(), after.read()].map(|read| read.map_err(quant::CalibrationError::from));
        restored(record, after, Errors::between(&before?, &now?));
    }
    Ok(())
}
