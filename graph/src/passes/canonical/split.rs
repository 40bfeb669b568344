mod proof;

use std::collections::{BTreeMap, HashSet};

use crate::build::Build;
use crate::ir::graph::{Def, Entry, Graph, Port, ValueId};
use crate::ir::op::Op;
use crate::ir::port::{Cache, DECODER_IDS, ENCODER_HIDDEN, LOGITS, PortRole, Side};
use crate::ir::ty::{BATCH, DEC, Dim, PAST, Type};
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};

/// `full` -> `encoder`, `decoder`, `decoder_with_past`, with no word about any architecture.
///
/// 1. An `Attention` of the decoder whose keys do not depend on the decoder's ids is cross-attention; its keys and values
///    are the same at every step, so they are where `decoder_with_past` is cut.
///    ("Keys that depend on the encoder" would be wrong: those of self-attention do too from layer 1 on.)
/// 2. Every other one reads `Concat(past, k)` and `Concat(past, v)`. Keys that are themselves joined from parts, as where
///    self- and cross-attention are one, are taken part by part.
/// 3. `Positions` of the decoder and queries of its `Mask` and `RelativeBias` start at `past`; keys are `past + dec` long.
///
/// Nothing is copied: the four entries are cuts through the same values, and `past` is 0 in `full` and `decoder`. What
/// the encoder reads is whatever its output depends on: ids and a mask, features, samples. Where an importer wrote further entries
/// beside `full`, such as one that makes features of an image, the encoder is cut there too and takes their outputs.
///
/// That a step equals the whole pass is proven from the ops. Refused where it is not: an op of the decoder other
/// than a causal attention that mixes target positions, as a norm, a convolution or a sum over them; and when a softmax of the
/// decoder was left unfused, or the entry `full` lacks a port.
pub struct Split;

/// A place that reads keys or values: an argument of an `Attention`, or a part of the `Concat` that is one.
#[derive(Clone, Copy)]
struct Slot {
    reader: ValueId,
    arg: usize,
    value: ValueId,
}

struct Layer {
    own: [ValueId; 2],
    past: [ValueId; 2],
}

impl Split {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "split",
        formula: "full -> encoder, decoder, decoder_with_past",
        caller: Caller::Conversion,
        meaning: Meaning::Kept(0.0),
    };
}

