//! Names of tensors: what the checkpoint calls them, what GGUF calls them, and the order in the file.

use std::collections::BTreeMap;

use graph::{WeightId, Weights};

/// What follows the name of a module, in the order of the file.
const ENDS: [&str; 2] = [".weight", ".bias"];

/// Pattern of a checkpoint name -> pattern of a GGUF name, see [`gguf_name`].
pub(super) type Table = &'static [(&'static str, &'static str)];

/// Where a tensor stands among the others: its stack, its layer, its row of the table, its end.
type Place = (usize, Option<usize>, usize, usize);

/// Every weight in the order of the file, with its GGUF name: tables as the architecture lists them, layers counted up, a
/// weight before its bias.
///
/// `table`: pattern of a checkpoint name -> pattern of a GGUF name, see [`gguf_name`]. Errors: every weight without a
/// name, and every name that two weights claim.
pub(in crate::export) fn in_order(
    weights: &Weights,
    table: &[(&'static str, &'static str)],
) -> Result<Vec<(WeightId, String)>, Vec<String>> {
    let mut faults = Vec::new();
    let mut named = BTreeMap::new();
    let mut claimed: BTreeMap<String, WeightId> = BTreeMap::new();
    for (id, weight) in weights.iter() {
        match placed(&weight.name, table) {
            None => faults.push(format!("{} has no GGUF name", weight.name)),
            Some((place, name)) => {
                if let Some(other) = claimed.insert(name.clone(), id) {
                    faults.push(format!("{} and {} are both {name}", weights.get(other).name, weight.name));
                }
                named.insert(place, (id, name));
            }
        }
    }
    match faults.is_empty() {
        true => Ok(named.into_values().collect()),
        false => Err(faults),
    }
}

/// The GGUF name of a tensor of the checkpoint, by the first row of the table that fits.
///
/// `{i}` in a row is a layer number. A row whose GGUF name ends in `.weight` or `.bias`, or stands behind `=`, names one tensor; any
/// other row names a module, whose tensors keep these ends.
pub fn gguf_name(name: &str, table: &[(&'static str, &'static str)]) -> Option<String> {
    placed(name, table).map(|(_, name)| name)
}

fn placed(name: &str, table: &[(&'static str, &'static str)]) -> Option<(Place, String)> {
    table.iter().enumerate().find_map(|(index, (ours, theirs))| {
        let bare = theirs.strip_prefix('=');
        let whole = bare.is_some() || ENDS.iter().any(|end| theirs.ends_with(end));
        let (layer, end, ending) = match whole {
            true => (layer_of(name, ours)?, 0, ""),
            false => {
                let split =
                    |(at, end): (usize, &&'static str)| Some((layer_of(name.strip_suffix(end)?, ours)?, at, *end));
                ENDS.iter().enumerate().find_map(split)?
            }
        };
        // All of one stack come before the next stack, and in it layer by layer.
        let stack = table.iter().position(|(_, other)| stack_of(other) == stack_of(theirs)).unwrap_or(index);
        let theirs = bare.unwrap_or(theirs);
        let name = layer.map_or(theirs.to_owned(), |layer| theirs.replace("{i}", &layer.to_string()));
        Some(((stack, layer, index, end), format!("{name}{ending}")))
    })
}

/// What stands before the layer number.
fn stack_of(pattern: &str) -> &str {
    pattern.split_once("{i}").map_or(pattern, |(stack, _)| stack)
}

/// Whether a name fits a pattern, and with which layer number if the pattern has one.
fn layer_of(name: &str, pattern: &str) -> Option<Option<usize>> {
    let Some((before, after)) = pattern.split_once("{i}") else {
        return (name == pattern).then_some(None);
    };
    let digits = name.strip_prefix(before)?.strip_suffix(after)?;
    let layer: usize = digits.parse().ok()?;
    (layer.to_string() == digits).then_some(Some(layer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::{Blob, FloatType, Weight, WeightData};

    const TABLE: &[(&str, &str)] = &[
        ("shared", "token_embd"),
        ("decoder.embed_tokens", "token_embd"),
        ("final_logits_bias", "output.bias"),
        ("encoder.block.{i}.norm", "enc.blk.{i}.attn_norm"),
        ("encoder.block.{i}.q", "enc.blk.{i}.attn_q"),
        ("encoder.block.{i}.gate", "enc.blk.{i}.gate.weight"),
        ("encoder.positions.weight", "=enc.pos_emb"),
        ("encoder.norm", "enc.output_norm"),
    ];

    fn weights(names: &[&str]) -> Weights {
        let mut weights = Weights::default();
        for name in names {
            let data = WeightData::Stored { blob: Blob::memory([]), dtype: FloatType::F32 };
            weights.push(Weight { name: (*name).to_owned(), shape: vec![0], data });
        }
        weights
    }

    #[test]
    fn layers_are_counted_as_numbers_and_a_bias_follows_its_weight() {
        let found = weights(&[
            "encoder.norm.weight",
            "encoder.positions.weight",
            "encoder.block.10.norm.bias",
            "encoder.block.10.norm.weight",
            "encoder.block.10.gate",
            "encoder.block.2.q.weight",
            "encoder.block.2.q.bias",
            "encoder.block.2.norm.weight",
            "final_logits_bias",
            "shared.weight",
        ]);
        let names: Vec<String> =
            in_order(&found, TABLE).expect("all named").into_iter().map(|(_, name)| name).collect();
        assert_eq!(
            names,
            [
                "token_embd.weight",
                "output.bias",
                "enc.blk.2.attn_norm.weight",
                "enc.blk.2.attn_q.weight",
                "enc.blk.2.attn_q.bias",
                "enc.blk.10.attn_norm.weight",
                "enc.blk.10.attn_norm.bias",
                "enc.blk.10.gate.weight",
                "enc.pos_emb",
                "enc.output_norm.weight"
            ]
        );
    }

    #[test]
    fn every_weight_without_a_name_is_listed() {
        let names = [
            "encoder.block.02.q.weight",
            "encoder.block.2.q.scale",
            "encoder.block.2.gate.weight",
            "final_logits_bias.bias",
            "shared",
            "shared.weight",
            "decoder.embed_tokens.weight",
        ];
        let faults = in_order(&weights(&names), TABLE).expect_err("six faults");
        assert_eq!(
            faults,
            [
                "encoder.block.02.q.weight has no GGUF name",
                "encoder.block.2.q.scale has no GGUF name",
                "encoder.block.2.gate.weight has no GGUF name",
                "final_logits_bias.bias has no GGUF name",
                "shared has no GGUF name",
                "shared.weight and decoder.embed_tokens.weight are both token_embd.weight"
            ]
        );
    }
}
