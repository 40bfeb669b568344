//! Engines of native code in a process of their own: the near end of the pipe.
//!
//! llama.cpp asserts where a file is not as it expects, and a simulator may compute for minutes without an ear for anything.
//! In a process of its own an engine ends alone, and what it prints is not this program's output.

use std::path::{Path, PathBuf};
use std::process::Command;

use converters::Artifact;
use graph::ir::port::DECODER_IDS;
use graph::{Feeds, Tensor, Tensors};
use report::{Check, Engine, Link};

use super::child::Patience;
use super::error::RuntimeError;
use super::interface::{Between, Options, Present, Session};
use super::names::HOSTED;
use super::pipe::Pipe;
use super::protocol::{Listed, Reply, Request, values};
use crate::bench::course::{Course, Times};

/// The command of the host program, followed by an engine's name and the folder of an artifact.
pub const COMMAND: &str = "engine";
/// Logits of one call; a reply that announces more is nonsense.
const LOGIT_BYTES: usize = 4 << 30;

/// The near end: a session whose engine is elsewhere.
struct Hosted {
    runtime: &'static str,
    pipe: Pipe,
    engine: Engine,
    limit_tokens: Option<usize>,
    rows_at_once: Option<usize>,
    /// The artifact's folder as the far end knows it and as the user does.
    dirs: [String; 2],
}

/// Opens an artifact in an engine of `host`. `variables`: for that process, absolute paths.
pub(super) fn open(
    runtime: &'static str,
    host: &Path,
    artifact: &Artifact,
    options: &Options,
    variables: &[(&str, PathBuf)],
) -> Result<Box<dyn Session>, RuntimeError> {
    let failed = |message: String| RuntimeError::Failed { runtime, message };
    let file = |file: &PathBuf| {
        let name = file.to_str().map(str::to_owned);
        name.ok_or_else(|| failed(format!("{}: expected a name in UTF-8", file.display())))
    };
    let files = artifact.files.iter().map(file).collect::<Result<Vec<_>, _>>()?;
    let dir = std::path::absolute(&artifact.dir).map_err(|e| failed(format!("{}: {e}", artifact.dir.display())))?;
    let mut session = Hosted::start(runtime, host, [&dir, &artifact.dir], options, variables)?;
    let request = Request::Open {
        format: artifact.format.to_owned(),
        files,
        threads: options.threads,
        as_used: options.as_used,
        merged: options.merged,
        soc_models: options.soc_models.clone(),
    };
    match session.call(&request, Vec::new())? {
        Reply::Opened { engine, limit_tokens, rows_at_once } => {
            (session.engine, session.limit_tokens, session.rows_at_once) = (engine, limit_tokens, rows_at_once);
            Ok(Box::new(session))
        }
        _ => Err(session.nonsense("expected what was opened")),
    }
}

/// Starts an engine of `host` without an artifact. `variables`: for that process, absolute paths.
pub(super) fn probe(
    runtime: &'static str,
    host: &Path,
    options: &Options,
    variables: &[(&str, PathBuf)],
) -> Result<Present, RuntimeError> {
    let nowhere = Path::new(".");
    let mut session = Hosted::start(runtime, host, [nowhere, nowhere], options, variables)?;
    match session.call(&Request::Probe, Vec::new())? {
        Reply::Present(present) => Ok(present),
        _ => Err(session.nonsense("expected a version")),
    }
}

impl Hosted {
    /// `dirs`: the artifact's folder, absolute and as the user wrote it.
    fn start(
        runtime: &'static str,
        host: &Path,
        dirs: [&Path; 2],
        options: &Options,
        variables: &[(&str, PathBuf)],
    ) -> Result<Hosted, RuntimeError> {
        let failed = |message: String| RuntimeError::Failed { runtime, message };
        let mut command = Command::new(host);
        command.arg(COMMAND).arg(runtime).arg(dirs[0]);
        command.envs(variables.iter().map(|(name, path)| (name, path)));
        // llama.cpp would attach a debugger to itself before it aborts.
        command.env("GGML_NO_BACKTRACE", "1");
        let patience = Patience::of(options).map_err(failed)?;
        let pipe = Pipe::spawn("the process of the engine", runtime, &mut command, patience)
            .map_err(|e| failed(format!("{}: {e}", host.display())))?;
        let engine = Engine { name: runtime.to_owned(), version: String::new(), settings: String::new() };
        let dirs = dirs.map(|dir| dir.display().to_string());
        Ok(Hosted { runtime, pipe, engine, limit_tokens: None, rows_at_once: None, dirs })
    }

    fn failed(&self, message: String) -> RuntimeError {
        RuntimeError::Failed { runtime: self.runtime, message }
    }

    fn nonsense(&mut self, what: &str) -> RuntimeError {
        let message = self.pipe.nonsense(&format!("{what}, found something else"));
        self.failed(message)
    }

