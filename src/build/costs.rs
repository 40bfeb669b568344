//! What layers cost, as `trefoil tune` left it beside the artifacts or the recipe.

use std::collections::BTreeMap;
use std::path::Path;

use converters::limits;
use serde::Deserialize;
use validate::report::{InputFile, LayerCost};

use crate::build::places::REPORT_BYTES;
use crate::names::TUNE_JSON;

/// The part of `tune.json` that a report shows.
#[derive(Deserialize)]
struct Tuned {
    inputs: Vec<InputFile>,
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    name: String,
    /// By scheme; null where the sum is not finite.
    kl: BTreeMap<String, Option<f64>>,
    bytes: BTreeMap<String, u64>,
}

/// The costs in the first of the folders whose `tune.json` is of a checkpoint with these files; none where there is no such file.
pub fn of(folders: &[&Path], inputs: &[InputFile]) -> Vec<LayerCost> {
    let read = |folder: &&Path| -> Option<Tuned> {
        serde_json::from_slice(&limits::read(&folder.join(TUNE_JSON), REPORT_BYTES).ok()?).ok()
    };
    let tuned = folders.iter().filter_map(read).find(|tuned| tuned.inputs == inputs);
    tuned.map_or_else(Vec::new, |tuned| tuned.layers.into_iter().flat_map(costs).collect())
}

fn costs(layer: Layer) -> Vec<LayerCost> {
    let Layer { name, kl, bytes } = layer;
    let known = kl.into_iter().filter_map(|(scheme, kl)| Some((kl?, *bytes.get(&scheme)?, scheme)));
    known.map(|(kl, bytes, scheme)| LayerCost { layer: name.clone(), scheme, kl, bytes }).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn costs_are_of_the_same_checkpoint_and_finite() {
        let home = tempfile::tempdir().expect("temporary folder");
        let [there, nothing] = ["a", "b"].map(|name| home.path().join(name));
        fs::create_dir(&there).expect("made");
        let input = |sha256: &str| InputFile { path: "w".to_owned(), bytes: 1, sha256: sha256.to_owned() };
        let text = r#"{ "model": "m", "inputs": [{ "path": "w", "bytes": 1, "sha256": "ab" }], "layers": [
            { "name": "encoder.block.0", "weights": 2, "kl": { "int4": 0.5, "int8": null }, "bytes": { "int4": 10, "int8": 20 } }
        ] }"#;
        fs::write(there.join(TUNE_JSON), text).expect("written");
        let places = [nothing.as_path(), there.as_path()];
        let expected = LayerCost { layer: "encoder.block.0".to_owned(), scheme: "int4".to_owned(), kl: 0.5, bytes: 10 };
        assert_eq!(of(&places, &[input("ab")]), [expected]);
        assert_eq!(of(&places, &[input("cd")]), []);
        fs::write(there.join(TUNE_JSON), "{}").expect("written");
        assert_eq!(of(&places, &[input("ab")]), []);
    }
}
