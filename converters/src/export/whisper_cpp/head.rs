//! What stands before the weights: counts, the filters of the front end, and the bytes of each token of text.

use frontend::audio::MelTables;
use graph::FloatType;
use tokenizer::{Spelling, Tokenizer, TokenizerError, gpt2_bytes};

use super::file::{MAGIC, ModelFile, cannot_hold};
use crate::error::{ExportError, ImportError};
use crate::model::Model;
use crate::whisper_cpp::{Described, HYPERPARAMETERS};

/// The beginning of a file.
pub(super) struct Head {
    hyperparameters: [usize; 10],
    /// f32[mels, bins].
    filters: (usize, usize, Vec<f32>),
    tokens: Vec<Vec<u8>>,
}

impl Head {
    /// Errors: the checkpoint has no tokenizer, or one that does not spell bytes as GPT-2's does.
    pub(super) fn of(model: &Model, described: &Described) -> Result<Head, ExportError> {
        let mel = MelTables::of(model.checkpoint.files()).map_err(ImportError::from)?;
        let bins = mel.window.len() / 2 + 1;
        let tokens = tokens(model, described.text_tokens)?;
        let filters = (mel.filters.len() / bins, bins, mel.filters);
        Ok(Head { hyperparameters: described.hyperparameters, filters, tokens })
    }

    /// Little-endian. `file_type`: of matrices, as whisper.cpp counts types.
    pub(super) fn bytes(&self, file_type: u32) -> Vec<u8> {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        let mut count = |n: usize| bytes.extend((n as u32).to_le_bytes()); // at most 2^31
        self.hyperparameters.iter().for_each(|n| count(*n));
        count(file_type as usize);
        let (rows, columns, filters) = &self.filters;
        count(*rows);
        count(*columns);
        let start = bytes.len();
        bytes.resize(start + 4 * filters.len(), 0);
        FloatType::F32.encode(filters, &mut bytes[start..]);
        bytes.extend((self.tokens.len() as u32).to_le_bytes());
        for token in &self.tokens {
            bytes.extend((token.len() as u32).to_le_bytes());
            bytes.extend(token);
        }
        bytes
    }

    /// Where a file says something else.
    pub(super) fn differences(&self, file: &ModelFile) -> Vec<String> {
        let counts = HYPERPARAMETERS.iter().zip(self.hyperparameters.iter().zip(file.hyperparameters));
        let other = counts.filter(|(_, (expected, found))| **expected != *found as usize);
        let mut faults: Vec<String> =
            other.map(|(name, (expected, found))| format!("{name}: expected {expected}, found {found}")).collect();
        let (rows, columns, filters) = &self.filters;
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
        let filters_are = filters.len() == file.filters.len() && filters.iter().zip(&file.filters).all(same);
        if [*rows, *columns] != file.filters_shape || !filters_are {
            faults.push("its filters are not what the checkpoint's front end computes with".to_owned());
        }
        if self.tokens != file.tokens {
            faults.push("its vocabulary is not the checkpoint's".to_owned());
        }
        faults
    }
}

/// The bytes of the first `count` tokens.
fn tokens(model: &Model, count: usize) -> Result<Vec<Vec<u8>>, ExportError> {
    let refused =
        |why: String| cannot_hold(vec![format!("its tokenizer: {why}")], "it is Whisper's own, with vocab.json");
    let tokenizer = match Tokenizer::of(model.checkpoint.files()) {
        Ok(tokenizer) => tokenizer,
        Err(TokenizerError::Missing { .. }) => return Err(refused("the checkpoint has none".to_owned())),
        Err(TokenizerError::Files(error)) => return Err(error.into()),
        Err(error) => return Err(refused(error.to_string())),
    };
    let pairs = tokenizer.byte_pairs(count).map_err(refused)?;
    if pairs.spelling != Spelling::Gpt2 {
        return Err(refused("its tokens do not spell bytes as GPT-2's".to_owned()));
    }
    // A token that is not there is none that a text has.
    let bytes = |token: Option<(String, _)>| token.map_or(Some(Vec::new()), |(text, _)| gpt2_bytes(&text));
    let all: Option<Vec<Vec<u8>>> = pairs.tokens.into_iter().map(bytes).collect();
    all.ok_or_else(|| refused("some tokens have letters that stand for no byte".to_owned()))
}
