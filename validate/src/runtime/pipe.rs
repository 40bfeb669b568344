//! A program behind a pipe: a request or reply is one line of JSON, then raw values.

use std::io::{self, Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::child::{Child, LOOK, Patience, REST, too_long};

/// A header line is a few numbers and names.
pub(super) const HEADER_BYTES: usize = 1 << 20;
/// What is read at once.
const PART_BYTES: usize = 1 << 16;
/// Parts that wait to be taken, so that a child that talks without end takes no memory.
const PARTS: usize = 16;

/// The child, which ends with this.
pub(super) struct Pipe {
    /// As errors name it.
    who: &'static str,
    child: Child,
    /// To the thread that writes, for a child may not read; it closes the pipe when this is gone, which tells the child to end.
    requests: Option<Sender<Vec<Vec<u8>>>>,
    /// What that thread met with.
    written: Receiver<io::Error>,
    /// From the thread that reads, which ends with the pipe.
    replies: Receiver<Vec<u8>>,
    /// Of the part at hand.
    rest: Vec<u8>,
    at: usize,
    patience: Patience,
    /// Whether it has answered.
    started: bool,
    /// Of the call at hand, and how long it may take.
    deadline: (Instant, Duration),
}

/// Why there is nothing more to read.
enum Silence {
    /// The pipe is closed, or nobody lives who would write.
    Closed,
    /// The time is over.
    TooLong,
    /// Requests are not taken.
    Deaf(io::Error),
}

impl Pipe {
    /// Starts it. `who`: as in `the Python process`. `called`: its name in the log.
    pub(super) fn spawn(
        who: &'static str,
        called: &str,
        command: &mut Command,
        patience: Patience,
    ) -> io::Result<Pipe> {
        let mut child = Child::spawn(called, command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let (Some(stdin), Some(stdout)) = child.pipes() else { unreachable!("both are piped") };
        let (requests, to_write) = channel();
        let (failure, written) = channel();
        let (read, replies) = sync_channel(PARTS);
        thread::spawn(move || write(stdin, &to_write, &failure));
        thread::spawn(move || read_on(stdout, &read));
        let deadline = (Instant::now(), Duration::ZERO);
        let (requests, rest) = (Some(requests), Vec::new());
        Ok(Pipe { who, child, requests, written, replies, rest, at: 0, patience, started: false, deadline })
    }

    /// The child's number.
    pub(super) fn process(&self) -> u32 {
        self.child.process()
    }

    /// Sends a request with its values and reads the header of the reply. Errors: as [`Pipe::nonsense`].
    pub(super) fn call<R: DeserializeOwned>(&mut self, request: &Json, values: Vec<Vec<u8>>) -> Result<R, String> {
        let limit = if self.started { self.patience.answer } else { self.patience.start };
        self.deadline = (Instant::now(), limit);
        let mut message = vec![format!("{request}\n").into_bytes()];
        message.extend(values);
        let sent = self.requests.as_ref().is_some_and(|requests| requests.send(message).is_ok());
        if !sent {
            return Err(self.nonsense("it has been ended"));
        }
        let mut line = Vec::new();
        loop {
            let part = &self.rest[self.at..];
            let end = part.iter().position(|byte| *byte == b'\n').map(|i| i + 1);
            let taken = end.unwrap_or(part.len());
            line.extend_from_slice(&part[..taken]);
            self.at += taken;
            if line.len() > HEADER_BYTES || (end.is_none() && self.closed_after(&line)?) {
                return Err(self.nonsense(&format!("expected a line, found {} bytes without an end", line.len())));
            }
            if end.is_some() {
                break;
            }
        }
        let reply = serde_json::from_slice(&line);
        if !self.started {
            log::info!(
                "{} {} answers after {:.2} s",
                self.who,
                self.process(),
                self.deadline.0.elapsed().as_secs_f64()
            );
        }
        self.started = true;
        reply.map_err(|e| self.nonsense(&format!("expected a reply in JSON: {e}")))
    }

    /// Takes the next part; whether there is none although a line has begun. Errors: no part and no line.
    fn closed_after(&mut self, line: &[u8]) -> Result<bool, String> {
        match self.next_part() {
            Ok(()) => Ok(false),
            Err(Silence::Closed) if !line.is_empty() => Ok(true),
            Err(Silence::Closed) => {
                let how = self.child.ended_soon().map_or("closed its output".to_owned(), |ended| ended.to_string());
                Err(self.nonsense(&format!("it {how}")))
            }
            Err(silence) => Err(self.silent(silence)),
        }
    }

    fn silent(&mut self, silence: Silence) -> String {
        match silence {
            Silence::Closed => self.nonsense("it closed its output"),
            Silence::TooLong => self.nonsense(&too_long(self.deadline.1)),
            Silence::Deaf(e) => match self.child.ended_soon() {
                Some(ended) => self.nonsense(&format!("it {ended}")),
                None => self.nonsense(&format!("it does not take requests: {e}")),
            },
        }
    }

    /// Waits for more of the reply.
    fn next_part(&mut self) -> Result<(), Silence> {
        let (start, limit) = self.deadline;
        loop {
            let left = limit.saturating_sub(start.elapsed());
            match self.replies.recv_timeout(left.min(LOOK)) {
                Ok(part) => {
                    (self.rest, self.at) = (part, 0);
                    return Ok(());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Silence::Closed),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Whoever holds the pipe then is not the one that was asked.
            if self.child.ended().is_some() {
                let part = self.replies.recv_timeout(REST).map_err(|_| Silence::Closed)?;
                (self.rest, self.at) = (part, 0);
                return Ok(());
            }
            if let Ok(error) = self.written.try_recv() {
                return Err(Silence::Deaf(error));
            }
            if start.elapsed() >= limit {
                return Err(Silence::TooLong);
            }
        }
    }

    /// Values after a header, called `what` in an error. A length that is only announced takes no memory.
    pub(super) fn values(&mut self, bytes: usize, what: &str) -> Result<Vec<u8>, String> {
        let mut data = Vec::new();
        while data.len() < bytes {
            if self.at == self.rest.len() {
                match self.next_part() {
                    Ok(()) => {}
                    Err(Silence::Closed) => {
                        let ended = self.child.ended_soon().map_or(String::new(), |ended| format!("; it {ended}"));
                        let found = data.len();
                        return Err(self.nonsense(&format!("expected {bytes} bytes of {what}, found {found}{ended}")));
                    }
                    Err(silence) => return Err(self.silent(silence)),
                }
            }
            let part = &self.rest[self.at..];
            let part = &part[..part.len().min(bytes - data.len())];
            data.extend_from_slice(part);
            self.at += part.len();
        }
        Ok(data)
    }

    /// The child broke the protocol: it is ended, and its last words are told.
    pub(super) fn nonsense(&mut self, what: &str) -> String {
        self.requests = None;
        let words = self.child.end();
        let said =
            if words.is_empty() { String::new() } else { format!("; its last words:\n  {}", words.join("\n  ")) };
        format!("{} broke off: {what}{said}", self.who)
    }
}

fn write(mut stdin: ChildStdin, messages: &Receiver<Vec<Vec<u8>>>, failure: &Sender<io::Error>) {
    for message in messages {
        let sent = message.iter().try_for_each(|bytes| stdin.write_all(bytes)).and_then(|()| stdin.flush());
        if let Err(error) = sent {
            // Only a pipe that is gone does not listen.
            let _ = failure.send(error);
            return;
        }
    }
}

fn read_on(mut stdout: ChildStdout, parts: &SyncSender<Vec<u8>>) {
    loop {
        let mut part = vec![0; PART_BYTES];
        match stdout.read(&mut part) {
            Ok(n) if n > 0 => {
                part.truncate(n);
                if parts.send(part).is_err() {
                    return;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return,
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
