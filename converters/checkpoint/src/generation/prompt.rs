//! What Whisper's decoder is fed before it chooses: language, task, whether timestamps follow.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::languages::token_of;
use super::source::{Source, is_neutral, token_id};

/// A token of the prompt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// This one.
    Token(i64),
    /// The one of these, in ascending order, with the largest logit after what comes before: a language that is detected.
    OneOf(Vec<i64>),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Token(id) => write!(f, "{id}"),
            Choice::OneOf(ids) => write!(f, "the likeliest of {} languages", ids.len()),
        }
    }
}

/// The parts of Whisper's prompt after the start token, and the words that choose them.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// The token of the language; detected when absent, if `lang_to_id` is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<i64>,
    /// The token of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<i64>,
    /// What stands for both in older checkpoints, where neither is given; null is a language that is detected.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub forced_decoder_ids: Vec<Option<i64>>,
    /// `<|fr|>` and its token.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub lang_to_id: BTreeMap<String, i64>,
    /// `transcribe`, `translate` and their tokens.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub task_to_id: BTreeMap<String, i64>,
    /// The token before text without timestamps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_timestamps_token_id: Option<i64>,
    /// Whether a language and a task may be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_multilingual: Option<bool>,
}

impl Prompt {
    /// After the start token: `_retrieve_init_tokens` of transformers' generation_whisper.py, without timestamps.
    pub fn choices(&self) -> Vec<Choice> {
        let given = self.language.is_some() || self.task.is_some();
        let mut tokens: Vec<Option<Choice>> = match given {
            true => Vec::new(),
            false => self.forced_decoder_ids.iter().map(|id| id.map(Choice::Token)).collect(),
        };
        let is_open = tokens.first().is_none_or(Option::is_none);
        let language = match self.language {
            Some(id) => Some(Choice::Token(id)),
            None if is_open && !self.lang_to_id.is_empty() => {
                let mut ids: Vec<i64> = self.lang_to_id.values().copied().collect();
                ids.sort_unstable();
                Some(Choice::OneOf(ids))
            }
            None => None,
        };
        if language.is_some() {
            match tokens.first_mut() {
                Some(first) => *first = language,
                None => tokens.push(language),
            }
        }
        let transcribe = self.task_to_id.get("transcribe").filter(|_| self.language.is_some());
        tokens.push(self.task.or(transcribe.copied()).map(Choice::Token));
        let mut tokens: Vec<Choice> = tokens.into_iter().flatten().collect();
        let no_timestamps = self.no_timestamps_token_id.map(Choice::Token);
        if let Some(no_timestamps) = no_timestamps.filter(|token| tokens.last() != Some(token)) {
            tokens.push(no_timestamps);
        }
        tokens
    }

    /// Languages, tasks and the token before text without timestamps, as a vocabulary spells them.
    pub fn named(&self) -> impl Iterator<Item = (String, i64)> {
        let tasks = self.task_to_id.iter().map(|(task, id)| (format!("<|{task}|>"), *id));
        let no_timestamps = self.no_timestamps_token_id.map(|id| ("<|notimestamps|>".to_owned(), id));
        self.lang_to_id.iter().map(|(token, id)| (token.clone(), *id)).chain(tasks).chain(no_timestamps)
    }

    /// The token of a language: by its name (`french`), its code (`fr`) or its token (`<|fr|>`). Errors: why there is none.
    pub fn language_called(&self, word: &str) -> Result<i64, String> {
        let word = word.to_lowercase();
        if self.lang_to_id.is_empty() {
            return Err("the generation config has no lang_to_id".to_owned());
        }
        let token = if self.lang_to_id.contains_key(&word) { Some(word.clone()) } else { token_of(&word) };
        let codes = || -> String {
            let code = |token: &String| token.trim_matches(['<', '|', '>']).to_owned();
            self.lang_to_id.keys().map(code).collect::<Vec<_>>().join(", ")
        };
        match token.and_then(|token| self.lang_to_id.get(&token)) {
            Some(id) => Ok(*id),
            None => Err(format!("expected one of {}", codes())),
        }
    }

    /// The token of a task. Errors: why there is none.
    pub fn task_called(&self, word: &str) -> Result<i64, String> {
        // Whisper's own `generate` knows these two, whatever `task_to_id` holds.
        match self.task_to_id.get(word).filter(|_| ["transcribe", "translate"].contains(&word)) {
            Some(id) => Ok(*id),
            None if self.task_to_id.is_empty() => Err("the generation config has no task_to_id".to_owned()),
            None => Err("expected transcribe or translate".to_owned()),
        }
    }

    pub(super) fn read(source: &Source) -> Prompt {
        let ids_by_name = |key: &str| -> BTreeMap<String, i64> {
            let read = |value: &Value| {
                value.as_object()?.iter().map(|(name, id)| Some((name.clone(), token_id(id)?))).collect()
            };
            let value = source.other(key);
            value.and_then(|value| source.read(key, value, "names with token ids", read)).unwrap_or_default()
        };
        let mut prompt = Prompt {
            lang_to_id: ids_by_name("lang_to_id"),
            task_to_id: ids_by_name("task_to_id"),
            no_timestamps_token_id: (source.other("no_timestamps_token_id"))
                .and_then(|value| source.read("no_timestamps_token_id", value, "a token id", token_id)),
            is_multilingual: (source.other("is_multilingual"))
                .and_then(|value| source.read("is_multilingual", value, "true or false", Value::as_bool)),
            forced_decoder_ids: forced_decoder_ids(source),
            ..Prompt::default()
        };
        let called = |key: &str, find: fn(&Prompt, &str) -> Result<i64, String>| {
            let word = source.other(key)?;
            let word = source.read(key, word, "a word", |value| value.as_str().map(str::to_owned))?;
            find(&prompt, &word).map_err(|why| source.unsupported(key, why)).ok()
        };
        let (language, task) = (called("language", Prompt::language_called), called("task", Prompt::task_called));
        (prompt.language, prompt.task) = (language, task);
        prompt
    }
}

/// The tokens of `[[1, id], [2, id], …]`; nothing where the list does not begin at 1. Places that do not follow each other
/// are noted.
fn forced_decoder_ids(source: &Source) -> Vec<Option<i64>> {
    const KEY: &str = "forced_decoder_ids";
    // Of Whisper's two configs, the model's own comes second.
    let value = source.other(KEY).or_else(|| source.config.json().get(KEY).filter(|value| !value.is_null()));
    let pair = |value: &Value| match value.as_array()?.as_slice() {
        [place, Value::Null] => Some((place.as_u64()?, None)),
        [place, id] => Some((place.as_u64()?, Some(token_id(id)?))),
        _ => None,
    };
    let read = |value: &Value| -> Option<Vec<Option<i64>>> {
        let pairs: Vec<(u64, Option<i64>)> = value.as_array()?.iter().map(pair).collect::<Option<_>>()?;
        if pairs.first().is_none_or(|(place, _)| *place != 1) {
            return Some(Vec::new());
        }
        let in_order = pairs.iter().zip(1..).all(|((place, _), expected)| *place == expected);
        in_order.then(|| pairs.into_iter().map(|(_, id)| id).collect())
    };
    let expected = "pairs of a place and a token id or null, with places 1, 2, …";
    value.and_then(|value| source.read(KEY, value, expected, read)).unwrap_or_default()
}
