use std::collections::BTreeMap;

use super::{Pass, PassError};
use crate::build::Build;
use crate::ir::{BATCH, DEC, Def, Dim, Entry, Graph, PAST, Port, Type, ValueId};
use crate::op::Op;

/// `full` -> `encoder`, `decoder`, `decoder_with_past`, with no word about any architecture.
///
/// 1. An `Attention` of the decoder whose keys do not depend on the decoder's ids is cross-attention; its keys and values
///    are the same at every step, so they are where `decoder_with_past` is cut.
///    ("Keys that depend on the encoder" would be wrong: those of self-attention do too from layer 1 on.)
/// 2. Every other one reads `Concat(past, k)` and `Concat(past, v)`.
/// 3. Queries of `Mask` and `RelativeBias` start at `past`, and their keys are `past + dec` long.
///
/// Nothing is copied: the four entries are cuts through the same values, and `past` is 0 in `full` and `decoder`.
/// Refused when a softmax of the decoder was left unfused, or the entry `full` lacks a port.
pub struct Split;

struct Layer {
    own: [ValueId; 2],
    past: [ValueId; 2],
}

impl Pass for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    /// Returns how many attentions of the decoder were cut or given a past.
    fn run(&self, graph: &mut Graph) -> Result<usize, PassError> {
        if graph.entry("decoder").is_some() {
            return Ok(0);
        }
        let refused = |message: String| PassError::Refused { pass: "split", message };
        let full = graph.entry("full").cloned().ok_or_else(|| refused("no entry named full".into()))?;
        let port = |name: &str| {
            full.input(name).or_else(|| full.output(name)).ok_or_else(|| refused(format!("full has no port {name}")))
        };
        let [ids, mask, decoder_ids] = [port("input_ids")?, port("attention_mask")?, port("decoder_input_ids")?];
        let [logits, hidden] = [port("logits")?, port("encoder_hidden")?];

        let order = graph.order(&full);
        let mut of_decoder = vec![false; graph.values.len()];
        of_decoder[decoder_ids.0] = true;
        for id in &order {
            if graph.args(*id).iter().any(|arg| of_decoder[arg.0]) {
                of_decoder[id.0] = true;
            }
        }

        let (mut cross, mut own) = (Vec::new(), Vec::new());
        for id in order.into_iter().filter(|id| of_decoder[id.0]) {
            match (graph.op(id), graph.args(id)) {
                (Some(Op::Attention { .. }), &[_, k, v, ..]) => match of_decoder[k.0] || of_decoder[v.0] {
                    true => own.push((id, [k, v])),
                    false => cross.push([k, v]),
                },
                (Some(Op::Softmax), _) => {
                    let name = &graph.value(id).name;
                    return Err(refused(format!("{name}: expected fused attention in the decoder, found a softmax")));
                }
                _ => {}
            }
        }

        let layers = give_past(graph, &own).map_err(|source| PassError::Misfit { pass: "split", source })?;
        start_at_past(graph);
        infer_again(graph).map_err(refused)?;

        let in_step = |name: &str, value: ValueId| Port { name: name.to_owned(), value };
        let ports = |stem: &str, pairs: &mut dyn Iterator<Item = [ValueId; 2]>| -> Vec<Port> {
            pairs
                .enumerate()
                .flat_map(|(i, [k, v])| [in_step(&format!("{stem}.{i}.k"), k), in_step(&format!("{stem}.{i}.v"), v)])
                .collect()
        };
        let present = ports("present", &mut layers.iter().map(|layer| layer.own));
        let past = ports("past", &mut layers.iter().map(|layer| layer.past));
        let cut = ports("cross", &mut cross.iter().copied());
        let no_past = BTreeMap::from([(PAST, 0)]);
        let [input_ids, attention_mask] = [in_step("input_ids", ids), in_step("attention_mask", mask)];
        let decoder_input_ids = in_step("decoder_input_ids", decoder_ids);
        let [logits, encoder_hidden] = [in_step("logits", logits), in_step("encoder_hidden", hidden)];
        if let Some(full) = graph.entries.iter_mut().find(|e| e.name == "full") {
            full.fixed = no_past.clone();
        }
        graph.entries.extend([
            Entry {
                name: "encoder".into(),
                inputs: vec![input_ids, attention_mask.clone()],
                outputs: vec![encoder_hidden.clone()],
                fixed: BTreeMap::new(),
            },
            Entry {
                name: "decoder".into(),
                inputs: vec![decoder_input_ids.clone(), encoder_hidden, attention_mask.clone()],
                outputs: [vec![logits.clone()], present.clone(), cut.clone()].concat(),
                fixed: no_past,
            },
            Entry {
                name: "decoder_with_past".into(),
                inputs: [vec![decoder_input_ids, attention_mask], past, cut].concat(),
                outputs: [vec![logits], present].concat(),
                fixed: BTreeMap::new(),
            },
        ]);
        graph.sweep();
        Ok(own.len() + cross.len())
    }
}

