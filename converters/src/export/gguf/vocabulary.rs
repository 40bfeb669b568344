//! The tokenizer in a file: SentencePiece's pieces, byte pairs, or the checkpoint's own files.

mod scored;

use checkpoint::generation::Prompt;
use checkpoint::gguf::{Array, Value};
use tokenizer::{BytePairs, PieceType, Spelling, Tokenizer, TokenizerError, Vocabulary};

use crate::dialect::{Dialect, Keys, Words};
use crate::error::ExportError;
use crate::model::Model;

/// Score of a piece that fills the vocabulary up, as in llama.cpp's own converter.
const PAD_SCORE: f32 = -10000.0;

pub(super) fn unsupported(message: impl Into<String>) -> ExportError {
    ExportError::Unsupported { format: "gguf", message: message.into() }
}

/// The tokenizer of a checkpoint, if it has one. Errors: it cannot be read.
fn tokenizer(model: &Model) -> Result<Option<Tokenizer>, ExportError> {
    match Tokenizer::of(model.checkpoint.files()) {
        Ok(tokenizer) => Ok(Some(tokenizer)),
        Err(TokenizerError::Missing { .. }) => Ok(None),
        Err(TokenizerError::Files(error)) => Err(error.into()),
        Err(
            TokenizerError::Malformed { file, message }
            | TokenizerError::Language { file, message }
            | TokenizerError::Failed { file, message },
        ) => Err(ExportError::Malformed { file, message }),
    }
}

/// Whether the checkpoint has a tokenizer. Errors: it cannot be read.
pub(super) fn has_tokenizer(model: &Model) -> Result<bool, ExportError> {
    tokenizer(model).map(|tokenizer| tokenizer.is_some())
}

/// The form in which a file has the tokenizer.
pub(super) enum Held {
    /// SentencePiece's pieces, the only form that llama.cpp's T5 reads.
    Pieces(Box<Tokenizer>),
    /// The checkpoint's own files, which say all: what surrounds a text, languages, merges.
    Files,
    /// None.
    Nothing,
}

impl Held {
    /// Pieces for llama.cpp, files for our own engine; with the reason when it is not pieces.
    pub(super) fn of(model: &Model, runs_in_llama_cpp: bool) -> Result<(Held, String), ExportError> {
        let Some(tokenizer) = tokenizer(model)? else {
            return Ok((Held::Nothing, "the checkpoint has no tokenizer".to_owned()));
        };
        Ok(match tokenizer.vocabulary().err().map(str::to_owned) {
            None if runs_in_llama_cpp => (Held::Pieces(Box::new(tokenizer)), String::new()),
            why => (Held::Files, why.unwrap_or_default()),
        })
    }
}

pub(super) fn vocabulary(tokenizer: &Tokenizer) -> Result<&Vocabulary, ExportError> {
    tokenizer.vocabulary().map_err(unsupported)
}

/// The keys below `tokenizer.ggml`, with the vocabulary filled up to the rows of the embedding.
pub(super) fn pieces(vocabulary: &Vocabulary, vocab_size: usize) -> Result<Vec<(String, Value)>, ExportError> {
    let count = vocabulary.pieces.len();
    if count > vocab_size {
        return Err(unsupported(format!("the tokenizer has {count} pieces and the embedding {vocab_size} rows")));
    }
    let mut pieces = vocabulary.pieces.clone();
    pieces.extend((count..vocab_size).map(|id| format!("[PAD{id}]")));
    let mut scores = vocabulary.scores.clone();
    scores.resize(vocab_size, PAD_SCORE);
    let mut types: Vec<i32> = vocabulary.types.iter().map(|kind| *kind as i32).collect();
    types.resize(vocab_size, PieceType::Unused as i32);

    let mut metadata = Vec::new();
    let mut add = |key: &str, value: Value| metadata.push((format!("tokenizer.ggml.{key}"), value));
    add("model", Value::string("t5"));
    add("pre", Value::string("default"));
    add("tokens", Value::Array(Array::String(pieces)));
    add("scores", Value::Array(Array::F32(scores)));
    add("token_type", Value::Array(Array::I32(types)));
    add("add_space_prefix", Value::Bool(vocabulary.add_space_prefix));
    add("remove_extra_whitespaces", Value::Bool(vocabulary.remove_extra_whitespaces));
    if !vocabulary.charsmap.is_empty() {
        add("precompiled_charsmap", Value::Array(Array::U8(vocabulary.charsmap.clone())));
    }
    for (key, id) in [
        ("eos_token_id", vocabulary.eos),
        ("unknown_token_id", vocabulary.unknown()),
        ("padding_token_id", vocabulary.pad),
    ] {
        if let Some(id) = id {
            add(key, Value::U32(id));
        }
    }
    add("add_bos_token", Value::Bool(false));
    add("add_eos_token", Value::Bool(true));
    Ok(metadata)
}

