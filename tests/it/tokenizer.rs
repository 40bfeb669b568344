//! Ids and texts against transformers and sentencepiece, recorded by tests/fixtures/tokenizer/make.py.

use std::fs;
use std::path::{Path, PathBuf};

use converters::Tokenizer;
use converters::tokenizer::{Languages, PieceType};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{expected, repository};

fn golden() -> Value {
    let file = repository("tests/fixtures/tokenizer/golden.json");
    serde_json::from_slice(&fs::read(file).expect("recorded")).expect("JSON")
}

/// A folder with the files of a recorded case: those of the bundled model, or a small model of its own.
fn folder(case: &Value) -> TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    for file in case["files"].as_array().expect("files") {
        let name = file.as_str().expect("a name");
        let own = repository("tests/fixtures/tokenizer").join(name);
        match own.exists() {
            true => fs::copy(own, folder.path().join("spiece.model")),
            false => fs::copy(repository("models/g2p-t5").join(name), folder.path().join(name)),
        }
        .expect("copied");
    }
    fs::write(folder.path().join("tokenizer_config.json"), case["config"].to_string()).expect("written");
    folder
}

fn ids(value: &Value) -> Vec<i64> {
    value.as_array().expect("ids").iter().map(|id| id.as_i64().expect("an id")).collect()
}

