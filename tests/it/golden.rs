//! Bytes do not move unless somebody means them to: digests of what every format writes of every checkpoint in every scheme, and of
//! what the bundled recipes make. `BLESS=1` rewrites the list; its diff is what changed for users.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use converters::export::ctranslate2::CTranslate2;
use converters::export::{npu::Npu, onnx::Onnx, safetensors::Safetensors};
use converters::{Artifact, FORMATS, Format, Model};
use graph::passes::{QuantizeActivations, QuantizeActivationsInBlocks, run_one};
use graph::{AffineTensor, Granularity, Graph};
use quant::{Policy, Role, Rule, Scheme};
use rayon::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cli::{code, run, text};
use crate::fixture::{arithmetic, repository, round_to_fixed_steps};
use crate::recipes::{chosen, recipes, stand_in};
use crate::safetensors::{all_models, imported, quantized};

/// `checkpoint format schemes digest`, a line each.
const SCHEMES: &str = "tests/fixtures/golden/schemes.txt";
/// `recipe artifact arithmetic digest`, a line each.
const RECIPES: &str = "tests/fixtures/golden/recipes.txt";
/// Instead of an arithmetic: bytes that are the same on every processor.
const ANY: &str = "any";

/// Schemes that share a line. A new scheme gets a line of its own, so that the others are seen to stay.
const GROUPS: &[(&str, &[&str])] = &[
    ("floats", &["keep", "f32", "f16", "bf16"]),
    (
        "integers",
        &[
            "int8",
            "int8-g32",
            "int8-g64",
            "int8-g128",
            "int8-asym",
            "int8-g32-asym",
            "int8-g64-asym",
            "int8-g128-asym",
            "int4",
            "int4-g32",
            "int4-g64",
            "int4-g128",
            "int4-asym",
            "int4-g32-asym",
            "int4-g64-asym",
            "int4-g128-asym",
        ],
    ),
    ("inverses", &["int8-inv"]),
    ("ggml", &["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"]),
    ("mxfp4", &["mxfp4"]),
    ("fp8", &["fp8", "fp8-tensor"]),
];

/// The lines of a golden list: what a digest is of, and the digest.
pub fn read(file: &str) -> BTreeMap<String, String> {
    let golden = fs::read_to_string(repository(file)).expect("in the repository");
    let lines = golden.lines().map(|line| line.rsplit_once(' ').expect("a digest ends the line"));
    lines.map(|(key, digest)| (key.to_owned(), digest.to_owned())).collect()
}

/// Writes a golden list anew.
pub fn bless(file: &str, lines: &BTreeMap<String, String>) {
    let text: String = lines.iter().map(|(key, digest)| format!("{key} {digest}\n")).collect();
    fs::write(repository(file), text).expect("written");
}

/// The golden list beside what was found. A line that begins alike on both sides must end alike.
fn compare(file: &str, found: &BTreeMap<String, String>, is_kept: impl Fn(&str) -> bool) {
    let golden = read(file);
    if std::env::var_os("BLESS").is_some() {
        let kept = golden.into_iter().filter(|(key, _)| is_kept(key));
        return bless(file, &kept.chain(found.clone()).collect());
    }
    let expected: BTreeMap<&String, &String> = golden.iter().filter(|(key, _)| !is_kept(key)).collect();
    let moved = |key: &&String| expected.get(key).copied() != found.get(*key);
    let mut all: Vec<&String> = expected.keys().copied().chain(found.keys()).collect();
    all.sort();
    all.dedup();
    let moved: Vec<&str> = all.iter().filter(|key| moved(key)).map(|key| &key[..]).collect();
    assert!(moved.is_empty(), "{} of {} lines of {file} are others:\n{}", moved.len(), all.len(), moved.join("\n"));
}

/// Names, lengths and bytes of an artifact's files, without the manifest, which holds paths, what has its digest, and the card, which
/// tells figures.
fn add_files(digest: &mut Sha256, artifact: &Artifact) {
    let told = ["trefoil.json", "provenance.intoto.json", "model.cdx.json", "README.md"];
    let is_told = |file: &Path| told.iter().any(|name| file.ends_with(name));
    for file in artifact.files.iter().filter(|file| !is_told(file)) {
        let bytes = fs::read(artifact.dir.join(file)).expect("just written");
        digest.update(format!("{} {}\n", file.display(), bytes.len()));
        digest.update(bytes);
    }
}

/// A digest as a line has it.
pub fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is written of a model, or that it is refused.
fn add_written(digest: &mut Sha256, format: &dyn Format, model: Option<&Model>) -> bool {
    let Some(model) = model.filter(|model| format.check(model).is_ok()) else {
        digest.update("refused\n");
        return false;
    };
    let home = tempfile::tempdir().expect("temporary folder");
    let artifact = format.write(model, home.path()).expect("checked before");
    add_files(digest, &artifact);
    true
}

