//! Tokenizers whose texts SentencePiece cuts and whose ids another table gives: Marian, M2M100, PLBart.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use tokenizers::AddedToken;

use crate::added::{Added, Part, is_space};
use crate::clean_up::cleaned_up;
use crate::error::TokenizerError;
use crate::folder::Folder;
use crate::framing::{Framing, Side, Style};
use crate::languages::{self, Languages};
use crate::scored::{Joins, Sides};
use crate::sentencepiece::{SPACE, SentencePiece};

/// Cuts texts, and knows the ids of the pieces.
#[derive(Debug)]
pub(crate) struct PieceTokenizer {
    source: Table,
    /// Targets; as sources when absent.
    target: Option<Table>,
    added: Added,
    texts: HashMap<i64, String>,
    decoding: Decoding,
}

#[derive(Debug)]
struct Table {
    model: SentencePiece,
    ids: HashMap<String, u32>,
    unknown: u32,
    /// Whether a text begins with a token `>>…<<`.
    begins_with_language: bool,
}

/// How pieces become a text.
#[derive(Clone, Copy, Debug)]
enum Decoding {
    /// By the rules of one side's model between special tokens, which have a space after them; a piece that only the
    /// other side has keeps its text, with a space for `▁`.
    Marian { by_target: bool },
    /// By the model's rules between special tokens.
    M2m100,
    /// Pieces as they stand, with a space for `▁`.
    PlBart { clean_up: bool },
}

impl Table {
    fn ids(&self, text: &str) -> Result<Vec<u32>, String> {
        let end = text.find("<<").filter(|_| self.begins_with_language && text.starts_with(">>"));
        let (language, rest) = text.split_at(end.map_or(0, |at| at + 2));
        let pieces = Some(language.to_owned()).filter(|l| !l.is_empty()).into_iter().chain(self.model.encode(rest)?);
        Ok(pieces.map(|piece| self.ids.get(&piece).copied().unwrap_or(self.unknown)).collect())
    }
}

impl PieceTokenizer {
    /// Errors: the text is too long once characters are replaced.
    pub(crate) fn encode(&self, text: &str, side: Side) -> Result<Vec<u32>, String> {
        let table = self.target.as_ref().filter(|_| side == Side::Target).unwrap_or(&self.source);
        let mut ids = Vec::new();
        for part in self.added.split(text) {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => ids.extend(table.ids(text)?),
            }
        }
        Ok(ids)
    }

    pub(crate) fn decode(&self, ids: &[i64], skip_special: bool) -> String {
        let mut text = String::new();
        let mut pieces: Vec<&str> = Vec::new();
        for id in ids {
            match self.added.get(*id) {
                Some(token) if token.special && skip_special => {}
                Some(token) if token.special => {
                    text += &self.joined(&std::mem::take(&mut pieces));
                    text += &token.content;
                    text.extend(matches!(self.decoding, Decoding::Marian { .. }).then_some(' '));
                }
                Some(token) => pieces.push(&token.content),
                None => pieces.extend(self.texts.get(id).map(String::as_str)),
            }
        }
        text += &self.joined(&pieces);
        if let Decoding::Marian { .. } = self.decoding {
            text = text.replace(SPACE, " ");
        }
        text = text.trim_matches(is_space).to_owned();
        match self.decoding {
            Decoding::PlBart { clean_up: true } => cleaned_up(text),
            _ => text,
        }
    }

    pub(crate) fn tokens(&self, ids: Range<u32>, side: Side) -> Vec<Option<String>> {
        let table = self.target.as_ref().filter(|_| side == Side::Target).unwrap_or(&self.source);
        let pieces: HashMap<u32, &String> = table.ids.iter().map(|(piece, id)| (*id, piece)).collect();
        let token = |id: u32| {
            let added = self.added.get(i64::from(id)).map(|token| &token.content);
            added.or(pieces.get(&id).copied()).cloned()
        };
        ids.map(token).collect()
    }

    /// How both sides are cut. Errors: why that takes more than scores, or ids are not one table.
    pub(crate) fn sides(&self) -> Result<Sides, String> {
        let (Decoding::Marian { by_target: false }, Some(target)) = (self.decoding, &self.target) else {
            return Err("its two sides are not two models with one table of ids".to_owned());
        };
        Sides::of_models(&self.source.model, &target.model, self.source.unknown)
    }

    /// The pieces that texts are joined to. Errors: why that takes more than scores.
    pub(crate) fn joins(&self, count: usize) -> Result<Joins, String> {
        let Table { model, ids, .. } = &self.source;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Joins::of_model(model, ids, self.tokens(0..count, Side::Source))
    }

    fn joined(&self, pieces: &[&str]) -> String {
        match (self.decoding, &self.target) {
            (Decoding::PlBart { .. }, _) => pieces.concat().replace(SPACE, " "),
            (Decoding::Marian { by_target: true }, Some(target)) => target.model.decode(pieces),
            _ => self.source.model.decode(pieces),
        }
    }
}

