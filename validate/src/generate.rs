//! Greedy decoding over any session, as `generate(num_beams=1, do_sample=False)` of transformers 5.23 does it.

pub mod processors;

use converters::checkpoint::Generation;
use converters::checkpoint::generation::Choice;
use graph::{Feeds, Tensor};

use crate::runtime::{RuntimeError, Session};
use metrics::argmax;

/// A decoding loop under the settings of a model.
///
/// Whisper's `generate` cuts sound at timestamps that a model chose though it was told not to, and begins anew there; this
/// loop decodes one window to its end.
#[derive(Clone, PartialEq, Debug)]
pub struct Greedy {
    /// Of the checkpoint, or what a recipe put in their place.
    pub settings: Generation,
}

/// What a model says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Generated {
    /// What the decoder was fed first, the start token and a detected language included.
    pub prompt: Vec<i64>,
    /// After the prompt; the last is an end-of-sequence token when `ended`.
    pub tokens: Vec<i64>,
    /// Whether it ended by itself, rather than at the limit or at logits that are not numbers.
    pub ended: bool,
}

impl From<&Generation> for Greedy {
    fn from(settings: &Generation) -> Greedy {
        Greedy { settings: settings.clone() }
    }
}

/// What looks on while tokens are chosen: a sequence, the logits, and the scores that they became.
pub type Seen<'s> = dyn FnMut(usize, &[f32], &[f32]) + 's;

/// A sequence while it grows.
#[derive(Clone)]
struct Row {
    /// Tokens of the source without padding; empty when the source has none.
    source: Vec<i64>,
    /// The prompt and what came after it.
    tokens: Vec<i64>,
    /// What is fed after it: its last token, and padding from then on when it does not run.
    next: i64,
    running: bool,
    ended: bool,
}

impl Greedy {
    /// The same with another limit of new tokens.
    #[must_use]
    pub fn at_most(&self, max_new_tokens: usize) -> Greedy {
        Greedy { settings: Generation { max_new_tokens, ..self.settings.clone() } }
    }

    /// The prompt with one language for all where it would be detected: what targets that are given come after.
    pub fn prompt(&self) -> Vec<i64> {
        let first = |choice: Choice| match choice {
            Choice::Token(id) => Some(id),
            Choice::OneOf(ids) => ids.first().copied(),
        };
        self.settings.prompt().into_iter().filter_map(first).collect()
    }

    /// Tokens after the prompt that an engine can say whose targets are at most `limit_tokens` long, the prompt counted and
    /// the last token not, which is never fed.
    pub fn new_tokens(&self, limit_tokens: Option<usize>) -> usize {
        let limit = limit_tokens.map_or(usize::MAX, |n| (n + 1).saturating_sub(self.prompt().len()));
        self.settings.new_tokens().min(limit)
    }

    /// Decodes a batch: at each step the token with the largest score, the first of equal ones.
    ///
    /// `source`: as [`Session::encode`] takes it. A sequence whose logits hold a NaN stops there without having ended.
    /// Errors: those of the session, logits of a wrong shape, and forced tokens outside the vocabulary.
    pub fn run(&self, session: &mut dyn Session, source: &Feeds) -> Result<Vec<Generated>, RuntimeError> {
        self.run_seen(session, source, &mut |_, _, _| {})
    }

