//! Engines of native code in a process of their own: both ends of the pipe.
//!
//! llama.cpp asserts where a file is not as it expects, and a simulator may compute for minutes without an ear for anything.
//! In a process of its own an engine ends alone, and what it prints is not this program's output.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use converters::{Artifact, FORMATS};
use graph::ir::port::DECODER_IDS;
use graph::tensor::Data;
use graph::{Feeds, Tensor, Tensors};
use serde::{Deserialize, Serialize};

use super::child::Patience;
use super::pipe::{HEADER_BYTES, Pipe};
use report::Engine;

use super::{Between, Options, RUNTIMES, RuntimeError, Session};
use crate::bench::{Course, Times};
use report::{Check, Link};

/// The command of the host program, followed by an engine's name and the folder of an artifact.
pub const COMMAND: &str = "engine";
/// Logits of one call; a reply that announces more is nonsense.
const LOGIT_BYTES: usize = 4 << 30;

/// A call; the values of its tensors follow.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Open {
        format: String,
        files: Vec<String>,
        threads: usize,
        as_used: bool,
        merged: bool,
        soc_models: Vec<u32>,
    },
    Encode {
        tensors: Vec<Listed>,
    },
    Decode {
        tensors: Vec<Listed>,
    },
    /// A source and the targets of its decoder.
    Between {
        tensors: Vec<Listed>,
    },
    /// A course under a clock, the tensors being its source.
    Run {
        tensors: Vec<Listed>,
        prompt: Vec<i64>,
        tokens: usize,
    },
    Keep {
        rows: Vec<usize>,
    },
    Checks,
}

/// A tensor whose values follow.
#[derive(Serialize, Deserialize)]
struct Listed {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Dtype {
    F32,
    I64,
}

impl Listed {
    fn of(name: &str, tensor: &Tensor) -> Listed {
        let dtype = match tensor.data() {
            Data::F32(_) => Dtype::F32,
            Data::I64(_) => Dtype::I64,
        };
        Listed { name: name.to_owned(), dtype, shape: tensor.shape().to_vec() }
    }

    /// `None` when there are more than can be.
    fn bytes(&self) -> Option<usize> {
        let width = if self.dtype == Dtype::F32 { 4 } else { 8 };
        self.shape.iter().try_fold(width, |product: usize, n| product.checked_mul(*n))
    }

