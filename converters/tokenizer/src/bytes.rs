//! ByT5's tokenizer (Xue et al., arXiv 2105.13626): id = byte + 3, and a few special tokens.

use checkpoint::limits::ADDED_TOKENS;
use serde_json::Value;
use tokenizers::AddedToken;

use crate::added::{Added, Part};
use crate::error::TokenizerError;
use crate::folder::Folder;

/// The first byte's id, after padding, end and unknown.
const OFFSET: i64 = 3;
/// The id of the end.
const EOS: i64 = 1;
/// Sentinels when tokenizer_config.json does not say.
const EXTRA_IDS: u64 = 125;

/// Bytes as tokens.
#[derive(Debug)]
pub(crate) struct ByteTokenizer {
    /// Every token that is not a byte.
    added: Added,
}

impl ByteTokenizer {
    /// From tokenizer_config.json: `added_tokens_decoder`, or else the names of the first three and `extra_ids`.
    pub(crate) fn open(folder: &Folder) -> Result<ByteTokenizer, TokenizerError> {
        let mut listed = folder.added()?;
        if listed.is_empty() {
            // Released checkpoints say `extra_ids: 0` and list the sentinels by name.
            let named = folder.setting("additional_special_tokens").and_then(Value::as_array).map(Vec::len);
            let asked = folder.setting("extra_ids").and_then(Value::as_u64).filter(|n| *n > 0);
            let count = named.filter(|n| *n > 0).map(|n| n as u64).or(asked).unwrap_or(EXTRA_IDS);
            if count > ADDED_TOKENS {
                let message = format!("extra_ids: expected at most {ADDED_TOKENS}, found {count}");
                return Err(folder.malformed("tokenizer_config.json", message));
            }
            let first = OFFSET as u32 + 256;
            listed.extend((0..count as u32).map(|i| (first + i, AddedToken::from(format!("<extra_id_{i}>"), true))));
        }
        let mut added = Added::default();
        for (id, (key, default)) in (0..).zip([("pad_token", "<pad>"), ("eos_token", "</s>"), ("unk_token", "<unk>")]) {
            let token = listed.remove(&id).unwrap_or_else(|| AddedToken::from(folder.token(key, default), true));
            // Padding, end and unknown take the spaces on both sides with them; sentinels do not.
            added.push(token.lstrip(true).rstrip(true), id);
        }
        for (id, token) in listed {
            added.push(token.lstrip(false).rstrip(false), id);
        }
        Ok(ByteTokenizer { added })
    }

    pub(crate) fn encode(&self, text: &str) -> Vec<i64> {
        let mut ids = Vec::new();
        for part in self.added.split(text) {
            match part {
                Part::Token(id) => ids.push(i64::from(id)),
                Part::Text(text) => ids.extend(text.bytes().map(|byte| i64::from(byte) + OFFSET)),
            }
        }
        if ids.last() != Some(&EOS) {
            ids.push(EOS);
        }
        ids
    }

    pub(crate) fn token(&self, id: u32) -> Option<String> {
        match self.added.get(i64::from(id)) {
            Some(token) => Some(token.content.clone()),
            None => u8::try_from(i64::from(id) - OFFSET).ok().map(|byte| char::from(byte).to_string()),
        }
    }

    pub(crate) fn decode(&self, ids: &[i64], skip_special: bool) -> String {
        let mut bytes = Vec::new();
        for id in ids {
            match self.added.get(*id) {
                Some(_) if skip_special => {}
                Some(token) => bytes.extend(token.content.bytes()),
                None => bytes.extend(id.checked_sub(OFFSET).and_then(|byte| u8::try_from(byte).ok())),
            }
        }
        // Half a character is dropped, as `bytes.decode("utf-8", errors="ignore")` does.
        bytes.utf8_chunks().map(|chunk| chunk.valid()).collect()
    }
}