/// What engines round while they run, under the options that a format has by default.
fn round_inside(graph: &mut Graph, format: &dyn Format) {
    if format.name() == Onnx::DEFAULT.name() {
        let onnx = Onnx::DEFAULT;
        let block_of = |weight: &AffineTensor| onnx.rounds_blocks_of(weight);
        run_one(graph, &QuantizeActivationsInBlocks { block_of: &block_of }).expect("fits");
    }
    if format.name() == CTranslate2::DEFAULT.name() {
        let block_of = |weight: &AffineTensor| CTranslate2::DEFAULT.rounds_rows_of(weight);
        run_one(graph, &QuantizeActivationsInBlocks { block_of: &block_of }).expect("fits");
    }
}

fn lines_of(dir: &Path) -> Vec<(String, String)> {
    let name = dir.file_name().expect("a folder").to_string_lossy().into_owned();
    let exact = imported(dir);
    let mut lines = Vec::new();
    for format in FORMATS {
        let mut model = exact.clone();
        if format.prepare(&mut model).is_err() {
            continue;
        }
        for (group, schemes) in GROUPS {
            let mut digest = Sha256::new();
            let mut written = 0;
            for scheme in *schemes {
                digest.update(format!("{scheme}\n"));
                let mut own = quantized(&model, &Policy::of(scheme.parse().expect("a scheme")));
                own.iter_mut().for_each(|own| round_inside(&mut own.graph, *format));
                written += usize::from(add_written(&mut digest, *format, own.as_ref()));
            }
            if written > 0 {
                lines.push((format!("{name} {} {group}", format.name()), hex(digest)));
            }
        }
        if let Some(digest) = rounded(&model, *format) {
            lines.push((format!("{name} {} activations", format.name()), digest));
        }
    }
    lines
}

/// int8 with rounded activations, as a format has them: at run time, or in fixed steps.
fn rounded(model: &Model, format: &dyn Format) -> Option<String> {
    let mut policy = Policy::of("int8".parse().expect("a scheme"));
    let embedding = Rule { role: Some(Role::Embedding), pattern: None, scheme: Scheme::Keep, clip: None, method: None };
    policy.rules = vec![embedding];
    let model = quantized(model, &policy)?;
    let dynamic = |granularity| {
        let mut model = model.clone();
        run_one(&mut model.graph, &QuantizeActivations::all(granularity)).expect("fits");
        model
    };
    let mut all = vec![];
    if format.name() == Onnx::DEFAULT.name() {
        let mut fixed = model.clone();
        round_to_fixed_steps(&mut fixed.graph);
        all = vec![dynamic(Granularity::Tensor), fixed];
    } else if format.name() == Safetensors::DEFAULT.name() {
        all = vec![dynamic(Granularity::Token)];
    }
    let mut digest = Sha256::new();
    let written = all.iter().filter(|model| add_written(&mut digest, format, Some(model))).count();
    (written > 0).then(|| hex(digest))
}

#[test]
fn every_format_writes_the_same_bytes_of_every_checkpoint_in_every_scheme() {
    let found: BTreeMap<String, String> = all_models().par_iter().flat_map(|dir| lines_of(dir)).collect();
    assert!(found.keys().any(|key| key.contains(Npu::DEFAULT.name())));
    compare(SCHEMES, &found, |_| false);
}

#[test]
fn every_scheme_is_in_the_golden_list() {
    let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, schemes)| *schemes).copied().collect();
    let mut all: Vec<String> = Scheme::ALL.iter().map(|scheme| scheme.name()).collect();
    listed.sort_unstable();
    all.sort_unstable();
    assert_eq!(listed, all);
}

/// Bytes that follow from samples depend on the last bits of floats, so such a line names what decides these, and is compared where
/// they are the same.
#[test]
fn every_recipe_makes_the_same_bytes() {
    let arithmetic = arithmetic();
    let lines = recipes().into_iter().flat_map(|path: PathBuf| {
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let home = tempfile::tempdir().expect("temporary folder");
        let (out, model) = (home.path().join("out"), stand_in(&stem).display().to_string());
        let (file, to) = (path.display().to_string(), out.display().to_string());
        let mut arguments = vec!["convert", &file, "--model", &model, "--out", &to, "--no-validate", "--quiet"];
        arguments.extend(chosen(&stem));
        let output = run(&arguments);
        assert_eq!(code(&output), 0, "{stem}: {}", text(&output.stderr));
        let folders = fs::read_dir(&out).expect("made").map(|entry| entry.expect("readable").path());
        let folders = folders.filter(|dir| dir.join("trefoil.json").exists());
        let line = |dir: PathBuf| {
            let manifest = fs::read(dir.join("trefoil.json")).expect("there");
            let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
            let depends = !manifest["calibrated"].is_null();
            let mut digest = Sha256::new();
            add_files(&mut digest, &Artifact::list("any", &dir).expect("listed"));
            let artifact = dir.file_name().expect("a folder").to_string_lossy().into_owned();
            (format!("{stem} {artifact} {}", if depends { &arithmetic } else { ANY }), hex(digest))
        };
        folders.map(line).collect::<Vec<_>>()
    });
    let found: BTreeMap<String, String> = lines.collect();
    assert!(found.len() > 40, "{}", found.len());
    let is_other = |key: &str| ![ANY, &arithmetic].contains(&key.splitn(3, ' ').nth(2).expect("what it depends on"));
    compare(RECIPES, &found, is_other);
}
