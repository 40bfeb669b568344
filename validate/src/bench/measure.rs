//! Engines under a clock.

use std::time::Duration;

use super::machine::Memory;
use crate::runtime::names::{GGML, LLAMA};
use crate::runtime::{RuntimeError, Session};
use metrics::Spread;

pub use super::course::{Course, Times};

/// What became of one session.
#[derive(Debug)]
pub enum Ran {
    /// Of each round, a [`Times`] for each of its courses.
    Done(Vec<Vec<Times>>),
    /// It took no further part.
    Failed(RuntimeError),
}

/// After a turn: threads spin for a while before they sleep, and would do so beside the next engine.
const REST: Duration = Duration::from_millis(20);
/// After a turn of these: ggml's threads spin for a tenth of a second after their last graph.
const LONG_REST: Duration = Duration::from_millis(120);
const RESTLESS: [&str; 2] = [GGML, LLAMA];

/// Runs courses in all sessions in turn: A B A B …, after one round that does not count.
///
/// `courses_of`: what a session does in its turn of a round, one after another; round 0 warms up. Courses that follow each other should
/// differ in their sources: engines may keep what they made of the last one. `advance`: called after each turn.
pub fn interleaved(
    sessions: &mut [Box<dyn Session>],
    rounds: usize,
    mut courses_of: impl FnMut(usize, usize) -> Vec<Course>,
    mut advance: impl FnMut(),
) -> Vec<Ran> {
    let mut ran: Vec<Ran> = sessions.iter().map(|_| Ran::Done(Vec::new())).collect();
    // Nobody knows what ran before.
    let mut rest = LONG_REST;
    for round in 0..=rounds {
        for (place, (session, ran)) in sessions.iter_mut().zip(&mut ran).enumerate() {
            let Ran::Done(all) = ran else { continue };
            let courses = courses_of(round, place);
            std::thread::sleep(rest);
            rest = if RESTLESS.contains(&session.engine().name.as_str()) { LONG_REST } else { REST };
            match courses.iter().map(|course| session.timed(course)).collect() {
                Ok(times) if round > 0 => all.push(times),
                Ok(_) => {}
                Err(error) => *ran = Ran::Failed(error),
            }
            advance();
        }
    }
    ran
}

/// Rounds of one engine with one kind of course, put together.
#[derive(Clone, PartialEq, Debug)]
pub struct Measured {
    /// From the source to the first token.
    pub first_token_ms: Spread,
    /// The encoder's part of it.
    pub encoder_ms: Spread,
    /// The decoder's part of it: its first step, which also makes the keys and values of the encoder's output.
    pub first_step_ms: Spread,
    /// One step after that; absent when one token was asked for.
    pub step_ms: Option<Spread>,
    /// Tokens after the first, of all rows.
    pub tokens_per_s: Option<Spread>,
    /// At the end.
    pub memory: Option<Memory>,
}

impl Measured {
    /// `None` without rounds.
    pub fn of(rounds: &[Times], rows: usize) -> Option<Measured> {
        let spread = |of: &dyn Fn(&Times) -> Option<f64>| Spread::of(rounds.iter().filter_map(of));
        let later = |times: &Times| times.steps_ms.len().saturating_sub(1);
        Some(Measured {
            first_token_ms: spread(&|times| Some(times.first_token_ms()))?,
            encoder_ms: spread(&|times| Some(times.encoder_ms))?,
            first_step_ms: spread(&|times| times.steps_ms.first().copied())?,
            step_ms: spread(&|times| (later(times) > 0).then(|| times.later_ms() / later(times) as f64)),
            tokens_per_s: spread(&|times| times.tokens_per_s(rows)),
            memory: rounds.last().and_then(|times| times.memory),
        })
    }
}

#[cfg(test)]
mod tests {
    use graph::{Feeds, Tensor};

    use super::*;
    use report::Engine;

    /// Says the token after the last one it was fed, and fails after some calls.
    struct Counting {
        fed: Vec<Vec<i64>>,
        fails_after: usize,
    }

    impl Session for Counting {
        fn engine(&self) -> Engine {
            Engine { name: String::new(), version: String::new(), settings: String::new() }
        }

        fn encode(&mut self, _: &Feeds) -> Result<(), RuntimeError> {
            self.fed.clear();
            Ok(())
        }

        fn decode(&mut self, ids: &Tensor) -> Result<Tensor, RuntimeError> {
            if self.fails_after == 0 {
                return Err(RuntimeError::Failed { runtime: "test", message: "no more".into() });
            }
            self.fails_after -= 1;
            let data = ids.as_i64().expect("ids");
            self.fed.push(data.to_vec());
            let logits = data.iter().flat_map(|id| (0..9).map(move |k| f32::from(u8::from(k == id + 1)))).collect();
            Ok(Tensor::f32([ids.shape()[0], ids.shape()[1], 9], logits))
        }
    }

    fn course() -> Course {
        let source = Feeds::from([("input_ids".to_owned(), Tensor::i64([2, 3], vec![1; 6]))]);
        Course { source, prompt: vec![5, 2], tokens: 3 }
    }

    #[test]
    fn a_run_feeds_the_prompt_and_then_what_the_engine_said_last_in_every_row() {
        let mut session = Counting { fed: Vec::new(), fails_after: 9 };
        let times = session.timed(&course()).expect("runs");
        assert_eq!(session.fed, [vec![5, 2, 5, 2], vec![3, 3], vec![4, 4]]);
        assert_eq!(times.steps_ms.len(), 3);
    }

    #[test]
    fn sessions_take_turns_the_first_round_does_not_count_and_one_that_fails_leaves_the_others() {
        let session = |fails_after| Box::new(Counting { fed: Vec::new(), fails_after }) as Box<dyn Session>;
        let mut sessions = [session(99), session(4), session(99)];
        let (mut rounds, mut runs) = (Vec::new(), 0);
        let courses_of = |round, place| {
            rounds.push((round, place));
            vec![course()]
        };
        let ran = interleaved(&mut sessions, 2, courses_of, || runs += 1);
        // The second one says three tokens, and fails at its second of the next round.
        assert_eq!((rounds.len(), runs), (8, 8));
        assert_eq!(rounds[..4], [(0, 0), (0, 1), (0, 2), (1, 0)]);
        let counts: Vec<Option<usize>> = ran
            .iter()
            .map(|ran| match ran {
                Ran::Done(times) => Some(times.len()),
                Ran::Failed(_) => None,
            })
            .collect();
        assert_eq!(counts, [Some(2), None, Some(2)]);
    }

    #[test]
    fn the_first_token_is_the_encoder_and_the_first_step_and_the_rate_is_of_the_others() {
        let times = Times { encoder_ms: 7.0, steps_ms: vec![3.0, 1.0, 3.0], memory: None };
        assert_eq!(times.first_token_ms(), 10.0);
        assert_eq!(times.tokens_per_s(1), Some(500.0));
        assert_eq!(times.tokens_per_s(8), Some(4000.0));
        assert_eq!(Times { steps_ms: vec![3.0], ..times }.tokens_per_s(1), None);
    }
}