    /// A tensor that was announced: its values are next in the pipe.
    fn received(&mut self, listed: Listed, what: &str) -> Result<(String, Tensor), RuntimeError> {
        let Some(bytes) = listed.bytes().filter(|bytes| *bytes <= LOGIT_BYTES) else {
            return Err(self.nonsense(&format!("expected {what}, found a shape {:?}", listed.shape)));
        };
        let data = self.pipe.values(bytes, what).map_err(|message| self.failed(message))?;
        Ok(listed.tensor(&data))
    }

    fn tensors(&mut self, listed: Vec<Listed>) -> Result<Tensors, RuntimeError> {
        listed.into_iter().map(|listed| self.received(listed, "values")).collect()
    }

    /// A reply that is no refusal. Errors: the engine's, with paths as the user wrote them.
    fn call(&mut self, request: &Request, values: Vec<Vec<u8>>) -> Result<Reply, RuntimeError> {
        let request = serde_json::to_value(request).expect("only JSON types");
        // Whose fault it is: an engine may stand on another.
        let of = |runtime: &str| {
            let known = HOSTED.into_iter().find(|name| *name == runtime);
            known.unwrap_or(self.runtime)
        };
        let plain = |text: &str| match &self.dirs {
            [far, near] if far != near => text.replace(far.as_str(), near),
            _ => text.to_owned(),
        };
        match self.pipe.call(&request, values) {
            Ok(Reply::Unavailable { runtime, why, install }) => {
                Err(RuntimeError::Unavailable { runtime: of(&runtime), why: plain(&why), install })
            }
            Ok(Reply::Failed { runtime, message }) => {
                Err(RuntimeError::Failed { runtime: of(&runtime), message: plain(&message) })
            }
            Ok(reply) => Ok(reply),
            Err(message) => Err(self.failed(message)),
        }
    }
}

impl Session for Hosted {
    fn engine(&self) -> Engine {
        self.engine.clone()
    }

    fn limit_tokens(&self) -> Option<usize> {
        self.limit_tokens
    }

    fn rows_at_once(&self) -> Option<usize> {
        self.rows_at_once
    }

    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError> {
        let tensors = source.iter().map(|(name, tensor)| Listed::of(name, tensor)).collect();
        match self.call(&Request::Encode { tensors }, source.values().map(values).collect())? {
            Reply::Encoded => Ok(()),
            _ => Err(self.nonsense("expected that it was encoded")),
        }
    }

    fn encoded(&mut self) -> Result<Option<Tensor>, RuntimeError> {
        match self.call(&Request::Encoder, Vec::new())? {
            Reply::Encoder(listed) => {
                listed.map(|listed| Ok(self.received(listed, "what the encoder made")?.1)).transpose()
            }
            _ => Err(self.nonsense("expected what the encoder made")),
        }
    }

    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError> {
        let tensors = vec![Listed::of(DECODER_IDS, decoder_input_ids)];
        let Reply::Decoded(logits) = self.call(&Request::Decode { tensors }, vec![values(decoder_input_ids)])? else {
            return Err(self.nonsense("expected logits"));
        };
        Ok(self.received(logits, "logits")?.1)
    }

    fn between(&mut self, source: &Feeds, decoder_input_ids: &Tensor) -> Result<Option<Between>, RuntimeError> {
        let all =
            || source.iter().map(|(name, tensor)| (name.as_str(), tensor)).chain([(DECODER_IDS, decoder_input_ids)]);
        let request = Request::Between { tensors: all().map(|(name, tensor)| Listed::of(name, tensor)).collect() };
        match self.call(&request, all().map(|(_, tensor)| values(tensor)).collect())? {
            Reply::Between(None) => Ok(None),
            Reply::Between(Some([encoder, decoder])) => {
                Ok(Some(Between { encoder: self.tensors(encoder)?, decoder: self.tensors(decoder)? }))
            }
            _ => Err(self.nonsense("expected values")),
        }
    }

    fn timed(&mut self, course: &Course) -> Result<Times, RuntimeError> {
        let tensors = course.source.iter().map(|(name, tensor)| Listed::of(name, tensor)).collect();
        let request = Request::Run { tensors, prompt: course.prompt.clone(), tokens: course.tokens };
        match self.call(&request, course.source.values().map(values).collect())? {
            Reply::Ran(times) => Ok(times),
            _ => Err(self.nonsense("expected times")),
        }
    }

    fn process(&self) -> Option<u32> {
        Some(self.pipe.process())
    }

    fn keep(&mut self, rows: &[usize]) -> Result<bool, RuntimeError> {
        match self.call(&Request::Keep { rows: rows.to_vec() }, Vec::new())? {
            Reply::Kept(kept) => Ok(kept),
            _ => Err(self.nonsense("expected whether sequences are gone")),
        }
    }

    fn checks(&mut self) -> Vec<Check> {
        let what = format!("{} {}: what it tells of itself", self.engine.name, self.engine.version);
        match self.call(&Request::Checks, Vec::new()) {
            Ok(Reply::Checks(checks)) => checks,
            Ok(_) => vec![Check::failed(Link::Runtime, what, self.nonsense("expected checks").to_string())],
            Err(error) => vec![Check::failed(Link::Runtime, what, error.to_string())],
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
