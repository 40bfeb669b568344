//! A graph that sees and reads, cut as transformers.js calls it: it looks tokens up on its own, puts them behind the features of an
//! image, and hands both over (its src/models/florence2).

use std::borrow::Cow;

use graph::ir::port::{DECODER_IDS, LOGITS};
use graph::{Build, Def, Entry, Graph, Op, Port, Type, ValueId};

use super::folder::{LOOKUP, SIGHT};

/// What it calls tokens that were looked up.
pub(super) const EMBEDS: &str = "inputs_embeds";
const MASK: &str = "attention_mask";
const IDS: &str = "input_ids";

/// The graph with an entry that looks tokens up, and with encoder and decoders that take embeddings and the mask of all that the
/// encoder reads. One that does not both see and read is as it was.
///
/// Errors: the graph is of another form, in words.
pub(super) fn recut(graph: &Graph) -> Result<Cow<'_, Graph>, String> {
    if graph.entry(SIGHT).is_none() {
        return Ok(Cow::Borrowed(graph));
    }
    let encoder = graph.entry("encoder").ok_or("no entry named encoder")?;
    let input =
        |name: &str| encoder.input(name).ok_or_else(|| format!("encoder: expected an input {name}, found none"));
    let (ids, mask) = (input(IDS)?, input(MASK)?);
    let tokens = only_reader(graph, ids, |op| *op == Op::Embed)?;
    let joined = only_reader(graph, tokens, |op| *op == Op::Concat { axis: 1 })?;
    let padding = only_reader(graph, mask, |op| matches!(op, Op::PaddingMask { .. }))?;
    let of_all = only_reader(graph, padding, |op| *op == Op::Concat { axis: 3 })?;

    let mut new = graph.clone();
    let mask = with_mask(&mut new, joined, padding, of_all)?;
    let port = |name: &str, value| Port { name: name.to_owned(), value };
    for entry in &mut new.entries {
        let embedded = match entry.name.as_str() {
            "encoder" => Some((IDS, joined)),
            "decoder" | "decoder_with_past" => {
                let ids = entry.input(DECODER_IDS).ok_or_else(|| format!("{}: expected {DECODER_IDS}", entry.name))?;
                Some((DECODER_IDS, only_reader(graph, ids, |op| *op == Op::Embed)?))
            }
            _ => None,
        };
        let Some((ids, embeds)) = embedded else { continue };
        // What was joined holds the features.
        entry.inputs.retain(|port| !is_output(graph, SIGHT, port) || entry.name != "encoder");
        for place in &mut entry.inputs {
            match place.name.as_str() {
                name if name == ids => *place = port(EMBEDS, embeds),
                MASK => place.value = mask,
                _ => {}
            }
        }
    }
    new.entries.retain(|entry| entry.output(LOGITS).is_none() || entry.input(EMBEDS).is_some());
    let (inputs, outputs) = (vec![port(IDS, ids)], vec![port(EMBEDS, tokens)]);
    new.entries.push(Entry { name: LOOKUP.to_owned(), inputs, outputs, fixed: Default::default() });
    Ok(Cow::Owned(new))
}

fn is_output(graph: &Graph, entry: &str, port: &Port) -> bool {
    graph.entry(entry).is_some_and(|entry| entry.outputs.contains(port))
}

/// The one value that an op of a kind makes of another. Errors: there is none, or several, in words.
fn only_reader(graph: &Graph, of: ValueId, is_wanted: impl Fn(&Op) -> bool) -> Result<ValueId, String> {
    let readers = (0..graph.values.len()).map(ValueId).filter(|id| graph.args(*id).contains(&of));
    let found: Vec<ValueId> = readers.filter(|id| graph.op(*id).is_some_and(&is_wanted)).collect();
    match found[..] {
        [one] => Ok(one),
        _ => Err(format!("{}: expected one reader of the kind, found {}", graph.value(of).name, found.len())),
    }
}

/// A mask over all that was `joined`, in place of one over the tokens beside what always is seen.
fn with_mask(graph: &mut Graph, joined: ValueId, padding: ValueId, of_all: ValueId) -> Result<ValueId, String> {
    let shape = graph.value(joined).ty.shape[..2].to_vec();
    let op = graph.op(padding).cloned().ok_or("a padding mask is an op")?;
    let b = Build::edit(std::mem::take(graph));
    let mask = b.input("mask_of_all", Type::i64(shape));
    let made = b.op(op, &[mask]);
    let (mask, made) = (mask.id(), made.id());
    *graph = b.finish().map_err(|error| error.to_string())?;
    let (Some(mask), Some(made)) = (mask, made) else { return Err("a mask does not fit".to_owned()) };
    if graph.value(made).ty != graph.value(of_all).ty {
        return Err(format!("{}: expected {}", graph.value(of_all).name, graph.value(made).ty));
    }
    for value in &mut graph.values {
        if let Def::Op(_, args) = &mut value.def {
            args.iter_mut().filter(|arg| **arg == of_all).for_each(|arg| *arg = made);
        }
    }
    Ok(mask)
}
