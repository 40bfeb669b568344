//! Samples put to an engine that answers, and what it says as tokens.

use frontend::{Original, Text, audio, spoken};
use graph::Progress;
use metrics::common_prefix;

use super::Said;
use crate::generate::{Generated, Greedy};
use crate::runtime::RuntimeError;
use crate::runtime::answering::{Answer, Answers, Form, Question, SAMPLING_RATE, Words};
use crate::task::Sample;

/// Samples that are asked at once.
const TOGETHER: usize = 8;

/// There are no answers.
#[derive(Debug)]
pub(crate) enum AskError {
    /// The data does not have what the engine takes; in words.
    Unasked(String),
    /// The engine failed, or a sample cannot be read.
    Runtime(RuntimeError),
}

impl From<RuntimeError> for AskError {
    fn from(error: RuntimeError) -> AskError {
        AskError::Runtime(error)
    }
}

/// What is said of each sample.
///
/// `reference`: what is expected of each; an answer in the same words has the same tokens, for what an engine tells in a text could have
/// been said in several ways. Errors: samples that were drawn, for an engine that takes texts or clips; what the engine refuses.
pub(crate) fn ask(
    engine: &mut dyn Answers,
    samples: &[Sample],
    (text, greedy): (&dyn Text, &Greedy),
    reference: &[Generated],
    progress: &dyn Progress,
) -> Result<Vec<Said>, AskError> {
    let mut said: Vec<Option<Said>> = vec![None; samples.len()];
    // Neighbours in length, so that little of a batch is padding.
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by_key(|place| samples[*place].source.len());
    for places in order.chunks(TOGETHER) {
        let questions = places.iter().map(|place| question(engine.form(), &samples[*place]));
        let answers = engine.answer(&questions.collect::<Result<Vec<_>, _>>()?)?;
        if answers.len() != places.len() {
            return Err(failed(format!("expected {} answers, found {}", places.len(), answers.len())).into());
        }
        for (place, answer) in places.iter().zip(answers) {
            said[*place] = Some(read(answer, text, greedy, &reference[*place]).map_err(failed)?);
        }
        progress.advance(places.len() as u64);
    }
    Ok(said.into_iter().flatten().collect())
}

fn failed(message: String) -> RuntimeError {
    RuntimeError::Failed { runtime: "data", message }
}

/// A sample in the form that an engine takes.
fn question(form: Form, sample: &Sample) -> Result<Question<'_>, AskError> {
    match (form, &sample.original) {
        (Form::Tokens, _) => match sample.source.ids() {
            Some(ids) => Ok(Question::Tokens(ids)),
            None => Err(AskError::Unasked("the engine takes texts, and the data has inputs without tokens".to_owned())),
        },
        (Form::Text, Original::Text(text)) => {
            Ok(Question::Text { text, tokens: sample.source.ids().unwrap_or_default() })
        }
        (Form::Sound, Original::Clip(file)) => {
            let samples = audio::samples(file, SAMPLING_RATE).map_err(|error| failed(error.to_string()))?;
            Ok(Question::Sound(samples))
        }
        (form, original) => {
            let wanted = if form == Form::Sound { "clips" } else { "texts" };
            let found = match original {
                Original::Text(_) => "texts",
                Original::Clip(_) => "clips",
                Original::Image(_) => "images",
                Original::Drawn => "drawn numbers",
            };
            Err(AskError::Unasked(format!("the engine takes {wanted}, and the data has {found}")))
        }
    }
}

/// Errors: a text of which the tokenizer makes no tokens, in its own words.
fn read(answer: Answer, text: &dyn Text, greedy: &Greedy, expected: &Generated) -> Result<Said, String> {
    let prompt = greedy.prompt();
    let eos = &greedy.settings.eos_token_ids;
    match answer.words {
        Words::Tokens(tokens) => {
            let ended = tokens.last().is_some_and(|last| eos.contains(last));
            Ok(Said { text: text.decode(&tokens), generated: Generated { prompt, tokens, ended } })
        }
        Words::Text(said) if said.trim() == text.decode(without_end(&expected.tokens, eos)).trim() => {
            Ok(Said { generated: expected.clone(), text: text.decode(&expected.tokens) })
        }
        Words::Text(said) => {
            let mut tokens = nearest(&said, text, &expected.tokens)?;
            let limit = greedy.new_tokens(None);
            let ended = answer.ended && tokens.len() < limit;
            // An engine may have a limit of its own beyond that of the decoding.
            let said = if tokens.len() > limit { text.decode(&tokens[..limit]) } else { said };
            tokens.truncate(limit);
            tokens.extend(eos.first().filter(|_| ended));
            Ok(Said { generated: Generated { prompt, tokens, ended }, text: said })
        }
    }
}

/// An end may have a text, too, where there is no tokenizer that leaves it out.
fn without_end<'t>(tokens: &'t [i64], eos: &[i64]) -> &'t [i64] {
    tokens.split_last().filter(|(last, _)| eos.contains(last)).map_or(tokens, |(_, before)| before)
}

/// The tokens of a text that is not what was expected, as far as possible those of what was: some models begin with a space, and engines
/// leave it out.
fn nearest(said: &str, text: &dyn Text, expected: &[i64]) -> Result<Vec<i64>, String> {
    let [plain, spaced] = [spoken(text, said)?, spoken(text, &format!(" {}", said.trim_start()))?];
    let shared = |tokens: &[i64]| common_prefix(tokens, expected);
    Ok(if shared(&spaced) > shared(&plain) { spaced } else { plain })
}

#[cfg(test)]
mod tests;
