//! What models said, as texts: scored against right answers, and beside each other.

use frontend::Text;
use metrics::{Agreement, Answer, Scored, Scoring, agreement as of_tokens};
use report::{Generation, Parting};

use crate::generate::Generated;
use crate::task::Sample;

/// What each of these outputs, of the first samples, is worth; `None` when a sample has no right answer.
pub fn scored(scoring: &Scoring, text: &dyn Text, samples: &[Sample], generated: &[Generated]) -> Option<Scored> {
    let targets: Option<Vec<&str>> = samples.iter().map(|sample| sample.target.as_deref()).collect();
    let targets = targets?;
    let found: Vec<String> = generated.iter().map(|one| text.decode(&one.tokens)).collect();
    let answers = found.iter().zip(generated).zip(targets);
    let answer = answers.map(|((found, one), target)| Answer { found, target, is_endless: !one.ended });
    Scored::of(scoring, answer)
}

/// Compares generations; a reference is cut where an engine with a shorter limit had to stop.
pub(crate) fn agreement(reference: &[Generated], found: &[Generated], limit: usize) -> Option<Agreement> {
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
    runs: &[Vec<Generated>],
    partings: Vec<Parting>,
) -> Generation {
    let found = || runs.iter().map(|run| run.get(at));
    let said = std::iter::once(Some(reference)).chain(found());
    let endless: Vec<bool> = said.map(|said| said.is_some_and(|one| !one.ended)).collect();
    Generation {
        sample: at as u64,
        input: sample.input.clone(),
        target: sample.target.clone(),
        float: text.decode(&reference.tokens),
        outputs: found().map(|said| said.map(|said| text.decode(&said.tokens))).collect(),
        endless: if endless.contains(&true) { endless } else { Vec::new() },
        partings,
    }
}
