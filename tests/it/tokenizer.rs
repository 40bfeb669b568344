//! Ids and texts against transformers and sentencepiece, recorded by tests/fixtures/tokenizer/make.py.

use std::fs;
use std::path::{Path, PathBuf};

use converters::Tokenizer;
use converters::checkpoint::Overrides;
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
fn languages_are_found_by_name_and_told_to_generation() {
    let none = Overrides::default;
    for (name, source, target, ids, told) in [
        (
            "m2m100",
            Some("zu"),
            Some("__de__"),
            [278, 195],
            Overrides { forced_bos_token_id: Some(Some(195)), ..none() },
        ),
        (
            "mbart50",
            Some("gl_ES"),
            Some("ro_RO"),
            [159, 128],
            Overrides { forced_bos_token_id: Some(Some(128)), ..none() },
        ),
        (
            "nllb",
            Some("zho_Hans"),
            Some("deu_Latn"),
            [163, 160],
            Overrides { forced_bos_token_id: Some(Some(160)), ..none() },
        ),
        ("mbart", Some("de_DE"), Some("ro_RO"), [111, 128], Overrides { decoder_start_token_id: Some(128), ..none() }),
        ("plbart", Some("java"), Some("en_XX"), [109, 111], Overrides { decoder_start_token_id: Some(111), ..none() }),
        ("marian", None, Some(">>deu<<"), [107, 107], none()),
        ("whisper", Some("german"), None, [333, 333], Overrides { language: Some("german".to_owned()), ..none() }),
    ] {
        let folder = copied(&family(name), &runs(&family(name))[0]["config"]);
        let tokenizer = Tokenizer::open(folder.path()).expect("opens");
        let named =
            [source.or(target), target.or(source)].map(|lang| tokenizer.language_id(lang.expect("one of them")));
        assert_eq!(named, ids.map(Some), "{name}");
        assert_eq!(tokenizer.language_id("tlh"), None, "{name}");
        let asked = languages(source, target);
        let tokenizer = tokenizer.with_languages(&asked).expect("both are known");
        assert_eq!((tokenizer.languages(), tokenizer.decoding(&asked)), (asked, told), "{name}");
    }
}

#[test]
fn a_language_that_is_unknown_or_missing_is_an_error_with_the_nearest() {
    let refusal = |name: &str, asked: Languages| {
        let folder = copied(&family(name), &Value::Null);
        let error =
            Tokenizer::open(folder.path()).expect("opens").with_languages(&asked).expect_err("unknown").to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    };
    for (name, asked, count, found, nearest) in [
        ("mbart", languages(Some("ro_R0"), None), 25, "ro_R0", "ro_RO, ru_RU, "),
        ("m2m100", languages(None, Some("fra")), 100, "fra", "fr, fa, "),
    ] {
        let expected = format!("expected one of {count} languages, found {found:?}; the nearest are {nearest}");
        let error = refusal(name, asked);
        assert!(error.starts_with(&format!("sentencepiece.bpe.model: {expected}")), "{error}");
    }
    assert_eq!(
        refusal("marian", languages(Some("fra"), None)),
        "source.spm: found a source_lang, but this model is told the language of its outputs only"
    );
    assert_eq!(
        refusal("whisper-json", languages(None, Some("de"))),
        "tokenizer.json: found a target_lang, but this model is told the language of the speech only"
    );
    assert_eq!(
        refusal("bart", languages(Some("en"), None)),
        "vocab.json: found the language \"en\", but this tokenizer has none to choose from"
    );
    let folder = copied(&family("m2m100"), &Value::Null);
    let error =
        Tokenizer::open(folder.path()).expect("opens").encode_target("hello").expect_err("no language").to_string();
    assert!(error.ends_with(": expected target_lang, one of 100 languages, found none"), "{error}");
}