/// Keys and values of self-attention become `Concat(past, new)`; returns the joined ones and the inputs.
fn give_past(graph: &mut Graph, own: &[(ValueId, [ValueId; 2])]) -> Result<Vec<Layer>, crate::build::BuildError> {
    let b = Build::edit(std::mem::take(graph));
    let mut layers = Vec::new();
    for (i, (attention, pair)) in own.iter().enumerate() {
        let [k, v] = [("k", pair[0]), ("v", pair[1])].map(|(word, new)| {
            let shape = b.with_graph(|g| g.value(new).ty.shape.clone());
            let past = Type::f32([Dim::from(BATCH), shape[1].clone(), PAST.into(), shape[3].clone()]);
            let past = b.input(&format!("past.{i}.{word}"), past);
            (b.op(Op::Concat { axis: 2 }, &[past, b.val(new)]).id(), past.id())
        });
        // A misfit is recorded in the builder, which finish() returns.
        if let ((Some(k), Some(past_k)), (Some(v), Some(past_v))) = (k, v) {
            b.with_graph_mut(|g| {
                if let Def::Op(_, args) = &mut g.values[attention.0].def {
                    args[1..3].copy_from_slice(&[k, v]);
                }
            });
            layers.push(Layer { own: [k, v], past: [past_k, past_v] });
        }
    }
    *graph = b.finish()?;
    Ok(layers)
}

/// Queries of the decoder start at `past`; keys of the decoder's own tokens are `past + dec` long.
fn start_at_past(graph: &mut Graph) {
    let dec = Dim::from(DEC);
    for value in &mut graph.values {
        if let Def::Op(Op::Mask { start, q, k, .. } | Op::RelativeBias { start, q, k, .. }, _) = &mut value.def
            && *q == dec
        {
            *start = start.clone() + PAST.into();
            if *k == dec {
                *k = Dim::from(PAST) + dec.clone();
            }
        }
    }
}

/// Types downstream of the longer keys. Errors: something else was bound to the old length; names it.
fn infer_again(graph: &mut Graph) -> Result<(), String> {
    let whole = Entry { name: "full".into(), inputs: Vec::new(), outputs: all_outputs(graph), fixed: BTreeMap::new() };
    for id in graph.order(&whole) {
        if let Def::Op(op, args) = &graph.value(id).def {
            let types: Vec<&Type> = args.iter().map(|arg| &graph.value(*arg).ty).collect();
            let ty =
                op.infer(&types).map_err(|message| format!("{}: with past keys, {message}", graph.value(id).name))?;
            graph.values[id.0].ty = ty;
        }
    }
    Ok(())
}

fn all_outputs(graph: &Graph) -> Vec<Port> {
    graph.entries.iter().flat_map(|e| e.outputs.clone()).collect()
}