    /// The same, and shows each choice.
    pub fn run_seen(
        &self,
        session: &mut dyn Session,
        source: &Feeds,
        seen: &mut Seen,
    ) -> Result<Vec<Generated>, RuntimeError> {
        let mut rows = rows_of(source);
        let steps = self.new_tokens(session.limit_tokens());
        session.encode(source)?;
        let mut logits = self.feed_prompt(session, &mut rows)?;
        self.fits(logits.shape()[2])?;
        let prompt = rows.first().map_or(0, |row| row.tokens.len());
        // The sequences that the session still has, in its order.
        let mut kept: Vec<usize> = (0..rows.len()).collect();
        for step in 0..steps {
            if step > 0 {
                let next = kept.iter().map(|row| rows[*row].next).collect();
                logits = decode(session, &Tensor::i64([kept.len(), 1], next))?;
            }
            for (place, logits) in kept.iter().zip(at_the_end(&logits)) {
                let row = &mut rows[*place];
                row.next = self.settings.pad_token_id;
                if !row.running {
                    continue;
                }
                let scores = argmax(logits).map(|_| self.scores(row, prompt, logits));
                let Some((scores, token)) = scores.and_then(|scores| argmax(&scores).map(|token| (scores, token)))
                else {
                    row.running = false;
                    continue;
                };
                seen(*place, logits, &scores);
                let token = token as i64;
                row.tokens.push(token);
                row.next = token;
                row.ended = self.settings.eos_token_ids.contains(&token);
                row.running = !row.ended;
            }
            let running: Vec<usize> = (0..kept.len()).filter(|place| rows[kept[*place]].running).collect();
            if running.is_empty() {
                break;
            }
            // Each time half of them have ended: so often copying what is cached costs less than it saves.
            let limit = if session.keeps_for_nothing() { kept.len() - 1 } else { kept.len() / 2 };
            if running.len() <= limit && session.keep(&running)? {
                kept = running.into_iter().map(|place| kept[place]).collect();
            }
        }
        let split = |mut row: Row| {
            let tokens = row.tokens.split_off(prompt);
            Generated { prompt: row.tokens, tokens, ended: row.ended }
        };
        Ok(rows.into_iter().map(split).collect())
    }

    /// Feeds the prompt, choosing where it is open. Returns the logits after what was fed last.
    fn feed_prompt(&self, session: &mut dyn Session, rows: &mut [Row]) -> Result<Tensor, RuntimeError> {
        let mut fed = 0;
        let mut logits = None;
        let mut feed = |session: &mut dyn Session, rows: &[Row]| -> Result<Option<Tensor>, RuntimeError> {
            let mut found = None;
            // All in the first call, then one token a call: some engines hold a decoder for that alone.
            while fed < rows.first().map_or(0, |row| row.tokens.len()) {
                let end = if fed == 0 { rows[0].tokens.len() } else { fed + 1 };
                let ids: Vec<i64> = rows.iter().flat_map(|row| row.tokens[fed..end].iter().copied()).collect();
                found = Some(decode(session, &Tensor::i64([rows.len(), end - fed], ids))?);
                fed = end;
            }
            Ok(found)
        };
        for choice in self.settings.prompt() {
            match choice {
                Choice::Token(id) => rows.iter_mut().for_each(|row| row.tokens.push(id)),
                Choice::OneOf(ids) => {
                    logits = feed(session, rows)?.or(logits);
                    let Some(logits) = &logits else { return Err(failed("a language needs a token before it")) };
                    for (row, logits) in rows.iter_mut().zip(at_the_end(logits)) {
                        row.running &= argmax(logits).is_some();
                        let chosen =
                            likeliest(&ids, logits).ok_or_else(|| outside("lang_to_id", &ids, logits.len()))?;
                        row.tokens.push(chosen);
                    }
                }
            }
        }
        feed(session, rows)?.or(logits).ok_or_else(|| failed("expected a sequence to decode, found none"))
    }

    /// The logits after all processors, in the order of `_get_logits_processor` in transformers' generation/utils.py.
    fn scores(&self, row: &Row, prompt: usize, logits: &[f32]) -> Vec<f32> {
        let s = &self.settings;
        let mut scores = logits.to_vec();
        let (tokens, eos) = (row.tokens.as_slice(), s.eos_token_ids.as_slice());
        if let Some(penalty) = s.encoder_repetition_penalty {
            processors::repetition_penalty(1.0 / penalty, &row.source, &mut scores);
        }
        if let Some(penalty) = s.repetition_penalty {
            processors::repetition_penalty(penalty, tokens, &mut scores);
        }
        if s.no_repeat_ngram_size > 0 {
            processors::no_repeat_ngram(s.no_repeat_ngram_size, tokens, tokens, &mut scores);
        }
        if s.encoder_no_repeat_ngram_size > 0 {
            processors::no_repeat_ngram(s.encoder_no_repeat_ngram_size, &row.source, tokens, &mut scores);
        }
        processors::no_bad_words(&s.bad_words_ids, eos, tokens, &mut scores);
        processors::min_length(s.min_length, eos, tokens.len(), &mut scores);
        processors::min_length(s.min_new_tokens, eos, tokens.len() - prompt, &mut scores);
        if let (Some(id), 1) = (s.forced_bos_token_id, tokens.len()) {
            processors::force(&[id], &mut scores);
        }
        if !s.forced_eos_token_ids.is_empty() && tokens.len() + 1 == prompt + s.new_tokens() {
            processors::force(&s.forced_eos_token_ids, &mut scores);
        }
        processors::suppress(&s.suppress_tokens, &mut scores);
        if tokens.len() == s.begin_index() {
            processors::suppress(&s.begin_suppress_tokens, &mut scores);
        }
        scores
    }

