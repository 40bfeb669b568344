//! What a checkpoint says of itself: its name on the Hub, its license, its language, its task. Nothing is guessed.

use std::path::Path;

use converters::limits;
use hub::HubId;
use serde::Deserialize;
use serde_json::Value;

use crate::recipe::yaml;

/// A card of more is not read.
const CARD_BYTES: u64 = 4 << 20;
/// Files of a repository that a card is made of.
pub const READ: [&str; 5] = ["README.md", LICENSES[0], LICENSES[1], LICENSES[2], LICENSES[3]];
/// Names of the file with a license.
const LICENSES: [&str; 4] = ["LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING"];
/// First words of licenses, and how the Hub calls those.
const KNOWN: [(&[&str], &str); 3] = [
    (&["Apache License", "Version 2.0"], "apache-2.0"),
    (&["MIT License"], "mit"),
    (&["GNU GENERAL PUBLIC LICENSE", "Version 3"], "gpl-3.0"),
];
/// Characters of a license in which its name stands.
const HEAD: usize = 400;

/// Families that do one thing.
const TASKS: [(&str, &str); 4] = [
    ("marian", "translation"),
    ("m2m_100", "translation"),
    ("whisper", "automatic-speech-recognition"),
    ("moonshine", "automatic-speech-recognition"),
];

/// What a card inherits. Absent is what the checkpoint does not say.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Source {
    /// `org/name`, where the folder is one that the Hub's client made.
    pub hub_name: Option<String>,
    /// By the Hub's names.
    pub pipeline_tag: Option<String>,
    /// By the Hub's codes.
    pub language: Vec<String>,
    /// As the Hub calls it.
    pub license: Option<String>,
    /// Of a license that the Hub has no word for.
    pub license_name: Option<String>,
    /// See `license_name`.
    pub license_link: Option<String>,
    /// The file with a license whose name is not known.
    pub license_file: Option<String>,
}

/// The lines between the dashes at the head of a README.md.
#[derive(Deserialize, Default)]
struct Front {
    pipeline_tag: Option<String>,
    language: Option<Value>,
    license: Option<Value>,
    license_name: Option<String>,
    license_link: Option<String>,
}

impl Source {
    /// Of a checkpoint's folder or file. What cannot be read says nothing.
    pub fn of(model: &Path, model_type: &str) -> Source {
        let dir = if model.is_file() { model.parent().unwrap_or(model) } else { model };
        let front = front(dir).unwrap_or_default();
        let task = TASKS.iter().find(|(family, _)| *family == model_type).map(|(_, task)| (*task).to_owned());
        let (own, license_file) = match words(front.license.as_ref()).into_iter().next() {
            Some(license) => (Some(license), None),
            None => license(dir),
        };
        Source {
            hub_name: HubId::of_cache(model).map(|id| id.name),
            pipeline_tag: front.pipeline_tag.or(task),
            language: words(front.language.as_ref()),
            license: own,
            license_name: front.license_name,
            license_link: front.license_link,
            license_file,
        }
    }
}

/// A text or a list of texts.
fn words(value: Option<&Value>) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value {
        Some(Value::Array(all)) => all.iter().filter_map(text).collect(),
        Some(one) => text(one).into_iter().collect(),
        None => Vec::new(),
    }
}

fn front(dir: &Path) -> Option<Front> {
    let text = String::from_utf8(limits::read(&dir.join("README.md"), CARD_BYTES).ok()?).ok()?;
    let text = text.replace("\r\n", "\n");
    let (yaml, _) = text.strip_prefix("---\n")?.split_once("\n---")?;
    yaml::parse(yaml, "README.md").ok()
}

/// The license in a file: as the Hub calls it, or the file's name where its first words are unknown.
fn license(dir: &Path) -> (Option<String>, Option<String>) {
    let mut all = LICENSES.iter().filter_map(|name| Some((*name, limits::read(&dir.join(name), CARD_BYTES).ok()?)));
    let Some((name, bytes)) = all.next() else { return (None, None) };
    let head: String = String::from_utf8_lossy(&bytes).chars().take(HEAD).collect();
    match KNOWN.iter().find(|(words, _)| words.iter().all(|word| head.contains(word))) {
        Some((_, license)) => (Some((*license).to_owned()), None),
        None => (None, Some(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(files: &[(&str, &str)]) -> Source {
        let home = tempfile::tempdir().expect("temporary folder");
        files.iter().for_each(|(name, text)| fs::write(home.path().join(name), text).expect("written"));
        Source::of(home.path(), "t5")
    }

    #[test]
    fn a_checkpoint_that_says_nothing_is_told_nothing_of() {
        assert_eq!(of(&[]), Source::default());
        assert_eq!(of(&[("README.md", "# A model\n\nlicense: mit\n")]), Source::default());
        assert_eq!(of(&[("README.md", "---\nlicense: [\n---\n")]), Source::default());
    }

    #[test]
    fn the_head_of_its_readme_counts_before_a_file_and_a_task_before_the_familys() {
        let readme = "---\r\nlicense: other\r\nlicense_name: l\r\nlanguage:\r\n- en\r\n- no\r\npipeline_tag: translation\r\n---\r\n# x";
        let found = of(&[("README.md", readme), ("LICENSE", "MIT License")]);
        assert_eq!((found.license.as_deref(), found.license_name.as_deref()), (Some("other"), Some("l")));
        assert_eq!(
            (found.language, found.pipeline_tag.as_deref()),
            (vec!["en".to_owned(), "no".to_owned()], Some("translation"))
        );
        assert_eq!(
            Source::of(Path::new("nowhere"), "whisper").pipeline_tag.as_deref(),
            Some("automatic-speech-recognition")
        );
    }

    #[test]
    fn a_license_is_known_by_its_first_words_or_not_at_all() {
        let license = |text: &str| {
            let found = of(&[("LICENSE", text)]);
            (found.license, found.license_file)
        };
        assert_eq!(license("\n   Apache License\n   Version 2.0, January 2004"), (Some("apache-2.0".to_owned()), None));
        assert_eq!(license("Our own terms"), (None, Some("LICENSE".to_owned())));
    }

    #[test]
    fn a_checkpoint_in_the_hubs_cache_has_its_name() {
        let of = |path: &str| Source::of(Path::new(path), "t5").hub_name;
        assert_eq!(of("/c/models--google--flan-t5-small/snapshots/ab12").as_deref(), Some("google/flan-t5-small"));
        assert_eq!(of("/c/models--google--flan-t5-small/other"), None);
        assert_eq!(of("/c/google/flan-t5-small"), None);
    }
}
