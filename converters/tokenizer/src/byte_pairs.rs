//! The vocabulary and the merges of byte pairs (Sennrich et al. 2016), for engines that have them as lists.

use serde_json::Value;
use tokenizers::{DecoderWrapper, ModelWrapper};

use crate::sentencepiece::byte_of;
use crate::vocabulary::PieceType;

/// A vocabulary of byte pairs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BytePairs {
    /// By id: the token and what it is; `None` where an id has none.
    pub tokens: Vec<Option<(String, PieceType)>>,
    /// Both sides of each merge, the first to be made first.
    pub merges: Vec<[String; 2]>,
    /// How pieces spell bytes.
    pub spelling: Spelling,
}

/// How pieces spell bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spelling {
    /// In the alphabet of GPT-2, a letter a byte.
    Gpt2,
    /// As text, where `▁` is a space; bytes that no piece has are `<0x00>` to `<0xFF>`.
    Text,
}

impl BytePairs {
    /// Those of the first `count` ids. Errors: why the tokenizer has none.
    pub(crate) fn of(tokenizer: &tokenizers::Tokenizer, count: usize) -> Result<BytePairs, String> {
        let model = tokenizer.get_model();
        let ModelWrapper::BPE(pairs) = model else {
            return Err("its tokens are no byte pairs".to_owned());
        };
        let spelling = match (is_byte_level(tokenizer.get_decoder()), pairs.byte_fallback) {
            (true, _) => Spelling::Gpt2,
            (false, true) => Spelling::Text,
            (false, false) => return Err("its byte pairs spell neither all bytes nor fall back to them".to_owned()),
        };
        // The crate shows the merges in no other way.
        let json = serde_json::to_value(model).map_err(|error| error.to_string())?;
        let merges = serde_json::from_value(json.get("merges").cloned().unwrap_or_default());
        let unknown = json.get("unk_token").and_then(Value::as_str);
        let added = tokenizer.get_added_vocabulary();
        let typed = |token: String| {
            let kind = match token.as_str() {
                token if Some(token) == unknown => PieceType::Unknown,
                token if added.is_special_token(token) => PieceType::Control,
                token if spelling == Spelling::Text && byte_of(token).is_some() => PieceType::Byte,
                _ => PieceType::Normal,
            };
            (token, kind)
        };
        let ids = 0..u32::try_from(count).unwrap_or(u32::MAX);
        Ok(BytePairs {
            tokens: ids.map(|id| tokenizer.id_to_token(id)).map(|token| token.map(typed)).collect(),
            merges: merges.map_err(|error| error.to_string())?,
            spelling,
        })
    }
}

fn is_byte_level(decoder: Option<&DecoderWrapper>) -> bool {
    match decoder {
        Some(DecoderWrapper::ByteLevel(_)) => true,
        Some(DecoderWrapper::Sequence(steps)) => steps.get_decoders().iter().any(|step| is_byte_level(Some(step))),
        _ => false,
    }
}

/// The bytes that a token in the alphabet of GPT-2 spells; `None` where it has other letters.
///
/// Bytes that are printed stand for themselves, and the others, in order, for the letters from 256 on.
pub fn gpt2_bytes(token: &str) -> Option<Vec<u8>> {
    let is_printed = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let byte = |letter: char| match u8::try_from(letter).ok().filter(is_printed) {
        Some(byte) => Some(byte),
        None => {
            let place = (letter as usize).checked_sub(256)?;
            (0..=u8::MAX).filter(|byte| !is_printed(byte)).nth(place)
        }
    };
    token.chars().map(byte).collect()
}
