//! transformers.js, in Node and in headless Chromium on WebAssembly: folders as they are, and the example that opens them.
//! What needs Node and a browser is ignored by default; `tools/setup.sh --all` installs both, and CI turns it on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use converters::export::onnx::{Consumer, Onnx, Placement};
use converters::{Format, import};
use serde_json::{Value, json};

use crate::cli::{Home, code, run, text, trefoil};
use crate::consumers::{TRANSFORMERS_JS, compare, is_whisper, model, printed, recorded_rows, said_rows, told, write};
use crate::fixture::{copy, expected, fixture, repository};

const FORMAT: Onnx = Onnx { consumer: Consumer::TransformersJs, ..Onnx::DEFAULT };
const WORDS: [&str; 4] = ["hello", "beezley", "cytogen", "internationalization"];
/// Under int8 its two best first tokens are 0.013 nats apart, which is less than the rounding of activations to 8 bits moves them, and
/// that is how WebAssembly multiplies by codes.
const TIE: &str = "asencio";
const EITHER: [&str; 2] = ["AH0 S EH1 N S IY0 OW0", "AA0 S EH1 N CH IY0 OW0"];

/// A scheme of the bundled model, with what its files' names end in and what it is called there.
const SCHEMES: [(&str, &str, &str); 5] = [
    ("f32", "", "fp32"),
    ("f16", "_fp16", "fp16"),
    ("int8", "_quantized", "q8"),
    ("int4-g32", "_q4", "q4"),
    ("int4-g32-asym", "_q4", "q4"),
];

fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(repository("tests/foreign").join(script)).arg(repository(".node/node_modules"));
    command
}

/// The bundled model under each scheme, in folders named after them.
fn bundled() -> Home {
    let mut recipe = format!("model: {}\nout: out\nartifacts:\n", repository("models/g2p-t5").display());
    for (scheme, ..) in SCHEMES {
        recipe +=
            &format!("  - {{ name: {scheme}, onnx: {{ for: transformers.js }}, quantize: {{ scheme: {scheme} }} }}\n");
    }
    recipe += "  - { name: dynamic, onnx: { for: transformers.js, weights: embedded }, quantize: { scheme: int8, activations: dynamic } }\n";
    recipe += "validate:\n  data: words.jsonl\n";
    let home = Home::with(&recipe);
    let lines = WORDS.map(|word| json!({ "input": word }).to_string() + "\n").concat();
    fs::write(home.dir.path().join("words.jsonl"), lines).expect("written");
    let recipe = home.dir.path().join("recipe.yaml").display().to_string();
    let output = run(&["convert", &recipe, "--offline", "--no-bench"]);
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    home
}

