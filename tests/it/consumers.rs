//! Every family in the programs that its users open artifacts with. Ignored by default: they need the environments of
//! `tools/setup.sh --all`, and CI turns them on. The lists here are what the README's table of families says.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use converters::export::onnx::Onnx;
use converters::export::safetensors::Safetensors;
use converters::{Artifact, Format, Model, import};
use graph::progress::Quiet;
use graph::{Feeds, Interpreter, Scratch, Tensor};
use quant::{Policy, Scheme};
use serde_json::Value;
use validate::runtime::hf::Transformers;
use validate::runtime::reference::Reference;
use validate::runtime::{Options, Runtime, Session};

use crate::fixture::{expected, fixture, repository};

/// What a consumer makes of a fixture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opens {
    /// It says the recorded tokens, in every form that it has.
    All,
    /// Only as decoder and decoder with past; why the merged decoder does not do.
    Pair(&'static str),
}
use Opens::{All, Pair};

const HEAD_WIDTH: &str = "it feeds empty caches of d_model / heads columns, and the fixture's heads are wider";
const HEADS: &str = "it feeds empty caches of as many heads as the encoder has, and the fixture's decoder has fewer";

/// Optimum 2.1 with transformers 4.57, by fixture.
pub const OPTIMUM: &[(&str, Opens)] = &[
    ("t5-rows-of-32", Pair(HEAD_WIDTH)),
    ("mt5", Pair(HEAD_WIDTH)),
    ("bart", Pair(HEADS)),
    ("mbart", Pair(HEADS)),
    ("pegasus-positions-stored", Pair(HEADS)),
    ("blenderbot", Pair(HEADS)),
    ("blenderbot-small", Pair(HEADS)),
    ("marian", Pair(HEADS)),
    ("m2m_100", Pair(HEADS)),
    ("nllb", Pair(HEADS)),
    ("whisper", Pair(HEADS)),
    ("moonshine", All),
    ("trocr-vit", All),
    ("trocr-deit", All),
    ("vit-bert", All),
    ("vit-gpt2", All),
    ("donut", Pair(HEADS)),
    ("nougat", All),
];

/// transformers.js 4.3 in Node and in a browser, which opens the merged decoder (web.rs). It feeds Moonshine no mask, which our encoder needs, and has
/// no `encoder_no_repeat_ngram_size`, which Blenderbot's settings ask for; `blenderbot-small` is of that family without it.
pub const TRANSFORMERS_JS: &[&str] = &[
    "t5-rows-of-32",
    "mt5",
    "bart",
    "mbart",
    "blenderbot-small",
    "marian",
    "m2m_100",
    "nllb",
    "whisper",
    "trocr-vit",
    "trocr-deit",
    "donut",
    "nougat",
    "florence2",
];

/// transformers 5.23, the whole of what is recorded with it.
pub const TRANSFORMERS: &[&str] = &[
    "t5-v1.0",
    "t5-v1.1",
    "mt5",
    "umt5",
    "bart",
    "mbart",
    "pegasus",
    "blenderbot",
    "blenderbot-small",
    "plbart",
    "marian",
    "marian-two-vocabularies",
    "m2m_100",
    "nllb",
    "whisper",
    "moonshine",
    "t5gemma",
    "t5gemma2",
    "trocr-vit",
    "vit-bert",
    "vit-gpt2",
    "donut",
    "nougat",
    "florence2",
];

/// llama.cpp, of those that it computes: it knows no other largest relative distance than 128 (`t5-long`).
pub const LLAMA_CPP: &[&str] =
    &["t5-v1.0", "t5-v1.1", "t5-tied-unscaled", "t5-rows-of-32", "byt5", "mt5", "mt5-tied", "umt5"];

pub fn model(name: &str) -> Model {
    let mut model = import(&fixture(name)).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).unwrap_or_else(|e| panic!("{name}: {e}"));
    model
}

pub fn write(model: &Model, format: &dyn Format, dir: &Path) -> Artifact {
    format.check(model).unwrap_or_else(|e| panic!("{e}"));
    format.write(model, dir).unwrap_or_else(|e| panic!("{e}"))
}

/// The JSON that a program prints. Errors: its own words.
pub fn printed(mut command: Command) -> Value {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; tools/setup.sh --all makes it"));
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&out).unwrap_or_else(|_| serde_json::json!({ "error": format!("{out}{errors}") }))
}

