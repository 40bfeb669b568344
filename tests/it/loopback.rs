//! The hub on this machine: its API over a few files, and each way in which it can go wrong.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Of the one revision that is served, `main`.
pub const COMMIT: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
/// The one repository.
pub const NAME: &str = "clover/small-t5";

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
    Nothing,
    /// The connection ends in the middle of the weights, as many times.
    Cut(usize),
    /// The same, and there are no parts of files.
    CutWithoutRanges(usize),
    /// A bit of the weights is another one.
    Flipped,
    /// A file is listed and not there.
    Missing(&'static str),
    /// Status and the hub's word for it, for every question.
    Refuses(u16, &'static str),
    /// The answer is no JSON.
    Garbage,
    /// The name of a file is a path out of the cache.
    EvilEtag,
}

/// A hub that ends with its value.
pub struct Loopback {
    address: SocketAddr,
    state: Arc<State>,
    server: Option<JoinHandle<()>>,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    fault: Fault,
    cuts: AtomicUsize,
    ends: AtomicBool,
    asked: Mutex<Vec<String>>,
}

impl Loopback {
    /// Serves the files of a folder.
    pub fn of(dir: &Path, fault: Fault) -> Loopback {
        let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("readable").path());
        let name = |path: &Path| path.file_name().expect("a file").to_string_lossy().into_owned();
        let files = entries.filter(|path| path.is_file()).map(|path| (name(&path), fs::read(&path).expect("read")));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let state = State {
            files: files.collect(),
            fault,
            cuts: AtomicUsize::new(0),
            ends: AtomicBool::new(false),
            asked: Mutex::default(),
        };
        let state = Arc::new(state);
        let of_server = state.clone();
        let server = thread::spawn(move || {
            for stream in listener.incoming() {
                if of_server.ends.load(Ordering::SeqCst) {
                    return;
                }
                let state = of_server.clone();
                // Whoever asks may go away at any time.
                thread::spawn(move || drop(state.answer(stream.expect("a connection"), address)));
            }
        });
        Loopback { address, state, server: Some(server) }
    }

    /// For `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lines of requests, each with its range and its token.
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().expect("no panic").clone()
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.state.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.server.take().expect("once").join().expect("no panic");
    }
}

struct Asked {
    method: String,
    path: String,
    from: Option<usize>,
}

/// Reads the head of a request.
fn asked(stream: &TcpStream) -> std::io::Result<(Asked, String)> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let (mut from, mut log) = (None, first.clone());
    for line in lines {
        let line = line?.to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok();
            log.push_str(&format!(" from {range}"));
        }
        if let Some(token) = line.strip_prefix("authorization: ") {
            log.push_str(&format!(" as {token}"));
        }
    }
    let mut words = first.split(' ').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    Ok((Asked { method: word(), path: word(), from }, log))
}

impl State {
    fn answer(&self, mut stream: TcpStream, address: SocketAddr) -> std::io::Result<()> {
        let (asked, log) = asked(&stream)?;
        self.asked.lock().expect("no panic").push(log);
        if let Fault::Refuses(status, word) = self.fault {
            return write!(
                stream,
                "HTTP/1.1 {status} No\r\nx-error-code: {word}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
        }
        let path = asked.path.split('?').next().unwrap_or_default().to_owned();
        if let Some(revision) = path.strip_prefix(&format!("/api/models/{NAME}/revision/")) {
            return self.describe(revision, &mut stream);
        }
        let resolved = path.strip_prefix(&format!("/{NAME}/resolve/{COMMIT}/"));
        let resolved = resolved.or_else(|| path.strip_prefix(&format!("/{NAME}/resolve/main/")));
        match (resolved, path.strip_prefix("/cdn/")) {
            (Some(file), _) => {
                match self.files.get(file).filter(|_| !matches!(self.fault, Fault::Missing(missing) if missing == file))
                {
                    Some(bytes) => self.resolve(&asked, file, bytes, address, &mut stream),
                    None => refuse(&mut stream, "EntryNotFound"),
                }
            }
            (None, Some(file)) => self.send(&asked, &self.files[file], "", &mut stream),
            (None, None) => refuse(&mut stream, "RepoNotFound"),
        }
    }

    fn describe(&self, revision: &str, stream: &mut TcpStream) -> std::io::Result<()> {
        if revision != "main" && revision != COMMIT {
            return refuse(stream, "RevisionNotFound");
        }
        let siblings: Vec<String> = self.files.keys().map(|name| format!("{{\"rfilename\": \"{name}\"}}")).collect();
        let body = match self.fault {
            Fault::Garbage => "<!doctype html><title>Welcome to the café's network</title>".to_owned(),
            _ => format!("{{\"id\": \"{NAME}\", \"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", siblings.join(", ")),
        };
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    /// Weights lie on another host, and the hub says what they are; all else it sends itself.
    fn resolve(
        &self,
        asked: &Asked,
        file: &str,
        bytes: &[u8],
        address: SocketAddr,
        stream: &mut TcpStream,
    ) -> std::io::Result<()> {
        if !is_large(file) {
            let etag = match self.fault {
                Fault::EvilEtag => "../../../../evil".to_owned(),
                _ => hex(Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes)),
            };
            return self.send(asked, bytes, &format!("etag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\n"), stream);
        }
        let etag = hex(Sha256::new_with_prefix(bytes));
        write!(
            stream,
            "HTTP/1.1 302 Found\r\nlocation: http://localhost:{}/cdn/{file}\r\nx-repo-commit: {COMMIT}\r\nx-linked-etag: \"{etag}\"\r\n\
             x-linked-size: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            address.port(),
            bytes.len()
        )
    }

    fn send(&self, asked: &Asked, bytes: &[u8], headers: &str, stream: &mut TcpStream) -> std::io::Result<()> {
        let has_ranges = !matches!(self.fault, Fault::CutWithoutRanges(_));
        let from = asked.from.filter(|_| has_ranges).unwrap_or(0);
        let status = match from {
            0 => "200 OK\r\n".to_owned(),
            _ => format!("206 Partial\r\ncontent-range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len()),
        };
        let mut body = bytes[from..].to_vec();
        write!(stream, "HTTP/1.1 {status}{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len())?;
        if asked.method == "HEAD" {
            return Ok(());
        }
        let is_weights = is_large(asked.path.rsplit('/').next().unwrap_or_default());
        match self.fault {
            Fault::Cut(times) | Fault::CutWithoutRanges(times)
                if is_weights && self.cuts.fetch_add(1, Ordering::SeqCst) < times =>
            {
                body.truncate(body.len() / 2);
            }
            Fault::Flipped if is_weights => *body.last_mut().expect("weights") ^= 1,
            _ => {}
        }
        stream.write_all(&body)
    }
}

fn refuse(stream: &mut TcpStream, word: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 404 Not Found\r\nx-error-code: {word}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn is_large(file: &str) -> bool {
    file.ends_with(".safetensors") || file.ends_with(".bin")
}

fn hex(hash: impl Digest) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