fn files_of(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("listed")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn the_folder_has_the_names_that_transformers_js_looks_for_and_its_config_says_them() {
    let home = bundled();
    for (name, suffix, dtype, beside) in SCHEMES
        .map(|(scheme, suffix, dtype)| (scheme, suffix, dtype, true))
        .into_iter()
        .chain([("dynamic", "_quantized", "q8", false)])
    {
        let dir = home.dir.path().join("out").join(name);
        let graphs = ["decoder_model_merged", "encoder_model"].map(|stem| format!("{stem}{suffix}.onnx"));
        let data = |graph: &String| beside.then(|| format!("{graph}_data"));
        let mut wanted: Vec<String> = graphs.iter().cloned().chain(graphs.iter().filter_map(data)).collect();
        wanted.sort();
        assert_eq!(files_of(&dir.join("onnx")), wanted, "{name}");
        let config: Value = serde_json::from_slice(&fs::read(dir.join("config.json")).expect("there")).expect("JSON");
        assert_eq!(config["transformers.js_config"], json!({ "dtype": dtype, "use_external_data_format": beside }));
        assert_eq!(config["model_type"], "t5");
        let card = fs::read_to_string(dir.join("README.md")).expect("there");
        assert!(card.contains("from \"@huggingface/transformers\"") && !card.contains("optimum"), "{card}");
        let verified = run(&["verify", &dir.display().to_string()]);
        assert_eq!(code(&verified), 0, "{name}: {}", text(&verified.stdout));
    }
}

#[test]
fn a_family_that_transformers_js_lacks_is_refused_before_the_first_byte() {
    for name in ["umt5", "moonshine", "mu"] {
        let error = FORMAT.check(&model(name)).expect_err(name).to_string();
        assert!(error.contains(name) && error.contains("t5, mt5, bart") && error.contains("hint: leave"), "{error}");
    }
    for (name, decoder) in [("vit-bert", "bert"), ("vit-gpt2", "gpt2")] {
        let error = FORMAT.check(&model(name)).expect_err(name).to_string();
        let expected =
            format!("vision-encoder-decoder around {decoder}: transformers.js is known to run trocr and mbart there");
        assert!(error.contains(&expected) && error.contains("hint: leave"), "{error}");
    }
}

/// What a program says from fixtures' folders as they are.
fn says_what_is_recorded(script: &[&str], placement: Placement) {
    let mut faults = Vec::new();
    for name in TRANSFORMERS_JS {
        let (model, home) = (model(name), tempfile::tempdir().expect("temporary folder"));
        write(&model, &Onnx { weights: placement, ..FORMAT }, home.path());
        let mut command = node(script[0]);
        command.args(&script[1..]).arg(home.path()).arg(fixture(name).join("expected.safetensors"));
        let found = said_rows(&printed(command), &model);
        if let Err(e) = found.and_then(|found| compare(&recorded_rows(&model), &found, is_whisper(&model))) {
            faults.push(format!("{name}: {e}"));
        }
    }
    told(&faults);
}

#[test]
#[ignore = "needs Node and .node; CI turns it on"]
fn transformers_js_says_the_recorded_tokens_for_every_family_that_it_knows() {
    says_what_is_recorded(&["fixture_open.mjs"], Placement::External);
    says_what_is_recorded(&["fixture_open.mjs"], Placement::Embedded);
}

#[test]
#[ignore = "needs Node, .node and Chromium; CI turns it on"]
fn a_browser_says_the_recorded_tokens_for_every_family_that_transformers_js_knows() {
    says_what_is_recorded(&["web_open.mjs", "fixture"], Placement::External);
    says_what_is_recorded(&["web_open.mjs", "fixture"], Placement::Embedded);
}

/// What is said of each word.
fn by_word(said: &Value) -> BTreeMap<String, String> {
    let rows = said.as_array().unwrap_or_else(|| panic!("expected answers, found {said}"));
    let text = |row: &Value, key: &str| row[key].as_str().expect("a text").to_owned();
    rows.iter().map(|row| (text(row, "given"), text(row, "text"))).collect()
}

#[test]
#[ignore = "needs Node, .node and Chromium; CI turns it on"]
fn the_example_reads_words_as_node_and_the_program_do_from_every_scheme() {
    let home = bundled();
    for name in SCHEMES.map(|(scheme, ..)| scheme).into_iter().chain(["dynamic"]) {
        let dir = home.dir.path().join("out").join(name);
        let folder = dir.display().to_string();
        let ours = WORDS.map(|word| {
            // The environment of the tests has onnxruntime.
            let environment = std::env::var_os("VIRTUAL_ENV").unwrap_or_else(|| repository(".venv").into());
            let mut program = trefoil();
            program.args(["run", &folder, word, "--offline"]).env("VIRTUAL_ENV", environment);
            let output = program.output().expect("the binary starts");
            assert_eq!(code(&output), 0, "{name}: {}", text(&output.stderr));
            (word.to_owned(), text(&output.stdout).trim_end().to_owned())
        });
        let mut command = node("words_open.mjs");
        command.arg(&dir).args(WORDS);
        let in_node = printed(command);
        let mut command = node("web_open.mjs");
        command.args(["page", &format!("word={folder}")]).args(WORDS).arg(TIE);
        let on_page = printed(command);
        println!("{name}: page {on_page}\n{name}: Node {in_node}");
        let ours = BTreeMap::from(ours);
        assert_eq!(by_word(&in_node), ours, "{name}");
        let mut said = by_word(&on_page);
        let tied = said.remove(TIE).expect("answered");
        assert!(EITHER.contains(&tied.as_str()), "{name}: {tied}");
        assert_eq!(said, ours, "{name}");
        let speeds = on_page.as_array().expect("answers").iter().map(|row| row["speed"].as_str().expect("a text"));
        for speed in speeds {
            let number = speed.strip_suffix(" tokens per second").and_then(|number| number.parse::<u32>().ok());
            assert!(number.is_some_and(|number| number > 0), "{name}: {speed}");
        }
    }
}

/// A tokenizer in which a token is its number, and the special ones have their names.
fn numbers(special: &BTreeMap<i64, &str>, tokens: i64) -> [(&'static str, Value); 2] {
    let word = |id: i64| special.get(&id).map_or_else(|| format!("\u{120}{id}"), |name| (*name).to_owned());
    let vocab: serde_json::Map<String, Value> = (0..tokens).map(|id| (word(id), json!(id))).collect();
    let added = |(id, name): (&i64, &&str)| {
        json!({ "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": true })
    };
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": special.iter().map(added).collect::<Vec<_>>(),
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    [("tokenizer.json", tokenizer), ("tokenizer_config.json", json!({ "tokenizer_class": "WhisperTokenizer" }))]
}

/// A WAV without what it says of itself behind its format, which is of an odd length there, and Chromium does not step over that.
fn without_list(wav: &[u8]) -> Vec<u8> {
    const FORMAT: usize = 36;
    let data = wav.windows(4).position(|four| four == b"data").expect("samples");
    let rest = &wav[data..];
    let bytes = u32::try_from(FORMAT - 8 + rest.len()).expect("short").to_le_bytes();
    [&wav[..4], &bytes[..], &wav[8..FORMAT], rest].concat()
}

#[test]
#[ignore = "needs Node, .node and Chromium; CI turns it on"]
fn the_example_hears_a_clip_as_transformers_did() {
    const SPECIAL: [(i64, &str); 9] = [
        (50, "<|endoftext|>"),
        (51, "<|startoftranscript|>"),
        (52, "<|en|>"),
        (53, "<|de|>"),
        (54, "<|fr|>"),
        (55, "<|es|>"),
        (56, "<|translate|>"),
        (57, "<|transcribe|>"),
        (61, "<|notimestamps|>"),
    ];
    let (special, checkpoint) = (BTreeMap::from(SPECIAL), copy("whisper"));
    for (name, content) in numbers(&special, 62) {
        fs::write(checkpoint.path().join(name), content.to_string()).expect("written");
    }
    let home = tempfile::tempdir().expect("temporary folder");
    let mut model = import(checkpoint.path()).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    write(&model, &FORMAT, home.path());
    let mut command = node("web_open.mjs");
    let clip = home.path().join("chirp.wav");
    fs::write(&clip, without_list(&fs::read(repository("tests/fixtures/audio/chirp.wav")).expect("there")))
        .expect("written");
    command.args(["page", &format!("clip={}", home.path().display())]).arg(&clip);
    let said = printed(command);

    let (recorded, _) = expected(&fixture("whisper"));
    let tokens = recorded["clip_greedy"].as_i64().expect("ids");
    let words: Vec<String> = tokens.iter().filter(|id| !special.contains_key(id)).map(i64::to_string).collect();
    // Recorded up to a limit below the engine's.
    assert!(said[0]["text"].as_str().is_some_and(|text| text.starts_with(&words.join(" "))), "{words:?}, {said}");
}
