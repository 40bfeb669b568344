//! All that greedy decoding depends on.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::keys;
use super::prompt::{Choice, Prompt};
use super::source::{Source, is_neutral};
use crate::config::Config;

/// What `generate(num_beams=1, do_sample=False)` of transformers 5.23 reads from its generation config, under its names.
///
/// What is absent from a file has its neutral value, which no manifest spells out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// The first target token.
    pub decoder_start_token_id: i64,
    /// Any of these ends a sequence. Without one, only the limit does.
    pub eos_token_ids: Vec<i64>,
    /// Fills the rest of a shorter sequence in a batch.
    pub pad_token_id: i64,
    /// Tokens after the prompt, if the decoder has positions for them: [`Generation::new_tokens`].
    pub max_new_tokens: usize,
    /// Positions of the decoder, where its family limits decoding by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_target_positions: Option<usize>,
    /// No sequence ends before it has so many tokens, the prompt counted.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub min_length: usize,
    /// No sequence ends before it has so many tokens after the prompt.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub min_new_tokens: usize,
    /// The token after a start token that stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced_bos_token_id: Option<i64>,
    /// One of these is the last token at the limit.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub forced_eos_token_ids: Vec<i64>,
    /// Sequences of tokens that are never completed.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub bad_words_ids: Vec<Vec<i64>>,
    /// No n-gram of this length comes twice.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub no_repeat_ngram_size: usize,
    /// No n-gram of this length is taken from the source.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub encoder_no_repeat_ngram_size: usize,
    /// Divides positive and multiplies negative logits of tokens that were there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// Does the opposite to tokens of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_repetition_penalty: Option<f64>,
    /// Never chosen.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub suppress_tokens: Vec<i64>,
    /// Not chosen first.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub begin_suppress_tokens: Vec<i64>,
    /// What Whisper is fed after the start token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Prompt>,
    /// What the decoder is fed first in the place of the start token: a task, as Donut's `<s_cord-v2>`, or a question.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub decoder_input_ids: Vec<i64>,
    /// Whether a prompt stands alone, without the start token before it.
    #[serde(default, skip_serializing_if = "is_neutral")]
    pub prompt_stands_alone: bool,
    /// Beams of the search that greedy decoding stands in for; more than 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_beams: Option<usize>,
}

impl Generation {
    /// A start token, end tokens, padding and a limit, and nothing else.
    pub fn plain(start: i64, eos: &[i64], pad: i64, max_new_tokens: usize) -> Generation {
        Generation {
            decoder_start_token_id: start,
            eos_token_ids: eos.to_vec(),
            pad_token_id: pad,
            max_new_tokens,
            max_target_positions: None,
            min_length: 0,
            min_new_tokens: 0,
            forced_bos_token_id: None,
            forced_eos_token_ids: Vec::new(),
            bad_words_ids: Vec::new(),
            no_repeat_ngram_size: 0,
            encoder_no_repeat_ngram_size: 0,
            repetition_penalty: None,
            encoder_repetition_penalty: None,
            suppress_tokens: Vec::new(),
            begin_suppress_tokens: Vec::new(),
            prompt: None,
            decoder_input_ids: Vec::new(),
            prompt_stands_alone: false,
            num_beams: None,
        }
    }

    /// What the decoder is fed before a token is chosen; the start token comes first, but in the place of a prompt that is given.
    pub fn prompt(&self) -> Vec<Choice> {
        if !self.decoder_input_ids.is_empty() {
            return self.decoder_input_ids.iter().copied().map(Choice::Token).collect();
        }
        let rest = self.prompt.as_ref().map_or(Vec::new(), Prompt::choices);
        [Choice::Token(self.decoder_start_token_id)].into_iter().chain(rest).collect()
    }

    /// Tokens after the prompt.
    pub fn new_tokens(&self) -> usize {
        let positions = self.max_target_positions.map_or(usize::MAX, |n| n.saturating_sub(self.prompt().len()));
        self.max_new_tokens.min(positions)
    }

    /// The length, prompt counted, at which `begin_suppress_tokens` are not chosen: after the forced token, if there is one.
    pub fn begin_index(&self) -> usize {
        let prompt = self.prompt().len();
        if prompt == 1 && self.prompt.is_none() && self.forced_bos_token_id.is_some() { 2 } else { prompt }
    }