impl Pass for Split {
    fn about(&self) -> &'static About {
        Split::ABOUT
    }

    /// Counts the pairs of keys and values of the decoder that were cut or given a past.
    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        if graph.entry("decoder").is_some() {
            return Ok(Changed::default());
        }
        let refused = |message: String| Split::ABOUT.refused(message);
        let full = graph.entry("full").cloned().ok_or_else(|| refused("no entry named full".into()))?;
        let port = |name: &str| {
            full.input(name).or_else(|| full.output(name)).ok_or_else(|| refused(format!("full has no port {name}")))
        };
        let [decoder_ids, logits, hidden] = [port(DECODER_IDS)?, port(LOGITS)?, port(ENCODER_HIDDEN)?];

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
            match graph.op(id) {
                Some(Op::Attention { .. }) => {
                    for pair in slots(graph, id, &of_decoder).map_err(refused)? {
                        match pair.iter().any(|slot| of_decoder[slot.value.0]) {
                            true => own.push(pair),
                            false => cross.push(pair.map(|slot| slot.value)),
                        }
                    }
                }
                Some(Op::Softmax) => {
                    let name = &graph.value(id).name;
                    return Err(refused(format!("{name}: expected fused attention in the decoder, found a softmax")));
                }
                _ => {}
            }
        }

        let layers = give_past(graph, &own).map_err(|source| Split::ABOUT.misfit(source))?;
        start_at_past(graph);
        infer_again(graph).map_err(refused)?;

        let (cross_values, pasts): (Vec<ValueId>, Vec<ValueId>) =
            (cross.as_flattened().to_vec(), layers.iter().flat_map(|layer| layer.past).collect());
        let step = step_values(graph, [decoder_ids, logits], &[&cross_values[..], &pasts].concat());
        proof::prove(graph, &step, &cross_values).map_err(refused)?;

        let present = ports(PortRole::Present, layers.iter().map(|layer| layer.own));
        let past = ports(PortRole::Past, layers.iter().map(|layer| layer.past));
        let cut = ports(PortRole::Cross, cross.iter().copied());
        let no_past = BTreeMap::from([(PAST, 0)]);
        let decoder_input_ids = Port::new(PortRole::DecoderIds, decoder_ids);
        let logits = Port::new(PortRole::Logits, logits);
        let encoder_hidden = Port::new(PortRole::EncoderHidden, hidden);
        let before = graph.entries.iter().filter(|entry| entry.name != "full");
        let made: Vec<Port> = before.flat_map(|entry| entry.outputs.iter().cloned()).collect();
        let sources: Vec<Port> = full.inputs.iter().filter(|port| port.name != DECODER_IDS).cloned().collect();
        if let Some(full) = graph.entries.iter_mut().find(|e| e.name == "full") {
            full.fixed = no_past.clone();
        }
        let mut add = |name: &str, first: Vec<Port>, last: Vec<Port>, outputs: Vec<Port>, fixed| {
            let mut entry = Entry { name: name.into(), inputs: [first.clone(), last.clone()].concat(), outputs, fixed };
            let reached: HashSet<ValueId> = graph.order(&entry).into_iter().collect();
            let read = sources.iter().filter(|port| reached.contains(&port.value)).cloned().collect();
            entry.inputs = [first, read, last].concat();
            graph.entries.push(entry);
        };
        let first = vec![decoder_input_ids.clone(), encoder_hidden.clone()];
        add("encoder", made, Vec::new(), vec![encoder_hidden], BTreeMap::new());
        add("decoder", first, Vec::new(), [vec![logits.clone()], present.clone(), cut.clone()].concat(), no_past);
        let caches = [past, cut].concat();
        add("decoder_with_past", vec![decoder_input_ids], caches, [vec![logits], present].concat(), BTreeMap::new());
        graph.sweep();
        Ok((own.len() + cross.len()).into())
    }
}

/// The keys and values that an attention reads, part by part where some of them depend on the decoder and some do not.
/// Errors: keys and values are not joined from the same parts.
fn slots(graph: &Graph, attention: ValueId, of_decoder: &[bool]) -> Result<Vec<[Slot; 2]>, String> {
    let parts = |arg: usize| -> Vec<Slot> {
        let value = graph.args(attention)[arg];
        let joined = graph.args(value);
        let is_mixed = joined.iter().any(|id| of_decoder[id.0]) && joined.iter().any(|id| !of_decoder[id.0]);
        match graph.op(value) {
            Some(Op::Concat { axis: 2 }) if is_mixed => {
                joined.iter().enumerate().map(|(arg, part)| Slot { reader: value, arg, value: *part }).collect()
            }
            _ => vec![Slot { reader: attention, arg, value }],
        }
    };
    let [keys, values] = [parts(1), parts(2)];
    let same = keys.len() == values.len()
        && keys.iter().zip(&values).all(|(k, v)| of_decoder[k.value.0] == of_decoder[v.value.0]);
    match same {
        true => Ok(keys.into_iter().zip(values).map(|(k, v)| [k, v]).collect()),
        false => Err(format!("{}: keys and values are joined from different parts", graph.value(attention).name)),
    }
}

