//! CTranslate2 in a Python process of its own: folders of its converters, and ours, as their users load them.
//!
//! [`CTranslate2`] is a runtime: the logits that the engine computes on the way of its own greedy search, with given tokens as the
//! beginning of targets. [`Translator`] is asked for what that search says, under the settings of ours.

mod decoding;
mod folder;
mod session;
mod vocabulary;

use std::io;
use std::path::{Path, PathBuf};

use converters::Artifact;
use converters::checkpoint::Generation;
use report::Engine;
use report::figures::counted;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::runtime::answering::{Answer, Answers, Form, Question, Words};
use crate::runtime::child::Patience;
use crate::runtime::environments::{isolated, python_named, roots, variable};
use crate::runtime::error::RuntimeError;
use crate::runtime::interface::{Options, Present};
use crate::runtime::packages::Packages;
use crate::runtime::pipe::Pipe;
use decoding::Decoding;
use folder::Folder;
pub use folder::{asked, hears, is_ctranslate2};
pub use session::CTranslate2;

/// Of an [`Artifact`].
pub const FORMAT: &str = "ctranslate2";
const ENGINE: &str = "ctranslate2";
/// The far side; the protocol is described at the top of the second.
const SCRIPT: &str = concat!(include_str!("far_side.py"), include_str!("ctranslate2/session.py"));
const PYTHON: &str = "TREFOIL_CTRANSLATE2_PYTHON";
const INSTALL: &str = "python3 -I -m venv .venv && .venv/bin/pip install ctranslate2==4.8.5 && export \
                       TREFOIL_CTRANSLATE2_PYTHON=\"$PWD/.venv/bin/python\"";

/// Every reply.
#[derive(Deserialize)]
struct Reply {
    ok: bool,
    error: Option<String>,
    /// The package that is not installed, when that is why.
    lacks: Option<String>,
    version: Option<String>,
    compute_type: Option<String>,
    tokens: Option<Vec<Vec<String>>>,
    /// Of the logits that follow.
    vocab: Option<usize>,
}

impl Reply {
    /// What a call was answered with. Errors: that it was refused.
    fn accepted(self) -> Result<Reply, RuntimeError> {
        if self.ok {
            return Ok(self);
        }
        let error = self.error.unwrap_or_else(|| "refused without a reason".to_owned());
        Err(if self.lacks.is_some() { unavailable(error) } else { failed(error) })
    }
}

/// A model that is asked sources and says tokens.
pub struct Translator {
    pipe: Pipe,
    engine: Engine,
    folder: Folder,
    decoding: Decoding,
}

impl Translator {
    /// Starts the engine on a folder, with one decoding for all sources.
    ///
    /// Errors: [`RuntimeError::Unavailable`] when it is not on this machine; a folder without config.json or vocabularies; a
    /// decoding that is not the model's; what the engine refuses.
    pub fn open(artifact: &Artifact, options: &Options, settings: &Generation) -> Result<Translator, RuntimeError> {
        let folder = Folder::read(&artifact.dir).map_err(failed)?;
        let decoding = Decoding::of(settings, &folder).map_err(failed)?;
        let pipe = start(artifact, options)?;
        let engine = Engine { name: ENGINE.to_owned(), version: String::new(), settings: String::new() };
        let mut translator = Translator { pipe, engine, folder, decoding };
        translator.greet(options.threads.max(1))?;
        Ok(translator)
    }

