//! What stands around a text, and the languages among it.

use std::collections::BTreeMap;

use checkpoint::Overrides;
use checkpoint::generation::languages::token_of;

use crate::error::TokenizerError;
use crate::folder::Folder;
use crate::languages::{Languages, bare};

/// A text that goes into the encoder, or one that is to come out of the decoder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Source,
    Target,
}

/// Where the tokens around a text stand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// The same around every text: BART, T5.
    Fixed { before: Vec<u32>, after: Vec<u32> },
    /// `language text </s>`: mBART-50, M2M100, NLLB.
    LanguageFirst { eos: u32 },
    /// `text </s> language`: mBART, PLBart, NLLB of old.
    LanguageLast { eos: u32 },
    /// `text </s>`, with the language of the *output* before a source: multilingual Marian.
    TargetLanguageFirst { eos: u32 },
    /// `<|startoftranscript|> language task <|notimestamps|> text <|endoftext|>`: Whisper; the language is what is spoken.
    Transcript { start: u32, task: Option<u32>, untimed: Option<u32>, eos: u32 },
}

/// What stands around the texts of a tokenizer.
#[derive(Clone, Debug)]
pub(crate) struct Framing {
    pub style: Style,
    /// ids by the names that users give, without decoration.
    pub known: BTreeMap<String, u32>,
    /// The current ones.
    pub languages: Languages,
    /// Whether a text may go without a language.
    pub optional: bool,
}

impl Framing {
    pub(crate) fn fixed(before: Vec<u32>, after: Vec<u32>) -> Framing {
        let style = Style::Fixed { before, after };
        Framing { style, known: BTreeMap::new(), languages: Languages::default(), optional: true }
    }

    /// What a class of transformers puts around a text; `None` leaves that to the pipeline's last step, which is there for
    /// all other classes. Errors: a special token is missing.
    pub(crate) fn of_class(
        tokenizer: &tokenizers::Tokenizer,
        folder: &Folder,
        file: &str,
    ) -> Result<Option<Framing>, TokenizerError> {
        let special = |text: &str| {
            tokenizer.token_to_id(text).ok_or_else(|| {
                folder.malformed(file, format!("expected the special token {text:?} of {}, found none", folder.class()))
            })
        };
        let eos_token = folder.token("eos_token", if folder.class() == "WhisperTokenizer" { END } else { "</s>" });
        let eos = || special(&eos_token);
        let is_bare = tokenizer.get_post_processor().is_none();
        let (style, default, is_language): (_, _, fn(&str) -> bool) = match folder.class() {
            "MBartTokenizer" => (Style::LanguageLast { eos: eos()? }, "en_XX", |token| is_code(token, [2, 2])),
            "MBart50Tokenizer" => (Style::LanguageFirst { eos: eos()? }, "en_XX", |token| is_code(token, [2, 2])),
            "NllbTokenizer" => {
                let eos = eos()?;
                let last = folder.is_set("legacy_behaviour");
                let style = if last { Style::LanguageLast { eos } } else { Style::LanguageFirst { eos } };
                (style, "eng_Latn", |token| is_code(token, [3, 4]))
            }
            "M2M100Tokenizer" => (Style::LanguageFirst { eos: eos()? }, "en", |token| token.starts_with("__")),
            "WhisperTokenizer" => {
                let start = special("<|startoftranscript|>")?;
                let task = match folder.text("task") {
                    None => None,
                    Some(task @ ("transcribe" | "translate")) => Some(special(&format!("<|{task}|>"))?),
                    Some(task) => {
                        let message = format!("task: expected transcribe or translate, found {task}");
                        return Err(folder.malformed("tokenizer_config.json", message));
                    }
                };
                let timed = folder.is_set("predict_timestamps");
                let untimed = if timed { None } else { Some(special("<|notimestamps|>")?) };
                let is_language = |token: &str| token.starts_with("<|") && is_code(bare(token), [2, 0]);
                (Style::Transcript { start, task, untimed, eos: eos()? }, "", is_language)
            }
            "BartTokenizer" | "RobertaTokenizer" if is_bare => {
                let [first, last] = [("cls_token", "<s>"), ("sep_token", "</s>")].map(|(key, default)| {
                    special(&folder.token(key, default)) //
                });
                return Ok(Some(Framing::fixed(vec![first?], vec![last?])));
            }
            "" | "T5Tokenizer" | "PegasusTokenizer" | "BlenderbotTokenizer" if is_bare => {
                return Ok(Some(Framing::fixed(vec![], eos().into_iter().collect())));
            }
            _ => return Ok(None),
        };
        let added = tokenizer.get_added_tokens_decoder().into_iter();
        let known = added.filter(|(_, token)| token.special && is_language(&token.content));
        let mut languages = folder.languages(Some(default).filter(|code| !code.is_empty()));
        let is_transcript = matches!(style, Style::Transcript { .. });
        if is_transcript {
            languages.source_lang = folder.text("language").map(str::to_owned);
        }
        Ok(Some(Framing {
            optional: is_transcript,
            style,
            known: known.map(|(id, token)| (bare(&token.content).to_owned(), id)).collect(),
            languages,
        }))
    }

