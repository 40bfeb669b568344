//! Which of the two files says how to decode, and its values with an account of what is wrong.

use std::fmt;

use serde_json::{Map, Value};

use super::keys;
use crate::config::{COUNT, Config, LIMIT, shown};
use crate::error::Problem;

/// The file that decides.
pub(super) struct Source<'c> {
    pub file: &'static str,
    pub json: Option<&'c Map<String, Value>>,
    /// What config.json says below its decoder, where it says nothing itself.
    pub inner: Option<&'c Value>,
    /// Where config.json says nothing at all.
    pub defaults: Option<&'c Map<String, Value>>,
    /// Attributes that `GenerationConfig` does not know are kept.
    pub keeps_others: bool,
    pub is_whisper: bool,
    pub config: &'c Config,
}

impl<'c> Source<'c> {
    pub(super) fn of(
        generation: Option<&'c Value>,
        config: &'c Config,
        defaults: &'c Map<String, Value>,
    ) -> Source<'c> {
        let is_whisper = config.architecture() == "whisper";
        match generation {
            Some(json) => {
                let derived = json.get("_from_model_config").and_then(Value::as_bool) == Some(true);
                let (file, json) = ("generation_config.json", json.as_object());
                let keeps_others = !derived;
                Source { file, json, inner: None, defaults: None, keeps_others, is_whisper, config }
            }
            None => {
                let json = config.json();
                let truthy = |v: &&Value| v.as_object().is_some_and(|inner| !inner.is_empty());
                let inner = ["decoder", "generator", "text_config"].iter().find_map(|key| json.get(key).filter(truthy));
                let (file, json, defaults) = ("config.json", json.as_object(), Some(defaults));
                Source { file, json, inner, defaults, keeps_others: false, is_whisper, config }
            }
        }
    }

    /// The value of an attribute of `GenerationConfig`; null counts as absent.
    pub(super) fn value(&self, key: &str) -> Option<&'c Value> {
        let own = self.json.and_then(|json| json.get(key)).filter(|value| !value.is_null());
        let inner = || self.inner?.get(key).filter(|value| !value.is_null());
        own.or_else(inner).or_else(|| self.defaults?.get(key))
    }

    /// The value of an attribute that only Whisper's `generate` knows.
    pub(super) fn other(&self, key: &str) -> Option<&'c Value> {
        self.json.filter(|_| self.keeps_others)?.get(key).filter(|value| !value.is_null())
    }

    /// Whether prompts stand alone, of config.json: `_prepare_decoder_input_ids_for_generation` in transformers' generation/utils.py.
    pub(super) fn is_donut(&self) -> bool {
        let word = |place: &str| self.config.json().pointer(place).and_then(Value::as_str).unwrap_or_default();
        word("/model_type") == "vision-encoder-decoder" && word("/encoder/model_type").contains("donut")
    }

    /// Of config.json, without marking it as read.
    pub(super) fn positions(&self) -> Option<usize> {
        let value = self.config.json().get("max_position_embeddings")?;
        value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0)
    }

    pub(super) fn refuse_what_changes_the_result(&self) {
        for (key, is_neutral, why) in keys::REFUSED {
            let value = match keys::WHISPER.contains(key) {
                true => self.other(key).filter(|_| self.is_whisper),
                false => self.value(key),
            };
            if value.is_some_and(|value| !is_neutral(value)) {
                self.unsupported(key, why);
            }
        }
        if self.file == "config.json" {
            return;
        }
        for (key, value) in self.json.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            if !keys::all(self.is_whisper).any(|known| known == key) {
                let (file, architecture) = (self.file, self.config.architecture());
                self.config.note(Problem::UnreadKey { file, key: key.clone(), value: shown(value), architecture });
            }
        }
    }

    pub(super) fn unsupported(&self, key: &str, why: impl fmt::Display) {
        let value = self.value(key).map_or_else(|| "missing".to_owned(), shown);
        let (file, architecture) = (self.file, self.config.architecture());
        self.config.note(Problem::Unsupported { file, key: key.to_owned(), value, architecture, why: why.to_string() });
    }

    pub(super) fn missing(&self, key: &str) -> i64 {
        self.config.note(Problem::MissingKey { file: self.file, key: key.to_owned() });
        0
    }

    pub(super) fn wrong_kind(&self, key: &str, expected: &str, found: &Value) {
        let (key, expected, found) = (key.to_owned(), expected.to_owned(), shown(found));
        self.config.note(Problem::WrongKind { file: self.file, key, expected, found });
    }

    /// A value read by `read`; one that cannot be read is noted.
    pub(super) fn typed<T>(&self, key: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        self.read(key, self.value(key)?, expected, read)
    }

    pub(super) fn read<T>(
        &self,
        key: &str,
        value: &Value,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let found = read(value);
        if found.is_none() {
            self.wrong_kind(key, expected, value);
        }
        found
    }

    pub(super) fn id(&self, key: &str) -> Option<i64> {
        self.typed(key, "a token id", token_id)
    }

    /// One id or a list of them; none when absent, and a stand-in when it cannot be read.
    pub(super) fn ids(&self, key: &str) -> Vec<i64> {
        let read = |value: &Value| match value.as_array() {
            Some(list) => list.iter().map(token_id).collect::<Option<Vec<i64>>>().filter(|ids| !ids.is_empty()),
            None => token_id(value).map(|id| vec![id]),
        };
        match self.value(key) {
            Some(value) => self.read(key, value, "a token id", read).unwrap_or_else(|| vec![0]),
            None => Vec::new(),
        }
    }

    pub(super) fn list(&self, key: &str) -> Vec<i64> {
        let read = |value: &Value| value.as_array()?.iter().map(token_id).collect();
        self.typed(key, "a list of token ids", read).unwrap_or_default()
    }

    pub(super) fn words(&self, key: &str) -> Vec<Vec<i64>> {
        let word = |value: &Value| -> Option<Vec<i64>> {
            value.as_array()?.iter().map(token_id).collect::<Option<Vec<i64>>>().filter(|ids| !ids.is_empty())
        };
        let read = |value: &Value| value.as_array()?.iter().map(word).collect();
        self.typed(key, "a list of lists of token ids, each with one at least", read).unwrap_or_default()
    }

    pub(super) fn count(&self, key: &str) -> Option<usize> {
        let read = |value: &Value| size(value).filter(|n| *n > 0);
        self.typed(key, COUNT, read)
    }

    pub(super) fn size(&self, key: &str) -> Option<usize> {
        self.typed(key, "a number from 0 to 2^31", size)
    }

    /// 1 is neutral.
    pub(super) fn penalty(&self, key: &str) -> Option<f64> {
        let read = |value: &Value| value.as_f64().filter(|p| p.is_finite() && *p > 0.0);
        self.typed(key, "a number above 0", read).filter(|p| *p != 1.0)
    }

    /// BART's first checkpoints say it in a key of their own, which counts where `GenerationConfig` is derived.
    pub(super) fn forced_bos(&self) -> Option<i64> {
        let forced = self.json.and_then(|json| json.get("force_bos_token_to_be_generated")) == Some(&Value::Bool(true));
        match forced && !self.keeps_others {
            true => self.id("bos_token_id"),
            false => self.id("forced_bos_token_id"),
        }
    }
}

/// A token id.
pub(super) fn token_id(value: &Value) -> Option<i64> {
    value.as_u64().and_then(|id| u32::try_from(id).ok()).map(i64::from)
}

fn size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= LIMIT)
}

/// Whether a setting changes nothing, so that no manifest spells it out.
pub(super) fn is_neutral<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
