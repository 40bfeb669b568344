//! The far end of the pipe to an engine of native code.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use converters::{Artifact, FORMATS};
use graph::ir::port::{DECODER_IDS, ENCODER_HIDDEN, LOGITS};
use graph::{Feeds, Tensor};

use super::all::RUNTIMES;
use super::error::RuntimeError;
use super::interface::{Between, Options, Runtime, Session};
use super::pipe::HEADER_BYTES;
use super::protocol::{Listed, Reply, Request, values};
use crate::bench::course::Course;

/// Opens the artifact in `dir` and answers requests from standard input on standard output until that ends. What
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
    runtime: &dyn Runtime,
    dir: &Path,
    session: &mut Option<Box<dyn Session>>,
    request: Request,
    feeds: Feeds,
) -> Result<(Reply, Vec<Tensor>), RuntimeError> {
    let failed = |message: &str| RuntimeError::Failed { runtime: runtime.name(), message: message.to_owned() };
    if let Request::Probe = request {
        return Ok((Reply::Present(runtime.probe(&Options::DEFAULT)?), Vec::new()));
    }
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
        Request::Encoder => {
            let made = session.encoded()?;
            let listed = made.as_ref().map(|made| Listed::of(ENCODER_HIDDEN, made));
            Ok((Reply::Encoder(listed), made.into_iter().collect()))
        }
        Request::Decode { .. } => {
            let ids = feeds.get(DECODER_IDS).ok_or_else(|| failed(&format!("{DECODER_IDS}: expected it")))?;
            let logits = session.decode(ids)?;
            Ok((Reply::Decoded(Listed::of(LOGITS, &logits)), vec![logits]))
        }
        Request::Between { .. } => {
            let mut source = feeds;
            let ids = source.remove(DECODER_IDS).ok_or_else(|| failed(&format!("{DECODER_IDS}: expected it")))?;
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
        Request::Checks | Request::Open { .. } | Request::Probe => Ok((Reply::Checks(session.checks()), Vec::new())),
    }
}