/// The ids of the named special tokens, those of `defaults` included, and of what the files list beside them; each must
/// be in `ids`.
fn special(
    folder: &Folder,
    file: &str,
    ids: &HashMap<String, u32>,
    defaults: &[(&str, &str)],
) -> Result<Added, TokenizerError> {
    let mut added = Added::default();
    for (id, token) in folder.added()? {
        match ids.get(&token.content) {
            Some(known) if *known != id => {
                let message =
                    format!("{:?}: expected id {id}, as listed for added tokens, found {known}", token.content);
                return Err(folder.malformed(file, message));
            }
            _ => added.push(token, id),
        }
    }
    for token in folder.special(defaults) {
        let id = ids.get(&token.content).copied().or_else(|| added.id(&token.content));
        let missing = || folder.malformed(file, format!("expected the special token {:?}, found none", token.content));
        added.push(token.clone(), id.ok_or_else(missing)?);
    }
    Ok(added)
}

fn model(folder: &Folder, name: &str, because: &str) -> Result<SentencePiece, TokenizerError> {
    let bytes = folder.needed(name, because)?;
    SentencePiece::read(&bytes).map_err(|message| folder.malformed(name, message))
}

fn known(added: &Added, folder: &Folder, file: &str, token: &str) -> Result<u32, TokenizerError> {
    added.id(token).ok_or_else(|| folder.malformed(file, format!("expected the special token {token:?}, found none")))
}

fn reversed(ids: &HashMap<String, u32>) -> HashMap<i64, String> {
    ids.iter().map(|(piece, id)| (i64::from(*id), piece.clone())).collect()
}

/// source.spm, target.spm, vocab.json, and target_vocab.json where the two sides have ids of their own.
///
/// transformers decodes with the rules of source.spm unless the vocabularies are separate.
pub(crate) fn marian(folder: &Folder) -> Result<(PieceTokenizer, Framing), TokenizerError> {
    const FILE: &str = "vocab.json";
    let ids = folder.ids(FILE, "source.spm")?;
    let [eos, unk, pad] = [("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")];
    let added = special(folder, FILE, &ids, &[eos, unk, pad])?;
    let [eos, unk] = [eos, unk].map(|(key, default)| known(&added, folder, FILE, &folder.token(key, default)));
    let (eos, unknown) = (eos?, unk?);
    let separate = folder.is_set("separate_vocabs");
    let target_ids = match separate {
        true => folder.ids("target_vocab.json", "source.spm")?,
        false => ids.clone(),
    };
    let table = |model, ids| Table { model, ids, unknown, begins_with_language: true };
    let languages = ids.iter().filter(|(piece, _)| piece.starts_with(">>") && piece.ends_with("<<"));
    let framing = Framing {
        style: Style::TargetLanguageFirst { eos },
        known: languages.map(|(piece, id)| (languages::bare(piece).to_owned(), *id)).collect(),
        // Those of tokenizer_config.json name what the model was trained on, and are no tokens.
        languages: Languages::default(),
        optional: true,
    };
    let tokenizer = PieceTokenizer {
        texts: reversed(&target_ids),
        source: table(model(folder, "source.spm", FILE)?, ids),
        target: Some(table(model(folder, "target.spm", "source.spm")?, target_ids)),
        added,
        decoding: Decoding::Marian { by_target: separate },
    };
    Ok((tokenizer, framing))
}