#[test]
fn a_multilingual_marian_has_the_language_of_its_outputs_before_its_inputs() {
    let folder = copied(&family("marian"), &Value::Null);
    let open = || Tokenizer::open(folder.path()).expect("opens");
    let asked = open().with_languages(&languages(None, Some("deu"))).expect("known");
    assert_eq!(asked.encode("hello").expect("encoded"), open().encode(">>deu<< hello").expect("encoded"));
    assert_eq!(asked.encode_target("hello").expect("encoded"), open().encode_target("hello").expect("encoded"));
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

/// The error of a family's folder after its files were changed.
fn refusal(name: &str, changes: &[(&str, &[u8])]) -> String {
    let folder = copied(&family(name), &runs(&family(name))[0]["config"]);
    for (file, bytes) in changes {
        fs::write(folder.path().join(file), bytes).expect("written");
    }
    let error = Tokenizer::open(folder.path()).expect_err("refused").to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn every_truncated_file_of_a_family_is_an_error_that_names_it() {
    for (name, files) in [
        ("marian", &["source.spm", "target.spm", "vocab.json"][..]),
        ("marian-separate", &["target_vocab.json"]),
        ("m2m100", &["sentencepiece.bpe.model", "vocab.json", "special_tokens_map.json"]),
        ("mbart", &["sentencepiece.bpe.model"]),
        ("plbart", &["sentencepiece.bpe.model"]),
        ("pegasus", &["spiece.model"]),
        ("bart", &["vocab.json"]),
        ("blenderbot-small", &["vocab.json"]),
        ("whisper", &["added_tokens.json"]),
        ("nllb", &["tokenizer.json"]),
        ("t5gemma", &["tokenizer.json"]),
    ] {
        for file in files {
            let whole = fs::read(family(name).join(file)).expect("recorded");
            for sixteenth in 0..16 {
                let error = refusal(name, &[(file, &whole[..whole.len() * sixteenth / 16])]);
                assert!(error.starts_with(&format!("{file}: ")), "{name}, {sixteenth}/16 of {file}: {error}");
            }
        }
    }
}

#[test]
fn contradictory_files_of_a_family_are_errors_with_their_place() {
    for (name, file, text, expected) in [
        (
            "marian",
            "vocab.json",
            r#"{"</s>": 0, "<unk>": 1, "a": 1}"#,
            r#"id 1: expected one piece, found "<unk>" and "a""#,
        ),
        (
            "marian",
            "vocab.json",
            r#"{"</s>": 0, "</s>": 1}"#,
            "expected pieces and their ids: </s> comes twice at line 1",
        ),
        ("marian", "vocab.json", r#"{"</s>": -1}"#, "expected pieces and their ids: </s>: invalid value: integer `-1`"),
        (
            "marian",
            "vocab.json",
            r#"{"</s>": 4000000000}"#,
            r#""</s>": expected an id below 16777216, found 4000000000"#,
        ),
        ("marian", "vocab.json", r#"{"</s>": 0, "<unk>": 1}"#, r#"expected the special token "<pad>", found none"#),
        ("m2m100", "vocab.json", r#"{"__en__": 0}"#, "__en__: expected id 19, after the vocabulary, found 0"),
        ("bart", "merges.txt", "#version: 0.2\nt h\n", "line 2: expected pieces of vocab.json and one that both make"),
        (
            "bart",
            "merges.txt",
            "#version: 0.2\na b c\n",
            r#"line 2: expected two symbols with a space between, found "a b c""#,
        ),
        ("blenderbot-small", "merges.txt", "ab\n", r#"line 1: expected two symbols with a space between, found "ab""#),
        (
            "blenderbot-small",
            "vocab.json",
            r#"{"__start__": 0}"#,
            r#"expected the special token "__end__", found none"#,
        ),
        (
            "whisper",
            "added_tokens.json",
            r#"{"<|en|>": 999}"#,
            r#""<|en|>" is listed with id 999: expected the ids before"#,
        ),
        (
            "whisper",
            "tokenizer_config.json",
            r#"{"task": "sing"}"#,
            "task: expected transcribe or translate, found sing",
        ),
        (
            "m2m100",
            "tokenizer_config.json",
            r#"{"language_codes": "klingon"}"#,
            "language_codes: expected m2m100 or wmt21, found klingon",
        ),
        (
            "mbart",
            "tokenizer_config.json",
            r#"{"tokenizer_class": "LlamaTokenizer"}"#,
            "tokenizer_class: expected MBartTokenizer, MBart50Tokenizer or PLBartTokenizer beside",
        ),
        (
            "bart",
            "tokenizer_config.json",
            r#"{"tokenizer_class": "GPT2Tokenizer"}"#,
            "tokenizer_class: expected BartTokenizer, BlenderbotTokenizer, BlenderbotSmallTokenizer or",
        ),
    ] {
        let error = refusal(name, &[(file, text.as_bytes())]);
        // What a changed vocabulary lacks is said of the vocabulary.
        let place = if text.contains("999") { "vocab.json" } else { file };
        assert!(error.starts_with(&format!("{place}: {expected}")), "{name}: expected {expected}, found {error}");
    }
    let bpe = fs::read(family("m2m100").join("sentencepiece.bpe.model")).expect("recorded");
    let error = refusal("mbart", &[("sentencepiece.bpe.model", &bpe)]);
    assert!(error.ends_with("expected a Unigram model (model_type 1), found BPE (model_type 2)"), "{error}");
    let unigram = fs::read(family("mbart").join("sentencepiece.bpe.model")).expect("recorded");
    let error = refusal("pegasus", &[("spiece.model", &unigram)]);
    assert_eq!(error, "spiece.model: expected <pad> and </s> as the first pieces");
    // One more message `pieces { piece: "▁" score: -2 }` at the end of the file.
    let twice = [&unigram[..], &[0x0a, 0x0a, 0x0a, 0x03], "\u{2581}".as_bytes(), &[0x15, 0, 0, 0, 0xc0]].concat();
    let error = refusal("mbart", &[("sentencepiece.bpe.model", &twice)]);
    assert!(error.contains("are both \"\u{2581}\""), "{error}");
}

#[test]
fn what_the_tokenizers_crate_believes_without_looking_is_checked() {
    let text = fs::read_to_string(family("nllb").join("tokenizer.json")).expect("recorded");
    let whole: Value = serde_json::from_str(&text).expect("JSON");
    let changed = |pointer: &str, new: Value| {
        let mut json = whole.clone();
        *json.pointer_mut(pointer).expect("is there") = new;
        refusal("nllb", &[("tokenizer.json", json.to_string().as_bytes())])
    };
    // Without the check these are slices out of range inside the crate.
    let long = "\u{2581}".repeat(40);
    let error = changed("/model/merges/0", serde_json::json!([long, "x"]));
    assert!(
        error.starts_with("tokenizer.json: merges[0]: expected pieces of the vocabulary and one that both make"),
        "{error}"
    );
    let error = changed("/model/continuing_subword_prefix", "a very long prefix".into());
    assert!(error.starts_with("tokenizer.json: merges[0]: expected \"a very long prefix\" before"), "{error}");
    let error = changed("/post_processor/special_tokens", serde_json::json!({}));
    let expected = "tokenizer.json: post_processor: expected \"eng_Latn\" among its special_tokens, found none";
    assert_eq!(error, expected);
}

#[test]
fn no_damaged_byte_of_a_familys_files_is_a_panic() {
    let (mut opened, mut refused) = (0, 0);
    let texts =
        ["", "hello  world", "n\u{e4}\u{301} </s>\u{1f600}<n>>>fra<< x", "<|en|> don't __en__ \u{2581}\u{2581}"];
    for folder in families() {
        let copy = copied(&folder, &runs(&folder)[0]["config"]);
        for entry in fs::read_dir(&folder).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_str().expect("a name");
            if ["expected.json", "config.json"].contains(&name) {
                continue;
            }
            let whole = fs::read(folder.join(name)).expect("recorded");
            for at in (0..whole.len()).step_by(37) {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << (at % 7);
                fs::write(copy.path().join(name), bytes).expect("written");
                let Ok(tokenizer) = Tokenizer::open(copy.path()) else {
                    refused += 1;
                    continue;
                };
                opened += 1;
                for text in texts {
                    // Whether a damaged tokenizer knows a text does not matter here.
                    let ids = tokenizer.encode(text).or_else(|_| tokenizer.encode_target(text)).unwrap_or_default();
                    let _ = tokenizer.decode(&ids, false);
                }
                let _ = tokenizer.decode(&[-1, 0, 5, 300, 1 << 40, i64::MAX], true);
            }
            fs::write(copy.path().join(name), whole).expect("written");
        }
    }
    assert!(opened > 500 && refused > 500, "{opened} opened, {refused} refused");
}
