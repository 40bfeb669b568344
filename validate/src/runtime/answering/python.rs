//! An engine that answers from a Python process of its own.

use std::io;
use std::path::{Path, PathBuf};

use report::Engine;
use report::figures::counted;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Answers, Form, Question, Words};
use crate::runtime::child::Patience;
use crate::runtime::environments::{isolated, python_named, roots, variable};
use crate::runtime::error::RuntimeError;
use crate::runtime::interface::{Options, Present};
use crate::runtime::packages::Packages;
use crate::runtime::pipe::Pipe;

/// An engine that a far side knows.
#[derive(Debug)]
pub(in crate::runtime) struct PythonAnswerer {
    /// [`crate::runtime::Program::name`].
    pub(in crate::runtime) name: &'static str,
    /// The package that it is in.
    pub(in crate::runtime) package: &'static str,
    /// Environment variable that names the Python which has it.
    pub(in crate::runtime) variable: &'static str,
    /// The command that brings it.
    pub(in crate::runtime) install: &'static str,
    /// How it is asked.
    pub(in crate::runtime) form: Form,
    /// The whole far side; the protocol is described in `main.py`.
    pub(in crate::runtime) script: &'static str,
}

/// Every reply.
#[derive(Deserialize)]
struct Reply {
    ok: bool,
    error: Option<String>,
    /// The package that is not installed, when that is why.
    lacks: Option<String>,
    version: Option<String>,
    told: Option<String>,
    text: Option<String>,
    ended: Option<bool>,
}

impl PythonAnswerer {
    /// Imports the package. Errors: as [`crate::runtime::Program::probe`].
    pub(in crate::runtime) fn probe(&self, options: &Options) -> Result<Present, RuntimeError> {
        let python = self.found(options)?;
        let packages = Packages { runtime: self.name, install: self.install, names: &[self.package] };
        let [version] = packages.imported(&python, options)?;
        Ok(Present { version, place: python.display().to_string() })
    }

    /// Has it load a file. `settings`: for the far side. `said`: the same for the report, before what the far side tells.
    pub(in crate::runtime) fn open(
        &'static self,
        file: &Path,
        options: &Options,
        settings: &Value,
        said: &str,
    ) -> Result<Box<dyn Answers>, RuntimeError> {
        let file = std::path::absolute(file).map_err(|error| self.failed(format!("{}: {error}", file.display())))?;
        let patience = Patience::of(options).map_err(|error| self.failed(error))?;
        let threads = options.threads.max(1);
        let mut far = self.start(&self.found(options)?, &file, threads, settings, patience)?;
        let reply = far.call(&json!({ "call": "versions" }), Vec::new())?;
        let (Some(version), Some(told)) = (reply.version, reply.told) else {
            return Err(self.failed(far.pipe.nonsense("expected versions, found none")));
        };
        let counted = counted(threads as u64, "thread");
        far.engine = Engine { name: self.name.to_owned(), version, settings: format!("{said}, {told}, {counted}") };
        Ok(Box::new(far))
    }

    fn start(
        &'static self,
        python: &Path,
        file: &Path,
        threads: usize,
        settings: &Value,
        patience: Patience,
    ) -> Result<Far, RuntimeError> {
        let mut command = isolated(python);
        command
            .args(["-c", self.script])
            .arg(file)
            .args([threads.to_string(), settings.to_string()])
            // Waiting threads that spin would take the processor from the one that works.
            .env("OMP_WAIT_POLICY", "PASSIVE");
        let pipe = Pipe::spawn("the Python process", self.name, &mut command, patience).map_err(|error| {
            let message = format!("{}: {error}", python.display());
            let absent = error.kind() == io::ErrorKind::NotFound && !python.exists();
            if absent { self.unavailable(message) } else { self.failed(message) }
        })?;
        let engine = Engine { name: self.name.to_owned(), version: String::new(), settings: String::new() };
        Ok(Far { answerer: self, pipe, engine })
    }

    fn found(&self, options: &Options) -> Result<PathBuf, RuntimeError> {
        self.python(variable(self.variable), &roots(options.python.as_deref()))
    }

    /// The Python that has it.
    fn python(&self, named: Option<PathBuf>, roots: &[PathBuf]) -> Result<PathBuf, RuntimeError> {
        python_named(self.package, self.variable, named, roots).map_err(|why| self.unavailable(why))
    }

    fn unavailable(&self, why: String) -> RuntimeError {
        RuntimeError::Unavailable { runtime: self.name, why, install: self.install.to_owned() }
    }

    fn failed(&self, message: String) -> RuntimeError {
        RuntimeError::Failed { runtime: self.name, message }
    }
}

/// A file that the far side has loaded.
struct Far {
    answerer: &'static PythonAnswerer,
    pipe: Pipe,
    engine: Engine,
}

impl Far {
    fn call(&mut self, request: &Value, values: Vec<Vec<u8>>) -> Result<Reply, RuntimeError> {
        let answerer = self.answerer;
        let reply: Reply = self.pipe.call(request, values).map_err(|error| answerer.failed(error))?;
        if reply.ok {
            return Ok(reply);
        }
        let error = reply.error.unwrap_or_else(|| "refused without a reason".to_owned());
        Err(if reply.lacks.is_some() { answerer.unavailable(error) } else { answerer.failed(error) })
    }

    fn one(&mut self, question: &Question) -> Result<Answer, RuntimeError> {
        let (request, values) = match (self.answerer.form, question) {
            (Form::Text, Question::Text { text, tokens }) => {
                (json!({ "call": "answer", "text": text, "first": tokens.first() }), Vec::new())
            }
            (Form::Sound, Question::Sound(samples)) => {
                let bytes = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
                (json!({ "call": "answer", "samples": samples.len() }), vec![bytes])
            }
            (form, _) => {
                return Err(self.answerer.failed(format!("expected {form:?} to be asked, found another form")));
            }
        };
        let reply = self.call(&request, values)?;
        let (Some(text), Some(ended)) = (reply.text, reply.ended) else {
            return Err(self.answerer.failed(self.pipe.nonsense("expected an answer, found none")));
        };
        Ok(Answer { words: Words::Text(text), ended })
    }
}

impl Answers for Far {
    fn engine(&self) -> Engine {
        self.engine.clone()
    }

    fn form(&self) -> Form {
        self.answerer.form
    }

    fn answer(&mut self, questions: &[Question]) -> Result<Vec<Answer>, RuntimeError> {
        questions.iter().map(|question| self.one(question)).collect()
    }
}

#[cfg(all(test, unix))]
mod tests;