/// sentencepiece.bpe.model, and vocab.json, after which the languages have their ids.
pub(crate) fn m2m100(folder: &Folder) -> Result<(PieceTokenizer, Framing), TokenizerError> {
    const FILE: &str = "vocab.json";
    const MODEL: &str = "sentencepiece.bpe.model";
    let ids = folder.ids(FILE, MODEL)?;
    let codes = match folder.text("language_codes") {
        None | Some("m2m100") => languages::M2M100,
        Some("wmt21") => languages::WMT_21,
        Some(other) => {
            let message = format!("language_codes: expected m2m100 or wmt21, found {other}");
            return Err(folder.malformed("tokenizer_config.json", message));
        }
    };
    let mut with_languages = ids.clone();
    let mut known_languages = BTreeMap::new();
    let mut language_tokens = Vec::new();
    for (id, code) in (ids.len() as u32..).zip(codes.split_whitespace()) {
        let token = format!("__{code}__");
        if let Some(at) = ids.get(&token) {
            return Err(folder.malformed(FILE, format!("{token}: expected id {id}, after the vocabulary, found {at}")));
        }
        known_languages.insert(code.to_owned(), id);
        language_tokens.push((token.clone(), id));
        with_languages.insert(token, id);
    }
    let [eos, unk] = [("eos_token", "</s>"), ("unk_token", "<unk>")];
    let mut added = special(
        folder,
        FILE,
        &with_languages,
        &[("bos_token", "<s>"), eos, ("sep_token", "</s>"), unk, ("pad_token", "<pad>")],
    )?;
    for (token, id) in language_tokens {
        added.push(AddedToken::from(token, true), id);
    }
    let [eos, unk] = [eos, unk].map(|(key, default)| known(&added, folder, FILE, &folder.token(key, default)));
    let (eos, unknown) = (eos?, unk?);
    let framing = Framing {
        style: Style::LanguageFirst { eos },
        known: known_languages,
        languages: folder.languages(Some("en")),
        optional: false,
    };
    let source = Table { model: model(folder, MODEL, FILE)?, ids, unknown, begins_with_language: false };
    let texts = reversed(&source.ids);
    Ok((PieceTokenizer { source, target: None, added, texts, decoding: Decoding::M2m100 }, framing))
}

/// sentencepiece.bpe.model in fairseq's order: `<s> <pad> </s> <unk>`, then the pieces after `<unk> <s> </s>`, then the
/// languages, then `<mask>` if the languages are `base`.
pub(crate) fn plbart(folder: &Folder) -> Result<(PieceTokenizer, Framing), TokenizerError> {
    const FILE: &str = "sentencepiece.bpe.model";
    let model = model(folder, FILE, "tokenizer_config.json")?;
    let (codes, is_base) = match folder.text("language_codes") {
        None | Some("base") => (languages::PLBART, true),
        Some("multi") => (languages::PLBART_MULTI, false),
        Some(other) => {
            let message = format!("language_codes: expected base or multi, found {other}");
            return Err(folder.malformed("tokenizer_config.json", message));
        }
    };
    let begins: Vec<&str> = model.pieces.iter().take(3).map(String::as_str).collect();
    if begins != ["<unk>", "<s>", "</s>"] {
        return Err(folder.malformed(FILE, format!("expected <unk>, <s>, </s> first, found {}", begins.join(", "))));
    }
    let named = [("bos_token", "<s>"), ("pad_token", "<pad>"), ("eos_token", "</s>"), ("unk_token", "<unk>")];
    let mut tokens: Vec<String> = named.map(|(_, text)| text.to_owned()).into();
    tokens.extend_from_slice(&model.pieces[3..]);
    let first_language = tokens.len() as u32;
    let known_languages = (first_language..).zip(codes.split_whitespace()).map(|(id, code)| (code.to_owned(), id));
    let known_languages: BTreeMap<String, u32> = known_languages.collect();
    tokens.extend(codes.split_whitespace().map(|code| format!("__{code}__")));
    let mask = ("mask_token", "<mask>");
    tokens.extend(Some(mask.1.to_owned()).filter(|_| is_base));
    let ids: HashMap<String, u32> = (0..).zip(&tokens).map(|(id, token)| (token.clone(), id)).collect();

    let mut added = Added::default();
    for code in codes.split_whitespace() {
        added.push(AddedToken::from(format!("__{code}__"), true), known_languages[code]);
    }
    for (key, token) in named.into_iter().chain([mask]) {
        // Only `base` has a mask; elsewhere it is one unknown token.
        let id = ids.get(token).copied().unwrap_or(ids["<unk>"]);
        added.push(AddedToken::from(token, true).lstrip(key == mask.0), id);
    }
    let framing = Framing {
        style: Style::LanguageLast { eos: ids["</s>"] },
        known: known_languages,
        languages: folder.languages(Some("en_XX").filter(|_| !is_base)),
        optional: true,
    };
    let texts = reversed(&ids);
    let clean_up = folder.setting("clean_up_tokenization_spaces") != Some(&serde_json::Value::Bool(false));
    let source = Table { model, unknown: ids["<unk>"], ids, begins_with_language: false };
    Ok((PieceTokenizer { source, target: None, added, texts, decoding: Decoding::PlBart { clean_up } }, framing))
}
