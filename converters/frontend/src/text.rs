//! Text to token ids and back.

use tokenizer::Tokenizer;

/// Text to token ids and back.
pub trait Text: Sync {
    /// Ids as the model is fed them, its end-of-sequence id included. Errors: the tokenizer's own words.
    fn encode(&self, text: &str) -> Result<Vec<i64>, String>;

    /// Ids as the model should say them. Errors: likewise.
    fn encode_target(&self, text: &str) -> Result<Vec<i64>, String> {
        self.encode(text)
    }

    /// Ids of what the decoder is fed first, with none around them. Errors: likewise, and a mark such as `<s_x>` that is no token.
    fn prompt(&self, text: &str) -> Result<Vec<i64>, String> {
        self.encode(text)
    }

    /// Text of generated ids; special tokens are left out.
    fn decode(&self, ids: &[i64]) -> String;

    /// The same with special tokens.
    fn decode_whole(&self, ids: &[i64]) -> String {
        self.decode(ids)
    }

    /// Tokens beside those that texts are made of, such as `<s_x>`, which may be marks of a form.
    fn marks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// For models without a tokenizer: a text is its ids, separated by spaces.
#[derive(Clone, Copy, Debug)]
pub struct Ids;

impl Text for Ids {
    fn encode(&self, text: &str) -> Result<Vec<i64>, String> {
        text.split_whitespace().map(|id| id.parse().map_err(|_| format!("{id} is not a token id"))).collect()
    }

    fn decode(&self, ids: &[i64]) -> String {
        ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")
    }
}

impl Text for Tokenizer {
    fn encode(&self, text: &str) -> Result<Vec<i64>, String> {
        Tokenizer::encode(self, text).map_err(|e| e.to_string())
    }

    fn encode_target(&self, text: &str) -> Result<Vec<i64>, String> {
        Tokenizer::encode_target(self, text).map_err(|e| e.to_string())
    }

    fn prompt(&self, text: &str) -> Result<Vec<i64>, String> {
        let known = self.added();
        let unknown = marks_in(text).find(|mark| !known.contains_key(*mark));
        match unknown {
            None => self.encode_alone(text).map_err(|e| e.to_string()),
            Some(mark) => {
                let known: Vec<&str> =
                    known.keys().map(String::as_str).filter(|mark| mark.starts_with("<s_")).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(format!("expected tokens of the model, of which {known} begin a part; found {mark}, which is none"))
            }
        }
    }

    fn marks(&self) -> Vec<String> {
        self.added().into_keys().collect()
    }

    fn decode(&self, ids: &[i64]) -> String {
        // What cannot be decoded is shown as such: it equals no target.
        Tokenizer::decode(self, ids, true).unwrap_or_else(|e| e.to_string())
    }

    fn decode_whole(&self, ids: &[i64]) -> String {
        Tokenizer::decode(self, ids, false).unwrap_or_else(|e| e.to_string())
    }
}

impl<T: Text + ?Sized> Text for &T {
    fn encode(&self, text: &str) -> Result<Vec<i64>, String> {
        (**self).encode(text)
    }

    fn encode_target(&self, text: &str) -> Result<Vec<i64>, String> {
        (**self).encode_target(text)
    }

    fn prompt(&self, text: &str) -> Result<Vec<i64>, String> {
        (**self).prompt(text)
    }

    fn decode(&self, ids: &[i64]) -> String {
        (**self).decode(ids)
    }

    fn decode_whole(&self, ids: &[i64]) -> String {
        (**self).decode_whole(ids)
    }

    fn marks(&self) -> Vec<String> {
        (**self).marks()
    }
}

/// The tokens of a text that is said, and then the end of a sequence. Errors: the tokenizer's own words.
pub(crate) fn spoken_to_the_end(text: &dyn Text, said: &str, eos: Option<i64>) -> Result<Vec<i64>, String> {
    let ids = spoken(text, said)?;
    let ends = ids.last().copied() == eos;
    Ok(ids.into_iter().chain(eos.filter(|_| !ends)).collect())
}

/// The tokens of a text that is said, without special ones around it. Errors: the tokenizer's own words.
pub fn spoken(text: &dyn Text, said: &str) -> Result<Vec<i64>, String> {
    let ids = text.encode_target(said)?;
    let is_text = |id: &i64| !text.decode(&[*id]).is_empty();
    let first = ids.iter().position(is_text).unwrap_or(ids.len());
    let end = ids.iter().rposition(is_text).map_or(first, |last| last + 1);
    Ok(ids[first..end].to_vec())
}

/// Parts of a text such as `<s_x>`.
fn marks_in(text: &str) -> impl Iterator<Item = &str> {
    let after = |(at, _)| {
        let mark = &text[at..];
        let end = mark.find(['>', ' '])?;
        mark[end..].starts_with('>').then(|| &mark[..=end]).filter(|mark| mark.len() > 2)
    };
    text.match_indices('<').filter_map(after)
}
