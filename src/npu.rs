//! Fixed steps for all values of an NPU artifact, from what calibration sees.

use converters::export::npu::Npu;
use graph::Graph;
use graph::passes::{quantize_values, tied_values};
use quant::record::{Errors, restored};
use quant::values::{hidden, steps};
use quant::{Plan, Role, Scheme, StaticActivations, TensorRecord};
use validate::report::Note;

use crate::calibration::Observed;
use crate::pipeline::PipelineError;
use crate::progress::Display;

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

/// Rounds every value of `quantized`. `exact`: the same graph with float weights, which calibration runs.
pub fn round(
    quantized: &mut Graph,
    exact: &Graph,
    npu: &Npu,
    wanted: StaticActivations,
    observed: &Observed,
    display: &Display,
) -> Result<Vec<Note>, PipelineError> {
    let export = |source| PipelineError::Export { artifact: npu.profile.to_string(), source };
    let Some(widths) = npu.widths() else { return Ok(Vec::new()) };
    let mut open = exact.clone();
    // A hidden key has no score that a range should hold.
    npu.expand(&mut open, Some(f32::NEG_INFINITY)).map_err(export)?;
    // Masks of any size: they have no part in which values are tied.
    let mut shape = exact.clone();
    npu.expand(&mut shape, None).map_err(export)?;
    let values = observed.values(&open, &tied_values(&shape, widths), display)?;
    let hidden = hidden(&shape, &tied_values(&shape, widths), &values, npu.hidden());
    npu.expand(quantized, Some(hidden)).map_err(export)?;
    let tied = tied_values(quantized, widths);
    let found = steps(quantized, &tied, &values, wanted.range)?;
    let groups: Vec<_> = tied.into_iter().zip(found).collect();
    let count = quantize_values(quantized, &groups)?;
    let text = format!("{count} values are rounded to {} fixed steps, of {} samples", groups.len(), values.samples);
    let masks = format!("{hidden} is added to the scores of hidden keys");
    Ok([text, masks].map(|text| Note { about: "activations".to_owned(), text }).to_vec())
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
