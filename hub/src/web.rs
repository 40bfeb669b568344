//! The hub's answers: what a repository holds, what a file is, and its bytes.

use std::io::Read;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::digest::Digest;
use crate::error::HubError;
use crate::id::HubId;
use crate::settings::Settings;

/// Of what the hub says of a repository. Its largest have some thousand files.
const INFO_BYTES: u64 = checkpoint::limits::JSON_BYTES;
/// Redirects within the hub, of a repository that was renamed.
const REDIRECTS: usize = 5;
/// Times that a question is asked which gets no answer.
pub(crate) const ATTEMPTS: usize = 4;
/// Before the second time; twice that before the third.
const PAUSE: Duration = Duration::from_millis(250);
const CONNECT: Duration = Duration::from_secs(20);
/// Without a byte.
const SILENCE: Duration = Duration::from_secs(60);

/// What the hub says of a revision.
#[derive(Deserialize)]
pub(crate) struct Info {
    /// The commit.
    pub(crate) sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Info {
    /// Names of all files.
    pub(crate) fn files(&self) -> Vec<String> {
        self.siblings.iter().map(|one| one.rfilename.clone()).collect()
    }
}

/// What the hub says of a file.
pub(crate) struct Facts {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// Bytes of a file, from one of them to its end.
pub(crate) struct Part {
    pub(crate) from: u64,
    pub(crate) reader: Box<dyn Read>,
}

/// A file of a commit.
pub(crate) struct At<'a> {
    pub(crate) id: &'a HubId,
    pub(crate) commit: &'a str,
    pub(crate) file: &'a str,
}

/// A connection.
pub(crate) struct Web<'s> {
    settings: &'s Settings,
    follows: Agent,
    /// Shows redirects instead of following them: they carry what the hub says of a file.
    stays: Agent,
}

impl<'s> Web<'s> {
    pub(crate) fn new(settings: &'s Settings) -> Web<'s> {
        let config = || {
            Agent::config_builder()
                .user_agent(concat!("trefoil/", env!("CARGO_PKG_VERSION")))
                // A length is that of the file.
                .accept_encoding("identity")
                .http_status_as_error(false)
                .redirect_auth_headers(RedirectAuthHeaders::SameHost)
                .timeout_connect(Some(CONNECT))
                .timeout_recv_response(Some(SILENCE))
                .timeout_per_read(Some(SILENCE))
        };
        let stays = config().max_redirects(0).max_redirects_will_error(false).build();
        Web { settings, follows: config().build().into(), stays: stays.into() }
    }

    /// What a revision holds.
    pub(crate) fn info(&self, id: &HubId) -> Result<Info, HubError> {
        let revision = encoded(id.revision()).replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}", self.settings.endpoint, id.name);
        let garbage =
            |found: String| HubError::Garbage { url: url.clone(), expected: "JSON about a repository", found };
        persist(|| {
            let mut response = self.call(self.follows.get(&url))?;
            if !response.status().is_success() {
                return Err(self.refused(id, None, &url, &response));
            }
            let body = response.body_mut().with_config().limit(INFO_BYTES).read_to_vec();
            let body = body.map_err(|error| self.unreachable(&error))?;
            let info: Info =
                checkpoint::json::parse(&body).map_err(|why| garbage(format!("{} ({why})", start(&body))))?;
            match is_commit(&info.sha) {
                true => Ok(info),
                false => Err(garbage(format!("the commit {:?}", info.sha))),
            }
        })
    }

    /// What a file is, without its bytes.
    pub(crate) fn facts(&self, at: &At) -> Result<Facts, HubError> {
        let url = self.url(at);
        persist(|| {
            let mut place = url.clone();
            for _ in 0..REDIRECTS {
                let response = self.call(self.stays.head(&place))?;
                let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
                match header("location").filter(|to| response.status().is_redirection() && to.starts_with('/')) {
                    // A repository that has another name now. What leaves the hub is where a large file lies.
                    Some(to) => place = format!("{}{to}", origin(&self.settings.endpoint)),
                    None if response.status().is_success() || response.status().is_redirection() => {
                        return facts(&place, header);
                    }
                    None => return Err(self.refused(at.id, Some(at), &place, &response)),
                }
            }
            Err(HubError::Garbage { url: url.clone(), expected: "a file", found: format!("{REDIRECTS} redirects") })
        })
    }

