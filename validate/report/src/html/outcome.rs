//! How checks ended, in a word, a sign and a colour: nothing that was not run looks as if it had passed.

use super::markup::Html;
use crate::check::{Check, Outcome};

/// What some checks say together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Passed,
    Failed,
    Undecided,
    NotRun,
    /// There is no limit that it could have kept.
    NoLimit,
}

impl State {
    /// Of a check.
    pub fn of(outcome: Outcome) -> State {
        match outcome {
            Outcome::Passed => State::Passed,
            Outcome::Failed => State::Failed,
            Outcome::NotRun => State::NotRun,
            Outcome::Info => State::NoLimit,
            Outcome::Undecided => State::Undecided,
        }
    }

    /// The worst of some; passed only where something passed.
    pub fn of_all<'a>(checks: impl IntoIterator<Item = &'a Check>) -> State {
        let all: Vec<State> = checks.into_iter().map(|check| State::of(check.outcome)).collect();
        let first =
            [State::Failed, State::Undecided, State::Passed, State::NotRun].into_iter().find(|s| all.contains(s));
        match first {
            Some(state) => state,
            None if all.is_empty() => State::NotRun,
            None => State::NoLimit,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            State::Passed => "passed",
            State::Failed => "failed",
            State::Undecided => "undecided",
            State::NotRun => "not run",
            State::NoLimit => "no limit",
        }
    }

    /// The series of pictures that has its colour and a shape of its own.
    pub fn series(self) -> usize {
        match self {
            State::Passed => 10,
            State::Failed => 3,
            State::Undecided => 1,
            State::NotRun | State::NoLimit => 39,
        }
    }

    /// A sign and a word.
    pub fn badge(self) -> Html {
        let mut out = Html::default();
        out.raw(match self {
            State::Passed => "<span class=\"badge good\"><i aria-hidden=\"true\">✓</i>",
            State::Failed => "<span class=\"badge bad\"><i aria-hidden=\"true\">✕</i>",
            State::Undecided => "<span class=\"badge odd\"><i aria-hidden=\"true\">?</i>",
            State::NotRun => "<span class=\"badge none\"><i aria-hidden=\"true\">–</i>",
            State::NoLimit => "<span class=\"badge none\"><i aria-hidden=\"true\">·</i>",
        });
        out.raw(self.word()).raw("</span>");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Link;

    #[test]
    fn what_was_not_run_is_never_passed() {
        let not_run = Check::not_run(Link::Runtime, "logits", "no engine");
        let seen = Check::seen(Link::Import, "names", "");
        assert_eq!(State::of_all([]), State::NotRun);
        assert_eq!(State::of_all([&not_run, &seen]), State::NotRun);
        assert_eq!(State::of_all([&seen]), State::NoLimit);
        let passed = Check::passed(Link::Export, "weights", "");
        assert_eq!(State::of_all([&not_run, &passed]), State::Passed);
        let undecided = Check { outcome: Outcome::Undecided, ..passed.clone() };
        assert_eq!(State::of_all([&passed, &undecided]), State::Undecided);
        assert_eq!(State::of_all([&undecided, &Check::failed(Link::Export, "weights", "")]), State::Failed);
    }
}
