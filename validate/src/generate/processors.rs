//! What changes the logits of one sequence before the largest is taken: the classes of the same names in transformers'
//! generation/logits_process.py.
//!
//! `tokens`: the sequence so far, prompt included. `scores`: f32[vocabulary]. Ids outside the vocabulary have no effect.

const NEVER: f32 = f32::NEG_INFINITY;

fn ban(scores: &mut [f32], ids: impl IntoIterator<Item = i64>) {
    for id in ids {
        if let Some(score) = usize::try_from(id).ok().and_then(|id| scores.get_mut(id)) {
            *score = NEVER;
        }
    }
}

/// Each of `tokens` once: `s · penalty` where the score s is negative, else `s / penalty`. (`RepetitionPenalty`)
///
/// `EncoderRepetitionPenalty` is the same with the tokens of the source and `1 / penalty`.
pub fn repetition_penalty(penalty: f64, tokens: &[i64], scores: &mut [f32]) {
    let penalty = penalty as f32;
    let mut seen: Vec<usize> = tokens.iter().filter_map(|id| usize::try_from(*id).ok()).collect();
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        if let Some(score) = scores.get_mut(id) {
            *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
        }
    }
}

/// Bans each token that would end an n-gram of `tokens` that `seen` has. (`NoRepeatNGram`; with the source as `seen`,
/// `EncoderNoRepeatNGram`)
pub fn no_repeat_ngram(n: usize, seen: &[i64], tokens: &[i64], scores: &mut [f32]) {
    let Some(start) = (tokens.len() + 1).checked_sub(n) else { return };
    let begun = &tokens[start..];
    ban(scores, seen.windows(n).filter(|ngram| ngram[..n - 1] == *begun).map(|ngram| ngram[n - 1]));
}

/// Bans the last token of each word whose others end `tokens`; a word that is an end-of-sequence token is none.
/// (`NoBadWords`)
pub fn no_bad_words(words: &[Vec<i64>], eos: &[i64], tokens: &[i64], scores: &mut [f32]) {
    for word in words {
        let Some((last, begun)) = word.split_last() else { continue };
        let is_end = begun.is_empty() && eos.contains(last);
        if !is_end && tokens.ends_with(begun) {
            ban(scores, [*last]);
        }
    }
}

/// Bans the end of a sequence that is shorter than `min_length`. (`MinLength`; with the tokens after the prompt,
/// `MinNewTokensLength`)
pub fn min_length(min_length: usize, eos: &[i64], length: usize, scores: &mut [f32]) {
    if length < min_length {
        ban(scores, eos.iter().copied());
    }
}

/// Leaves only `ids`, all with score 0: the first of them is taken. (`ForcedBOSToken` after one token, `ForcedEOSToken`
/// before the last)
pub fn force(ids: &[i64], scores: &mut [f32]) {
    scores.fill(NEVER);
    for id in ids {
        if let Some(score) = usize::try_from(*id).ok().and_then(|id| scores.get_mut(id)) {
            *score = 0.0;
        }
    }
}

/// Bans `ids`. (`SuppressTokens`; where the prompt ends, `SuppressTokensAtBegin`)
pub fn suppress(ids: &[i64], scores: &mut [f32]) {
    ban(scores, ids.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids that are banned among ten.
    fn banned(apply: impl FnOnce(&mut [f32])) -> Vec<usize> {
        let mut scores = [0.5; 10];
        apply(&mut scores);
        assert!(scores.iter().all(|x| *x == 0.5 || *x == NEVER));
        (0..10).filter(|i| scores[*i] == NEVER).collect()
    }

    #[test]
    fn repeated_tokens_are_made_less_likely_once_each_on_either_side_of_zero() {
        let mut scores = [3.0, -3.0, 0.0, 1.0, -1.0];
        repetition_penalty(1.5, &[1, 0, 1, 2, 0, 99, -1], &mut scores);
        assert_eq!(scores, [2.0, -4.5, 0.0, 1.0, -1.0]);
        // Tokens of the source become likelier.
        let mut scores = [3.0, -3.0];
        repetition_penalty(1.0 / 1.5, &[0, 1], &mut scores);
        assert_eq!(scores, [3.0 / (1.0 / 1.5) as f32, -3.0 * (1.0 / 1.5) as f32]);
        assert!(scores[0] > 3.0 && scores[1] > -3.0);
    }

    #[test]
    fn an_ngram_comes_once() {
        let of = |n: usize, tokens: &[i64]| banned(|scores| no_repeat_ngram(n, tokens, tokens, scores));
        // After 3 4 came 5 and 6; 4 came after itself, too.
        assert_eq!(of(3, &[3, 4, 5, 3, 4, 6, 3, 4]), [5, 6]);
        assert_eq!(of(2, &[3, 4, 4]), [4]);
        assert_eq!(of(1, &[3, 4, 4]), [3, 4], "a token comes once");
        assert_eq!(of(3, &[3, 4]), [0; 0], "no whole n-gram yet");
        assert_eq!(of(3, &[3]), [0; 0]);
        assert_eq!(of(2, &[3, 4, 5]), [0; 0]);
        assert_eq!(of(2, &[3, 4, 3]), [4]);
        assert_eq!(of(2, &[3, 99, 3]), [0; 0], "outside the vocabulary");
    }

    #[test]
    fn an_ngram_of_the_source_is_not_taken_over() {
        let source = [5, 6, 7, 6, 8];
        let of = |n: usize, tokens: &[i64]| banned(|scores| no_repeat_ngram(n, &source, tokens, scores));
        assert_eq!(of(2, &[0, 6]), [7, 8]);
        assert_eq!(of(3, &[0, 5, 6]), [7]);
        assert_eq!(of(3, &[5]), [0; 0], "the target is shorter than the beginning of an n-gram");
        assert_eq!(of(1, &[0]), [5, 6, 7, 8]);
    }

    #[test]
    fn bad_words_are_not_completed_and_the_end_is_none() {
        let words = [vec![1], vec![2], vec![3, 4], vec![5, 6, 7], vec![3, 9]];
        let of = |tokens: &[i64]| banned(|scores| no_bad_words(&words, &[2], tokens, scores));
        assert_eq!(of(&[0]), [1]);
        assert_eq!(of(&[0, 3]), [1, 4, 9]);
        assert_eq!(of(&[5, 6]), [1, 7]);
        assert_eq!(of(&[6]), [1], "longer than the sequence");
        assert_eq!(of(&[5, 6, 3]), [1, 4, 9], "only at the end");
        let ends = [vec![2, 2]];
        assert_eq!(banned(|scores| no_bad_words(&ends, &[2], &[2], scores)), [2], "two ends are a word");
    }

    #[test]
    fn a_sequence_does_not_end_before_it_is_long_enough() {
        let of = |length: usize| banned(|scores| min_length(3, &[1, 8], length, scores));
        assert_eq!([of(1), of(2), of(3)], [vec![1, 8], vec![1, 8], vec![]]);
    }

    #[test]
    fn forced_tokens_are_all_that_is_left() {
        let mut scores = [5.0, -2.0, 7.0];
        force(&[1], &mut scores);
        assert_eq!(scores, [NEVER, 0.0, NEVER]);
        force(&[2, 1], &mut scores);
        assert_eq!(crate::metrics::argmax(&scores), Some(1), "the first of them");
    }

    #[test]
    fn suppressed_tokens_are_never_taken() {
        assert_eq!(banned(|scores| suppress(&[3, 0, 12, -1], scores)), [0, 3]);
    }
}
