//! An encoder alone, in an engine that runs one, against the quantized graph's.

use converters::frontend::Input;
use graph::ir::port::ENCODER_HIDDEN;
use graph::{Feeds, Graph, Progress, Tensor};
use report::{Check, Link};

use super::apart::{norm, relative};
use super::engine::not_opened;
use super::error::ChainError;
use super::limits::{Arithmetic, Floor};
use super::walk::{Context, Walk};
use crate::runtime::reference::caching;
use crate::runtime::{Runtime, RuntimeError, Session};

impl Walk<'_> {
    /// One engine that runs an encoder alone. `held`: the graph whose weights its file holds.
    pub(super) fn encoder(
        &mut self,
        runtime: &dyn Runtime,
        held: &Graph,
        progress: &dyn Progress,
    ) -> Result<(), ChainError> {
        let Context { artifact, options, .. } = *self.context;
        let mut session = match runtime.open(artifact, options) {
            Ok(session) => session,
            Err(error) => {
                self.checks.push(not_opened(runtime.name(), &error));
                return Ok(());
            }
        };
        let called = format!("{} {}", session.engine().name, session.engine().version);
        let apart = match self.encodings_apart(&mut *session, held, progress) {
            Ok(apart) => apart,
            Err(ChainError::Runtime(error)) => {
                let sentence = format!("the engine opened the artifact, but: {error}");
                self.checks.push(Check::failed(Link::Runtime, called, sentence));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let samples = self.context.baseline.subject.data.samples.len();
        let what = format!("{called}: what the encoder makes of {samples} samples");
        let floor = Floor::of(runtime.name(), Arithmetic::of(held)).copied();
        let broken = "the engine's encoder is not the graph's: a weight, a norm or the relative bias differs";
        let check = self.within_noise(floor, what, apart.rel_l2(), broken);
        self.checks.push(check.of(samples, None));
        Ok(())
    }

    fn encodings_apart(
        &self,
        session: &mut dyn Session,
        held: &Graph,
        progress: &dyn Progress,
    ) -> Result<Apart, ChainError> {
        let subject = &self.context.baseline.subject;
        let interpreter = caching(held);
        let failed = |message: String| RuntimeError::Failed { runtime: "reference", message };
        let mut apart = Apart::default();
        for sample in &subject.data.samples {
            let source = Input::batch(&[&sample.source], subject.greedy.settings.pad_token_id).map_err(failed)?;
            let expected = interpreter.call("encoder", &source).map_err(|error| failed(error.to_string()))?;
            let expected = expected.get(ENCODER_HIDDEN).ok_or(ChainError::Lacks { expected: "an encoder's output" })?;
            apart.add(expected, &encoded(session, &source)?);
            progress.advance(1);
        }
        Ok(apart)
    }
}

/// What an engine makes of a batch.
fn encoded(session: &mut dyn Session, source: &Feeds) -> Result<Tensor, RuntimeError> {
    session.encode(source)?;
    let lacking = || RuntimeError::Failed { runtime: "engine", message: "it shows nothing of its encoder".to_owned() };
    session.encoded()?.ok_or_else(lacking)
}

/// Sums over tensors that should be equal.
#[derive(Default)]
struct Apart {
    /// Of what was expected.
    squares: f64,
    /// Of the differences; infinite where shapes differ.
    differences: f64,
}

impl Apart {
    fn add(&mut self, expected: &Tensor, found: &Tensor) {
        let size = norm(expected);
        let apart = if expected.shape() == found.shape() { relative(expected, found) * size } else { f64::INFINITY };
        self.squares += size * size;
        self.differences += apart * apart;
    }

    /// `None` when they are no numbers.
    fn rel_l2(&self) -> Option<f64> {
        let rel_l2 = (self.differences / self.squares).sqrt();
        rel_l2.is_finite().then_some(rel_l2)
    }
}
