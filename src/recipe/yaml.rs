//! YAML into a type, with errors that show the line and name the nearest valid word.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Localizer, Location, MessageFormatter, UserMessageFormatter};

/// Reads one document. `source_name` is what the error calls it, such as the file's path.
///
/// Errors: a text of several lines: where in the document and what is wrong, `file:line:column`, the line with a caret.
pub fn parse<T: DeserializeOwned>(text: &str, source_name: &str) -> Result<T, String> {
    let mut place = String::new();
    let options = serde_saphyr::options! { strict_booleans: true, strict_indentation: true };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
        serde_path_to_error::deserialize(yaml).map_err(|error| {
            place = error.path().to_string();
            error.into_inner()
        })
    })
    .map_err(|error| {
        // The place of an unknown key is the mapping that has it.
        if let Error::SerdeUnknownField { field, .. } = error.without_snippet() {
            place.truncate(place.len().saturating_sub(field.len()));
            place.truncate(place.trim_end_matches('.').len());
        }
        let words = Words { place };
        let options = serde_saphyr::render_options! { formatter: &words, source_name: Some(source_name) };
        let text = error.render_with_options(options);
        match text.strip_prefix("error: ") {
            Some(text) => text.to_owned(),
            // Errors of the whole document come without a snippet.
            None => format!("{source_name}: {text}"),
        }
    })
}

/// The wording: the place in the document instead of a second line and column, and the words that are valid.
struct Words {
    place: String,
}

impl MessageFormatter for Words {
    fn localizer(&self) -> &dyn Localizer {
        self
    }

    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        match error {
            Error::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected).into(),
            Error::SerdeUnknownVariant { variant, expected, .. } => unknown("word", variant, expected).into(),
            Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing").into(),
            Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` appears twice").into(),
            Error::InvalidScalar { ty, .. } => format!("expected {}", plain(ty)).into(),
            other => UserMessageFormatter.format_message(other),
        }
    }
}

impl Localizer for Words {
    fn snippet_location_prefix(&self, _location: Location) -> String {
        match self.place.as_str() {
            "" | "." | "?" => "recipe".to_owned(),
            place => place.to_owned(),
        }
    }
}

/// Rust's name of a type, as a person would say it.
fn plain(ty: &str) -> &str {
    match ty {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "floating point" => "a number",
        "boolean" => "true or false",
        other => other,
    }
}

fn unknown(kind: &str, found: &str, valid: &[&str]) -> String {
    match nearest(found, valid) {
        Some(word) => format!("unknown {kind} `{found}`; did you mean `{word}`?"),
        None => format!("unknown {kind} `{found}`; valid here: {}", valid.join(", ")),
    }
}

/// The word that `found` most likely stands for, if one is near: at most a third of its letters differ.
pub fn nearest<'a>(found: &str, valid: &[&'a str]) -> Option<&'a str> {
    valid
        .iter()
        .map(|word| (strsim::damerau_levenshtein(found, word), *word))
        .min()
        .filter(|(distance, word)| distance * 3 <= word.chars().count().max(3))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "name")]
        _name: String,
        #[serde(default, rename = "parts")]
        _parts: Vec<Inner>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "kind")]
        _kind: Option<Kind>,
        #[serde(rename = "count")]
        _count: Option<usize>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Symmetric,
        Plain,
    }

    fn error(text: &str) -> String {
        parse::<Outer>(text, "a.yaml").expect_err("refused")
    }

    #[test]
    fn an_unknown_key_shows_its_line_and_the_nearest_key_at_any_depth() {
        assert_eq!(
            error("name: a\nparts:\n  - { cuont: 3 }\n"),
            "parts[0]: unknown key `cuont`; did you mean `count`?\n \
             --> a.yaml:3:7\n  \
             |\n\
             1 | name: a\n\
             2 | parts:\n\
             3 |   - { cuont: 3 }\n  \
             |       ^ unknown key `cuont`; did you mean `count`?"
        );
        let top = error("nmae: a\n");
        assert!(top.starts_with("recipe: unknown key `nmae`; did you mean `name`?\n --> a.yaml:1:1\n"), "{top}");
    }

    #[test]
    fn a_key_far_from_every_valid_one_lists_them() {
        let text = error("name: a\nzebra: 1\n");
        assert!(text.starts_with("recipe: unknown key `zebra`; valid here: name, parts\n --> a.yaml:2:1\n"), "{text}");
    }

    #[test]
    fn an_unknown_word_of_an_enum_is_treated_as_a_key_is() {
        let text = error("name: a\nparts:\n  - kind: symetric\n");
        assert!(
            text.starts_with("parts[0].kind: unknown word `symetric`; did you mean `symmetric`?\n --> a.yaml:3:11\n"),
            "{text}"
        );
        let text = error("name: a\nparts:\n  - kind: 12\n");
        assert!(text.starts_with("parts[0].kind: unknown word `12`; valid here: symmetric, plain\n"), "{text}");
    }

    #[test]
    fn what_is_missing_doubled_or_of_the_wrong_type_is_said_in_plain_words() {
        for (text, expected) in [
            ("parts: []\n", "recipe: the key `name` is missing\n --> a.yaml:1:1\n"),
            ("name: a\nname: b\n", "recipe: the key `name` appears twice\n --> a.yaml:2:1\n"),
            (
                "name: a\nparts: [{ count: -1 }]\n",
                "parts[0].count: expected a whole number, 0 or more\n --> a.yaml:2:18\n",
            ),
            ("name: a\n  b: c\n", "recipe: mapping values are not allowed in this context\n --> a.yaml:2:4\n"),
            ("", "a.yaml: unexpected end of file at line 1, column 1"),
        ] {
            let found = error(text);
            assert!(found.starts_with(expected), "{text:?}: {found}");
        }
    }
}
