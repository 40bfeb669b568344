//! vocab.json and merges.txt: byte pairs of GPT-2's alphabet (Radford et al. 2019), as BART, Blenderbot and Whisper have
//! them.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::error::TokenizerError;
use crate::folder::Folder;
use crate::framing::Framing;
use crate::pipeline::Pipeline;
use crate::words;

/// Defaults of a class that has the words of RoBERTa.
const ROBERTA: &[(&str, &str)] = &[
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("unk_token", "<unk>"),
    ("sep_token", "</s>"),
    ("pad_token", "<pad>"),
    ("cls_token", "<s>"),
    ("mask_token", "<mask>"),
];
const WHISPER: &[(&str, &str)] =
    &[("bos_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>"), ("unk_token", "<|endoftext|>")];

/// transformers 5.23 leaves out Blenderbot's `</s>` when there is no tokenizer.json, its own documentation
/// notwithstanding; 4.57 and tokenizer.json have it.
pub(crate) fn open(folder: &Folder) -> Result<(Pipeline, Option<Framing>), TokenizerError> {
    let (file, ids) = ("vocab.json", folder.ids("vocab.json", "merges.txt")?);
    let pairs = words::merges(folder)?;
    for (number, (a, b)) in &pairs {
        let unknown = [a.clone(), b.clone(), format!("{a}{b}")].into_iter().find(|piece| !ids.contains_key(piece));
        if let Some(piece) = unknown {
            let message =
                format!("line {number}: expected pieces of vocab.json and one that both make, found {piece:?}");
            return Err(folder.malformed("merges.txt", message));
        }
    }
    let is_whisper = folder.class() == "WhisperTokenizer";
    let prefix = folder.setting("add_prefix_space").and_then(serde_json::Value::as_bool);
    let prefix = prefix.unwrap_or(folder.class() == "BlenderbotTokenizer");
    let failed = |error: tokenizers::Error| folder.malformed(file, error.to_string());
    let mut tokenizer = tokenizers::Tokenizer::new(model(ids, pairs).map_err(failed)?);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(prefix, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let added = folder.added()?;
    tokenizer.add_tokens(added.values().cloned()).map_err(failed)?;
    for (id, token) in &added {
        let found = tokenizer.token_to_id(&token.content);
        if found != Some(*id) {
            let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
            let message =
                format!("{:?} is listed with id {id}: expected the ids before it too, found {found}", token.content);
            return Err(folder.malformed(file, message));
        }
    }
    let named = folder.special(if is_whisper { WHISPER } else { ROBERTA });
    tokenizer.add_special_tokens(named).map_err(failed)?;
    let why = "its tokens are byte pairs, which llama.cpp's t5 tokenizer cannot express".to_owned();
    let framing = Framing::of_class(&tokenizer, folder, file)?;
    Ok((Pipeline::new(tokenizer, folder, Err(why)), framing))
}

fn model(ids: HashMap<String, u32>, pairs: Vec<(usize, words::Merge)>) -> tokenizers::Result<BPE> {
    let merges = pairs.into_iter().map(|(_, pair)| pair).collect();
    BPE::builder().vocab_and_merges(ids.into_iter().collect::<Vocab>(), merges).build()
}