/// Own keys and values become `Concat(past, new)`; returns the joined ones and the inputs.
fn give_past(graph: &mut Graph, own: &[[Slot; 2]]) -> Result<Vec<Layer>, crate::build::BuildError> {
    let b = Build::edit(std::mem::take(graph));
    let mut layers = Vec::new();
    for (layer, pair) in own.iter().enumerate() {
        let [k, v] = [(Side::Key, pair[0]), (Side::Value, pair[1])].map(|(side, slot)| {
            let shape = b.with_graph(|g| g.value(slot.value).ty.shape.clone());
            let past = Type::f32([Dim::from(BATCH), shape[1].clone(), PAST.into(), shape[3].clone()]);
            let past = b.input(&PortRole::Past(Cache { layer, side }).to_string(), past);
            let joined = b.concat(&[past, b.val(slot.value)], 2).id()?;
            b.with_graph_mut(|g| {
                if let Def::Op(_, args) = &mut g.values[slot.reader.0].def {
                    args[slot.arg] = joined;
                }
            });
            Some((joined, past.id()?))
        });
        // A misfit is recorded in the builder, which finish() returns.
        if let (Some((k, past_k)), Some((v, past_v))) = (k, v) {
            layers.push(Layer { own: [k, v], past: [past_k, past_v] });
        }
    }
    *graph = b.finish()?;
    Ok(layers)
}

/// Positions and queries of the decoder start at `past`; keys of the decoder's own tokens are `past + dec` long.
fn start_at_past(graph: &mut Graph) {
    let dec = Dim::from(DEC);
    for value in &mut graph.values {
        match &mut value.def {
            Def::Op(Op::Mask { start, q, k, .. } | Op::RelativeBias { start, q, k, .. }, _) if *q == dec => {
                *start = start.clone() + PAST.into();
                if *k == dec {
                    *k = Dim::from(PAST) + dec.clone();
                }
            }
            Def::Op(Op::Positions { start, len }, _) if *len == dec => *start = start.clone() + PAST.into(),
            _ => {}
        }
    }
}

/// Types downstream of the longer keys. Errors: something else was bound to the old length; names it.
fn infer_again(graph: &mut Graph) -> Result<(), String> {
    let whole = Entry { name: "full".into(), inputs: Vec::new(), outputs: all_outputs(graph), fixed: BTreeMap::new() };
    for id in graph.order(&whole) {
        let Def::Op(mut op, args) = graph.value(id).def.clone() else { continue };
        let types: Vec<&Type> = args.iter().map(|arg| &graph.value(*arg).ty).collect();
        if let (Op::Broadcast(to), [x]) = (&mut op, &types[..]) {
            // An axis that is not stretched has the length of the argument.
            let aligned = to.len() - x.shape.len().min(to.len());
            let kept = to[aligned..].iter_mut().zip(&x.shape).filter(|(_, n)| n.literal() != Some(1));
            kept.for_each(|(to, n)| *to = n.clone());
        }
        let ty = op.infer(&types).map_err(|message| format!("{}: with past keys, {message}", graph.value(id).name))?;
        let value = &mut graph.values[id.0];
        (value.ty, value.def) = (ty, Def::Op(op, args));
    }
    Ok(())
}

/// A port for the keys and one for the values of each layer.
fn ports(role: fn(Cache) -> PortRole<'static>, pairs: impl Iterator<Item = [ValueId; 2]>) -> Vec<Port> {
    let of_layer = |(layer, [k, v]): (usize, [ValueId; 2])| {
        [(Side::Key, k), (Side::Value, v)].map(|(side, value)| Port::new(role(Cache { layer, side }), value))
    };
    pairs.enumerate().flat_map(of_layer).collect()
}

/// What a step computes from the decoder's ids, up to the logits, given what is cached.
fn step_values(graph: &Graph, [ids, logits]: [ValueId; 2], cached: &[ValueId]) -> Vec<ValueId> {
    let port = |value: &ValueId| Port { name: String::new(), value: *value };
    let (inputs, outputs) = ([&[ids], cached].concat().iter().map(port).collect(), vec![port(&logits)]);
    let entry = Entry { name: String::new(), inputs, outputs, fixed: BTreeMap::new() };
    graph.order(&entry).into_iter().filter(|id| *id != ids && !cached.contains(id)).collect()
}

fn all_outputs(graph: &Graph) -> Vec<Port> {
    graph.entries.iter().flat_map(|e| e.outputs.clone()).collect()
}