    /// The id of a language: `en`, `__en__`, `<|en|>` or `>>en<<`; for Whisper `english` too.
    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        let known = |name: &str| self.known.get(bare(name)).copied();
        let by_name = || known(&token_of(&name.to_lowercase()).filter(|_| self.is_transcript())?);
        known(name).or_else(by_name)
    }

    /// Whether `language text </s>` is what an encoder is fed.
    pub(crate) fn is_language_first(&self) -> bool {
        matches!(self.style, Style::LanguageFirst { .. })
    }

    fn is_transcript(&self) -> bool {
        matches!(self.style, Style::Transcript { .. })
    }

    /// What languages mean for decoding.
    pub(crate) fn decoding(&self, languages: &Languages) -> Overrides {
        let target = languages.target_lang.as_deref().and_then(|name| self.id(name));
        let mut overrides = Overrides::default();
        match self.style {
            Style::LanguageFirst { .. } => overrides.forced_bos_token_id = target.map(Some),
            // Training puts the last token of a target first.
            Style::LanguageLast { .. } => overrides.decoder_start_token_id = target,
            Style::Transcript { .. } => overrides.language = languages.source_lang.clone(),
            Style::Fixed { .. } | Style::TargetLanguageFirst { .. } => {}
        }
        overrides
    }

    /// Refuses languages that the tokenizer does not have, or that change nothing.
    pub(crate) fn check(&self, languages: &Languages) -> Result<(), String> {
        let Languages { source_lang, target_lang } = languages;
        for name in [source_lang, target_lang].into_iter().flatten() {
            self.id(name).ok_or_else(|| self.unknown(name))?;
        }
        match self.style {
            Style::TargetLanguageFirst { .. } if source_lang.is_some() => {
                Err("found a source_lang, but this model is told the language of its outputs only".to_owned())
            }
            Style::Transcript { .. } if target_lang.is_some() => {
                Err("found a target_lang, but this model is told the language of the speech only".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The tokens before and after a text. Errors: the language is missing or unknown.
    pub(crate) fn around(&self, side: Side) -> Result<(Vec<u32>, Vec<u32>), String> {
        let Languages { source_lang, target_lang } = &self.languages;
        let of = |key: &str, name: &Option<String>| match name {
            Some(name) => self.id(name).map(Some).ok_or_else(|| self.unknown(name)),
            None if self.optional => Ok(None),
            None => Err(format!("expected {key}, one of {} languages, found none", self.known.len())),
        };
        let own = || match side {
            Side::Source => of("source_lang", source_lang),
            Side::Target => of("target_lang", target_lang),
        };
        Ok(match &self.style {
            Style::Fixed { before, after } => (before.clone(), after.clone()),
            Style::LanguageFirst { eos } => (own()?.into_iter().collect(), vec![*eos]),
            Style::LanguageLast { eos } => (vec![], [*eos].into_iter().chain(own()?).collect()),
            Style::TargetLanguageFirst { eos } => match side {
                Side::Source => (of("target_lang", target_lang)?.into_iter().collect(), vec![*eos]),
                Side::Target => (vec![], vec![*eos]),
            },
            Style::Transcript { start, task, untimed, eos } => {
                let language = of("source_lang", source_lang)?;
                ([Some(*start), language, *task, *untimed].into_iter().flatten().collect(), vec![*eos])
            }
        })
    }

    /// What to say of a language that the tokenizer does not have.
    pub(crate) fn unknown(&self, name: &str) -> String {
        if self.known.is_empty() {
            return format!("found the language {name:?}, but this tokenizer has none to choose from");
        }
        let mut near: Vec<&str> = self.known.keys().map(String::as_str).collect();
        let found = bare(name);
        near.sort_by_key(|known| {
            let begins = known.starts_with(found) || found.starts_with(known);
            (!begins, strsim::damerau_levenshtein(found, known))
        });
        near.truncate(3);
        let count = self.known.len();
        format!("expected one of {count} languages, found {name:?}; the nearest are {}", near.join(", "))
    }
}

/// Ends a transcript.
const END: &str = "<|endoftext|>";

/// Whether a token is a language code: so many small letters or one more, and after `_` so many others; no `_` for 0.
fn is_code(token: &str, [small, others]: [usize; 2]) -> bool {
    let (language, rest) = token.split_once('_').unwrap_or((token, ""));
    (small..=small + 1).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_lowercase())
        && rest.len() == others
        && rest.bytes().all(|byte| byte.is_ascii_alphabetic())
}
