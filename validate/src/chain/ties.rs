//! Where two decoders may part: at tokens whose scores are nearer to each other than the noise of an engine.

use crate::generate::Generated;
use metrics::{common_prefix, token_agreement};

/// Tokens beside the best that are remembered.
const RIVALS: usize = 4;
/// How many times the noise of a difference of two logits a tie may be wide: three standard deviations, were it normal.
const WIDTH: f64 = 3.0;

/// The tokens that came near to one that was chosen.
#[derive(Clone, PartialEq, Debug)]
pub struct Choice {
    /// Root mean square of the logits, which an engine's relative L2 is relative to.
    size: f64,
    /// The next best tokens, and by how much they were worse.
    rivals: Vec<(i64, f64)>,
}

impl Choice {
    /// Of one position's logits, and the scores that they became.
    pub(super) fn of(logits: &[f32], scores: &[f32]) -> Choice {
        let square: f64 = logits.iter().map(|x| f64::from(*x).powi(2)).sum();
        let mut best: Vec<(i64, f64)> = Vec::with_capacity(RIVALS + 2);
        for (token, score) in scores.iter().enumerate() {
            let score = f64::from(*score);
            if best.len() > RIVALS && score <= best[RIVALS].1 {
                continue;
            }
            let place = best.partition_point(|(_, other)| *other >= score);
            best.insert(place, (token as i64, score));
            best.truncate(RIVALS + 1);
        }
        let top = best.first().map_or(0.0, |(_, score)| *score);
        let rivals = best.into_iter().skip(1).map(|(token, score)| (token, top - score)).collect();
        Choice { size: (square / logits.len().max(1) as f64).sqrt(), rivals }
    }

    /// Whether logits that are `rel_l2` off may choose `token` instead.
    pub(super) fn is_tie(&self, token: i64, rel_l2: f64) -> bool {
        self.is_nearer(token, rel_l2 * self.size)
    }

    /// Whether logits may choose `token` instead whose distribution is `kl` nats off: noise with variance `σ²` on each logit costs `σ² / 2`.
    pub(super) fn is_within(&self, token: i64, kl: f64) -> bool {
        self.is_nearer(token, (2.0 * kl).sqrt())
    }

    /// Whether `token` is nearer than the difference of two logits that have so much noise each.
    fn is_nearer(&self, token: i64, noise: f64) -> bool {
        let noise = noise * std::f64::consts::SQRT_2;
        self.rivals.iter().any(|(rival, gap)| *rival == token && *gap <= WIDTH * noise)
    }
}

/// Mean share of tokens of `found` that are the reference's, where a sequence that parts from it at a tie counts as equal: what is
/// said from there on is another sentence. `None` when there is no sequence.
///
/// `rel_l2`: how far the logits of what said `found` may be off. `limit`: the most tokens that it can say.
pub(super) fn agreement(
    reference: &[Generated],
    choices: &[Vec<Choice>],
    found: &[Generated],
    rel_l2: f64,
    limit: usize,
) -> Option<f64> {
    let shares: Vec<f64> = reference
        .iter()
        .zip(choices)
        .zip(found)
        .map(|((a, choices), b)| {
            let a = &a.tokens[..a.tokens.len().min(limit)];
            let parted = common_prefix(a, &b.tokens);
            match (choices.get(parted), b.tokens.get(parted)) {
                (Some(choice), Some(token)) if parted < a.len() && choice.is_tie(*token, rel_l2) => 1.0,
                _ => token_agreement(a, &b.tokens),
            }
        })
        .collect();
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(tokens: &[i64]) -> Generated {
        Generated { prompt: vec![0], tokens: tokens.to_vec(), ended: true }
    }

    #[test]
    fn a_sequence_may_part_where_scores_are_nearer_than_the_noise_and_only_there() {
        // Of size 2: with 1 % a difference is off by 0.028, and a tie is 0.085 wide.
        let logits = [2.0, 1.95, -2.0, 1.8, -2.2, -2.0, -2.0];
        let choice = Choice::of(&logits, &logits);
        assert!((choice.size - 1.9958).abs() < 1e-3, "{choice:?}");
        let choices = [vec![choice.clone(), choice]];
        let share = |found: &[i64]| agreement(&[said(&[0, 0])], &choices, &[said(found)], 0.01, 9).expect("one");
        assert_eq!([share(&[0, 0]), share(&[1, 5, 5, 5]), share(&[0, 1])], [1.0; 3]);
        assert_eq!(share(&[3, 0]), 0.5, "0.2 apart");
        assert_eq!(share(&[0, 2]), 0.5, "far apart");
        assert_eq!(share(&[0]), 0.5, "a stop is no tie");
    }

    #[test]
    fn what_processors_forbid_is_no_rival() {
        let logits = [2.0, 1.99, 1.98];
        let choice = Choice::of(&logits, &[2.0, f32::NEG_INFINITY, 1.98]);
        assert!(choice.is_tie(2, 0.01) && !choice.is_tie(1, 0.01));
    }
}
