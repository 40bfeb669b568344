//! What `run` is told.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use converters::checkpoint::{Generation, Overrides};

use validate::task::Text;

use super::error::RunError;
use crate::build::source::{asking, prompted};
use crate::command::engines::Engines;

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct Run {
    /// The folder of an artifact or of a checkpoint
    pub artifact: PathBuf,
    /// What to feed it: a text, the path of a WAV for a model that recognizes speech, or the path of a PNG or JPEG for one that sees;
    /// several are answered one after the other, a line each [default: the lines of stdin, as with `-`]
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<String>,
    /// The inputs are the lines of this file: {"input": …} where its name ends in .jsonl, else texts or paths
    #[arg(long, value_name = "FILE", conflicts_with = "inputs")]
    pub file: Option<PathBuf>,
    /// What is asked: of the encoder where that reads a prompt beside an image, a task as `<OCR>` or free text; else what the decoder is fed
    /// first, as `<s_cord-v2>` [default: the line's in a file, else the recipe's, else nothing]
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Inputs that are computed side by side: faster, and the last bits of numbers may be others
    #[arg(long, value_name = "N", default_value = "1")]
    pub batch: NonZeroUsize,
    /// One engine; `--list engines` shows all [default: the first that opens the artifact]
    #[arg(long, value_name = "NAME")]
    pub engine: Option<String>,
    /// Where to find the tokenizer if it is not in the artifact's folder
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    /// Language of the speech, as `french` or `fr` [default: the recipe's, else detected]
    #[arg(long, value_name = "NAME")]
    pub language: Option<String>,
    /// `transcribe`, or `translate` into English
    #[arg(long, value_name = "WORD")]
    pub task: Option<String>,
    /// Tokens after what the decoder is fed first [default: as the artifact or the checkpoint says]
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<usize>,
    /// The language of the text, as the model names it [default: the recipe's, or tokenizer_config.json's]
    #[arg(long, value_name = "LANG")]
    pub source_lang: Option<String>,
    /// The language of the answer [default: likewise]
    #[arg(long, value_name = "LANG")]
    pub target_lang: Option<String>,
    #[command(flatten)]
    pub engines: Engines,
}

/// Stands for stdin.
const STDIN: &str = "-";

impl Run {
    /// The input, where one argument is all there is.
    pub fn only(&self) -> Option<&str> {
        match &self.inputs[..] {
            [one] if one != STDIN => Some(one),
            _ => None,
        }
    }

    /// Whether inputs are the lines of stdin.
    pub fn reads_stdin(&self) -> bool {
        self.file.is_none() && (self.inputs.is_empty() || self.inputs == [STDIN])
    }

    /// A model's own way to decode, changed by languages and then by the other arguments. `fed`: what the decoder is fed first.
    pub fn decoding(
        &self,
        own: Generation,
        of_languages: &Overrides,
        fed: Option<&str>,
        text: &dyn Text,
    ) -> Result<Generation, RunError> {
        let Run { language, task, max_new_tokens, .. } = self;
        let refused = |problem| RunError::Decode(vec![problem]);
        let prompt = fed.map(asking).unwrap_or_default();
        let asked = Overrides {
            language: language.clone(),
            task: task.clone(),
            max_new_tokens: *max_new_tokens,
            ..prompted(&prompt, text).map_err(refused)?
        };
        own.with(of_languages).and_then(|decoding| decoding.with(&asked)).map_err(RunError::Decode)
    }
}
