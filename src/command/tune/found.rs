//! What a search found, and the files that say so.

use std::collections::BTreeMap;

use quant::Method;
use serde::{Deserialize, Serialize};
use validate::report::InputFile;

use crate::names::TUNE_JSON;

/// What is written, the one for machines first.
pub const FILES: [&str; 3] = [TUNE_JSON, "tune.md", "tune.svg"];

/// What a search found, for `tune.json`.
#[derive(Serialize)]
pub struct Found {
    pub model: String,
    /// Its files, by which a report knows that this speaks of the same model.
    pub inputs: Vec<InputFile>,
    pub artifact: String,
    pub format: String,
    pub method: Method,
    pub calibration: String,
    /// Samples that judged.
    pub samples: usize,
    pub sensitivity: Vec<Row>,
    pub kinds: Vec<Group>,
    pub layers: Vec<Group>,
    /// The frontier, predicted from single weights.
    pub predicted: Vec<Size>,
    /// Plans measured as a whole.
    pub measured: Vec<Whole>,
    /// The plan within the budget, as its index in `measured`.
    pub chosen: Option<usize>,
}

/// One weight and its distances.
#[derive(Serialize)]
pub struct Row {
    pub name: String,
    pub kl: BTreeMap<String, f64>,
    pub bytes: BTreeMap<String, u64>,
    pub chosen: Option<String>,
}

/// Weights of one kind or layer, their distances and bytes added.
#[derive(Serialize)]
pub struct Group {
    pub name: String,
    pub weights: usize,
    pub kl: BTreeMap<String, f64>,
    pub bytes: BTreeMap<String, u64>,
}

#[derive(Serialize)]
pub struct Size {
    pub bytes: u64,
    pub kl: f64,
}

/// A plan measured as a whole.
#[derive(Serialize, Deserialize, Clone)]
pub struct Whole {
    pub label: String,
    pub bytes: u64,
    pub kl: f64,
    pub points_lost: Option<f64>,
}

/// The name with its numbers left out: weights that do the same in every layer.
pub fn kind(name: &str) -> String {
    let parts = name.trim_end_matches(".weight").split('.');
    parts.map(|part| if part.bytes().all(|b| b.is_ascii_digit()) { "*" } else { part }).collect::<Vec<_>>().join(".")
}

/// The name up to its first number: a layer of a stack. What stands outside of layers is its own.
pub fn layer(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.iter().position(|part| part.bytes().all(|b| b.is_ascii_digit())) {
        Some(number) => parts[..=number].join("."),
        None => name.to_owned(),
    }
}

pub fn grouped(rows: &[Row], by: impl Fn(&str) -> String) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let name = by(&row.name);
        if !groups.iter().any(|group| group.name == name) {
            groups.push(Group { name: name.clone(), weights: 0, kl: BTreeMap::new(), bytes: BTreeMap::new() });
        }
        let group = groups.iter_mut().find(|group| group.name == name).expect("it was just pushed");
        group.weights += 1;
        for (scheme, kl) in &row.kl {
            *group.kl.entry(scheme.clone()).or_default() += kl;
        }
        for (scheme, bytes) in &row.bytes {
            *group.bytes.entry(scheme.clone()).or_default() += bytes;
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_grouped_by_what_they_do_and_by_where_they_stand() {
        let name = "encoder.block.3.layer.0.SelfAttention.q.weight";
        assert_eq!(kind(name), "encoder.block.*.layer.*.SelfAttention.q");
        assert_eq!(layer(name), "encoder.block.3");
        assert_eq!(layer("shared.weight"), "shared.weight");
    }
}
