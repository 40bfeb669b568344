//! Blenderbot-small's tokenizer: words in small letters, cut by byte-pair merges (Sennrich et al., arXiv 1508.07909);
//! `@@` ends a token that goes on.

use std::collections::HashMap;

use checkpoint::limits::WORD_CHARS;
use tokenizers::AddedToken;

use crate::added::{Added, Part, is_space};
use crate::error::TokenizerError;
use crate::folder::Folder;

const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
/// Ends the last symbol of a word.
const END: &str = "</w>";
/// What a line break is written as.
const NEW_LINE: &str = "__newln__";

/// Words as tokens.
#[derive(Debug)]
pub(crate) struct WordTokenizer {
    ids: HashMap<String, u32>,
    texts: HashMap<i64, String>,
    /// Two symbols, and how early they are joined.
    ranks: HashMap<Merge, usize>,
    added: Added,
    unknown: u32,
}

impl WordTokenizer {
    pub(crate) fn open(folder: &Folder) -> Result<WordTokenizer, TokenizerError> {
        let ids = folder.ids(VOCABULARY, MERGES)?;
        let ranks = merges(folder)?;
        let ranks = ranks.into_iter().enumerate().map(|(rank, (_, pair))| (pair, rank)).collect();
        let defaults =
            [("bos_token", "__start__"), ("eos_token", "__end__"), ("unk_token", "__unk__"), ("pad_token", "__null__")];
        let mut added = Added::default();
        for token in folder.special(&defaults) {
            let id = ids.get(&token.content).copied().ok_or_else(|| {
                folder.malformed(VOCABULARY, format!("expected the special token {:?}, found none", token.content))
            })?;
            added.push(AddedToken { lstrip: false, ..token }, id);
        }
        let unknown = folder.token("unk_token", "__unk__");
        let unknown = added.id(&unknown).ok_or_else(|| {
            folder.malformed(VOCABULARY, format!("expected the special token {unknown:?}, found none"))
        })?;
        let texts = ids.iter().map(|(text, id)| (i64::from(*id), text.clone())).collect();
        Ok(WordTokenizer { ids, texts, ranks, added, unknown })
    }

    /// Without special tokens: transformers puts none around a text. Errors: a word is too long to be cut.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let mut ids = Vec::new();
        for part in self.added.split(text) {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => {
                    for word in words(text) {
                        let length = word.chars().count();
                        if length > WORD_CHARS {
                            return Err(format!(
                                "expected words of at most {WORD_CHARS} characters, found one of {length}"
                            ));
                        }
                        let known = |token: String| self.ids.get(&token.to_lowercase()).copied();
                        ids.extend(self.cut(&word).into_iter().map(|token| known(token).unwrap_or(self.unknown)));
                    }
                }
            }
        }
        Ok(ids)
    }

    pub(crate) fn token(&self, id: u32) -> Option<String> {
        self.texts.get(&i64::from(id)).cloned()
    }

    pub(crate) fn decode(&self, ids: &[i64], skip_special: bool) -> String {
        let shown = ids.iter().filter(|id| !(skip_special && self.added.get(**id).is_some()));
        let tokens: Vec<&str> = shown.filter_map(|id| self.texts.get(id).map(String::as_str)).collect();
        tokens.join(" ").replace("@@ ", "").trim_matches(is_space).to_owned()
    }

    /// The tokens of one word.
    fn cut(&self, word: &str) -> Vec<String> {
        let mut symbols: Vec<String> = word.chars().map(String::from).collect();
        if symbols.len() < 2 {
            return symbols;
        }
        symbols.last_mut().expect("two at least").push_str(END);
        loop {
            let pairs = symbols
                .array_windows()
                .filter_map(|[a, b]| Some((*self.ranks.get(&(a.clone(), b.clone()))?, a.clone(), b.clone())));
            let Some((_, first, second)) = pairs.min() else { break };
            let mut joined: Vec<String> = Vec::with_capacity(symbols.len());
            let mut rest = symbols.into_iter().peekable();
            while let Some(symbol) = rest.next() {
                match rest.next_if(|next| symbol == first && *next == second) {
                    Some(next) => joined.push(symbol + &next),
                    None => joined.push(symbol),
                }
            }
            symbols = joined;
        }
        let last = symbols.len() - 1;
        let marked = symbols.into_iter().enumerate().map(|(at, symbol)| match at == last {
            true => symbol.strip_suffix(END).unwrap_or(&symbol).to_owned(),
            false => symbol + "@@",
        });
        marked.collect()
    }
}

/// The words of a text: punctuation apart, in small letters.
fn words(text: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '.' | ',' | '!' | '?' | '(' | ')' => spaced.extend([' ', c]),
            '\'' => spaced.extend([' ', c, ' ']),
            // Only right after a word; a line break after a space is a space.
            '\n' if spaced.ends_with(|last: char| !last.is_whitespace()) => {
                spaced.push(' ');
                spaced.push_str(NEW_LINE);
                spaced.push(' ');
            }
            c if c.is_whitespace() => spaced.push(' '),
            c => spaced.push(c),
        }
    }
    spaced.split(' ').filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Two symbols that are joined.
pub(crate) type Merge = (String, String);

/// The pairs of merges.txt with their line numbers, in order; the first line is a heading.
pub(crate) fn merges(folder: &Folder) -> Result<Vec<(usize, Merge)>, TokenizerError> {
    let bytes = folder.needed(MERGES, VOCABULARY)?;
    let text = String::from_utf8(bytes).map_err(|error| folder.malformed(MERGES, error.to_string()))?;
    let mut pairs = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.is_empty() || number == 1 && line.starts_with("#version") {
            continue;
        }
        let pair = line.split_once(' ').filter(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains(' '));
        let (a, b) = pair.ok_or_else(|| {
            folder
                .malformed(MERGES, format!("line {number}: expected two symbols with a space between, found {line:?}"))
        })?;
        pairs.push((number, (a.to_owned(), b.to_owned())));
    }
    Ok(pairs)
}