    /// From generation_config.json, else from config.json, of which config.json alone is asked for what it holds below
    /// `decoder`: `from_pretrained` and `from_model_config` of `GenerationConfig`.
    ///
    /// Problems of either file are noted in `config`: a value of another kind, a value that changes the result and is not
    /// supported, a key of generation_config.json that nobody knows, a missing start token. Keys of config.json that are
    /// about decoding count as read.
    ///
    /// `defaults`: what the config class of the family has for keys that config.json leaves out.
    pub(crate) fn read(generation: Option<&Value>, config: &Config, defaults: &Map<String, Value>) -> Generation {
        let source = Source::of(generation, config, defaults);
        config.ignore(&keys::all(source.is_whisper).collect::<Vec<_>>());
        source.refuse_what_changes_the_result();
        let start = source.id("decoder_start_token_id");
        // Whisper's own `generate` knows no other start.
        let start = start.or_else(|| if source.is_whisper { None } else { source.id("bos_token_id") });
        let eos_token_ids = source.ids("eos_token_id");
        let prompt = source.is_whisper.then(|| Prompt::read(&source));
        let max_target_positions = source.is_whisper.then(|| config.usize_or("max_target_positions", 448));

        let limit = source.count("max_new_tokens");
        let max_new_tokens = match (limit, source.count("max_length")) {
            (Some(limit), _) => limit,
            // Whisper adds the prompt to `max_length`; everyone else counts it in.
            (None, Some(length)) => {
                if source.is_whisper {
                    length
                } else {
                    length - 1
                }
            }
            (None, None) => 20.min(source.positions().unwrap_or(usize::MAX) - 1),
        };
        let min_new_tokens = source.size("min_new_tokens");
        let min_length = source.size("min_length").filter(|_| min_new_tokens.is_none());
        let found = Generation {
            max_target_positions,
            min_length: min_length.unwrap_or(0),
            min_new_tokens: min_new_tokens.unwrap_or(0),
            forced_bos_token_id: source.forced_bos(),
            forced_eos_token_ids: source.ids("forced_eos_token_id"),
            bad_words_ids: source.words("bad_words_ids"),
            no_repeat_ngram_size: source.size("no_repeat_ngram_size").unwrap_or(0),
            encoder_no_repeat_ngram_size: source.size("encoder_no_repeat_ngram_size").unwrap_or(0),
            repetition_penalty: source.penalty("repetition_penalty"),
            encoder_repetition_penalty: source.penalty("encoder_repetition_penalty"),
            suppress_tokens: source.list("suppress_tokens"),
            begin_suppress_tokens: source.list("begin_suppress_tokens"),
            prompt,
            prompt_stands_alone: source.is_donut(),
            num_beams: source.count("num_beams").filter(|n| *n > 1),
            ..Generation::plain(
                start.unwrap_or_else(|| source.missing("decoder_start_token_id")),
                &eos_token_ids,
                source.id("pad_token_id").or_else(|| eos_token_ids.first().copied()).unwrap_or(0),
                max_new_tokens,
            )
        };
        if let Err(conflicts) = found.check() {
            for (key, why) in conflicts {
                source.unsupported(key, why);
            }
        }
        found
    }

    /// Settings that cannot hold together: the key and why.
    pub(super) fn check(&self) -> Result<(), Vec<(&'static str, String)>> {
        let mut conflicts = Vec::new();
        let suppress: HashSet<i64> = self.suppress_tokens.iter().copied().collect();
        let suppressed = |ids: &[i64]| !ids.is_empty() && ids.iter().all(|id| suppress.contains(id));
        let left = "suppress_tokens has it, too, so that no token is left";
        if suppressed(self.forced_bos_token_id.as_slice()) {
            conflicts.push(("forced_bos_token_id", left.to_owned()));
        }
        if suppressed(&self.forced_eos_token_ids) {
            conflicts.push(("forced_eos_token_id", left.to_owned()));
        }
        let prompt = self.prompt().len();
        if let Some(positions) = self.max_target_positions.filter(|positions| prompt >= *positions) {
            let why =
                format!("expected more than the {prompt} tokens that the decoder is fed first, found {positions}");
            conflicts.push(("max_target_positions", why));
        }
        if conflicts.is_empty() { Ok(()) } else { Err(conflicts) }
    }
}

impl fmt::Display for Generation {
    /// One line for a report: the start, the end, and what changes logits on the way.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |ids: &[i64]| ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" or ");
        let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let prompt: Vec<String> = self.prompt().iter().map(Choice::to_string).collect();
        let mut parts = vec![format!("starts with {}", prompt.join(", "))];
        parts.push(match self.eos_token_ids.as_slice() {
            [] => "has no end".to_owned(),
            ids => format!("ends at {}", listed(ids)),
        });
        parts.push(format!("at most {}", counted(self.new_tokens(), "token")));
        if let Some(id) = self.forced_bos_token_id {
            parts.push(format!("{id} forced first"));
        }
        if !self.forced_eos_token_ids.is_empty() {
            parts.push(format!("{} forced last", listed(&self.forced_eos_token_ids)));
        }
        if self.min_length > 0 {
            parts.push(format!("at least {} with the prompt", counted(self.min_length, "token")));
        }
        if self.min_new_tokens > 0 {
            parts.push(format!("at least {}", counted(self.min_new_tokens, "token")));
        }
        if !self.suppress_tokens.is_empty() {
            parts.push(format!("{} suppressed", counted(self.suppress_tokens.len(), "token")));
        }
        if !self.begin_suppress_tokens.is_empty() {
            parts.push(format!("{} suppressed at the beginning", counted(self.begin_suppress_tokens.len(), "token")));
        }
        if !self.bad_words_ids.is_empty() {
            parts.push(counted(self.bad_words_ids.len(), "bad word"));
        }
        for (n, of) in [(self.no_repeat_ngram_size, "twice"), (self.encoder_no_repeat_ngram_size, "from the source")] {
            if n > 0 {
                parts.push(format!("no {n}-gram {of}"));
            }
        }
        for (penalty, of) in [(self.repetition_penalty, "repetition"), (self.encoder_repetition_penalty, "source")] {
            if let Some(penalty) = penalty {
                parts.push(format!("{of} penalty {penalty}"));
            }
        }
        if let Some(beams) = self.num_beams {
            parts.push(format!("greedy where the checkpoint searches with {beams} beams"));
        }
        f.write_str(&parts.join("; "))
    }
}
