//! What models said, as texts: scored against right answers, and beside each other.

mod asked;

use frontend::Text;
use metrics::{Agreement, Answer, Scored, Scoring, agreement as of_tokens};
use report::{Generation, Parting};

use crate::generate::Generated;
use crate::task::Sample;

pub(crate) use asked::{AskError, ask};

/// What a run said of a sample.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// In tokens.
    pub(crate) generated: Generated,
    /// In words: those of the engine, where it reads tokens itself.
    pub(crate) text: String,
}

impl Said {
    /// Tokens of a model, by its tokenizer.
    pub(crate) fn all(text: &dyn Text, generated: &[Generated]) -> Vec<Said> {
        let of = |one: &Generated| Said { generated: one.clone(), text: text.decode(&one.tokens) };
        generated.iter().map(of).collect()
    }
}

/// What each of these outputs, of the first samples, is worth; `None` when a sample has no right answer.
pub fn scored(scoring: &Scoring, text: &dyn Text, samples: &[Sample], generated: &[Generated]) -> Option<Scored> {
    scored_texts(scoring, samples, &Said::all(text, generated))
}

/// The same of outputs that are texts already.
pub(crate) fn scored_texts(scoring: &Scoring, samples: &[Sample], said: &[Said]) -> Option<Scored> {
    let targets: Option<Vec<&str>> = samples.iter().map(|sample| sample.target.as_deref()).collect();
    let answers = said.iter().zip(targets?);
    let answer = answers.map(|(said, target)| Answer { found: &said.text, target, is_endless: !said.generated.ended });
    Scored::of(scoring, answer)
}

/// Compares generations; a reference is cut where an engine with a shorter limit had to stop.
pub(crate) fn agreement<'g>(
    reference: &[Generated],
    found: impl IntoIterator<Item = &'g Generated>,
    limit: usize,
) -> Option<Agreement> {
    of_tokens(reference.iter().zip(found).map(|(a, b)| {
        let kept = a.tokens.len().min(limit);
        [(&a.tokens[..kept], a.ended && kept == a.tokens.len()), (&b.tokens[..], b.ended)]
    }))
}

/// One input with what the reference and each run said of it; a run that has not decoded it says nothing.
pub(crate) fn beside(
    text: &dyn Text,
    (at, sample): (usize, &Sample),
    reference: &Generated,
    runs: &[Vec<Said>],
    partings: Vec<Parting>,
) -> Generation {
    let found = || runs.iter().map(|run| run.get(at));
    let ended = std::iter::once(Some(reference.ended)).chain(found().map(|said| Some(said?.generated.ended)));
    let endless: Vec<bool> = ended.map(|ended| ended == Some(false)).collect();
    Generation {
        sample: at as u64,
        input: sample.input.clone(),
        target: sample.target.clone(),
        float: text.decode(&reference.tokens),
        outputs: found().map(|said| said.map(|said| said.text.clone())).collect(),
        endless: if endless.contains(&true) { endless } else { Vec::new() },
        partings,
    }
}