    /// `data`: as many bytes as [`Listed::bytes`].
    fn tensor(self, data: &[u8]) -> (String, Tensor) {
        let tensor = match self.dtype {
            Dtype::F32 => Tensor::f32(self.shape, data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Dtype::I64 => Tensor::i64(self.shape, data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        };
        (self.name, tensor)
    }
}

fn values(tensor: &Tensor) -> Vec<u8> {
    match tensor.data() {
        Data::F32(floats) => {
            let mut bytes = vec![0; 4 * floats.len()];
            bytes.as_chunks_mut().0.iter_mut().zip(floats.iter()).for_each(|(b, x)| *b = x.to_le_bytes());
            bytes
        }
        Data::I64(ids) => ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
    }
}

/// The answer to a call.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Opened {
        engine: Engine,
        limit_tokens: Option<usize>,
        rows_at_once: Option<usize>,
    },
    Encoded,
    /// Its values follow.
    Decoded(Listed),
    /// Those of the encoder and of the decoder, if the engine shows them; their values follow.
    Between(Option<[Vec<Listed>; 2]>),
    Ran(Times),
    /// Whether the other sequences are gone.
    Kept(bool),
    Checks(Vec<Check>),
    Unavailable {
        runtime: String,
        why: String,
        install: String,
    },
    Failed {
        runtime: String,
        message: String,
    },
}

impl From<RuntimeError> for Reply {
    fn from(error: RuntimeError) -> Reply {
        match error {
            RuntimeError::Unavailable { runtime, why, install } => {
                Reply::Unavailable { runtime: runtime.to_owned(), why, install }
            }
            RuntimeError::Failed { runtime, message } => Reply::Failed { runtime: runtime.to_owned(), message },
        }
    }
}

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
    let mut command = Command::new(host);
    command.arg(COMMAND).arg(runtime).arg(&dir);
    command.envs(variables.iter().map(|(name, path)| (name, path)));
    // llama.cpp would attach a debugger to itself before it aborts.
    command.env("GGML_NO_BACKTRACE", "1");
    let patience = Patience::of(options).map_err(failed)?;
    let pipe = Pipe::spawn("the process of the engine", runtime, &mut command, patience)
        .map_err(|e| failed(format!("{}: {e}", host.display())))?;
    let engine = Engine { name: runtime.to_owned(), version: String::new(), settings: String::new() };
    let dirs = [&dir, &artifact.dir].map(|dir| dir.display().to_string());
    let mut session = Hosted { runtime, pipe, engine, limit_tokens: None, rows_at_once: None, dirs };
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

impl Hosted {
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
            let known = RUNTIMES.iter().map(|known| known.name()).find(|name| *name == runtime);
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

    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError> {
        let tensors = vec![Listed::of("decoder_input_ids", decoder_input_ids)];
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

/// The far end: opens the artifact in `dir` and answers requests from standard input on standard output until that ends. What
/// the engine prints goes to standard error.
///
/// Errors: no such engine, or no output to answer on.
pub fn serve(runtime: &str, dir: &Path) -> io::Result<()> {
    let known = RUNTIMES.iter().find(|known| known.name() == runtime);
    let runtime = known.ok_or_else(|| io::Error::other(format!("no engine named {runtime}")))?;
    let mut replies = replies()?;
    let (calls, asked) = channel();
    thread::spawn(move || {
        hear(&calls);
        // Nobody is left to answer; what is at work then would go on for nobody.
        end_here();
    });
    let mut session = None;
    for (request, feeds) in asked {
        let (reply, data) =
            answer(*runtime, dir, &mut session, request, feeds).unwrap_or_else(|e| (e.into(), Vec::new()));
        let mut line = serde_json::to_vec(&reply).map_err(io::Error::other)?;
        line.push(b'\n');
        replies.write_all(&line)?;
        for tensor in data {
            replies.write_all(&values(&tensor))?;
        }
        replies.flush()?;
    }
    Ok(())
}

/// Standard output, which the engine then does not have.
#[cfg(unix)]
fn replies() -> io::Result<File> {
    let replies = rustix::io::dup(io::stdout())?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(File::from(replies))
}

/// The same; what the engine prints there breaks the protocol, and is told as such.
#[cfg(not(unix))]
fn replies() -> io::Result<io::Stdout> {
    Ok(io::stdout())
}

/// Ends this process and all that the engine has started, without a word of the engine's.
fn end_here() -> ! {
    #[cfg(unix)]
    {
        use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group};
        // Whoever starts it by hand leads the group.
        if getpgrp() == getpid() {
            let _ = kill_current_process_group(Signal::KILL);
        }
    }
    std::process::exit(0)
}

/// Takes requests until they end.
fn hear(calls: &Sender<(Request, Feeds)>) {
    let mut requests = BufReader::new(io::stdin());
    loop {
        let mut line = Vec::new();
        match requests.by_ref().take(HEADER_BYTES as u64).read_until(b'\n', &mut line) {
            Ok(n) if n > 0 => {}
            Ok(_) | Err(_) => return,
        }
        let Ok(mut request) = serde_json::from_slice::<Request>(&line) else { return };
        let mut feeds = Feeds::new();
        if let Request::Encode { tensors }
        | Request::Decode { tensors }
        | Request::Between { tensors }
        | Request::Run { tensors, .. } = &mut request
        {
            for listed in std::mem::take(tensors) {
                let Some(bytes) = listed.bytes() else { return };
                let mut data = Vec::new();
                match requests.by_ref().take(bytes as u64).read_to_end(&mut data) {
                    Ok(n) if n == bytes => feeds.extend([listed.tensor(&data)]),
                    Ok(_) | Err(_) => return,
                }
            }
        }
        if calls.send((request, feeds)).is_err() {
            return;
        }
    }
}

fn answer(
    runtime: &dyn super::Runtime,
    dir: &Path,
    session: &mut Option<Box<dyn Session>>,
    request: Request,
    feeds: Feeds,
) -> Result<(Reply, Vec<Tensor>), RuntimeError> {
    let failed = |message: &str| RuntimeError::Failed { runtime: runtime.name(), message: message.to_owned() };
    if let Request::Open { format, files, threads, as_used, merged, soc_models } = request {
        let format = FORMATS.iter().map(|known| known.name()).find(|known| *known == format);
        let format = format.ok_or_else(|| failed("no such format"))?;
        let files = files.into_iter().map(PathBuf::from).collect();
        let artifact = Artifact { format, dir: dir.to_owned(), files };
        // What is fetched is fetched by whoever asks.
        let options = Options { threads, as_used, merged, soc_models, offline: true, ..Options::DEFAULT };
        let opened = session.insert(runtime.open(&artifact, &options)?);
        let (limit_tokens, rows_at_once) = (opened.limit_tokens(), opened.rows_at_once());
        return Ok((Reply::Opened { engine: opened.engine(), limit_tokens, rows_at_once }, Vec::new()));
    }
    let session = session.as_mut().ok_or_else(|| failed("expected to open an artifact first"))?;
    match request {
        Request::Encode { .. } => session.encode(&feeds).map(|()| (Reply::Encoded, Vec::new())),
        Request::Decode { .. } => {
            let ids = feeds.get("decoder_input_ids").ok_or_else(|| failed("decoder_input_ids: expected it"))?;
            let logits = session.decode(ids)?;
            Ok((Reply::Decoded(Listed::of("logits", &logits)), vec![logits]))
        }
        Request::Between { .. } => {
            let mut source = feeds;
            let ids = source.remove(DECODER_IDS).ok_or_else(|| failed("decoder_input_ids: expected it"))?;
            let Some(Between { encoder, decoder }) = session.between(&source, &ids)? else {
                return Ok((Reply::Between(None), Vec::new()));
            };
            let listed =
                [&encoder, &decoder].map(|of| of.iter().map(|(name, tensor)| Listed::of(name, tensor)).collect());
            Ok((Reply::Between(Some(listed)), encoder.into_values().chain(decoder.into_values()).collect()))
        }
        Request::Run { prompt, tokens, .. } => {
            let times = session.timed(&Course { source: feeds, prompt, tokens })?;
            Ok((Reply::Ran(times), Vec::new()))
        }
        Request::Keep { rows } => Ok((Reply::Kept(session.keep(&rows)?), Vec::new())),
        Request::Checks | Request::Open { .. } => Ok((Reply::Checks(session.checks()), Vec::new())),
    }
}

#[cfg(all(test, unix))]
mod tests;