    /// The bytes of a file from `from` on, or all of them where the hub gives no part.
    pub(crate) fn part(&self, at: &At, from: u64) -> Result<Part, HubError> {
        let url = self.url(at);
        let mut request = self.follows.get(&url);
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let response = self.call(request)?;
        let begins = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
                let begins = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
                let found = || format!("content-range {}", range.unwrap_or("of nothing"));
                begins.filter(|begins| *begins == from).ok_or_else(|| HubError::Garbage {
                    url: url.clone(),
                    expected: "the part of a file that was asked for",
                    found: found(),
                })?
            }
            _ => return Err(self.refused(at.id, Some(at), &url, &response)),
        };
        Ok(Part { from: begins, reader: Box::new(response.into_body().into_reader()) })
    }

    fn url(&self, at: &At) -> String {
        format!("{}/{}/resolve/{}/{}", self.settings.endpoint, at.id.name, at.commit, encoded(at.file))
    }

    fn call(&self, request: ureq::RequestBuilder<ureq::typestate::WithoutBody>) -> Result<Response<Body>, HubError> {
        let request = match &self.settings.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        request.call().map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &ureq::Error) -> HubError {
        HubError::Unreachable { endpoint: self.settings.endpoint.clone(), message: error.to_string() }
    }

    /// Why there is no answer, by the hub's own word for it where it has one.
    fn refused(&self, id: &HubId, at: Option<&At>, url: &str, response: &Response<Body>) -> HubError {
        let (name, endpoint) = (id.name.clone(), self.settings.endpoint.clone());
        let has_token = self.settings.token.is_some();
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok());
        let status = response.status().as_u16();
        match (code, status, at) {
            (Some("GatedRepo"), ..) => HubError::Gated { name, endpoint, has_token },
            (Some("RevisionNotFound"), ..) => {
                HubError::NoRevision { name, revision: id.revision().to_owned(), endpoint }
            }
            (Some("EntryNotFound"), _, Some(at)) | (None, 404, Some(at)) => {
                HubError::NoFile { name, file: at.file.to_owned(), revision: at.commit.to_owned() }
            }
            (Some("RepoNotFound"), ..) | (_, 404, _) => HubError::NoRepository { name, endpoint, has_token },
            (_, 401 | 403, _) => HubError::Denied { url: url.to_owned(), status, has_token },
            _ => HubError::Status { url: url.to_owned(), status },
        }
    }
}

/// Asks again, a few times, where that may help.
fn persist<T>(ask: impl Fn() -> Result<T, HubError>) -> Result<T, HubError> {
    for attempt in 1.. {
        match ask() {
            Err(error) if error.may_pass() && attempt < ATTEMPTS => pause(attempt),
            answer => return answer,
        }
    }
    unreachable!("the last attempt returns")
}

/// Waits longer the more often it went wrong.
pub(crate) fn pause(failures: usize) {
    thread::sleep(PAUSE * (1 << (failures - 1)));
}

/// Whether a word is a commit, and so a name of a folder.
pub(crate) fn is_commit(word: &str) -> bool {
    word.len() == 40 && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A large file is described by the hub's own headers, since it lies elsewhere.
fn facts<'h>(url: &str, header: impl Fn(&str) -> Option<&'h str>) -> Result<Facts, HubError> {
    let garbage = |expected, found: Option<&str>| HubError::Garbage {
        url: url.to_owned(),
        expected,
        found: found.map_or_else(|| "none".to_owned(), |found| format!("{found:?}")),
    };
    let etag = header("x-linked-etag").or_else(|| header("etag"));
    let digest = etag.and_then(Digest::parse).ok_or_else(|| garbage("an etag that is a digest", etag))?;
    let length = header("x-linked-size").or_else(|| header("content-length"));
    let bytes = length.and_then(|text| text.parse().ok()).ok_or_else(|| garbage("the length of the file", length))?;
    Ok(Facts { digest, bytes })
}

/// `https://host` of an address.
fn origin(endpoint: &str) -> &str {
    let host = endpoint.find("://").map_or(0, |at| at + 3);
    let end = endpoint[host..].find('/').map_or(endpoint.len(), |at| host + at);
    &endpoint[..end]
}

/// A path in an address.
fn encoded(path: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    path.bytes().map(byte).collect()
}

/// How a text begins that should be JSON.
fn start(body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(40).collect();
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hold_any_name_and_redirects_stay_at_their_host() {
        assert_eq!(encoded("a b/c#d.bin"), "a%20b/c%23d.bin");
        assert_eq!(origin("http://127.0.0.1:80/mirror/hf"), "http://127.0.0.1:80");
        assert_eq!(origin("https://h"), "https://h");
    }

    #[test]
    fn a_commit_is_forty_digits_and_so_never_a_path() {
        assert!(is_commit(&"0a".repeat(20)));
        for word in ["main", "../../../../x", "", &"A0".repeat(20)] {
            assert!(!is_commit(word), "{word}");
        }
    }
}
