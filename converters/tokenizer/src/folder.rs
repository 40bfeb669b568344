//! The small files beside a vocabulary: tokenizer_config.json, special_tokens_map.json, added_tokens.json, vocab.json.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use checkpoint::Files;
use checkpoint::json::Unique;
use checkpoint::limits::{self, TOKEN_ID};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::TokenizerError;
use crate::languages::Languages;

/// The special tokens that transformers names.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A checkpoint's files, as far as its tokenizer matters.
pub(crate) struct Folder<'f> {
    files: &'f Files,
    config: Map<String, Value>,
    special: Map<String, Value>,
    /// transformers' name of the tokenizer, without `Fast`.
    class: String,
}

impl<'f> Folder<'f> {
    pub(crate) fn open(files: &'f Files) -> Result<Folder<'f>, TokenizerError> {
        let folder = Folder { files, config: Map::new(), special: Map::new(), class: String::new() };
        let config = folder.object("tokenizer_config.json")?.unwrap_or_default();
        // `added_tokens_decoder` is newer and replaces the other files.
        let special = match config.contains_key("added_tokens_decoder") {
            true => Map::new(),
            false => folder.object("special_tokens_map.json")?.unwrap_or_default(),
        };
        let class = match config.get("tokenizer_class").and_then(Value::as_str) {
            Some(class) => class.to_owned(),
            None => class_of_model(&folder.object("config.json")?.unwrap_or_default()),
        };
        let class = class.strip_suffix("Fast").unwrap_or(&class).to_owned();
        Ok(Folder { config, special, class, ..folder })
    }

    pub(crate) fn class(&self) -> &str {
        &self.class
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path(name)
    }

    pub(crate) fn malformed(&self, name: &str, message: impl Into<String>) -> TokenizerError {
        TokenizerError::Malformed { file: self.path(name), message: message.into() }
    }

    /// The bytes of a file; `None` when there is none.
    pub(crate) fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, TokenizerError> {
        Ok(self.files.read(name)?)
    }

    /// A file that must be there.
    pub(crate) fn needed(&self, name: &str, because: &str) -> Result<Vec<u8>, TokenizerError> {
        self.bytes(name)?
            .ok_or_else(|| self.malformed(name, format!("expected this file beside {because}, found none")))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.has(name)
    }

    fn object(&self, name: &str) -> Result<Option<Map<String, Value>>, TokenizerError> {
        let Some(bytes) = self.bytes(name)? else { return Ok(None) };
        json_of(&bytes).map(Some).map_err(|message| self.malformed(name, message))
    }

    /// An object of pieces and their ids. Errors: a piece or an id twice, an id that is none.
    pub(crate) fn ids(&self, name: &str, because: &str) -> Result<HashMap<String, u32>, TokenizerError> {
        let bytes = self.needed(name, because)?;
        let Unique(entries) = json_of::<Unique<u64>>(&bytes)
            .map_err(|error| self.malformed(name, format!("expected pieces and their ids: {error}")))?;
        let mut texts: HashMap<u64, &str> = HashMap::with_capacity(entries.len());
        for (piece, id) in &entries {
            if *id >= TOKEN_ID {
                return Err(self.malformed(name, format!("{piece:?}: expected an id below {TOKEN_ID}, found {id}")));
            }
            if let Some(first) = texts.insert(*id, piece) {
                return Err(self.malformed(name, format!("id {id}: expected one piece, found {first:?} and {piece:?}")));
            }
        }
        Ok(entries.into_iter().map(|(piece, id)| (piece, id as u32)).collect())
    }

    /// A value of tokenizer_config.json.
    pub(crate) fn setting(&self, key: &str) -> Option<&Value> {
        self.config.get(key)
    }

    /// Whether a value of tokenizer_config.json is `true`.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.setting(key) == Some(&Value::Bool(true))
    }