#[test]
fn every_recorded_text_has_the_recorded_ids_and_back() {
    let golden = golden();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (name, case) in golden["cases"].as_object().expect("cases") {
        let tokenizer = Tokenizer::open(folder(case).path()).unwrap_or_else(|e| panic!("{name}: {e}"));
        for pair in case["texts"].as_array().expect("texts") {
            let text = pair[0].as_str().expect("text");
            let found = tokenizer.encode(text).expect("encoded");
            compared += 1;
            if found != ids(&pair[1]) {
                wrong.push(format!("{name}: {text:?}: expected {:?}, found {found:?}", ids(&pair[1])));
            }
        }
        for row in case["ids"].as_array().expect("ids") {
            for (skip_special, text) in [(true, &row[1]), (false, &row[2])] {
                let Some(text) = text.as_str() else { continue };
                let found = tokenizer.decode(&ids(&row[0]), skip_special).expect("decoded");
                compared += 1;
                if found != text {
                    wrong.push(format!("{name}: {} ({skip_special}): expected {text:?}, found {found:?}", row[0]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 600, "{compared}");
}

/// The families' folders below tests/fixtures/tokenizer.
pub fn families() -> Vec<PathBuf> {
    let entries = fs::read_dir(repository("tests/fixtures/tokenizer")).expect("a folder");
    let folders =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.join("expected.json").exists());
    let mut folders: Vec<PathBuf> = folders.collect();
    folders.sort();
    assert!(folders.len() >= 20, "{folders:?}");
    folders
}

fn family(name: &str) -> PathBuf {
    repository("tests/fixtures/tokenizer").join(name)
}

/// The runs on a family's folder.
pub fn runs(folder: &Path) -> Vec<Value> {
    let golden = fs::read(folder.join("expected.json")).expect("recorded");
    let mut golden: Value = serde_json::from_slice(&golden).expect("JSON");
    let Some(Value::Array(runs)) = golden.get_mut("runs").map(Value::take) else { panic!("{}", folder.display()) };
    runs
}

/// A copy of a family's folder with the tokenizer_config.json of a run.
pub fn copied(folder: &Path, config: &Value) -> TempDir {
    let copy = tempfile::tempdir().expect("temporary folder");
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    if !config.is_null() {
        fs::write(copy.path().join("tokenizer_config.json"), config.to_string()).expect("written");
    }
    copy
}

fn languages(source: Option<&str>, target: Option<&str>) -> Languages {
    Languages { source_lang: source.map(str::to_owned), target_lang: target.map(str::to_owned) }
}

#[test]
fn every_family_has_the_recorded_ids_of_sources_and_targets_and_back() {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for folder in families() {
        let name = folder.file_name().expect("a name").display();
        for (number, run) in runs(&folder).iter().enumerate() {
            let asked: Languages = serde_json::from_value(run["languages"].clone()).expect("languages");
            let tokenizer =
                Tokenizer::open(copied(&folder, &run["config"]).path()).and_then(|t| t.with_languages(&asked));
            let tokenizer = tokenizer.unwrap_or_else(|e| panic!("{name} {number}: {e}"));
            let mut compare = |what: &str, found: String, expected: String| {
                compared += 1;
                if found != expected {
                    wrong.push(format!("{name} {number}: {what}: expected {expected}, found {found}"));
                }
            };
            for row in run["texts"].as_array().expect("texts") {
                let text = row[0].as_str().expect("text");
                let source = tokenizer.encode(text).expect("encoded");
                compare(&format!("source {text:?}"), format!("{source:?}"), format!("{:?}", ids(&row[1])));
                if !row[2].is_null() {
                    let target = tokenizer.encode_target(text).expect("encoded");
                    compare(&format!("target {text:?}"), format!("{target:?}"), format!("{:?}", ids(&row[2])));
                }
            }
            for row in run["ids"].as_array().expect("ids") {
                for (skip_special, text) in [(true, &row[1]), (false, &row[2])] {
                    let found = tokenizer.decode(&ids(&row[0]), skip_special).expect("decoded");
                    let expected = text.as_str().expect("text").to_owned();
                    compare(&format!("{} {skip_special}", row[0]), format!("{found:?}"), format!("{expected:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 5000, "{compared}");
}

#[test]
fn words_of_the_bundled_model_have_the_ids_of_transformers() {
    let dir = repository("models/g2p-t5");
    let (recorded, _) = expected(&dir);
    let text = fs::read_to_string(dir.join("data/test.jsonl")).expect("in the repository");
    let tokenizer = Tokenizer::open(&dir).expect("opens");
    for (name, key) in [("source", "input"), ("label", "target")] {
        let all = recorded[&format!("{name}_ids")].as_i64().expect("integers");
        let offsets = recorded[&format!("{name}_offsets")].as_i64().expect("integers");
        for (line, range) in text.lines().zip(offsets.windows(2)) {
            let row: Value = serde_json::from_str(line).expect("JSON");
            let text = row[key].as_str().expect("text");
            let expected = &all[range[0] as usize..range[1] as usize];
            assert_eq!(tokenizer.encode(text).expect("encoded"), expected, "{text}");
            if key == "target" {
                assert_eq!(tokenizer.decode(expected, true).expect("decoded"), text);
            }
        }
    }
}

#[test]
fn tokenizer_json_and_spiece_model_hold_one_vocabulary() {
    let golden = golden();
    let [json, spm] = ["tokenizer.json", "spiece.model"].map(|case| {
        let tokenizer = Tokenizer::open(folder(&golden["cases"][case]).path()).expect("opens");
        tokenizer.vocabulary().expect("Unigram").clone()
    });
    assert!(json == spm, "the vocabularies differ");
    assert_eq!((json.pieces.len(), json.charsmap.len()), (100, 240_007));
    assert_eq!((json.eos, json.pad, json.unknown()), (Some(1), Some(0), Some(2)));
    let count = |wanted: PieceType| json.types.iter().filter(|kind| **kind == wanted).count();
    use PieceType::{Control, Normal, Unknown, UserDefined};
    assert_eq!([Control, Unknown, UserDefined, Normal].map(count), [2, 1, 69, 28]);
}

#[test]
fn types_that_only_sentencepiece_knows_are_kept() {
    let golden = golden();
    let open = |case: &str| Tokenizer::open(folder(&golden["cases"][case]).path()).expect("opens");
    let bytes = open("byte fallback").vocabulary().expect("Unigram").clone();
    assert_eq!(bytes.types.iter().filter(|kind| **kind == PieceType::Byte).count(), 256);
    assert_eq!((bytes.add_space_prefix, bytes.remove_extra_whitespaces, bytes.charsmap.len()), (true, true, 0));
    let spaces = open("spaces kept").vocabulary().expect("Unigram").clone();
    assert_eq!(spaces.types.last(), Some(&PieceType::Unused));
    assert_eq!((spaces.add_space_prefix, spaces.remove_extra_whitespaces), (false, false));
    let sentinels = open("sentinels").vocabulary().expect("Unigram").clone();
    assert_eq!(sentinels.pieces[100..], ["<extra_id_2>", "<extra_id_1>", "<extra_id_0>"]);
    assert_eq!(sentinels.types[100..], [PieceType::Control; 3]);
    assert!(open("byt5").vocabulary().is_err_and(|why| why.contains("bytes")));
}

#[test]
fn damaged_tokenizers_are_errors() {
    let refusal = |file: &str, bytes: &[u8]| {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::write(folder.path().join(file), bytes).expect("written");
        let error = Tokenizer::open(folder.path()).expect_err("refused").to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    };
    let model = repository("models/g2p-t5");
    for file in ["tokenizer.json", "spiece.model"] {
        let bytes = fs::read(model.join(file)).expect("in the repository");
        for sixteenth in 0..16 {
            let error = refusal(file, &bytes[..bytes.len() * sixteenth / 16]);
            assert!(error.starts_with(&format!("{file}: ")), "{error}");
        }
    }
    // A normalizer whose trie claims 4 GB, and one that leads out of its own units.
    let json = |map: &str| format!(r#"{{"normalizer": {{"type": "Precompiled", "precompiled_charsmap": "{map}"}}}}"#);
    assert_eq!(
        refusal("tokenizer.json", json("/////w==").as_bytes()),
        "tokenizer.json: the charsmap's trie: expected 4294967295 bytes, found 0"
    );
    assert_eq!(
        refusal("tokenizer.json", json("BAAAAAD8//8=").as_bytes()),
        "tokenizer.json: the charsmap's trie: unit 0 leads to 4194303 of 1"
    );
    let none = refusal("tokenizer_config.json", br#"{"tokenizer_class": "T5Tokenizer"}"#);
    assert!(none.contains("expected tokenizer.json, spiece.model, source.spm, "), "{none}");
    let many = refusal("tokenizer_config.json", br#"{"tokenizer_class": "ByT5Tokenizer", "extra_ids": 4294967296}"#);
    assert_eq!(many, "tokenizer_config.json: extra_ids: expected at most 65536, found 4294967296");
}

#[test]
fn no_damaged_byte_of_a_sentencepiece_model_is_a_panic() {
    let golden = golden();
    let texts: Vec<&str> = golden["cases"]["spiece.model"]["texts"]
        .as_array()
        .expect("texts")
        .iter()
        .filter_map(|t| t[0].as_str())
        .collect();
    let folder = tempfile::tempdir().expect("temporary folder");
    let (mut opened, mut refused, mut encoded) = (0, 0, 0);
    for (file, stride) in [
        ("tests/fixtures/tokenizer/spaces-kept.model", 1),
        ("tests/fixtures/tokenizer/byte-fallback.model", 7),
        // Nearly all of it is the character map.
        ("models/g2p-t5/spiece.model", 499),
    ] {
        let whole = fs::read(repository(file)).expect("in the repository");
        for at in (0..whole.len()).step_by(stride) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(folder.path().join("spiece.model"), bytes).expect("written");
            match Tokenizer::open(folder.path()) {
                Err(_) => refused += 1,
                Ok(tokenizer) => {
                    opened += 1;
                    encoded += texts.iter().filter(|text| tokenizer.encode(text).is_ok()).count();
                }
            }
        }
    }
    assert!(opened > 500 && refused > 100 && encoded > 0, "{opened} opened, {refused} refused, {encoded} encoded");
}
