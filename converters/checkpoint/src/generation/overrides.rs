//! Settings that a recipe or the command line puts in the place of the checkpoint's.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::decoding::Generation;
use super::prompt::Prompt;

/// Settings of decoding in the place of the checkpoint's, by their names in generation_config.json; 0, an empty list or a
/// penalty of 1 turn one off.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    /// Language of the speech, by name, code or token, as `french`, `fr`, `<|fr|>`; detected when nobody names it.
    pub language: Option<String>,
    /// `transcribe`, or `translate` into English.
    pub task: Option<String>,
    /// What the decoder is fed first, such as a task, `<s_cord-v2>`, or a question between tokens that mark it; the start token comes
    /// before it but in a Donut. Without a tokenizer, ids with spaces between them.
    pub prompt: Option<String>,
    /// The same as ids.
    pub decoder_input_ids: Option<Vec<u32>>,
    /// The first target token.
    pub decoder_start_token_id: Option<u32>,
    /// Tokens that end a sequence.
    pub eos_token_id: Option<Ids>,
    /// Fills the rest of a shorter sequence in a batch.
    pub pad_token_id: Option<u32>,
    /// Tokens after what the decoder is fed first.
    pub max_new_tokens: Option<usize>,
    /// No sequence ends before it has so many tokens, those fed first counted.
    pub min_length: Option<usize>,
    /// No sequence ends before it has so many tokens after those fed first.
    pub min_new_tokens: Option<usize>,
    /// The token after the start token, such as the language to translate into; null for none.
    #[serde(deserialize_with = "given")]
    #[schemars(with = "Option<u32>")]
    pub forced_bos_token_id: Option<Option<u32>>,
    /// The last token at the limit is one of these.
    pub forced_eos_token_id: Option<Ids>,
    /// Sequences of tokens that are never completed.
    pub bad_words_ids: Option<Vec<Vec<u32>>>,
    /// No n-gram of this length comes twice.
    pub no_repeat_ngram_size: Option<usize>,
    /// No n-gram of this length is taken from the source.
    pub encoder_no_repeat_ngram_size: Option<usize>,
    /// Divides positive and multiplies negative logits of tokens that were there before.
    pub repetition_penalty: Option<f64>,
    /// Does the opposite to tokens of the source.
    pub encoder_repetition_penalty: Option<f64>,
    /// Tokens that are never chosen.
    pub suppress_tokens: Option<Vec<u32>>,
    /// Tokens that are not chosen first.
    pub begin_suppress_tokens: Option<Vec<u32>>,
}

/// One token id or several.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Ids {
    /// One.
    One(u32),
    /// Several, or none.
    Many(Vec<u32>),
}

/// Tells null from a key that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Ids {
    fn list(&self) -> Vec<i64> {
        match self {
            Ids::One(id) => vec![i64::from(*id)],
            Ids::Many(ids) => wide(ids),
        }
    }
}

fn wide(ids: &[u32]) -> Vec<i64> {
    ids.iter().map(|id| i64::from(*id)).collect()
}