/// The keys below `tokenizer.ggml` in the form that a dialect's engine reads, and whether the checkpoint's files are to be held
/// too. Without a tokenizer, tokens of byte pairs are words that are the numbers of their ids, and special ones what engines look for.
///
/// Errors: why the engine cannot hold the tokenizer.
pub(super) fn in_dialect(
    model: &Model,
    dialect: &Dialect,
    vocab_size: usize,
) -> Result<Result<(Keys, bool), String>, ExportError> {
    let tokenizer = tokenizer(model)?;
    let spelling = match dialect.tokenizer {
        Words::BytePairs(spelling) => spelling,
        Words::Pieces => {
            let refused =
                |why: &str| format!("its tokenizer: {} reads SentencePiece's pieces alone, and {why}", dialect.engine);
            return Ok(match tokenizer.as_ref().map(Tokenizer::vocabulary) {
                Some(Ok(vocabulary)) => Ok((pieces(vocabulary, vocab_size)?, false)),
                Some(Err(why)) => Err(refused(why)),
                None => Err(refused("the checkpoint has none")),
            });
        }
        Words::Sides | Words::Joins => {
            let Some(tokenizer) = &tokenizer else {
                return Ok(Err(format!("its tokenizer: {} needs one, and the checkpoint has none", dialect.engine)));
            };
            let keys = match dialect.tokenizer {
                Words::Sides => scored::sides(tokenizer, vocab_size),
                _ => scored::joins(tokenizer, vocab_size),
            };
            let refused = |why| format!("its tokenizer: {} cuts texts by scores alone, and {why}", dialect.engine);
            return Ok(keys.map(|keys| (keys, true)).map_err(refused));
        }
    };
    let pairs = match &tokenizer {
        Some(tokenizer) => tokenizer.byte_pairs(vocab_size),
        None => Ok(numbers(model, vocab_size, spelling)),
    };
    let refused = |why: String| format!("its tokenizer: {} reads byte pairs alone, and {why}", dialect.engine);
    Ok(match pairs {
        Err(why) => Err(refused(why)),
        Ok(pairs) if pairs.spelling != spelling => Err(refused("here they spell bytes in another way".to_owned())),
        Ok(pairs) if pairs.merges.iter().flatten().any(|side| side.contains(' ')) => {
            Err(refused("here some of them hold a space, which stands between both sides of a merge".to_owned()))
        }
        Ok(pairs) => Ok((byte_pair_keys(&pairs, model), tokenizer.is_some())),
    })
}

fn numbers(model: &Model, count: usize, spelling: Spelling) -> BytePairs {
    let space = if spelling == Spelling::Gpt2 { 'Ġ' } else { '▁' };
    let word = |id: usize| Some((format!("{space}{id}"), PieceType::Normal));
    let mut tokens: Vec<Option<(String, PieceType)>> = (0..count).map(word).collect();
    for (name, id) in model.checkpoint.generation().prompt.iter().flat_map(Prompt::named) {
        if let Some(token) = usize::try_from(id).ok().and_then(|id| tokens.get_mut(id)) {
            *token = Some((name, PieceType::Control));
        }
    }
    BytePairs { tokens, merges: Vec::new(), spelling }
}

fn byte_pair_keys(pairs: &BytePairs, model: &Model) -> Vec<(String, Value)> {
    let named = pairs.tokens.iter().enumerate().map(|(id, token)| match token {
        Some((token, kind)) => (token.clone(), *kind as i32),
        None => (format!("[PAD{id}]"), PieceType::Unused as i32),
    });
    let (tokens, types): (Vec<String>, Vec<i32>) = named.unzip();
    let unknown = types.iter().position(|kind| *kind == PieceType::Unknown as i32);
    let is_gpt2 = pairs.spelling == Spelling::Gpt2;
    let decoding = model.checkpoint.generation();
    let end = decoding.eos_token_ids.first().copied();
    let begin = if is_gpt2 { end } else { Some(decoding.decoder_start_token_id) };
    let merges = pairs.merges.iter().map(|[left, right]| format!("{left} {right}")).collect();
    let mut keys = vec![
        ("model", Value::string(if is_gpt2 { "gpt2" } else { "bpe" })),
        ("pre", Value::string(if is_gpt2 { "gpt2" } else { "default" })),
        ("tokens", Value::Array(Array::String(tokens))),
        ("token_type", Value::Array(Array::I32(types))),
        ("merges", Value::Array(Array::String(merges))),
    ];
    if !is_gpt2 {
        keys.push(("byte_fallback", Value::Bool(true)));
    }
    let ids = [
        ("bos_token_id", begin),
        ("eos_token_id", end),
        ("unknown_token_id", unknown.map(|id| id as i64)),
        ("padding_token_id", Some(decoding.pad_token_id)),
    ];
    let ids = ids.into_iter().filter_map(|(key, id)| Some((key, Value::U32(u32::try_from(id?).ok()?))));
    keys.extend(ids);
    keys.push(("add_bos_token", Value::Bool(!is_gpt2)));
    keys.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect()
}
