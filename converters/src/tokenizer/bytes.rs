//! ByT5's tokenizer (Xue et al., arXiv 2105.13626): id = byte + 3, and a few special tokens.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Settings;

/// The first byte's id, after padding, end and unknown.
const OFFSET: i64 = 3;
/// ids of the end, and of every token that strips the spaces around it.
const EOS: i64 = 1;
/// Sentinels when tokenizer_config.json does not say.
const EXTRA_IDS: u64 = 125;
/// More sentinels than any vocabulary has.
const EXTRA_IDS_LIMIT: u64 = 1 << 16;

/// Bytes as tokens.
#[derive(Debug)]
pub(super) struct ByteTokenizer {
    /// Text of every token that is not a byte.
    special: BTreeMap<i64, String>,
}

impl ByteTokenizer {
    /// From tokenizer_config.json: `added_tokens_decoder`, or else the names of the first three and `extra_ids`.
    pub(super) fn new(settings: &Settings) -> Result<ByteTokenizer, String> {
        let named = [("pad_token", "<pad>"), ("eos_token", "</s>"), ("unk_token", "<unk>")];
        let named = named.map(|(key, default)| settings.token(key, default));
        let mut special: BTreeMap<i64, String> = (0..).zip(named).collect();
        match settings.json.get("added_tokens_decoder") {
            Some(Value::Object(tokens)) => {
                for (id, token) in tokens {
                    let entry = id.parse().ok().zip(token.get("content").and_then(Value::as_str));
                    let (id, content) = entry.ok_or_else(|| format!("added_tokens_decoder: {id} is not a token"))?;
                    special.insert(id, content.to_owned());
                }
            }
            _ => {
                // Released checkpoints say `extra_ids: 0` and list the sentinels by name.
                let listed = settings.json.get("additional_special_tokens").and_then(Value::as_array).map(Vec::len);
                let asked = settings.json.get("extra_ids").and_then(Value::as_u64).filter(|n| *n > 0);
                let count = listed.filter(|n| *n > 0).map(|n| n as u64).or(asked).unwrap_or(EXTRA_IDS);
                if count > EXTRA_IDS_LIMIT {
                    return Err(format!("extra_ids: expected at most {EXTRA_IDS_LIMIT}, found {count}"));
                }
                special.extend((0..count).map(|i| (OFFSET + 256 + i as i64, format!("<extra_id_{i}>"))));
            }
        }
        special.retain(|_, content| !content.is_empty());
        Ok(ByteTokenizer { special })
    }

    pub(super) fn encode(&self, text: &str) -> Vec<i64> {
        let mut ids = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            // The leftmost special token, and of two at one place the longer.
            let next = self.special.iter().filter_map(|(id, token)| Some((rest.find(token.as_str())?, token, *id)));
            let next = next.min_by_key(|(at, token, _)| (*at, std::cmp::Reverse(token.len())));
            let (plain, after, token) = match next {
                None => (rest, "", None),
                Some((at, token, id)) => (&rest[..at], &rest[at + token.len()..], Some(id)),
            };
            // Padding, end and unknown take the spaces on both sides with them; sentinels do not.
            let strips = token.is_some_and(|id| id < OFFSET);
            let plain = if strips { plain.trim_end() } else { plain };
            ids.extend(plain.bytes().map(|byte| i64::from(byte) + OFFSET));
            ids.extend(token);
            rest = if strips { after.trim_start() } else { after };
        }
        if ids.last() != Some(&EOS) {
            ids.push(EOS);
        }
        ids
    }

    pub(super) fn decode(&self, ids: &[i64], skip_special: bool) -> String {
        let mut bytes = Vec::new();
        for id in ids {
            match self.special.get(id) {
                Some(_) if skip_special => {}
                Some(token) => bytes.extend(token.bytes()),
                None => bytes.extend(id.checked_sub(OFFSET).and_then(|byte| u8::try_from(byte).ok())),
            }
        }
        // Half a character is dropped, as `bytes.decode("utf-8", errors="ignore")` does.
        bytes.utf8_chunks().map(|chunk| chunk.valid()).collect()
    }
}