impl Generation {
    /// The same with other settings. Errors: what does not fit the model, one sentence a setting.
    pub fn with(&self, overrides: &Overrides) -> Result<Generation, Vec<String>> {
        let mut new = self.clone();
        let mut problems = Vec::new();
        let o = overrides;
        new.decoder_start_token_id = o.decoder_start_token_id.map_or(new.decoder_start_token_id, i64::from);
        new.pad_token_id = o.pad_token_id.map_or(new.pad_token_id, i64::from);
        new.forced_bos_token_id = o.forced_bos_token_id.map_or(new.forced_bos_token_id, |id| id.map(i64::from));
        put(&mut new.eos_token_ids, o.eos_token_id.as_ref().map(Ids::list));
        put(&mut new.forced_eos_token_ids, o.forced_eos_token_id.as_ref().map(Ids::list));
        put(&mut new.bad_words_ids, o.bad_words_ids.as_ref().map(|words| words.iter().map(|w| wide(w)).collect()));
        put(&mut new.suppress_tokens, o.suppress_tokens.as_deref().map(wide));
        put(&mut new.begin_suppress_tokens, o.begin_suppress_tokens.as_deref().map(wide));
        if let Some(ids) = &o.decoder_input_ids {
            problems.extend(new.feed(&wide(ids)));
        }
        put(&mut new.max_new_tokens, o.max_new_tokens);
        put(&mut new.min_length, o.min_length);
        put(&mut new.min_new_tokens, o.min_new_tokens);
        if o.min_new_tokens.is_some() {
            // As `generate` does: the one takes the place of the other.
            new.min_length = 0;
        }
        put(&mut new.no_repeat_ngram_size, o.no_repeat_ngram_size);
        put(&mut new.encoder_no_repeat_ngram_size, o.encoder_no_repeat_ngram_size);
        for (key, penalty, place) in [
            ("repetition_penalty", o.repetition_penalty, &mut new.repetition_penalty),
            ("encoder_repetition_penalty", o.encoder_repetition_penalty, &mut new.encoder_repetition_penalty),
        ] {
            match penalty {
                Some(penalty) if !penalty.is_finite() || penalty <= 0.0 => {
                    problems.push(format!("{key}: expected a number above 0, found {penalty}"));
                }
                Some(penalty) => *place = (penalty != 1.0).then_some(penalty),
                None => {}
            }
        }
        if o.max_new_tokens == Some(0) {
            problems.push("max_new_tokens: expected a number above 0, found 0".to_owned());
        }
        if o.bad_words_ids.as_ref().is_some_and(|words| words.iter().any(Vec::is_empty)) {
            problems.push("bad_words_ids: expected a token in each word, found a word without one".to_owned());
        }
        problems.extend(new.ask("language", o.language.as_deref(), Prompt::language_called, |p, id| p.language = id));
        problems.extend(new.ask("task", o.task.as_deref(), Prompt::task_called, |p, id| p.task = id));
        if let (Some(limit), Some(positions)) = (o.max_new_tokens, new.max_target_positions)
            && limit > new.new_tokens()
        {
            let prompt = new.prompt().len();
            problems.push(format!(
                "max_new_tokens: expected at most {}, for the decoder has {positions} positions and is fed {prompt} \
                 tokens first; found {limit}",
                new.new_tokens()
            ));
        }
        if let Err(conflicts) = new.check() {
            problems.extend(conflicts.into_iter().map(|(key, why)| format!("{key}: {why}")));
        }
        if problems.is_empty() { Ok(new) } else { Err(problems) }
    }

    /// Puts a prompt in the place of the start token, or behind it. The limit that a checkpoint sets counts all of it.
    fn feed(&mut self, ids: &[i64]) -> Option<String> {
        let start = self.decoder_start_token_id;
        let fed = match ids.first() {
            Some(first) if self.prompt_stands_alone || *first == start => ids.to_vec(),
            Some(_) => [&[start], ids].concat(),
            None => return Some("prompt: expected a token, found none".to_owned()),
        };
        if self.prompt.is_some() {
            return Some("prompt: this model is told a language and a task instead".to_owned());
        }
        let limit = self.max_new_tokens + self.prompt().len();
        if fed.len() >= limit {
            return Some(format!("prompt: expected at most {} tokens, found {}", limit - 1, fed.len()));
        }
        self.max_new_tokens = limit - fed.len();
        self.decoder_input_ids = fed;
        None
    }

    /// Sets a part of the prompt by its word.
    fn ask(
        &mut self,
        key: &str,
        word: Option<&str>,
        find: fn(&Prompt, &str) -> Result<i64, String>,
        set: fn(&mut Prompt, Option<i64>),
    ) -> Option<String> {
        let word = word?;
        let found = match &self.prompt {
            None => Err("this model is fed no language and no task".to_owned()),
            Some(prompt) if prompt.is_multilingual == Some(false) => {
                Err("this model is for English only (is_multilingual is false)".to_owned())
            }
            Some(prompt) => find(prompt, word),
        };
        match (found, &mut self.prompt) {
            (Ok(id), Some(prompt)) => set(prompt, Some(id)),
            (Ok(_), None) => {}
            (Err(why), _) => return Some(format!("{key}: {why}; found {word}")),
        }
        None
    }
}

fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}
