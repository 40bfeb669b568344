//! Tokenizers of the `tokenizers` crate.

use std::collections::BTreeMap;

use checkpoint::limits::TEXT_BYTES;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper};

use crate::byte_pairs::BytePairs;
use crate::clean_up::cleaned_up;
use crate::folder::Folder;
use crate::scored::Joins;
use crate::vocabulary::Vocabulary;

/// A pipeline: normalize, split, look up, and back.
#[derive(Debug)]
pub(crate) struct Pipeline {
    tokenizer: tokenizers::Tokenizer,
    /// `clean_up_tokenization_spaces` of tokenizer_config.json.
    clean_up: bool,
    /// Whisper's `<|startofprev|>` and `<|startoftranscript|>`.
    transcript: Option<[Option<u32>; 2]>,
    vocabulary: Result<Vocabulary, String>,
}

impl Pipeline {
    pub(crate) fn new(
        tokenizer: tokenizers::Tokenizer,
        folder: &Folder,
        vocabulary: Result<Vocabulary, String>,
    ) -> Pipeline {
        // It was made for word pieces; transformers 5 leaves byte pairs alone unless told twice.
        let spares = matches!(tokenizer.get_model(), tokenizers::ModelWrapper::BPE(_))
            && !folder.is_set("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output");
        let marks = ["<|startofprev|>", "<|startoftranscript|>"].map(|token| tokenizer.token_to_id(token));
        Pipeline {
            clean_up: folder.is_set("clean_up_tokenization_spaces") && !spares,
            transcript: Some(marks).filter(|_| folder.class() == "WhisperTokenizer"),
            tokenizer,
            vocabulary,
        }
    }

    /// Ids; with `own`, what the pipeline's last step puts around them too.
    pub(crate) fn encode(&self, text: &str, own: bool) -> Result<Vec<u32>, String> {
        caught(|| {
            if let Some(normalizer) = self.tokenizer.get_normalizer() {
                check_growth(normalizer, &mut NormalizedString::from(text))?;
            }
            encoded(&self.tokenizer, text, own)
        })
    }

    pub(crate) fn decode(&self, ids: &[i64], skip_special: bool) -> Result<String, String> {
        let mut ids: Vec<u32> = ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect();
        if let (Some([prompt, start]), true) = (self.transcript, skip_special) {
            // What came before is not part of the transcript.
            if !ids.is_empty() && ids.first().copied() == prompt {
                let from = ids.iter().position(|id| Some(*id) == start).unwrap_or(ids.len());
                ids.drain(..from);
            }
        }
        let added = self.tokenizer.get_added_vocabulary();
        let is_shown = |token: &String| !skip_special || !added.is_special_token(token);
        if !ids.iter().filter_map(|id| self.tokenizer.id_to_token(*id)).any(|token| is_shown(&token)) {
            // `BPEDecoder` looks for the last of no tokens (0.23.2 panics).
            return Ok(String::new());
        }
        let text = caught(|| self.tokenizer.decode(&ids, skip_special).map_err(|error| error.to_string()))?;
        let text = if self.clean_up { cleaned_up(text) } else { text };
        Ok(if self.transcript.is_some() { without_times(&text) } else { text })
    }

    pub(crate) fn added(&self) -> BTreeMap<String, u32> {
        let added = self.tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        added.iter().map(|(id, token)| (token.content.clone(), *id)).collect()
    }

    pub(crate) fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    pub(crate) fn byte_pairs(&self, count: usize) -> Result<BytePairs, String> {
        BytePairs::of(&self.tokenizer, count)
    }

    pub(crate) fn joins(&self, count: usize) -> Result<Joins, String> {
        Joins::of_merges(&self.tokenizer, count)
    }

    pub(crate) fn vocabulary(&self) -> Result<&Vocabulary, &str> {
        self.vocabulary.as_ref().map_err(String::as_str)
    }
}

/// The ids of a text.
pub(crate) fn encoded(tokenizer: &tokenizers::Tokenizer, text: &str, own: bool) -> Result<Vec<u32>, String> {
    let encoding = tokenizer.encode(text, own).map_err(|error| error.to_string())?;
    Ok(encoding.get_ids().to_vec())
}

/// What the crate says; where it panics, that it does. What is known to stop it is refused when a file is opened, so this is
/// for what is not known.
pub(crate) fn caught<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err("the tokenizers crate stopped on this text".to_owned()))
}

/// Texts up to here are normalized whole whatever comes of them.
const PART_BYTES: usize = 1 << 12;

/// Runs the steps of a normalizer one by one. Errors: one makes a text longer than [`TEXT_BYTES`].
///
/// A character map may replace a byte by dozens, so that what it makes of a long text is first measured part by part.
fn check_growth(normalizer: &NormalizerWrapper, text: &mut NormalizedString) -> Result<(), String> {
    if let NormalizerWrapper::Sequence(steps) = normalizer {
        return steps.as_ref().iter().try_for_each(|step| check_growth(step, text));
    }
    let normalized = |text: &mut NormalizedString| normalizer.normalize(text).map_err(|error| error.to_string());
    if matches!(normalizer, NormalizerWrapper::Precompiled(_)) && text.get().len() > PART_BYTES {
        let (mut rest, mut len) = (text.get(), 0);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.floor_char_boundary(PART_BYTES));
            let mut part = NormalizedString::from(part);
            normalized(&mut part)?;
            len += part.get().len();
            rest = after;
        }
        check_length(len)?;
    }
    normalized(text)?;
    check_length(text.get().len())
}

/// Errors: so many bytes are more than are tokenized.
pub(crate) fn check_length(bytes: usize) -> Result<(), String> {
    match bytes > TEXT_BYTES {
        true => Err(format!("expected a text of at most {TEXT_BYTES} bytes once normalized, found {bytes}")),
        false => Ok(()),
    }
}

/// The text without marks such as `<|1.08|>`.
fn without_times(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("<|") {
        let (before, mark) = rest.split_at(at);
        kept.push_str(before);
        let inside = mark[2..].split_once("|>").filter(|(inside, _)| is_time(inside));
        match inside {
            Some((_, after)) => rest = after,
            None => {
                kept.push_str("<|");
                rest = &mark[2..];
            }
        }
    }
    kept + rest
}

fn is_time(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').is_some_and(|(seconds, hundredths)| is_number(seconds) && is_number(hundredths))
}
