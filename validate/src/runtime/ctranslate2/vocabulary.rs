//! Tokens of a CTranslate2 model: a list in JSON or a text with a token on each line. The position is the id.

use std::collections::HashMap;
use std::path::Path;

use converters::limits;

/// Tokens by their ids, and back.
pub(super) struct Vocabulary {
    /// As errors name it: the file.
    name: String,
    tokens: Vec<String>,
    /// The first of equal tokens, as the engine reads them.
    ids: HashMap<String, i64>,
}

impl Vocabulary {
    /// Whether a folder has `{stem}.json` or `{stem}.txt`.
    pub(super) fn exists(dir: &Path, stem: &str) -> bool {
        names(stem).iter().any(|name| dir.join(name).exists())
    }

    /// Reads `{stem}.json`, else `{stem}.txt`. Errors: a sentence when neither is there, or is no list of tokens.
    pub(super) fn read(dir: &Path, stem: &str) -> Result<Vocabulary, String> {
        let [json, text] = names(stem);
        let (name, tokens) = if dir.join(&json).exists() {
            let tokens = limits::read_json(&dir.join(&json));
            (json, tokens)
        } else if dir.join(&text).exists() {
            let lines = limits::read_text(&dir.join(&text)).map(|text| text.lines().map(str::to_owned).collect());
            (text, lines)
        } else {
            return Err(format!("expected a vocabulary in {json} or {text}, found neither"));
        };
        let tokens: Vec<String> = tokens.map_err(|error| format!("{name}: {error}"))?;
        let mut ids = HashMap::new();
        for (id, token) in tokens.iter().enumerate() {
            ids.entry(token.clone()).or_insert(id as i64);
        }
        Ok(Vocabulary { name, tokens, ids })
    }

    /// Its tokens.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Errors: a sentence when there is no such id.
    pub(super) fn token(&self, id: i64) -> Result<&str, String> {
        let token = usize::try_from(id).ok().and_then(|at| self.tokens.get(at));
        token
            .map(String::as_str)
            .ok_or_else(|| format!("{}: expected ids below {}, found {id}", self.name, self.tokens.len()))
    }

    /// Errors: a sentence when there is no such token.
    pub(super) fn id(&self, token: &str) -> Result<i64, String> {
        let id = self.ids.get(token).copied();
        id.ok_or_else(|| format!("{}: expected one of its {} tokens, found {token:?}", self.name, self.tokens.len()))
    }
}

fn names(stem: &str) -> [String; 2] {
    ["json", "txt"].map(|extension| format!("{stem}.{extension}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_position_is_an_id_in_json_and_in_text() {
        let home = tempfile::tempdir().expect("temporary folder");
        assert!(!Vocabulary::exists(home.path(), "shared_vocabulary"));
        let absent = Vocabulary::read(home.path(), "shared_vocabulary").err().expect("absent");
        assert_eq!(absent, "expected a vocabulary in shared_vocabulary.json or shared_vocabulary.txt, found neither");
        fs::write(home.path().join("shared_vocabulary.txt"), "<pad>\n\u{2581}a\n\u{2581}a\n").expect("written");
        fs::write(home.path().join("target_vocabulary.json"), r#"["<pad>","\u2581a","\u2581a"]"#).expect("written");
        for stem in ["shared_vocabulary", "target_vocabulary"] {
            assert!(Vocabulary::exists(home.path(), stem));
            let found = Vocabulary::read(home.path(), stem).expect("a vocabulary");
            assert_eq!((found.token(2), found.id("\u{2581}a")), (Ok("\u{2581}a"), Ok(1)));
            for id in [3, -1] {
                let error = found.token(id).expect_err("outside");
                assert!(error.ends_with(&format!(": expected ids below 3, found {id}")), "{error}");
            }
            let error = found.id("b").expect_err("unknown");
            assert!(error.ends_with(": expected one of its 3 tokens, found \"b\""), "{error}");
        }
        fs::write(home.path().join("source_vocabulary.json"), "{}").expect("written");
        let error = Vocabulary::read(home.path(), "source_vocabulary").err().expect("no list");
        assert!(error.starts_with("source_vocabulary.json: not the expected JSON"), "{error}");
    }
}
