//! vocab.txt: a piece a line, the number of the line its id, as BERT has it (Devlin et al. 2019) and Japanese models after it.

use std::collections::HashMap;

use checkpoint::limits::{PIECE_BYTES, PIECES};
use tokenizers::decoders::fuse::Fuse;
use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{BertNormalizer, Lowercase, NFKC, Sequence};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::sequence::Sequence as Steps;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, decoders};

use crate::error::TokenizerError;
use crate::folder::Folder;
use crate::framing::Framing;
use crate::pipeline::Pipeline;

/// The file.
pub(crate) const FILE: &str = "vocab.txt";

const NAMED: &[(&str, &str)] = &[
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];

/// BERT's word pieces, or characters where `subword_tokenizer_type` says so.
///
/// Japanese text is cut to words by MeCab before it is cut to characters, which leaves nothing of the words but that white
/// space is gone; so no MeCab is needed. transformers shows characters with a space between; here they are joined, as the
/// applications of such models do (manga-ocr).
pub(crate) fn open(folder: &Folder) -> Result<(Pipeline, Option<Framing>), TokenizerError> {
    let failed = |error: tokenizers::Error| folder.malformed(FILE, error.to_string());
    let unknown = folder.token("unk_token", "[UNK]");
    let model = WordPiece::builder()
        .vocab(vocabulary(folder)?.into_iter().collect::<Vocab>())
        .unk_token(unknown)
        .build()
        .map_err(failed)?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    if folder.class() == "BertJapaneseTokenizer" {
        check_japanese(folder)?;
        let mut steps = vec![NormalizerWrapper::from(NFKC)];
        if folder.is_set("do_lower_case") {
            steps.push(Lowercase.into());
        }
        let characters = Split::new(SplitPattern::Regex("(?s).".to_owned()), SplitDelimiterBehavior::Isolated, false);
        let parts = [PreTokenizerWrapper::from(WhitespaceSplit), characters.map_err(failed)?.into()];
        tokenizer.with_normalizer(Some(Sequence::new(steps))).map_err(failed)?;
        tokenizer.with_pre_tokenizer(Some(Steps::new(parts.to_vec())));
        tokenizer.with_decoder(Some(Fuse::new()));
    } else {
        let flag = |key: &str| folder.setting(key).and_then(serde_json::Value::as_bool);
        let (chinese, small) = (flag("tokenize_chinese_chars"), flag("do_lower_case"));
        let normalizer =
            BertNormalizer::new(true, chinese.unwrap_or(true), flag("strip_accents"), small.unwrap_or(true));
        tokenizer.with_normalizer(Some(normalizer)).map_err(failed)?;
        tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
        tokenizer.with_decoder(Some(decoders::wordpiece::WordPiece::default()));
    }
    tokenizer.add_tokens(folder.added()?.into_values()).map_err(failed)?;
    tokenizer.add_special_tokens(folder.special(NAMED)).map_err(failed)?;
    let special = |key: &str, default: &str| {
        let token = folder.token(key, default);
        tokenizer.token_to_id(&token).ok_or_else(|| {
            folder.malformed(FILE, format!("expected the special token {token:?} of {key}, found none")) //
        })
    };
    let framing = Framing::fixed(vec![special("cls_token", "[CLS]")?], vec![special("sep_token", "[SEP]")?]);
    let why = "its tokens are word pieces, which llama.cpp's t5 tokenizer cannot express".to_owned();
    Ok((Pipeline::new(tokenizer, folder, Err(why)), Some(framing)))
}

/// Errors: a way to cut Japanese that needs its dictionary here.
fn check_japanese(folder: &Folder) -> Result<(), TokenizerError> {
    for (key, default, expected) in
        [("subword_tokenizer_type", "wordpiece", "character"), ("word_tokenizer_type", "basic", "mecab")]
    {
        let found = folder.text(key).unwrap_or(default);
        if found != expected {
            let message = format!("{key}: expected {expected:?}, found {found:?}, which is not supported");
            return Err(folder.malformed("tokenizer_config.json", message));
        }
    }
    Ok(())
}

/// Ids by pieces. Errors: not UTF-8, more or longer pieces than there are, a piece twice.
fn vocabulary(folder: &Folder) -> Result<HashMap<String, u32>, TokenizerError> {
    let malformed = |message: String| folder.malformed(FILE, message);
    let text = String::from_utf8(folder.needed(FILE, "tokenizer_config.json")?);
    let text = text.map_err(|error| malformed(format!("expected UTF-8: {error}")))?;
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for (id, piece) in text.lines().enumerate() {
        if id >= PIECES {
            return Err(malformed(format!("expected at most {PIECES} pieces, found more")));
        }
        if piece.len() > PIECE_BYTES {
            let message = format!("expected pieces of at most {PIECE_BYTES} bytes, found one of {}", piece.len());
            return Err(malformed(format!("line {}: {message}", id + 1)));
        }
        if let Some(first) = lines.insert(piece, id) {
            let message = format!("expected each piece once, found {piece:?} in line {} too", first + 1);
            return Err(malformed(format!("line {}: {message}", id + 1)));
        }
    }
    Ok(lines.into_iter().map(|(piece, id)| (piece.to_owned(), id as u32)).collect())
}
