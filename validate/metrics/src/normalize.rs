//! How texts are put before they are compared, so that "Twenty-one pounds." and "£21" are no error.

mod asides;
mod basic;
mod bounds;
mod english;
mod natural;
mod number_words;
mod numbers;
mod symbols;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which rules texts are put by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rules {
    /// As they are.
    #[default]
    None,
    /// `BasicTextNormalizer` of transformers, for any language: lower case, without symbols and asides in brackets.
    WhisperBasic,
    /// `EnglishTextNormalizer` of transformers: besides, contractions, titles and numbers in one spelling.
    WhisperEnglish,
}

/// Puts texts by rules, as `transformers/models/whisper/english_normalizer.py` does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Normalizer {
    rules: Rules,
    spellings: BTreeMap<String, String>,
}

impl Rules {
    /// As the recipe spells it.
    pub fn name(self) -> &'static str {
        match self {
            Rules::None => "none",
            Rules::WhisperBasic => "whisper_basic",
            Rules::WhisperEnglish => "whisper_english",
        }
    }
}

impl Normalizer {
    /// By rules that bring nothing.
    pub fn new(rules: Rules) -> Normalizer {
        Normalizer { rules, spellings: BTreeMap::new() }
    }

    /// The English rules with a checkpoint's `normalizer.json`: British words and what they are in American spelling.
    pub fn english(spellings: BTreeMap<String, String>) -> Normalizer {
        Normalizer { rules: Rules::WhisperEnglish, spellings }
    }

    /// Which rules.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The text by the rules. What they leave at its ends is left there: a word's space before a full stop that went, say.
    pub fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.rules {
            Rules::None => Cow::Borrowed(text),
            Rules::WhisperBasic => Cow::Owned(basic::normalized(text)),
            Rules::WhisperEnglish => Cow::Owned(english::normalized(text, &self.spellings)),
        }
    }
}
