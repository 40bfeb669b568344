//! Where a run leaves what it is judged against, and how likely the tokens were there.

use graph::eval::Feeds;
use graph::{PortRole, Tensor};
use metrics::common_prefix;
use report::{Candidate, Link, Parting, Token};

use super::subject::Subject;
use super::ties::Choice;
use crate::generate::{Generated, decode};
use crate::runtime::{RuntimeError, Session};
use crate::task::Batch;

/// Samples of an artifact's run whose distributions are kept: a page shows no more, and each costs a pass of both sides.
pub(super) const WITH_CANDIDATES: usize = 24;
/// Samples of a run in which the first tensor is looked for: they tend to have one cause, and each costs two whole passes in
/// which every value is compared.
pub(super) const WITH_TENSORS: usize = 3;
/// Tokens that are shown of each side.
const CANDIDATES: usize = 5;

/// Two runs over the same samples.
pub(super) struct Runs<'r> {
    pub(super) stage: Link,
    /// The place in the report of the run that is judged.
    pub(super) run: usize,
    pub(super) reference: &'r [Generated],
    /// Of the reference's tokens.
    pub(super) choices: &'r [Vec<Choice>],
    pub(super) found: &'r [Generated],
    /// The most tokens that `found` can say.
    pub(super) limit: usize,
}

/// A parting and the sample that it is on.
pub(super) struct Parted {
    pub(super) sample: usize,
    pub(super) parting: Parting,
}

impl Runs<'_> {
    /// The first token of each sample that is another one. `is_tie`: whether a token may be said in place of a choice.
    pub(super) fn partings(&self, subject: &Subject, is_tie: &dyn Fn(&Choice, i64) -> bool) -> Vec<Parted> {
        let samples = self.reference.iter().zip(self.choices).zip(self.found).enumerate();
        let parted = samples.filter_map(|(sample, ((reference, choices), found))| {
            let parting = self.parting(subject, [reference, found], choices, is_tie)?;
            Some(Parted { sample, parting })
        });
        parted.collect()
    }

    fn parting(
        &self,
        subject: &Subject,
        [reference, found]: [&Generated; 2],
        choices: &[Choice],
        is_tie: &dyn Fn(&Choice, i64) -> bool,
    ) -> Option<Parting> {
        let tokens = &reference.tokens[..reference.tokens.len().min(self.limit)];
        let position = common_prefix(tokens, &found.tokens);
        let [expected, said] = [tokens, &found.tokens[..]].map(|tokens| tokens.get(position).copied());
        // Where one of them can say no more, nothing parts.
        let is_cut = expected.is_none() && position == self.limit;
        if expected == said || is_cut {
            return None;
        }
        let is_tie = said.zip(choices.get(position)).is_some_and(|(said, choice)| is_tie(choice, said));
        let token = |id: Option<i64>| id.map(|id| token(subject, id));
        Some(Parting {
            stage: self.stage,
            run: self.run as u64,
            position: position as u64,
            expected: token(expected),
            found: token(said),
            is_tie: is_tie && expected.is_some(),
            candidates: Vec::new(),
            kl: None,
            tensor: None,
            sentence: String::new(),
        })
    }

    /// What both sides were fed before they parted.
    pub(super) fn prefix(&self, subject: &Subject, parted: &Parted) -> Result<Prefix, String> {
        let reference = &self.reference[parted.sample];
        let said = &reference.tokens[..parted.parting.position as usize];
        Prefix::new(subject, parted.sample, &[&reference.prompt, said].concat())
    }
}

fn token(subject: &Subject, id: i64) -> Token {
    Token { id, text: subject.text.decode(&[id]) }
}

/// One sample and the tokens that its decoder is fed. The longest sample stands beside it, so that it is padded as among others: a
/// mask that is lost shows only there.
pub(super) struct Prefix {
    pub(super) source: Feeds,
    pub(super) decoder_input_ids: Tensor,
}

impl Prefix {
    fn new(subject: &Subject, sample: usize, tokens: &[i64]) -> Result<Prefix, String> {
        let samples = &subject.data.samples;
        let length = |place: &usize| samples[*place].source.len();
        let fitting = (0..samples.len()).filter(|place| samples[*place].source.fits_beside(&samples[sample].source));
        let longest = fitting.max_by_key(length).filter(|longest| length(longest) > length(&sample));
        let rows = Vec::from_iter([sample].into_iter().chain(longest));
        let source = Prefix::batch(subject, &rows)?.source;
        Ok(Prefix { source, decoder_input_ids: Tensor::i64([rows.len(), tokens.len()], tokens.repeat(rows.len())) })
    }

    /// A sample alone, and its target in place of what a run said.
    pub(super) fn of_target(subject: &Subject, sample: usize) -> Result<Prefix, String> {
        let Batch { source, decoder_input_ids, .. } = Prefix::batch(subject, &[sample])?;
        Ok(Prefix { source, decoder_input_ids })
    }

    fn batch(subject: &Subject, samples: &[usize]) -> Result<Batch, String> {
        Batch::new(&subject.data, samples, &subject.greedy.prompt(), subject.greedy.settings.pad_token_id)
    }

    /// What the whole pass is fed.
    pub(super) fn feeds(&self) -> Feeds {
        let mut feeds = self.source.clone();
        feeds.insert(PortRole::DecoderIds.to_string(), self.decoder_input_ids.clone());
        feeds
    }

    /// The sample's logits after the last token.
    pub(super) fn logits(&self, session: &mut dyn Session) -> Result<Vec<f32>, RuntimeError> {
        session.encode(&self.source)?;
        let logits = decode(session, &self.decoder_input_ids)?;
        let (tokens, width) = (logits.shape()[1], logits.shape()[2]);
        let floats = logits.as_f32().expect("decode() checked the type");
        Ok(floats[(tokens - 1) * width..tokens * width].to_vec())
    }
}

/// Puts two distributions beside each other: the likeliest of either, and how far they are from each other.
pub(super) fn compare(subject: &Subject, parting: &mut Parting, [expected, found]: [&[f32]; 2]) {
    if expected.len() != found.len() || !expected.iter().chain(found).all(|logit| logit.is_finite()) {
        return;
    }
    let [expected, found] = [expected, found].map(log_probabilities);
    let mut ids: Vec<usize> = [&expected, &found].into_iter().flat_map(|side| likeliest(side)).collect();
    ids.sort_by(|a, b| expected[*b].total_cmp(&expected[*a]).then(a.cmp(b)));
    ids.dedup();
    let candidate = |id: usize| Candidate {
        token: token(subject, id as i64),
        expected: expected[id].exp(),
        found: found[id].exp(),
    };
    parting.candidates = ids.into_iter().map(candidate).collect();
    parting.kl = Some(expected.iter().zip(&found).map(|(p, q)| p.exp() * (p - q)).sum::<f64>().max(0.0));
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - most).exp()).sum();
    logits.iter().map(|x| f64::from(x - most) - sum.ln()).collect()
}

/// The first of equal ones first.
fn likeliest(log_probabilities: &[f64]) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(CANDIDATES + 1);
    for (id, p) in log_probabilities.iter().enumerate() {
        let place = best.partition_point(|other| log_probabilities[*other] >= *p);
        best.insert(place, id);
        best.truncate(CANDIDATES);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_the_likeliest_come_first() {
        let logs = log_probabilities(&[1.0, 3.0, 3.0, -90.0, 0.0, 2.0]);
        assert!((logs.iter().map(|p| p.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(likeliest(&logs), [1, 2, 5, 0, 4]);
        assert!((logs[1] - logs[0] - 2.0).abs() < 1e-12);
    }
}
