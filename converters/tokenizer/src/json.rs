//! tokenizer.json: the pipeline as the `tokenizers` crate reads it, and the SentencePiece vocabulary inside.

pub(crate) mod pieces;
mod stage;
mod steps;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use checkpoint::limits;
use serde_json::Value;

use self::stage::{flatten, step_type};
use crate::charsmap::Charsmap;
use crate::error::TokenizerError;
use crate::folder::Folder;
use crate::framing::{Framing, Style};
use crate::pipeline::{Pipeline, caught, encoded};
use crate::sentencepiece::byte_of;
use crate::vocabulary::{PieceType, Vocabulary};

/// The whole, and what the crate makes of a model before it knows its type.
const COPIES: u64 = 2;

/// The file.
pub(crate) const FILE: &str = "tokenizer.json";

/// Opens the pipeline. What the `tokenizers` crate believes without looking is checked first.
pub(crate) fn open(bytes: &[u8], folder: &Folder) -> Result<(Pipeline, Option<Framing>), TokenizerError> {
    let malformed = |message: String| folder.malformed(FILE, message);
    limits::check_json(bytes, COPIES).map_err(malformed)?;
    let json: Value = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    pieces::check(&json, bytes.len()).map_err(malformed)?;
    let mut steps = Vec::new();
    flatten(json.get("normalizer"), "normalizers", &mut steps);
    let mut maps = Vec::new();
    for step in &steps {
        let map = step.get("precompiled_charsmap");
        if map.is_none() && step_type(step) != "Precompiled" {
            continue;
        }
        let text = map.and_then(Value::as_str).filter(|text| !text.is_empty());
        let text =
            text.ok_or_else(|| malformed("normalizer: expected a precompiled_charsmap, found none".to_owned()))?;
        let map = STANDARD.decode(text).map_err(|error| malformed(format!("precompiled_charsmap: {error}")))?;
        Charsmap::read(&map).map_err(malformed)?;
        maps.push(map);
    }
    check_merges(json.get("model").unwrap_or(&Value::Null)).map_err(malformed)?;
    steps::check(&json).map_err(malformed)?;
    let opened = caught(|| tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| error.to_string()));
    let mut tokenizer = opened.map_err(malformed)?;
    // transformers sets both anew for each call, and a call here is one whole text.
    tokenizer.with_truncation(None).map_err(|error| malformed(error.to_string()))?;
    tokenizer.with_padding(None);

    let framing = Framing::of_class(&tokenizer, folder, FILE)?;
    let eos = tokenizer.token_to_id(&folder.token("eos_token", "</s>"));
    let pad = tokenizer.token_to_id(&folder.token("pad_token", "<pad>"));
    let vocabulary = match (&framing, eos) {
        (Some(Framing { style: Style::Fixed { before, after }, .. }), _) => (before.len(), after.clone()),
        (Some(_), _) => (1, vec![]),
        (None, _) => (0, caught(|| encoded(&tokenizer, "", true)).unwrap_or_default()),
    };
    let vocabulary = match vocabulary {
        (0, after) if after.iter().copied().eq(eos) => {
            vocabulary_of(&json, &tokenizer, &steps, maps).map(|v| Vocabulary { eos, pad, ..v })
        }
        _ => Err("it puts other tokens around a text than </s> at its end, which GGUF cannot say".to_owned()),
    };
    Ok((Pipeline::new(tokenizer, folder, vocabulary), framing))
}

/// The crate copies every merge into a buffer as long as the longest piece.
fn check_merges(model: &Value) -> Result<(), String> {
    let (Some(merges), Some(pieces)) =
        (model.get("merges").and_then(Value::as_array), model.get("vocab").and_then(Value::as_object))
    else {
        return Ok(());
    };
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or_default();
    for (index, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(pair) => pair.split_once(' '),
            _ => merge.get(0).and_then(Value::as_str).zip(merge.get(1).and_then(Value::as_str)),
        };
        let Some((a, b)) = pair else { return Err(format!("merges[{index}]: expected two pieces, found {merge}")) };
        let tail =
            b.strip_prefix(prefix).ok_or_else(|| format!("merges[{index}]: expected {prefix:?} before {b:?}"))?;
        let unknown =
            [a, b, &format!("{a}{tail}")].into_iter().find(|piece| !pieces.contains_key(*piece)).map(str::to_owned);
        if let Some(piece) = unknown {
            return Err(format!(
                "merges[{index}]: expected pieces of the vocabulary and one that both make, found {piece:?}"
            ));
        }
    }
    Ok(())
}

/// The SentencePiece vocabulary of a Unigram tokenizer. Errors: the part that GGUF has no words for.
fn vocabulary_of(
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
    let mut types: Vec<PieceType> = pieces
        .iter()
        .map(|piece| if bytes && byte_of(piece).is_some() { PieceType::Byte } else { PieceType::Normal })
        .collect();

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
