//! `org/name@revision`.

use std::fmt;
use std::path::{Component, Path};

/// Before an id where a path could stand too.
pub const PREFIX: &str = "hub:";

/// Characters of an id or a revision, at most.
const LONGEST: usize = 200;

/// A repository of models on the hub, and what of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HubId {
    /// `org/name`; a few old ones have no `org`.
    pub name: String,
    /// A branch, a tag or a commit; `main` when absent.
    pub revision: Option<String>,
}

impl HubId {
    /// `org/name`, `org/name@revision`, both with [`PREFIX`] too; `name` alone only with it. `None`: it is none of them.
    pub fn parse(text: &str) -> Option<HubId> {
        let (bare, is_prefixed) = match text.strip_prefix(PREFIX) {
            Some(bare) => (bare, true),
            None => (text, false),
        };
        let (name, revision) = match bare.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (bare, None),
        };
        let parts: Vec<&str> = name.split('/').collect();
        let counts = parts.len() == 2 || is_prefixed && parts.len() == 1;
        let fits = counts && parts.iter().all(|part| is_word(part)) && name.len() <= LONGEST && !name.contains("--");
        let revision_fits = revision.is_none_or(|all| all.len() <= LONGEST && all.split('/').all(is_word));
        (fits && revision_fits).then(|| HubId { name: name.to_owned(), revision: revision.map(str::to_owned) })
    }

    /// The repository and the commit of a path through `models--org--name/snapshots/commit`, as the cache is laid out.
    pub fn of_cache(path: &Path) -> Option<HubId> {
        let path = std::path::absolute(path).ok()?;
        let parts: Vec<&str> = path
            .components()
            .filter_map(|part| match part {
                Component::Normal(part) => part.to_str(),
                _ => None,
            })
            .collect();
        let of = |three: &[&str]| {
            let name = three[0].strip_prefix("models--").filter(|_| three[1] == "snapshots")?;
            Some(HubId { name: name.replace("--", "/"), revision: Some(three[2].to_owned()) })
        };
        parts.windows(3).find_map(of)
    }

    /// The revision that is asked for.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Its folder in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}", self.name.replace('/', "--"))
    }
}

/// One name of letters, digits, `-`, `_` and `.`, which begins and ends with none of the last two but `_`.
fn is_word(part: &str) -> bool {
    let is_edge = |at: Option<char>| at.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let mut all = part.chars();
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    is_edge(part.chars().next()) && is_edge(part.chars().next_back()) && all.all(is_inner) && !part.contains("..")
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.revision {
            Some(revision) => write!(f, "{}@{revision}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_with_and_without_a_revision_and_a_prefix() {
        for (text, name, revision) in [
            ("google/flan-t5-small", "google/flan-t5-small", "main"),
            ("google/t5-v1_1-base@refs/pr/3", "google/t5-v1_1-base", "refs/pr/3"),
            ("hub:openai/whisper-tiny.en@ab12", "openai/whisper-tiny.en", "ab12"),
            ("hub:t5-small", "t5-small", "main"),
        ] {
            let found = HubId::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((found.name.as_str(), found.revision()), (name, revision));
            assert_eq!(HubId::parse(&format!("{PREFIX}{found}")), Some(found));
        }
    }

    #[test]
    fn the_name_on_the_hub_is_that_of_its_cache() {
        let of = |path: &str| HubId::of_cache(Path::new(path)).map(|id| id.to_string());
        assert_eq!(of("/c/models--google--flan-t5-small/snapshots/ab12").as_deref(), Some("google/flan-t5-small@ab12"));
        assert_eq!(of("/c/models--t5-small/snapshots/ab12/model.gguf").as_deref(), Some("t5-small@ab12"));
        assert_eq!(of("/c/models--google--flan-t5-small/other/ab12"), None);
        assert_eq!(of("/c/google/flan-t5-small"), None);
    }

    #[test]
    fn what_could_leave_the_cache_or_is_a_path_is_no_id() {
        for text in [
            "t5-small",
            "./t5",
            "../t5",
            "a/b/c",
            "/a/b",
            "a/..",
            "a/b@../c",
            "a/b@",
            "hub:",
            "a--b/c",
            "a/b c",
            "a/b@c//d",
            "a\\b",
            "a/b.",
            ".a/b",
            "hub:../b",
            "a/b@/c",
            "models/t5/",
        ] {
            assert_eq!(HubId::parse(text), None, "{text}");
        }
    }
}