    /// Errors: a token is forced or never completed that the vocabulary does not have, as in a config of another model.
    fn fits(&self, width: usize) -> Result<(), RuntimeError> {
        let s = &self.settings;
        let words = s.bad_words_ids.concat();
        let places = [
            ("forced_bos_token_id", s.forced_bos_token_id.as_slice()),
            ("forced_eos_token_id", &s.forced_eos_token_ids),
            ("bad_words_ids", &words),
        ];
        let is_outside = |ids: &[i64]| ids.iter().any(|id| usize::try_from(*id).map_or(true, |id| id >= width));
        match places.into_iter().find(|(_, ids)| is_outside(ids)) {
            None => Ok(()),
            Some((key, ids)) => Err(outside(key, ids, width)),
        }
    }
}

/// Of logits f32[b, n, vocabulary], those after the last token of each sequence.
fn at_the_end(logits: &Tensor) -> impl Iterator<Item = &[f32]> {
    let (tokens, width) = (logits.shape()[1], logits.shape()[2]);
    let floats = logits.as_f32().expect("decode() checked the type");
    floats.chunks(tokens * width).map(move |row| &row[row.len() - width..])
}

/// The one of `ids` with the largest logit, the first of equal ones; `None` when one is not in the vocabulary.
fn likeliest(ids: &[i64], logits: &[f32]) -> Option<i64> {
    let scores = ids.iter().map(|id| logits.get(usize::try_from(*id).ok()?).copied());
    let scores: Vec<f32> = scores.collect::<Option<_>>()?;
    // Logits that are not numbers choose nothing, and end the sequence.
    ids.get(argmax(&scores).unwrap_or(0)).copied()
}

/// Sequences before the first token, each with its source.
fn rows_of(source: &Feeds) -> Vec<Row> {
    let rows = source.values().next().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(0);
    let of = |source| Row { source, tokens: Vec::new(), next: 0, running: true, ended: false };
    frontend::tokens(source, rows).into_iter().map(of).collect()
}

fn failed(message: &str) -> RuntimeError {
    RuntimeError::Failed { runtime: "decoding", message: message.to_owned() }
}

fn outside(key: &str, ids: &[i64], width: usize) -> RuntimeError {
    failed(&format!("{key}: expected ids of 0 to {}, found {ids:?}", width.saturating_sub(1)))
}

/// Feeds tokens and checks what comes back: f32[b, n, vocabulary] for i64[b, n].
pub fn decode(session: &mut dyn Session, ids: &Tensor) -> Result<Tensor, RuntimeError> {
    let logits = session.decode(ids)?;
    match (logits.shape(), ids.shape(), logits.as_f32()) {
        ([b, n, vocabulary], [rows, tokens], Some(_)) if b == rows && n == tokens && *vocabulary > 0 => Ok(logits),
        (found, expected, floats) => {
            let dtype = if floats.is_some() { "f32" } else { "i64" };
            let message = format!(
                "expected logits f32[{}, {}, vocabulary], found {dtype}{found:?}",
                expected[0],
                expected.get(1).copied().unwrap_or(1)
            );
            Err(RuntimeError::Failed { runtime: "session", message: format!("{}: {message}", session.engine().name) })
        }
    }
}

#[cfg(test)]
mod tests;
