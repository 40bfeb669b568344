//! tokenizer.json: the pipeline as the `tokenizers` crate reads it, and the SentencePiece vocabulary inside.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{PieceType, Settings, Vocabulary, charsmap};

/// A tokenizer and what it was made of.
pub(super) struct Opened {
    pub tokenizer: tokenizers::Tokenizer,
    /// The end of a sequence, when no post-processor appends it.
    pub append: Option<u32>,
    /// Or why there is none.
    pub vocabulary: Result<Vocabulary, String>,
}

pub(super) fn read(bytes: &[u8], settings: &Settings) -> Result<Opened, String> {
    let json: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut steps = Vec::new();
    flatten(json.get("normalizer"), "normalizers", &mut steps);
    let mut maps = Vec::new();
    for step in &steps {
        if step_type(step) == "Precompiled" {
            let text = step.get("precompiled_charsmap").and_then(Value::as_str).unwrap_or_default();
            let map = STANDARD.decode(text).map_err(|error| format!("precompiled_charsmap: {error}"))?;
            charsmap::check(&map)?;
            maps.push(map);
        }
    }
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| error.to_string())?;
    // transformers sets both anew for each call, and a call here is one whole text.
    tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
    tokenizer.with_padding(None);

    let eos = tokenizer.token_to_id(&settings.token("eos_token", "</s>"));
    let pad = tokenizer.token_to_id(&settings.token("pad_token", "<pad>"));
    let append = if tokenizer.get_post_processor().is_none() { eos } else { None };
    let vocabulary = vocabulary(&json, &tokenizer, &steps, maps).map(|v| Vocabulary { eos, pad, ..v });
    Ok(Opened { tokenizer, append, vocabulary })
}

/// The steps of a stage that may be a `Sequence` of others.
fn flatten<'j>(stage: Option<&'j Value>, key: &str, steps: &mut Vec<&'j Value>) {
    let Some(stage) = stage.filter(|stage| !stage.is_null()) else { return };
    match stage.get(key).and_then(Value::as_array) {
        Some(inner) => inner.iter().for_each(|step| flatten(Some(step), key, steps)),
        None => steps.push(stage),
    }
}

fn step_type(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or("without a type")
}

/// The SentencePiece vocabulary of a Unigram tokenizer. Errors: the part that GGUF has no words for.
fn vocabulary(
    json: &Value,
    tokenizer: &tokenizers::Tokenizer,
    normalizers: &[&Value],
    mut maps: Vec<Vec<u8>>,
) -> Result<Vocabulary, String> {
    let model = json.get("model").unwrap_or(&Value::Null);
    if step_type(model) != "Unigram" {
        return Err(format!("its model is {}, not Unigram", step_type(model)));
    }
    let mut remove_extra_whitespaces = false;
    for step in normalizers {
        match step_type(step) {
            "Precompiled" => {}
            // How older converters write `remove_extra_whitespaces`.
            "Replace" if step.pointer("/pattern/Regex") == Some(&Value::from(" {2,}")) => {
                remove_extra_whitespaces = true
            }
            "Strip" => {}
            other => return Err(format!("its normalizer {other} has no place in GGUF")),
        }
    }
    if maps.len() > 1 {
        return Err("it has two character maps".to_owned());
    }
    let mut add_space_prefix = false;
    let mut steps = Vec::new();
    flatten(json.get("pre_tokenizer"), "pretokenizers", &mut steps);
    for step in steps {
        match step_type(step) {
            "WhitespaceSplit" => remove_extra_whitespaces = true,
            "Metaspace" => {
                let never = step.get("prepend_scheme").and_then(Value::as_str) == Some("never")
                    || step.get("add_prefix_space") == Some(&Value::Bool(false));
                add_space_prefix = !never;
            }
            other => return Err(format!("its pre-tokenizer {other} has no place in GGUF")),
        }
    }

    let entries = model.get("vocab").and_then(Value::as_array).ok_or("its model has no vocabulary")?;
    let (mut pieces, mut scores) = (Vec::new(), Vec::new());
    for (id, entry) in entries.iter().enumerate() {
        let (piece, score) = entry
            .as_array()
            .and_then(|pair| pair.first()?.as_str().zip(pair.get(1)?.as_f64()))
            .ok_or_else(|| format!("piece {id} is not [text, score]"))?;
        pieces.push(piece.to_owned());
        scores.push(score as f32); // a printed f32
    }
    let bytes = model.get("byte_fallback") == Some(&Value::Bool(true));
    let mut types: Vec<PieceType> =
        pieces.iter().map(|piece| if bytes && is_byte(piece) { PieceType::Byte } else { PieceType::Normal }).collect();

    let mut added: Vec<_> = tokenizer.get_added_tokens_decoder().into_iter().collect();
    added.sort_by_key(|(id, _)| *id);
    for (id, token) in added {
        let id = id as usize;
        let kind = if token.special { PieceType::Control } else { PieceType::UserDefined };
        match id.cmp(&pieces.len()) {
            std::cmp::Ordering::Less => types[id] = kind,
            std::cmp::Ordering::Equal => {
                pieces.push(token.content);
                scores.push(0.0);
                types.push(kind);
            }
            std::cmp::Ordering::Greater => return Err(format!("ids {} to {id} are missing", pieces.len())),
        }
    }
    let unknown = model.get("unk_id").and_then(Value::as_u64).and_then(|id| types.get_mut(usize::try_from(id).ok()?));
    *unknown.ok_or("its model has no unknown token")? = PieceType::Unknown;
    let charsmap = maps.pop().unwrap_or_default();
    // The caller knows the end and the padding.
    let (eos, pad) = (None, None);
    Ok(Vocabulary { pieces, scores, types, charsmap, add_space_prefix, remove_extra_whitespaces, eos, pad })
}

/// `<0x00>` to `<0xFF>`.
fn is_byte(piece: &str) -> bool {
    let digits = piece.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}
