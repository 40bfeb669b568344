//! A Python program behind a pipe: a request or reply is one line of JSON, then raw values.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

/// A header line is a few numbers and names.
const HEADER_BYTES: u64 = 1 << 20;
/// Lines of the child's own words that an error shows.
const LAST_LINES: usize = 6;

/// The child, which ends with this.
pub(super) struct Pipe {
    child: Child,
    /// `None` once closed, which tells the child to end.
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    /// What the child last said on its standard error.
    words: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
}

impl Pipe {
    /// Starts it.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Pipe> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let words = Arc::new(Mutex::new(VecDeque::new()));
        let stderr = child.stderr.take().expect("piped");
        let heard = words.clone();
        let listener = std::thread::spawn(move || listen(BufReader::new(stderr), &heard));
        Ok(Pipe {
            requests: child.stdin.take(),
            replies: BufReader::new(child.stdout.take().expect("piped")),
            child,
            words,
            listener: Some(listener),
        })
    }

    /// Sends a request with its values and reads the header of the reply. Errors: as [`Pipe::nonsense`].
    pub(super) fn call<R: DeserializeOwned>(&mut self, request: &Json, values: &[Vec<u8>]) -> Result<R, String> {
        if let Err(e) = self.send(request, values) {
            return Err(self.nonsense(&format!("it does not take requests: {e}")));
        }
        let mut line = Vec::new();
        match self.replies.by_ref().take(HEADER_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => return Err(self.nonsense("it ended")),
            Ok(_) if line.last() == Some(&b'\n') => {}
            Ok(n) => return Err(self.nonsense(&format!("expected a line, found {n} bytes without an end"))),
            Err(e) => return Err(self.nonsense(&format!("it does not answer: {e}"))),
        }
        serde_json::from_slice(&line).map_err(|e| self.nonsense(&format!("expected a reply in JSON: {e}")))
    }

    fn send(&mut self, request: &Json, values: &[Vec<u8>]) -> io::Result<()> {
        let requests = self.requests.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        requests.write_all(format!("{request}\n").as_bytes())?;
        values.iter().try_for_each(|bytes| requests.write_all(bytes))?;
        requests.flush()
    }

    /// Values after a header, called `what` in an error. A length that is only announced takes no memory.
    pub(super) fn values(&mut self, bytes: usize, what: &str) -> Result<Vec<u8>, String> {
        let mut data = Vec::new();
        match self.replies.by_ref().take(bytes as u64).read_to_end(&mut data) {
            Ok(n) if n == bytes => Ok(data),
            Ok(n) => Err(self.nonsense(&format!("expected {bytes} bytes of {what}, found {n}"))),
            Err(e) => Err(self.nonsense(&format!("it does not send {what}: {e}"))),
        }
    }

    /// The child broke the protocol: it is ended, and its last words are told.
    pub(super) fn nonsense(&mut self, what: &str) -> String {
        self.end();
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said =
            if words.is_empty() { String::new() } else { format!("; its last words:\n  {}", words.join("\n  ")) };
        format!("the Python process broke off: {what}{said}")
    }

    fn end(&mut self) {
        self.requests = None;
        // It may have ended already, and there is nothing else to be done with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether the far side's error is that a package is not installed.
pub(super) fn lacks_package(error: &str) -> bool {
    ["ModuleNotFoundError", "ImportError", "PackageNotFoundError"].iter().any(|e| error.contains(e))
}

fn listen(mut stderr: impl BufRead, words: &Mutex<VecDeque<String>>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match stderr.by_ref().take(HEADER_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
                if !text.is_empty() {
                    words.push_back(text);
                }
                while words.len() > LAST_LINES {
                    words.pop_front();
                }
            }
        }
    }
}