    /// What is said of each source after the start token; an end-of-sequence token is the last where it ended by itself.
    ///
    /// `sources`: ids without padding. Errors: ids and tokens that the vocabularies do not have; those of the engine.
    pub fn say(&mut self, sources: &[&[i64]]) -> Result<Vec<Vec<i64>>, RuntimeError> {
        let tokens =
            sources.iter().map(|ids| self.folder.source(ids)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let mut options = self.decoding.options.clone();
        if !self.decoding.prefix.is_empty() {
            options.insert("target_prefix".to_owned(), json!(vec![&self.decoding.prefix; sources.len()]));
        }
        let request = json!({ "call": "say", "sources": tokens, "options": options });
        let said = self.call(&request)?.tokens.unwrap_or_default();
        if said.len() != sources.len() {
            let what = format!("expected {} answers, found {}", sources.len(), said.len());
            return Err(failed(self.pipe.nonsense(&what)));
        }
        let ids = |tokens: &Vec<String>| tokens.iter().map(|token| self.folder.target.id(token)).collect();
        said.iter().map(ids).collect::<Result<_, String>>().map_err(failed)
    }

    fn greet(&mut self, threads: usize) -> Result<(), RuntimeError> {
        let reply = self.call(&json!({ "call": "versions" }))?;
        let (Some(version), Some(compute_type)) = (reply.version, reply.compute_type) else {
            return Err(failed(self.pipe.nonsense("expected versions, found none")));
        };
        self.engine.version = version;
        self.engine.settings = described(&compute_type, threads, &self.decoding.left_out);
        Ok(())
    }

    fn call(&mut self, request: &Value) -> Result<Reply, RuntimeError> {
        self.pipe.call::<Reply>(request, Vec::new()).map_err(failed)?.accepted()
    }
}

impl Answers for Translator {
    fn engine(&self) -> Engine {
        self.engine.clone()
    }

    fn form(&self) -> Form {
        Form::Tokens
    }

    fn answer(&mut self, questions: &[Question]) -> Result<Vec<Answer>, RuntimeError> {
        let ids = |question: &Question| match question {
            Question::Tokens(ids) => Ok(ids.to_vec()),
            other => Err(failed(format!("expected tokens, found {other:?}"))),
        };
        let sources = questions.iter().map(ids).collect::<Result<Vec<_>, _>>()?;
        let said = self.say(&sources.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        Ok(said.into_iter().map(|tokens| Answer { words: Words::Tokens(tokens), ended: true }).collect())
    }
}

/// The process that has the engine load an artifact.
fn start(artifact: &Artifact, options: &Options) -> Result<Pipe, RuntimeError> {
    let dir =
        std::path::absolute(&artifact.dir).map_err(|error| failed(format!("{}: {error}", artifact.dir.display())))?;
    let python = python(variable(PYTHON), &roots(options.python.as_deref()))?;
    let patience = Patience::of(options).map_err(failed)?;
    spawn(&python, &dir, options.threads.max(1), patience)
}

/// The settings of a report.
fn described(compute_type: &str, threads: usize, left_out: &[&str]) -> String {
    let counted = counted(threads as u64, "thread");
    let without = if left_out.is_empty() { String::new() } else { format!(", without {}", left_out.join(", ")) };
    format!("compute type {compute_type}, its own greedy search, {counted}{without}")
}

/// The Python that has it: as the variable names it, then that of an environment.
fn python(named: Option<PathBuf>, roots: &[PathBuf]) -> Result<PathBuf, RuntimeError> {
    python_named(ENGINE, PYTHON, named, roots).map_err(unavailable)
}

/// Imports it. Errors: as [`Translator::open`] has them for an engine that is not here.
fn probe(options: &Options) -> Result<Present, RuntimeError> {
    let python = python(variable(PYTHON), &roots(options.python.as_deref()))?;
    let [version] = Packages { runtime: ENGINE, install: INSTALL, names: &[ENGINE] }.imported(&python, options)?;
    Ok(Present { version, place: python.display().to_string() })
}

fn spawn(python: &Path, dir: &Path, threads: usize, patience: Patience) -> Result<Pipe, RuntimeError> {
    let mut command = isolated(python);
    command
        .args(["-c", SCRIPT])
        .arg(dir)
        .arg(threads.to_string())
        // Waiting threads that spin would take the processor from the one that works.
        .env("OMP_WAIT_POLICY", "PASSIVE");
    Pipe::spawn("the Python process", ENGINE, &mut command, patience).map_err(|error| {
        let message = format!("{}: {error}", python.display());
        let absent = error.kind() == io::ErrorKind::NotFound && !python.exists();
        if absent { unavailable(message) } else { failed(message) }
    })
}

fn unavailable(why: String) -> RuntimeError {
    RuntimeError::Unavailable { runtime: ENGINE, why, install: INSTALL.to_owned() }
}

fn failed(message: String) -> RuntimeError {
    RuntimeError::Failed { runtime: ENGINE, message }
}

#[cfg(test)]
mod tests;
