//! Who answers: the interpreter, or the first engine that opens the artifact.

use converters::Artifact;
use frontend::Input;
use graph::{Interpreter, Progress};
use validate::runtime::reference::Reference;
use validate::runtime::{ENCODERS, Options};
use validate::{Engine, Fit, Generated, Greedy, RUNTIMES, Runtime, RuntimeError, Session};

use super::arguments::Run;
use super::error::RunError;
use crate::show::progress::Display;

/// The engine of checkpoints.
const INTERPRETER: &str = "interpreter";

/// What is said of one input and by whom, or why it is refused.
pub type Said = Result<(Engine, Generated), RuntimeError>;

/// A model that answers, opened when it is first asked and again after it has failed.
pub struct Answerer<'o> {
    place: Place<'o>,
    display: &'o Display,
    session: Option<Box<dyn Session + 'o>>,
    /// Engines before the one that answers, which are not on this machine.
    pub missing: Vec<RuntimeError>,
}

enum Place<'o> {
    Here(&'o Interpreter<'o>),
    /// In the first of the engines that opens it.
    Engines {
        artifact: Artifact,
        wanted: Vec<&'static dyn Runtime>,
        options: Options,
    },
}

impl<'o> Answerer<'o> {
    /// A checkpoint. Errors: another engine is asked for.
    pub fn of_checkpoint(
        interpreter: &'o Interpreter<'o>,
        arguments: &Run,
        display: &'o Display,
    ) -> Result<Answerer<'o>, RunError> {
        match arguments.engine.as_ref().filter(|name| *name != INTERPRETER) {
            Some(found) => {
                Err(RunError::NoEngine { found: found.clone(), kind: "checkpoints", known: vec![INTERPRETER] })
            }
            None => Ok(Answerer::new(Place::Here(interpreter), display)),
        }
    }

    /// An artifact. Errors: the engine that is asked for is none, or cannot run it.
    pub fn of_artifact(format: &'static str, arguments: &Run, display: &'o Display) -> Result<Answerer<'o>, RunError> {
        let dir = &arguments.artifact;
        let artifact = Artifact::list(format, dir).map_err(RunError::io(dir))?;
        let wanted = wanted(&artifact, arguments.engine.as_deref())?;
        let place = Place::Engines { artifact, wanted, options: arguments.engines.options() };
        Ok(Answerer::new(place, display))
    }

    fn new(place: Place<'o>, display: &'o Display) -> Answerer<'o> {
        Answerer { place, display, session: None, missing: Vec::new() }
    }

    /// What is said of each input, and by whom. An input that the engine refuses has its words and takes nothing from the others.
    ///
    /// Errors: no engine opens the artifact.
    pub fn say(&mut self, greedy: &Greedy, inputs: &[&Input]) -> Result<Vec<Said>, RunError> {
        if self.session.is_none() {
            self.session = Some(self.open()?);
        }
        let session = self.session.as_mut().expect("opened above");
        let refused = |message: String| RuntimeError::Failed { runtime: "data", message };
        let source = Input::batch(inputs, greedy.settings.pad_token_id).map_err(refused);
        match source.and_then(|source| greedy.run(&mut **session, &source)) {
            Ok(found) => {
                let engine = session.engine();
                Ok(found.into_iter().map(|generated| Ok((engine.clone(), generated))).collect())
            }
            Err(error) => {
                // It may have ended.
                self.session = None;
                match inputs {
                    [_] => Ok(vec![Err(error)]),
                    several => {
                        let alone = several.iter().map(|input| self.say(greedy, &[input]));
                        Ok(alone.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
                    }
                }
            }
        }
    }

    fn open(&mut self) -> Result<Box<dyn Session + 'o>, RunError> {
        let (artifact, wanted, options) = match &mut self.place {
            Place::Here(interpreter) => return Ok(Box::new(Reference::new(*interpreter))),
            Place::Engines { artifact, wanted, options } => (artifact, wanted, options),
        };
        let mut refused = Vec::new();
        for engine in wanted.clone() {
            self.display.say(&format!("open {} in {}", artifact.dir.display(), engine.name()));
            match engine.open(artifact, options) {
                Ok(session) => {
                    let Engine { name, version, settings } = session.engine();
                    self.display.say(&format!("{name} {version}: {settings}"));
                    // The same again, should it fail.
                    *wanted = vec![engine];
                    self.missing.extend(refused);
                    return Ok(session);
                }
                Err(error @ RuntimeError::Unavailable { .. }) => refused.push(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(RunError::Unavailable(refused))
    }
}

/// The engines that run an artifact, or the one that is asked for.
fn wanted(artifact: &Artifact, asked: Option<&str>) -> Result<Vec<&'static dyn Runtime>, RunError> {
    let fits: Vec<(&'static dyn Runtime, Fit)> =
        RUNTIMES.iter().map(|engine| (*engine, engine.fit(artifact))).collect();
    let fitting = fits.iter().filter(|(_, fit)| *fit == Fit::Runs).map(|(engine, _)| *engine);
    if fits.iter().all(|(_, fit)| *fit == Fit::Foreign) {
        let is_encoder = ENCODERS.iter().any(|engine| engine.fit(artifact) == Fit::Runs);
        let why = match is_encoder {
            true => "it holds an encoder alone, which answers nothing",
            false => "its engine answers by itself; README.md in the folder says how it is asked",
        };
        return Err(RunError::NothingDecodes { dir: artifact.dir.clone(), kind: artifact.format, why });
    }
    let Some(name) = asked else { return Ok(fitting.collect()) };
    match fits.iter().find(|(engine, _)| engine.name() == name) {
        Some((engine, Fit::Runs)) => Ok(vec![*engine]),
        Some((engine, Fit::CannotRun(why))) => {
            Err(RuntimeError::Failed { runtime: engine.name(), message: why.clone() }.into())
        }
        Some((_, Fit::Foreign)) | None => {
            let known = fitting.map(|engine| engine.name()).collect();
            Err(RunError::NoEngine { found: name.to_owned(), kind: artifact.format, known })
        }
    }
}
