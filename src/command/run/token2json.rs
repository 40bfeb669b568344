//! What a Donut says as fields: `DonutProcessor.token2json` of transformers' processing_donut.py.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

const OPENS: &str = "<s_";
const BETWEEN: &str = "<sep/>";

/// `<s_KEY>…</s_KEY>` as an object of keys. What stands inside is an object likewise, or a text; `<sep/>` makes lists of several, and
/// a text that is a token `<x/>` of its own is `x`. An end that is missing takes its beginning with it. Nothing of the kind: the
/// whole as `text_sequence`.
///
/// `known`: the tokens that were added to the vocabulary.
pub fn token2json(text: &str, known: &BTreeSet<String>) -> Value {
    let (found, rest) = objects(text, known);
    match found {
        Found::Several(list) => Value::Array(list),
        Found::One(object) if !object.is_empty() => Value::Object(object),
        Found::One(_) => json!({ "text_sequence": rest }),
    }
}

enum Found {
    One(Map<String, Value>),
    /// With `<sep/>` between them.
    Several(Vec<Value>),
}

impl Found {
    /// What an object inside another is: nothing is no part of a list.
    fn list(self) -> Vec<Value> {
        match self {
            Found::One(object) if object.is_empty() => Vec::new(),
            Found::One(object) => vec![Value::Object(object)],
            Found::Several(list) => list,
        }
    }
}

/// The objects of a text, and what is left of it.
fn objects(text: &str, known: &BTreeSet<String>) -> (Found, String) {
    let (mut object, mut text) = (Map::new(), text.to_owned());
    while let Some(at) = position(&text, OPENS) {
        let Some(length) = text[at..].find('>') else { break };
        let start = text[at..=at + length].to_owned();
        let key = &start[OPENS.len()..start.len() - 1];
        let closes = format!("</s_{key}>");
        let Some(end_at) = position(&text, &closes) else {
            text = text.replace(&start, "");
            continue;
        };
        let end = text[end_at..end_at + closes.len()].to_owned();
        let inside = position(&text[at + start.len()..], &end).map(|len| &text[at + start.len()..][..len]);
        if let Some(value) = inside.and_then(|inside| value(inside.trim(), known)) {
            object.insert(key.to_owned(), value);
        }
        text = text[end_at + end.len()..].trim().to_owned();
        if let Some(next) = text.strip_prefix(BETWEEN) {
            let (others, rest) = objects(next, known);
            let first = [Value::Object(object)];
            return (Found::Several(first.into_iter().chain(others.list()).collect()), rest);
        }
    }
    (Found::One(object), text)
}

/// What stands between a beginning and its end; nothing where marks inside make no object.
fn value(inside: &str, known: &BTreeSet<String>) -> Option<Value> {
    let list: Vec<Value> = match inside.contains(OPENS) && inside.contains("</s_") {
        true => objects(inside, known).0.list(),
        false => inside.split(BETWEEN).map(|leaf| json!(category(leaf.trim(), known))).collect(),
    };
    match <[Value; 1]>::try_from(list) {
        Ok([only]) => Some(only),
        Err(list) => (!list.is_empty()).then_some(Value::Array(list)),
    }
}

/// `x` of a token `<x/>`.
fn category<'t>(leaf: &'t str, known: &BTreeSet<String>) -> &'t str {
    let name = leaf.strip_prefix('<').and_then(|rest| rest.strip_suffix("/>"));
    name.filter(|_| known.contains(leaf)).unwrap_or(leaf)
}

/// Where a mark stands, in capitals or not.
fn position(text: &str, mark: &str) -> Option<usize> {
    let (text, mark) = (text.as_bytes(), mark.as_bytes());
    text.windows(mark.len()).position(|window| window.eq_ignore_ascii_case(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_transformers() {
        let known = ["<sep/>", "<yes/>", "<no/>"].map(str::to_owned).into();
        let recorded = include_str!("../../../tests/fixtures/pages/read.json");
        let recorded: Value = serde_json::from_str(recorded).expect("recorded");
        let texts = recorded["texts"].as_array().expect("a list");
        assert!(texts.len() >= 20);
        for text in texts {
            let said = text["text"].as_str().expect("a text");
            let found = token2json(said, &known);
            assert_eq!(found, text["fields"], "{said:?}");
            // Keys in the order of the text.
            assert_eq!(found.to_string(), text["fields"].to_string(), "{said:?}");
        }
    }
}
