//! Where the hub and its cache are, as the variables of `huggingface_hub` say.

use std::env;
use std::fs;
use std::path::PathBuf;

use crate::error::HubError;

/// Where models are when `HF_ENDPOINT` says nothing else.
const ENDPOINT: &str = "https://huggingface.co";
/// What the variable of `offline` may hold to say yes, in capitals.
const YES: [&str; 4] = ["1", "ON", "YES", "TRUE"];

/// How the hub is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://host`, without a slash at its end.
    pub endpoint: String,
    /// Who asks.
    pub token: Option<String>,
    /// The folder with `models--…`.
    pub cache: PathBuf,
    /// Only the cache is read.
    pub is_offline: bool,
}

impl Settings {
    /// From `HF_ENDPOINT`; `HF_TOKEN`, or the file `HF_TOKEN_PATH`, or `token` in `HF_HOME`; `HF_HUB_CACHE`, or `hub` in `HF_HOME`,
    /// which is `huggingface` in the user's cache; `HF_HUB_OFFLINE`.
    ///
    /// Errors: no variable says where the cache is, or a token is none.
    pub fn from_env(is_offline: bool) -> Result<Settings, HubError> {
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let home = path("HF_HOME").or_else(|| Some(user_cache()?.join("huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.or_else(|| Some(home.as_ref()?.join("hub"))).ok_or(HubError::NoCache)?;
        let file = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
        let stored = || fs::read_to_string(file?).ok();
        let named = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        let token = named.or_else(stored).map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !token.chars().all(|c| c.is_ascii_graphic())) {
            return Err(HubError::BadToken);
        }
        let is_yes = |name| text(name).is_some_and(|word| YES.contains(&word.to_uppercase().as_str()));
        let is_offline = is_offline || is_yes("HF_HUB_OFFLINE");
        Ok(Settings { endpoint: endpoint.trim_end_matches('/').to_owned(), token, cache, is_offline })
    }
}

/// A variable that says something.
fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.trim().is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    text(name).map(PathBuf::from)
}

/// Relative ones are of whoever made the working folder.
fn user_cache() -> Option<PathBuf> {
    let absolute = |name| path(name).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME").or_else(|| absolute("USERPROFILE"))?.join(".cache")))
}