fn opened_in_python(environment: &str, consumer: &str, dir: &Path, name: &str) -> Value {
    let mut command = Command::new(repository(environment).join("bin/python"));
    command.arg(repository("tests/foreign/fixture_open.py")).arg(consumer).arg(dir).arg(fixture(name));
    printed(command)
}

/// Generated rows by what they were generated from, without the padding at their ends.
pub type Rows = BTreeMap<&'static str, Vec<Vec<i64>>>;

const WHAT: [&str; 2] = ["greedy", "prompt_greedy"];

/// A row up to the first end after the start token, which may be an end itself: what a program fills it up with does not
/// count.
fn until_end(row: Vec<i64>, model: &Model) -> Vec<i64> {
    let generation = model.checkpoint.generation();
    let ends = |id: &i64| generation.eos_token_ids.contains(id);
    let mut row = match row.iter().skip(1).position(ends) {
        Some(end) => row[..end + 2].to_vec(),
        None => row,
    };
    while row.last() == Some(&generation.pad_token_id) {
        row.pop();
    }
    row
}

pub fn recorded_rows(model: &Model) -> Rows {
    let (recorded, _) = expected(model.checkpoint.dir());
    let rows = |tokens: &Tensor| {
        let rows = tokens.as_i64().expect("ids").chunks(tokens.shape()[1]);
        rows.map(|row| until_end(row.to_vec(), model)).collect()
    };
    WHAT.into_iter().filter_map(|what| Some((what, rows(recorded.get(what)?)))).collect()
}

/// Errors: the program's own words instead of rows.
pub fn said_rows(said: &Value, model: &Model) -> Result<Rows, String> {
    if let Some(error) = said.get("error") {
        return Err(error.to_string());
    }
    let row = |row: &Value| {
        let ids = row.as_array().expect("a row").iter().map(|id| id.as_i64().expect("an id"));
        until_end(ids.collect(), model)
    };
    let rows = |rows: &Value| rows.as_array().map(|rows| rows.iter().map(row).collect());
    let found: Rows = WHAT.into_iter().filter_map(|what| Some((what, rows(said.get(what)?)?))).collect();
    if found.is_empty() { Err(format!("expected generated rows, found {said}")) } else { Ok(found) }
}

/// Errors: the first row that differs.
pub fn compare(expected: &Rows, found: &Rows, is_whisper: bool) -> Result<(), String> {
    for (what, found) in found {
        let expected = &expected[what];
        if expected.len() != found.len() {
            return Err(format!("{what}: expected {} rows, found {}", expected.len(), found.len()));
        }
        // transformers 5 leaves Whisper's prompt and end out of what `generate` returns.
        let same = |(a, b): (&Vec<i64>, &Vec<i64>)| a == b || is_whisper && b.len() > 4 && contains(a, b);
        if let Some(i) = expected.iter().zip(found).position(|pair| !same(pair)) {
            return Err(format!("{what}, row {i}: expected {:?}, found {:?}", expected[i], found[i]));
        }
    }
    Ok(())
}

/// Whether `part` stands in `row` after at most four tokens of a prompt and before at most an end.
fn contains(row: &[i64], part: &[i64]) -> bool {
    (0..=4).any(|from| row.get(from..).is_some_and(|rest| rest.starts_with(part) && rest.len() <= part.len() + 1))
}

pub fn is_whisper(model: &Model) -> bool {
    model.checkpoint.config().model_type() == Some("whisper")
}

