//! Greedy decoding over any session.

use converters::checkpoint::Generation;
use graph::{Feeds, Tensor};

use crate::metrics::argmax;
use crate::runtime::{RuntimeError, Session};

/// What a decoding loop needs to know about a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Greedy {
    /// The first token that the decoder is fed.
    pub start: i64,
    /// Tokens that end a sequence.
    pub eos: Vec<i64>,
    /// Fed for sequences that have ended while others of the batch go on.
    pub pad: i64,
    /// Tokens after the start token, the end-of-sequence token included.
    pub max_new_tokens: usize,
}

/// What a model says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Generated {
    /// After the start token; the last is an end-of-sequence token when `ended`.
    pub tokens: Vec<i64>,
    /// Whether it ended by itself, rather than at the limit or at logits that are not numbers.
    pub ended: bool,
}

impl From<&Generation> for Greedy {
    fn from(g: &Generation) -> Greedy {
        Greedy {
            start: i64::from(g.decoder_start_token_id),
            eos: g.eos_token_ids.iter().map(|id| i64::from(*id)).collect(),
            pad: i64::from(g.pad_token_id),
            max_new_tokens: g.max_new_tokens,
        }
    }
}

impl Greedy {
    /// The same with a limit of an engine: `limit_tokens` counts the start token, and the last token is never fed.
    #[must_use]
    pub fn within(&self, limit_tokens: Option<usize>) -> Greedy {
        let max_new_tokens = limit_tokens.map_or(self.max_new_tokens, |limit| limit.min(self.max_new_tokens));
        Greedy { max_new_tokens, ..self.clone() }
    }

    /// Decodes a batch: at each step the token with the largest logit, the first of equal ones.
    ///
    /// `source`: as [`Session::encode`] takes it. A sequence whose logits hold a NaN stops there without having ended.
    /// Errors: those of the session, and logits of a wrong shape.
    pub fn run(&self, session: &mut dyn Session, source: &Feeds) -> Result<Vec<Generated>, RuntimeError> {
        let rows = source.values().next().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(0);
        let steps = self.within(session.limit_tokens()).max_new_tokens;
        let mut generated = vec![Generated::default(); rows];
        let mut running = vec![true; rows];
        let mut next = vec![self.start; rows];
        session.encode(source)?;
        for _ in 0..steps {
            let logits = decode(session, &Tensor::i64([rows, 1], next.clone()))?;
            let width = logits.shape()[2];
            let logits = logits.as_f32().expect("decode() checked the type");
            for (row, logits) in logits.chunks(width).enumerate() {
                next[row] = self.pad;
                if !running[row] {
                    continue;
                }
                let Some(token) = argmax(logits) else {
                    running[row] = false;
                    continue;
                };
                next[row] = token as i64;
                generated[row].tokens.push(next[row]);
                generated[row].ended = self.eos.contains(&next[row]);
                running[row] = !generated[row].ended;
            }
            if !running.contains(&true) {
                break;
            }
        }
        Ok(generated)
    }
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
mod tests {
    use super::*;
    use crate::runtime::Engine;

    /// Says the tokens it is given, row by row; shows an exploding value where a token is negative.
    struct Script {
        rows: Vec<Vec<i64>>,
        step: usize,
        limit: Option<usize>,
        fed: Vec<Vec<i64>>,
    }

    impl Session for Script {
        fn engine(&self) -> Engine {
            Engine { name: "script".into(), version: "1".into(), settings: String::new() }
        }

        fn encode(&mut self, _: &Feeds) -> Result<(), RuntimeError> {
            self.step = 0;
            Ok(())
        }

        fn decode(&mut self, ids: &Tensor) -> Result<Tensor, RuntimeError> {
            self.fed.push(ids.as_i64().expect("ids").to_vec());
            let mut logits = vec![0.0; self.rows.len() * 10];
            for (row, tokens) in self.rows.iter().enumerate() {
                match usize::try_from(tokens[self.step]) {
                    Ok(token) => logits[row * 10 + token] = 1.0,
                    Err(_) => logits[row * 10] = f32::NAN,
                }
            }
            self.step += 1;
            Ok(Tensor::f32([self.rows.len(), 1, 10], logits))
        }

        fn limit_tokens(&self) -> Option<usize> {
            self.limit
        }
    }

    fn run(rows: &[&[i64]], limit: Option<usize>) -> (Vec<Generated>, Vec<Vec<i64>>) {
        let rows: Vec<Vec<i64>> = rows.iter().map(|r| r.to_vec()).collect();
        let greedy = Greedy { start: 2, eos: vec![1, 3], pad: 0, max_new_tokens: 4 };
        let mut script = Script { rows, step: 0, limit, fed: Vec::new() };
        let ids = Tensor::i64([script.rows.len(), 1], vec![5; script.rows.len()]);
        let found = greedy.run(&mut script, &Feeds::from([("input_ids".to_owned(), ids)])).expect("decoded");
        (found, script.fed)
    }

    #[test]
    fn each_sequence_stops_at_its_own_end_and_is_fed_padding_after_it() {
        let (found, fed) = run(&[&[5, 1, 7, 7], &[6, 7, 3, 7]], None);
        assert_eq!(found[0], Generated { tokens: vec![5, 1], ended: true });
        assert_eq!(found[1], Generated { tokens: vec![6, 7, 3], ended: true });
        assert_eq!(fed, [[2, 2], [5, 6], [1, 7]]);
        let (_, fed) = run(&[&[1, 7, 7, 7], &[6, 7, 3, 7]], None);
        assert_eq!(fed, [[2, 2], [1, 6], [0, 7]]);
    }

    #[test]
    fn the_limit_counts_new_tokens_and_an_engine_may_lower_it() {
        assert_eq!(run(&[&[5, 5, 5, 5, 5]], None).0[0], Generated { tokens: vec![5; 4], ended: false });
        assert_eq!(run(&[&[5, 5, 5, 5, 5]], Some(2)).0[0].tokens.len(), 2);
    }

    #[test]
    fn logits_that_are_not_numbers_stop_a_sequence_without_an_end() {
        assert_eq!(run(&[&[5, -1, 5, 5]], None).0[0], Generated { tokens: vec![5], ended: false });
    }

    #[test]
    fn a_session_that_answers_with_another_shape_is_an_error() {
        let mut script = Script { rows: vec![vec![5], vec![5]], step: 0, limit: None, fed: Vec::new() };
        let error = decode(&mut script, &Tensor::i64([3, 1], vec![2; 3])).expect_err("two rows for three");
        assert!(error.to_string().contains("expected logits f32[3, 1, vocabulary], found f32[2, 1, 10]"), "{error}");
    }
}