    /// A text of tokenizer_config.json.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.setting(key).and_then(Value::as_str)
    }

    /// The languages of tokenizer_config.json.
    pub(crate) fn languages(&self, default_source: Option<&str>) -> Languages {
        Languages {
            source_lang: self.text("src_lang").or(default_source).map(str::to_owned),
            target_lang: self.text("tgt_lang").map(str::to_owned),
        }
    }

    /// The text of a special token: a string, or an object with `content`; `default` when no file names it.
    pub(crate) fn token(&self, key: &str, default: &str) -> String {
        let value = self.special.get(key).or_else(|| self.config.get(key));
        value.and_then(content).unwrap_or(default).to_owned()
    }

    /// The named special tokens with the class's defaults, and those that files list beside them, without their ids.
    pub(crate) fn special(&self, defaults: &[(&str, &str)]) -> Vec<AddedToken> {
        let default = |key: &str| defaults.iter().find(|(name, _)| *name == key).map(|(_, text)| *text);
        let named = NAMED.iter().filter_map(|key| {
            let value = self.special.get(*key).or_else(|| self.config.get(*key));
            match value {
                None => default(key).map(|text| AddedToken::from(text, true).lstrip(*key == "mask_token")),
                Some(value) => special_token(value),
            }
        });
        let lists = [&self.special, &self.config].into_iter().flat_map(|map| {
            ["additional_special_tokens", "extra_special_tokens"].into_iter().filter_map(|key| map.get(key)?.as_array())
        });
        named.chain(lists.flatten().filter_map(special_token)).collect()
    }

    /// Tokens that `added_tokens_decoder` of tokenizer_config.json or else added_tokens.json gives an id, by id.
    pub(crate) fn added(&self) -> Result<BTreeMap<u32, AddedToken>, TokenizerError> {
        let mut tokens = BTreeMap::new();
        match self.config.get("added_tokens_decoder") {
            Some(Value::Object(listed)) => {
                for (id, token) in listed {
                    let known = id.parse().ok().filter(|id| u64::from(*id) < TOKEN_ID).zip(added_token(token));
                    let (id, token) = known.ok_or_else(|| {
                        self.malformed("tokenizer_config.json", format!("added_tokens_decoder: {id} is not a token"))
                    })?;
                    tokens.insert(id, token);
                }
            }
            _ if self.has("added_tokens.json") => {
                let special: Vec<String> = self.special(&[]).into_iter().map(|token| token.content).collect();
                for (text, id) in self.ids("added_tokens.json", "a vocabulary")? {
                    let is_special = special.contains(&text);
                    tokens.insert(id, AddedToken::from(text, is_special));
                }
            }
            _ => {}
        }
        Ok(tokens)
    }
}

fn json_of<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    limits::check_json(bytes, 1)?;
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn content(token: &Value) -> Option<&str> {
    token.get("content").unwrap_or(token).as_str()
}

/// A token with its flags. transformers looks for a special token in the text as it stands.
fn added_token(value: &Value) -> Option<AddedToken> {
    let flag = |key: &str, default: bool| value.get(key).and_then(Value::as_bool).unwrap_or(default);
    let text = content(value).filter(|text| !text.is_empty())?;
    let token = AddedToken::from(text, flag("special", false));
    let normalized = flag("normalized", token.normalized);
    Some(
        token
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .single_word(flag("single_word", false))
            .normalized(normalized),
    )
}

fn special_token(value: &Value) -> Option<AddedToken> {
    added_token(value).map(|token| token.special(true).normalized(false))
}

/// The tokenizer of a model, as AutoTokenizer finds it when tokenizer_config.json names none.
fn class_of_model(config: &Map<String, Value>) -> String {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let class = match (text("tokenizer_class"), text("model_type").unwrap_or_default()) {
        (Some(class), _) => class,
        (None, "bart") => "BartTokenizer",
        (None, "blenderbot") => "BlenderbotTokenizer",
        (None, "blenderbot-small") => "BlenderbotSmallTokenizer",
        (None, "m2m_100") => "M2M100Tokenizer",
        (None, "marian") => "MarianTokenizer",
        (None, "mbart") => "MBartTokenizer",
        (None, "pegasus") => "PegasusTokenizer",
        (None, "plbart") => "PLBartTokenizer",
        (None, "whisper") => "WhisperTokenizer",
        _ => "",
    };
    class.to_owned()
}
