//! `config.json` and the vocabularies: what the engine knows of tokens.

use std::path::Path;

use checkpoint::names::GENERATION_CONFIG;
use serde_json::{Map, Value, json};
use tokenizer::{Tokenizer, TokenizerError};

use super::layout::{described, rows_without_start};
use crate::artifact::write_json;
use crate::error::ExportError;
use crate::model::Model;
use crate::transformer::{Source, Transformer};

/// What the first time of a transcript is called, and how far one is from the next.
const TIME_STEP: f64 = 0.02;
/// Tokens of Whisper's vocabulary that are no language, although they stand among those that are.
const NO_LANGUAGES: [&str; 7] =
    ["endoftext", "translate", "transcribe", "startoflm", "startofprev", "nocaptions", "nospeech"];

/// The files beside the weights.
pub(super) struct Settings {
    config: Value,
    /// Names of files and their tokens by id.
    vocabularies: Vec<(&'static str, Vec<String>)>,
    /// For the report.
    pub(super) said: Vec<String>,
}

impl Settings {
    /// Errors: the checkpoint's tokenizer or its configs cannot be read.
    pub(super) fn of(model: &Model) -> Result<Settings, ExportError> {
        let pass = described(model)?;
        let tokenizer = match Tokenizer::of(model.checkpoint.files()) {
            Ok(tokenizer) => Some(tokenizer),
            Err(TokenizerError::Missing { .. }) => None,
            Err(TokenizerError::Files(error)) => return Err(error.into()),
            Err(
                TokenizerError::Malformed { file, message }
                | TokenizerError::Language { file, message }
                | TokenizerError::Failed { file, message },
            ) => return Err(ExportError::Malformed { file, message }),
        };
        let mut said = Vec::new();
        if tokenizer.is_none() {
            said.push("the checkpoint has no tokenizer: CTranslate2 is told ids as its tokens, as \"17\"".to_owned());
        }
        let without_start = rows_without_start(model, &pass)?;
        let [source, target] = rows(model, &pass).map(|rows| without_start.unwrap_or(rows));
        let words = |rows: usize, is_target| words(tokenizer.as_ref(), rows, is_target);
        let tokens = words(target, true);
        Ok(match pass.source {
            Source::Features => {
                let tokens = with_times(tokens, tokenizer.is_some());
                let config = speech(model, &pass, &tokens)?;
                Settings { config, vocabularies: vec![("vocabulary.json", tokens)], said }
            }
            Source::Tokens => {
                let config = texts(model, &pass, &tokens)?;
                let sources = words(source, false);
                let vocabularies = match sources == tokens {
                    true => vec![("shared_vocabulary.json", tokens)],
                    false => vec![("source_vocabulary.json", sources), ("target_vocabulary.json", tokens)],
                };
                Settings { config, vocabularies, said }
            }
        })
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), ExportError> {
        write_json(&dir.join("config.json"), &self.config)?;
        self.vocabularies.iter().try_for_each(|(name, tokens)| write_json(&dir.join(name), tokens))
    }
}

/// Tokens of the encoder and of the decoder.
fn rows(model: &Model, pass: &Transformer) -> [usize; 2] {
    let rows_of = |ours: &str| {
        let named = |name: &str| crate::export::gguf::gguf_name(name, model.architecture.gguf_names());
        let found = model.graph.weights.iter().find(|(_, weight)| named(&weight.name).as_deref() == Some(ours));
        found.map(|(_, weight)| weight.matrix()[0])
    };
    let source = if pass.source == Source::Features { None } else { rows_of("token_embd.weight") };
    let target = rows_of("dec.token_embd.weight").or(rows_of("token_embd.weight")).unwrap_or(0);
    [source.unwrap_or(target), target]
}

/// The tokens of some rows of an embedding; rows that the tokenizer does not know have names that no text has.
fn words(tokenizer: Option<&Tokenizer>, rows: usize, is_target: bool) -> Vec<String> {
    let Some(tokenizer) = tokenizer else { return (0..rows).map(|id| id.to_string()).collect() };
    let tokens = tokenizer.tokens(rows, is_target).into_iter().enumerate();
    tokens.map(|(id, token)| token.unwrap_or_else(|| format!("[PAD{id}]"))).collect()
}

/// Whisper's tokens, the times after `<|notimestamps|>` named where the tokenizer leaves them out.
fn with_times(mut tokens: Vec<String>, is_named: bool) -> Vec<String> {
    let first = tokens.iter().position(|token| token == "<|notimestamps|>").map(|at| at + 1);
    if let (Some(first), true) = (first, is_named) {
        for (step, token) in tokens[first..].iter_mut().enumerate().filter(|(_, token)| token.starts_with("[PAD")) {
            *token = format!("<|{:.2}|>", step as f64 * TIME_STEP);
        }
    }
    tokens
}

/// Of text to text. Source: `SequenceToSequenceModelConfig` of specs/model_spec.py, and what converters/transformers.py sets.
fn texts(model: &Model, pass: &Transformer, tokens: &[String]) -> Result<Value, ExportError> {
    let (checkpoint, decoding) = (&model.checkpoint, model.checkpoint.generation());
    let token = |id: i64| usize::try_from(id).ok().and_then(|id| tokens.get(id)).cloned();
    let family = checkpoint.config().model_type().unwrap_or_default();
    let end = decoding.eos_token_ids.first().copied().unwrap_or(decoding.pad_token_id);
    // Where the start has no row, it may be any token.
    let start = token(decoding.decoder_start_token_id).or_else(|| token(end));
    let own = checkpoint.config_json().get("bos_token_id").and_then(Value::as_i64).and_then(token);
    let bos = match family {
        "t5" | "mt5" | "pegasus" => token(decoding.pad_token_id),
        _ => own,
    };
    let unknown = special(model, "unk_token")?.unwrap_or_else(|| "<unk>".to_owned());
    // A token that is not there is added behind the last row, where the engine would read what is no row.
    let unknown = Some(unknown)
        .filter(|token| tokens.contains(token))
        .or_else(|| token(decoding.pad_token_id))
        .or_else(|| token(end));
    // Targets of mBART begin with their language, which the caller says; those of mBART-50 with the end token, and then the language.
    let is_told = family == "mbart" && !decoding.eos_token_ids.contains(&decoding.decoder_start_token_id);
    Ok(json!({
        "add_source_bos": false,
        "add_source_eos": false,
        "bos_token": bos.or(start.clone()),
        "decoder_start_token": start.filter(|_| !is_told),
        "eos_token": token(end),
        "layer_norm_epsilon": pass.eps,
        "multi_query_attention": false,
        "unk_token": unknown,
    }))
}

/// Of speech to text. Source: `WhisperConfig` of specs/whisper_spec.py, and what converters/transformers.py sets.
fn speech(model: &Model, pass: &Transformer, tokens: &[String]) -> Result<Value, ExportError> {
    let files = model.checkpoint.files();
    let generation: Map<String, Value> = files.json(GENERATION_CONFIG)?.unwrap_or_default();
    let decoding = model.checkpoint.generation();
    let of_config = |key: &str| generation.get(key).filter(|value| !value.is_null()).cloned();
    let languages = match of_config("lang_to_id").and_then(|ids| ids.as_object().cloned()) {
        Some(ids) => {
            let mut ids: Vec<i64> = ids.values().filter_map(Value::as_i64).collect();
            ids.sort_unstable();
            ids
        }
        None => languages(tokens),
    };
    // Without those of the config, all heads of the upper half.
    let heads = of_config("alignment_heads").unwrap_or_else(|| {
        let layers = pass.decoder.layers / 2..pass.decoder.layers;
        layers.flat_map(|layer| (0..pass.decoder.heads).map(move |head| json!([layer, head]))).collect()
    });
    Ok(json!({
        "alignment_heads": heads,
        "lang_ids": languages,
        "layer_norm_epsilon": pass.eps,
        "suppress_ids": decoding.suppress_tokens,
        "suppress_ids_begin": decoding.begin_suppress_tokens,
    }))
}

/// Tokens as `<|en|>` between the start of a transcript and the tasks.
fn languages(tokens: &[String]) -> Vec<i64> {
    let start = tokens.iter().position(|token| token == "<|startoftranscript|>").map_or(tokens.len(), |at| at + 1);
    let name = |token: &str| Some(token.strip_prefix("<|")?.strip_suffix("|>")?.to_owned());
    let is_language = |token: &String| name(token).is_some_and(|name| !NO_LANGUAGES.contains(&name.as_str()));
    let found = tokens[start..].iter().take_while(|token| is_language(token)).count();
    (start..start + found).map(|id| id as i64).collect()
}

/// A special token by its key, as the tokenizer's settings name it.
fn special(model: &Model, key: &str) -> Result<Option<String>, ExportError> {
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        let settings: Option<Map<String, Value>> = model.checkpoint.files().json(name)?;
        let found = settings.and_then(|settings| settings.get(key).cloned());
        let text = found.and_then(|found| found.get("content").unwrap_or(&found).as_str().map(str::to_owned));
        if text.is_some() {
            return Ok(text);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_named_where_the_tokenizer_names_none() {
        let tokens =
            ["a", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|translate|>", "<|notimestamps|>", "[PAD6]", "[PAD7]"];
        let tokens = with_times(tokens.map(str::to_owned).to_vec(), true);
        assert_eq!(tokens[6..], ["<|0.00|>", "<|0.02|>"]);
        assert_eq!(languages(&tokens), [2, 3]);
        assert_eq!(languages(&tokens[..1]), Vec::<i64>::new());
    }
}
