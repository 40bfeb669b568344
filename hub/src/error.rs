//! Why a checkpoint did not come from the hub.

use std::io;
use std::path::PathBuf;

use checkpoint::CheckpointError;

/// A checkpoint cannot be had from the hub or its cache. Nothing that is incomplete has the name of what is whole.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// No variable names a place for the cache.
    #[error(
        "expected HF_HOME, XDG_CACHE_HOME or HOME to say where the hub's cache is, found none of them\nhint: set HF_HOME to a folder"
    )]
    NoCache,
    /// The token is no word.
    #[error(
        "HF_TOKEN, or the file of the token: expected one word, found spaces or other characters in it\nhint: `hf auth login` writes it anew"
    )]
    BadToken,
    /// No such repository, or none for who asks.
    #[error("{name}: expected a repository of models on {endpoint}, found none of this name{}", private(*.has_token))]
    NoRepository {
        /// `org/name`.
        name: String,
        /// The hub.
        endpoint: String,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// The repository has no such branch, tag or commit.
    #[error(
        "{name}: expected the revision `{revision}`, found none of this name\nhint: see {endpoint}/{name}/commits/main, or leave `@{revision}` out"
    )]
    NoRevision {
        /// `org/name`.
        name: String,
        /// What was asked for.
        revision: String,
        /// The hub.
        endpoint: String,
    },
    /// The repository lacks a file that it should have.
    #[error(
        "{name}: expected the file {file} at {revision}, found none\nhint: the upload may be incomplete; ask for another revision with `{name}@REVISION`"
    )]
    NoFile {
        /// `org/name`.
        name: String,
        /// Its name.
        file: String,
        /// The commit.
        revision: String,
    },
    /// The repository holds nothing that is read as weights.
    #[error("{name}: expected one of {expected}, found {}", found(.listed))]
    NoWeights {
        /// `org/name`.
        name: String,
        /// Names of files.
        expected: String,
        /// What is there.
        listed: Vec<String>,
    },
    /// Its terms are to be accepted first.
    #[error("{name}: expected access, found a gated repository{}", gated(endpoint, name, *.has_token))]
    Gated {
        /// `org/name`.
        name: String,
        /// The hub.
        endpoint: String,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// The hub does not take the token, or wants one.
    #[error("{url}: expected access, found status {status}{}", denied(*.has_token))]
    Denied {
        /// What was asked for.
        url: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// Another status than those that are expected.
    #[error("{url}: expected the hub to answer, found status {status}\nhint: {}", later(*.status))]
    Status {
        /// What was asked for.
        url: String,
        /// Of the response.
        status: u16,
    },
    /// A response that is none of the hub's.
    #[error(
        "{url}: expected {expected}, found {found}\nhint: see whether HF_ENDPOINT, or a proxy on the way, is a hub"
    )]
    Garbage {
        /// What was asked for.
        url: String,
        /// What the hub says there.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// No connection.
    #[error(
        "{endpoint}: expected the hub, found no connection: {message}\nhint: `--offline` takes what the cache holds"
    )]
    Unreachable {
        /// The hub.
        endpoint: String,
        /// What the system said.
        message: String,
    },
    /// The connection ended too early, again and again.
    #[error(
        "{name}: expected {expected} bytes of {file}, found {found} when the connection ended, {times} times in a row: {message}\nhint: what came is kept; the same command continues there"
    )]
    CutOff {
        /// `org/name`.
        name: String,
        /// Its name.
        file: String,
        /// Its length.
        expected: u64,
        /// What is on the disk.
        found: u64,
        /// Attempts without a new byte.
        times: usize,
        /// What the system said last.
        message: String,
    },
    /// What came is not what the hub says that it is.
    #[error(
        "{name}: expected {file} with the digest {expected}, found {found}; it was thrown away\nhint: run it again; if it stays so, a proxy on the way changes files"
    )]
    WrongDigest {
        /// `org/name`.
        name: String,
        /// Its name.
        file: String,
        /// In hexadecimal.
        expected: String,
        /// In hexadecimal.
        found: String,
    },
    /// A file of the cache is not what its name says.
    #[error("{}: expected bytes with the digest {expected}, found {found}\nhint: the cache was damaged; remove this file and run it again", .file.display())]
    Damaged {
        /// In `blobs`.
        file: PathBuf,
        /// Its name.
        expected: String,
        /// In hexadecimal.
        found: String,
    },
    /// The cache does not hold it, and the hub is not to be asked.
    #[error("{id}: expected it in {}, found {found}, and --offline or HF_HUB_OFFLINE forbids to download\nhint: run it once without", .cache.display())]
    NotCached {
        /// What was asked for.
        id: String,
        /// The cache.
        cache: PathBuf,
        /// What is missing.
        found: String,
    },
    /// An index of shards.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl HubError {
    pub(crate) fn io(file: &std::path::Path) -> impl FnOnce(io::Error) -> HubError + use<> {
        let file = file.to_owned();
        |source| HubError::Io { file, source }
    }

    /// Whether another attempt may go better.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            HubError::Unreachable { .. } => true,
            HubError::Status { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

fn private(has_token: bool) -> &'static str {
    match has_token {
        true => {
            ", or a private one that this token does not open\nhint: look for a typing error; see whether the token's account may read it"
        }
        false => ", or a private one\nhint: look for a typing error; a private one needs HF_TOKEN, or `hf auth login`",
    }
}

fn gated(endpoint: &str, name: &str, has_token: bool) -> String {
    let accept = format!("accept its terms at {endpoint}/{name}");
    match has_token {
        true => format!(" that the account of this token may not read\nhint: {accept} with that account"),
        false => format!(", and no token was sent\nhint: {accept}, then set HF_TOKEN or run `hf auth login`"),
    }
}

fn denied(has_token: bool) -> &'static str {
    match has_token {
        true => {
            "; the token was sent\nhint: it may have ended, or lack the right to read; `hf auth login` stores another"
        }
        false => "; no token was sent\nhint: set HF_TOKEN, or run `hf auth login`",
    }
}

fn later(status: u16) -> &'static str {
    match status {
        429 => "it was asked too often; wait some minutes, or send a token (HF_TOKEN)",
        500.. => "it is in trouble; try again later, or take what the cache holds with `--offline`",
        _ => "see whether HF_ENDPOINT is a hub",
    }
}

/// The first names of a listing.
fn found(listed: &[String]) -> String {
    const NAMED: usize = 8;
    let more = listed.len().saturating_sub(NAMED);
    match (listed.is_empty(), more) {
        (true, _) => "no files".to_owned(),
        (_, 0) => listed.join(", "),
        _ => format!("{} and {more} more", listed[..NAMED].join(", ")),
    }
}
