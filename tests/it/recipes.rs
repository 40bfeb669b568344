//! Every recipe of the repository is one that a user can run.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::cli::{code, run, text};
use crate::fixture::{fixture, repository};

/// The recipes of the repository.
pub fn recipes() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(repository("recipes"))
        .expect("the recipes are in the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    found.sort();
    assert!(found.len() >= 22, "found only {found:?}");
    found
}

/// Trained models that are in the repository; the names of their recipes begin like theirs.
const BUNDLED: [&str; 2] = ["g2p-t5", "ocr-trocr"];

/// The bundled model of a recipe.
fn bundled(recipe: &str) -> Option<PathBuf> {
    let model = BUNDLED.iter().find(|model| recipe.starts_with(**model))?;
    Some(repository(&format!("models/{model}")))
}

/// A checkpoint of the recipe's family that is in the repository.
pub fn stand_in(recipe: &str) -> PathBuf {
    bundled(recipe).unwrap_or_else(|| match recipe {
        "flan-t5" => fixture("t5-v1.1"),
        "m2m100" => fixture("m2m_100"),
        "trocr" => fixture("trocr-vit"),
        name => fixture(name),
    })
}

/// Arguments that choose the artifacts that a stand-in can become: blocks do not divide the rows of most, and they have no tokenizer
/// for GGUF.
pub fn chosen(recipe: &str) -> &'static [&'static str] {
    match bundled(recipe) {
        Some(_) => &[],
        None => &["--only", "onnx", "--only", "safetensors"],
    }
}

#[test]
fn every_recipe_parses_and_plans_every_weight() {
    for path in recipes() {
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let model = stand_in(&stem).display().to_string();
        let path = path.display().to_string();
        let output = run(&["recipe", "check", &path, "--model", &model, "--json"]);
        let stderr = text(&output.stderr);
        assert_eq!(code(&output), 0, "{path}: {stderr}");
        let plans: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let plans = plans.as_array().expect("a list");
        assert!(plans.iter().all(|plan| plan["weights"].as_array().is_some_and(|w| w.len() > 20)), "{path}");
    }
}

#[test]
fn every_recipe_runs_whole_on_a_small_checkpoint() {
    for path in recipes() {
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let home = tempfile::tempdir().expect("temporary folder");
        let mut recipe = fs::read_to_string(&path).expect("there");
        assert!(recipe.starts_with("# "), "{stem} begins with what it is for");
        let trained = bundled(&stem).is_some();
        if !trained {
            // The limits of the trained model hold for 500 words; elsewhere fewer samples are enough to test the path.
            recipe = recipe.replace("samples: 32", "samples: 8");
        }
        // Simulators take seconds a word and chip.
        for samples in [100, 200] {
            recipe = recipe.replace(&format!("simulated_samples: {samples}"), "simulated_samples: 4");
        }
        recipe = recipe.replace("../models/", &format!("{}/", repository("models").display()));
        let named = recipe.lines().filter(|line| line.starts_with("  - ")).count();
        let file = home.path().join("recipe.yaml").display().to_string();
        fs::write(&file, recipe).expect("written");
        let (out, model) = (home.path().join("out").display().to_string(), stand_in(&stem).display().to_string());
        let mut all = vec!["convert", &file, "--model", &model, "--out", &out, "--offline", "--no-bench"];
        all.extend(chosen(&stem));
        let output = run(&all);
        // The limits are those of a trained model; random weights may break them, and nothing else.
        let stderr = text(&output.stderr);
        let only_quality =
            stderr.lines().filter(|l| l.starts_with("failed: ")).all(|l| l.starts_with("failed: quantization"));
        assert!(code(&output) == 0 || !trained && code(&output) == 1 && only_quality, "{stem}: {stderr}");
        let report = fs::read(home.path().join("out/report.json")).expect("there");
        let report: Value = serde_json::from_slice(&report).expect("JSON");
        assert_eq!(report["artifacts"].as_array().map(Vec::len), Some(if trained { named } else { 2 }), "{stem}");
    }
}
