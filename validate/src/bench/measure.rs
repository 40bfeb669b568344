//! Engines under a clock.

use std::time::{Duration, Instant};

use graph::{Feeds, Tensor};
use serde::{Deserialize, Serialize};

use super::machine::Memory;
use crate::runtime::{RuntimeError, Session};
use metrics::Spread;

/// What an engine is to do: encode a batch and say `tokens` tokens after the prompt, whatever they are.
///
/// The number of tokens is fixed so that each engine does the same work; which they are depends on its numbers.
#[derive(Clone, Debug)]
pub struct Course {
    /// As [`Session::encode`] takes it.
    pub source: Feeds,
    /// What every decoder is fed first; not empty.
    pub prompt: Vec<i64>,
    /// At least 1.
    pub tokens: usize,
}

impl Course {
    /// Sequences side by side.
    pub fn rows(&self) -> usize {
        self.source.values().next().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(0)
    }
}

/// What one run took, told by the process in which the engine computed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Times {
    /// From the source to the encoder's output.
    pub encoder_ms: f64,
    /// Of each token, the choice of the next included. The first is that of the prompt.
    pub steps_ms: Vec<f64>,
    /// After the run.
    pub memory: Option<Memory>,
}

impl Times {
    /// From the source to the first token.
    pub fn first_token_ms(&self) -> f64 {
        self.encoder_ms + self.steps_ms.first().copied().unwrap_or(0.0)
    }

    /// All tokens after the first.
    pub fn later_ms(&self) -> f64 {
        self.steps_ms.iter().skip(1).sum()
    }

    /// Tokens of all rows after the first, over the time that they took; `None` where there is but one.
    pub fn tokens_per_s(&self, rows: usize) -> Option<f64> {
        let later = self.steps_ms.len().saturating_sub(1) * rows;
        (later > 0 && self.later_ms() > 0.0).then(|| later as f64 * 1e3 / self.later_ms())
    }
}

/// Runs a course in this process. Errors: those of the session, and logits that are not of the batch.
pub fn run<S: Session + ?Sized>(session: &mut S, course: &Course) -> Result<Times, RuntimeError> {
    let rows = course.rows();
    let mut times = Times::default();
    let mut at = Instant::now();
    let mut lap = || {
        let now = Instant::now();
        (now - std::mem::replace(&mut at, now)).as_secs_f64() * 1e3
    };
    session.encode(&course.source)?;
    times.encoder_ms = lap();
    let mut ids = Tensor::i64([rows, course.prompt.len()], course.prompt.repeat(rows));
    for _ in 0..course.tokens {
        let logits = session.decode(&ids)?;
        let said = said(&logits, rows).ok_or_else(|| RuntimeError::Failed {
            runtime: "bench",
            message: format!("expected logits of {rows} sequences, found {:?}", logits.shape()),
        })?;
        ids = Tensor::i64([rows, 1], said);
        times.steps_ms.push(lap());
    }
    times.memory = Memory::of(session.process());
    Ok(times)
}

/// The token with the largest of the last logits of each row.
fn said(logits: &Tensor, rows: usize) -> Option<Vec<i64>> {
    let (&[found, positions, vocabulary], data) = (logits.shape(), logits.as_f32()?) else { return None };
    if found != rows || positions == 0 || vocabulary == 0 {
        return None;
    }
    let last = |row: &[f32]| {
        // Logits that are not numbers are no token and no reason to stop a clock.
        crate::metrics::argmax(&row[(positions - 1) * vocabulary..]).unwrap_or(0) as i64
    };
    Some(data.chunks_exact(positions * vocabulary).map(last).collect())
}

/// What became of one session.
#[derive(Debug)]
pub enum Ran {
    /// A [`Times`] a round.
    Done(Vec<Times>),
    /// It took no further part.
    Failed(RuntimeError),
}

/// Before each run: ggml's threads spin for a tenth of a second after their last graph, and would do so beside the next engine.
const REST: Duration = Duration::from_millis(120);

/// Runs courses in all sessions in turn: A B A B …, after one run of each that does not count.
///
/// `course_of`: the course of a round and a session; round 0 warms up. Rounds should differ in their sources: engines may keep what
/// they made of the last one. `advance`: called after each run.
pub fn interleaved(
    sessions: &mut [Box<dyn Session>],
    rounds: usize,
    mut course_of: impl FnMut(usize, usize) -> Course,
    mut advance: impl FnMut(),
) -> Vec<Ran> {
    let mut ran: Vec<Ran> = sessions.iter().map(|_| Ran::Done(Vec::new())).collect();
    for round in 0..=rounds {
        for (place, (session, ran)) in sessions.iter_mut().zip(&mut ran).enumerate() {
            let Ran::Done(all) = ran else { continue };
            let course = course_of(round, place);
            std::thread::sleep(REST);
            match session.timed(&course) {
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
        let times = run(&mut session, &course()).expect("runs");
        assert_eq!(session.fed, [vec![5, 2, 5, 2], vec![3, 3], vec![4, 4]]);
        assert_eq!(times.steps_ms.len(), 3);
    }

    #[test]
    fn sessions_take_turns_the_first_round_does_not_count_and_one_that_fails_leaves_the_others() {
        let session = |fails_after| Box::new(Counting { fed: Vec::new(), fails_after }) as Box<dyn Session>;
        let mut sessions = [session(99), session(4), session(99)];
        let (mut rounds, mut runs) = (Vec::new(), 0);
        let course_of = |round, place| {
            rounds.push((round, place));
            course()
        };
        let ran = interleaved(&mut sessions, 2, course_of, || runs += 1);
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