pub fn told(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
#[ignore = "needs .venv-optimum; CI turns it on"]
fn optimum_says_what_its_own_torch_says_for_every_family_that_it_knows() {
    let mut faults = Vec::new();
    for (name, opens) in OPTIMUM {
        let (model, home) = (model(name), tempfile::tempdir().expect("temporary folder"));
        write(&model, &Onnx::DEFAULT, home.path());
        let said = opened_in_python(".venv-optimum", "optimum", home.path(), name);
        // Its transformers of 4.x applies some settings of decoding otherwise than 5.23, which recorded the fixture.
        let torch = said_rows(&said["torch"], &model).unwrap_or_else(|e| panic!("{name}: {e}"));
        for form in ["merged", "pair"] {
            let found = said_rows(&said[form], &model).and_then(|found| compare(&torch, &found, false));
            match (found, form, opens) {
                (Ok(()), "merged", Pair(why)) => faults.push(format!("{name}: merged opens now, in spite of: {why}")),
                (Err(_), "merged", Pair(_)) | (Ok(()), ..) => {}
                (Err(e), ..) => faults.push(format!("{name}, {form}: {e}")),
            }
        }
    }
    told(&faults);
}

#[test]
#[ignore = "needs .venv; CI turns it on"]
fn transformers_says_the_recorded_tokens_from_our_floats() {
    let mut faults = Vec::new();
    for name in TRANSFORMERS {
        let (model, home) = (model(name), tempfile::tempdir().expect("temporary folder"));
        write(&model, &Safetensors::DEFAULT, home.path());
        let said = opened_in_python(".venv", "transformers", home.path(), name);
        let found = said_rows(&said["folder"], &model);
        if let Err(e) = found.and_then(|found| compare(&recorded_rows(&model), &found, is_whisper(&model))) {
            faults.push(format!("{name}: {e}"));
        }
    }
    told(&faults);
}

/// The encoder's inputs, as recorded.
fn source(model: &Model, recorded: &graph::Tensors) -> Feeds {
    let encoder = model.graph.entry("encoder").expect("split made it");
    let sources = model.graph.sources(encoder);
    sources.iter().map(|port| (port.name.clone(), recorded[&port.name].clone())).collect()
}

/// Largest difference of logits, relative to the largest.
fn distance(expected: &Tensor, found: &Tensor) -> f32 {
    assert_eq!(expected.shape(), found.shape());
    let [expected, found] = [expected, found].map(|t| t.as_f32().expect("floats"));
    let scale = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale
}

/// compressed-tensors decodes to the same f32; sums are in another order.
const F32_NOISE: f32 = 1e-5;

/// What sums in another order may do to a fixture's logits.
fn noise_of(name: &str) -> f32 {
    match name {
        // Drawn weights that make much of little: with its floats, torch itself is 1.1e-5 in float32 from what it computes in float64,
        // where 3.3e-5 was seen between torch and the interpreter. A weight that is wrong shows at 1e-3.
        "florence2" => 6.0 * F32_NOISE,
        _ => F32_NOISE,
    }
}

#[test]
#[ignore = "needs .venv; CI turns it on"]
fn transformers_computes_with_compressed_tensors_what_the_interpreter_does() {
    let mut faults = Vec::new();
    // Rows of most fixtures are no multiple of 32.
    let whole = ["t5-rows-of-32", "bart-rows-of-32"].map(|name| (name, &["fp8-tensor", "mxfp4"][..]));
    // A Conv1D takes no codes.
    let of_linears = TRANSFORMERS.iter().filter(|name| **name != "vit-gpt2");
    for (name, schemes) in of_linears.map(|name| (*name, &["int8", "int4-g32", "fp8"][..])).chain(whole) {
        for scheme in schemes {
            let mut model = model(name);
            let scheme: Scheme = scheme.parse().expect("a scheme");
            let plan = Policy::of(scheme).plan(&model.graph).unwrap_or_else(|e| panic!("{name}: {e}"));
            quant::quantize(&mut model.graph, &plan, &Scratch::new().expect("scratch"), &Quiet).expect("quantized");
            let home = tempfile::tempdir().expect("temporary folder");
            let artifact = write(&model, &Safetensors { widen_codes: true, ..Safetensors::DEFAULT }, home.path());
            let python = Some(repository(".venv").join("bin/python"));
            let options = Options { offline: true, python, ..Options::DEFAULT };
            let (recorded, _) = expected(&fixture(name));
            let said = |session: &mut dyn Session| {
                session.encode(&source(&model, &recorded))?;
                session.decode(&recorded["decoder_input_ids"])
            };
            let found = Transformers.open(&artifact, &options).and_then(|mut session| said(&mut *session));
            let interpreter = Interpreter::new(&model.graph);
            let expected = said(&mut Reference::new(&interpreter)).unwrap_or_else(|e| panic!("{name}: {e}"));
            match found.map(|found| distance(&expected, &found)) {
                Ok(worst) if worst <= noise_of(name) => {}
                Ok(worst) => faults.push(format!("{name} as {scheme}: {worst:e}")),
                Err(e) => faults.push(format!("{name} as {scheme}: {e}")),
            }
        }
    }
    told(&faults);
}
