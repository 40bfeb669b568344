//! What the stages of a tokenizer.json may ask for. Steps are known by their keys: the crate takes a step without a type for
//! the one that its keys fit.

use checkpoint::limits::{FRAME_TOKENS, MARK_BYTES, REGEXES, REPLACEMENT_GROWTH, STAGE_STEPS, WORD_PIECE_CHARS};
use serde_json::Value;

use super::stage::flatten;

/// The stages, and the key of the steps of a sequence of them.
const STAGES: [(&str, &str); 4] = [
    ("normalizer", "normalizers"),
    ("pre_tokenizer", "pretokenizers"),
    ("post_processor", "processors"),
    ("decoder", "decoders"),
];

/// Errors: a step on which the crate panics, or that makes a text a thousand times as long.
pub(super) fn check(json: &Value) -> Result<(), String> {
    let mut regexes = 0;
    for (name, key) in STAGES {
        let mut steps = Vec::new();
        flatten(json.get(name), key, &mut steps);
        if steps.len() > STAGE_STEPS {
            return Err(format!("{name}: expected at most {STAGE_STEPS} steps, found {}", steps.len()));
        }
        // `BPEDecoder` stops where others leave it no token.
        if name == "decoder" && steps.iter().skip(1).any(|step| step.get("suffix").is_some()) {
            return Err("decoder: expected BPEDecoder alone or first, found it behind another".to_owned());
        }
        let mut growth = 1_usize;
        for step in steps {
            check_step(step).map_err(|message| format!("{name}: {message}"))?;
            check_template(step).map_err(|message| format!("{name}: {message}"))?;
            regexes += usize::from(step.pointer("/pattern/Regex").is_some());
            growth = growth.saturating_mul(growth_of(step));
        }
        if growth > REPLACEMENT_GROWTH {
            let message = format!("{name}: expected replacements that make a text at most {REPLACEMENT_GROWTH} times");
            return Err(format!("{message} as long, found {growth} times"));
        }
    }
    match regexes > REGEXES {
        true => Err(format!("expected at most {REGEXES} regular expressions, found {regexes}")),
        false => check_marks(json.get("model").unwrap_or(&Value::Null)),
    }
}

/// How many times as long a step makes a text at most.
fn growth_of(step: &Value) -> usize {
    let len = |value: Option<&Value>| value.and_then(Value::as_str).map(str::len);
    // A regular expression may find nothing, and that everywhere.
    let replaced = len(step.pointer("/pattern/String")).unwrap_or(0).max(1);
    let content = len(step.get("content")).filter(|_| step.get("pattern").is_some()).unwrap_or(0);
    let prepended = len(step.get("prepend")).unwrap_or(0);
    content.div_ceil(replaced).max(1 + prepended / 4)
}

fn check_step(step: &Value) -> Result<(), String> {
    // `Strip` counts backwards past the beginning of a token that is shorter and all of its character (0.23.2 panics).
    let stop = step.get("stop").and_then(Value::as_u64).unwrap_or(0);
    if stop > 0 {
        return Err(format!("stop = {stop}, expected 0: it stops tokenizers where a token is shorter"));
    }
    // `FixedLength` takes chunks of so many characters.
    match step.get("length") == Some(&Value::from(0)) {
        true => Err("length = 0, expected 1 or more".to_owned()),
        false => Ok(()),
    }
}

/// The crate takes every token of a template for one that is listed, and a text for as often as it stands there.
fn check_template(step: &Value) -> Result<(), String> {
    for pieces in ["single", "pair"].iter().filter_map(|key| step.get(*key)?.as_array()) {
        let mut tokens = 0;
        for token in pieces.iter().filter_map(|piece| piece.pointer("/SpecialToken/id")?.as_str()) {
            let Some(listed) = step.get("special_tokens").and_then(|listed| listed.get(token)) else {
                return Err(format!("expected {token:?} among its special_tokens, found none"));
            };
            tokens += listed.get("ids").and_then(Value::as_array).map_or(1, Vec::len);
        }
        if tokens > FRAME_TOKENS {
            return Err(format!("expected at most {FRAME_TOKENS} tokens around a text, found {tokens}"));
        }
        let texts = |id: &str| pieces.iter().filter(|p| p.pointer("/Sequence/id") == Some(&Value::from(id))).count();
        if let Some(found) = ["A", "B"].map(texts).into_iter().find(|found| *found > 1) {
            return Err(format!("expected a text once, found it {found} times"));
        }
    }
    Ok(())
}

/// What a model writes for each character that it does not know, or around each part of a word.
fn check_marks(model: &Value) -> Result<(), String> {
    let mark = |key: &str| model.get(key).and_then(Value::as_str).unwrap_or_default();
    for key in ["unk_token", "continuing_subword_prefix", "end_of_word_suffix"] {
        let found = mark(key).len();
        if found > MARK_BYTES {
            return Err(format!("model: {key}: expected at most {MARK_BYTES} bytes, found {found}"));
        }
    }
    // The crate counts the bytes of the prefix as bytes of the word, and slices the word there.
    let marks = mark("continuing_subword_prefix").len() + mark("end_of_word_suffix").len();
    if marks > 0 && model.get("byte_fallback") == Some(&Value::Bool(true)) {
        return Err("model: expected byte_fallback or marks around parts of a word, found both".to_owned());
    }
    let longest = model.get("max_input_chars_per_word").and_then(Value::as_u64).unwrap_or(0);
    match longest > WORD_PIECE_CHARS {
        true => Err(format!("model: max_input_chars_per_word: expected at most {WORD_PIECE_CHARS}, found {longest}")),
        false => Ok(()),
    }
}
