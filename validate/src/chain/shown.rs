//! What an engine computes on the way beside what the graph says.

use graph::ir::port::{DECODER_IDS, ENCODER_HIDDEN};
use graph::{EvalError, Feeds, Interpreter, Tensor, Tensors, ValueId};
use report::TensorParting;

use super::apart::relative;
use super::culprit::weight_of;
use crate::runtime::Between;

/// How many times as far off as its logits a value of a sound engine may be. Where activations are rounded, a step that one of them is
/// off shows in the value itself, and logits have many of them: on models/g2p-t5 in blocks of int8, 1.4 of onnxruntime's limit.
const INSIDE: f64 = 4.0;

/// The values that were compared, and the first one that is farther off.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) values: usize,
    pub(super) first: Option<TensorParting>,
}

/// Compares what an engine shows with what a graph computes, in its order. `rel_l2`: how far its logits may be off.
///
/// Errors: those of a call.
pub(super) fn compare(
    interpreter: &Interpreter,
    source: &Feeds,
    decoder_input_ids: &Tensor,
    shown: &Between,
    rel_l2: f64,
) -> Result<Compared, EvalError> {
    let mut compared = Compared::default();
    let graph = interpreter.graph();
    let before = graph.entry("encoder").map(|entry| graph.before(entry)).unwrap_or_default();
    let mut feeds = source.clone();
    for entry in before {
        feeds.extend(compared.entry(interpreter, &entry.name, &feeds, &shown.encoder, rel_l2)?);
    }
    let mut outputs = compared.entry(interpreter, "encoder", &feeds, &shown.encoder, rel_l2)?;
    feeds.extend(outputs.remove_entry(ENCODER_HIDDEN));
    feeds.insert(DECODER_IDS.to_owned(), decoder_input_ids.clone());
    compared.entry(interpreter, "decoder", &feeds, &shown.decoder, rel_l2)?;
    Ok(compared)
}

impl Compared {
    fn entry(
        &mut self,
        interpreter: &Interpreter,
        entry: &str,
        feeds: &Feeds,
        shown: &Tensors,
        rel_l2: f64,
    ) -> Result<Tensors, EvalError> {
        let graph = interpreter.graph();
        let takes = |name: &str| graph.entry(entry).is_some_and(|entry| entry.input(name).is_some());
        let outputs = graph.entry(entry).into_iter().flat_map(|entry| &entry.outputs);
        // Their last node has the name of the output, so that the one which has the value's is another.
        let outputs: Vec<ValueId> = outputs.map(|port| port.value).collect();
        let feeds = feeds.iter().filter(|(name, _)| takes(name)).map(|(name, tensor)| (name.clone(), tensor.clone()));
        interpreter.call_with(entry, &feeds.collect(), &mut |id, expected| {
            let value = &graph.value(id).name;
            let found = shown.get(value).filter(|_| self.first.is_none() && !outputs.contains(&id));
            let Some(expected) = found.and_then(|found| laid_as(expected, found)) else { return };
            let apart = relative(&expected, &shown[value]);
            self.values += 1;
            let expected_rel_l2 = INSIDE * rel_l2;
            if apart > expected_rel_l2 || apart.is_nan() {
                let weight = weight_of(graph, id);
                self.first = Some(TensorParting { value: value.clone(), weight, rel_l2: apart, expected_rel_l2 });
            }
        })
    }
}

/// A value as an engine lays it: the same, or `[b, h, q, d]` as `[b, q, h·d]`. `None`: in yet another way.
fn laid_as(x: &Tensor, found: &Tensor) -> Option<Tensor> {
    if x.shape() == found.shape() {
        return Some(x.clone());
    }
    let (&[b, h, q, d], floats) = (x.shape(), x.as_f32()?) else { return None };
    if found.shape() != [b, q, h * d] {
        return None;
    }
    let mut laid = Vec::with_capacity(floats.len());
    for (batch, place) in (0..b).flat_map(|batch| (0..q).map(move |place| (batch, place))) {
        for head in 0..h {
            laid.extend_from_slice(&floats[((batch * h + head) * q + place) * d..][..d]);
        }
    }
    Some(Tensor::f32([b, q, h * d], laid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_beside_each_other_are_the_same_value() {
        let x = Tensor::f32([1, 2, 3, 1], vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
        let merged = Tensor::f32([1, 3, 2], vec![0.0, 10.0, 1.0, 11.0, 2.0, 12.0]);
        assert_eq!(laid_as(&x, &merged), Some(merged));
        assert_eq!(laid_as(&x, &Tensor::f32([1, 2, 3], vec![0.0; 6])), None);
    }
}
