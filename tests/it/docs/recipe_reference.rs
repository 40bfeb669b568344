//! docs/recipe-reference.md, from the JSON schema of recipes.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use crate::cli::{bless_or_compare, run};
use crate::fixture::repository;

const HEAD: &str = "# Recipe reference\n\nWritten by the tests with `BLESS=1` from the schema that `trefoil recipe schema` \
prints ([recipe.schema.json](recipe.schema.json)). [Quantization](quantization.md) says what schemes and methods do, \
[the cookbook](cookbook.md) which to take.\n\n";

fn schema() -> Value {
    serde_json::from_slice(&run(&["recipe", "schema"]).stdout).expect("the schema is JSON")
}

/// Names of definitions in the order in which a reader from the root meets them, and the root before them.
fn sections(schema: &Value) -> Vec<(&str, &Value)> {
    let mut found = vec![(schema["title"].as_str().expect("the root has a title"), schema)];
    let mut next = VecDeque::from([schema]);
    while let Some(value) = next.pop_front() {
        if let Some(name) = value["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"))
            && !found.iter().any(|(known, _)| *known == name)
        {
            let definition = &schema["$defs"][name];
            found.push((name, definition));
            next.push_back(definition);
        }
        match value {
            Value::Object(object) => next.extend(object.iter().filter(|(key, _)| *key != "$defs").map(|(_, v)| v)),
            Value::Array(values) => next.extend(values),
            _ => {}
        }
    }
    found
}

/// A sentence of the sources without what only their readers need: line ends, and links to items.
fn sentence(value: &Value) -> String {
    let text = value["description"].as_str().unwrap_or_default().replace("\n\n", " ").replace('\n', " ");
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, linked)) = rest.split_once("[`") {
        let (item, after) = linked.split_once("`]").expect("a link to an item ends");
        let after = match after.strip_prefix('(').and_then(|after| after.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
        plain.push_str(&format!("{before}`{}`", item.rsplit("::").next().expect("a name")));
        rest = after;
    }
    plain + rest
}

fn is_null(value: &&Value) -> bool {
    value["type"] == "null"
}

/// What a value may be, in a few words.
fn kind(value: &Value) -> String {
    if let Some(reference) = value["$ref"].as_str() {
        let name = reference.trim_start_matches("#/$defs/");
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(choices) = value["anyOf"].as_array() {
        return choices.iter().filter(|choice| !is_null(choice)).map(kind).collect::<Vec<_>>().join(" or ");
    }
    let word = match &value["type"] {
        Value::Array(words) => words.iter().find(|word| *word != "null").expect("something besides null"),
        word => word,
    };
    match word.as_str().unwrap_or_else(|| panic!("a kind of value that the page has no words for: {value}")) {
        "array" => format!("list of {}", kind(&value["items"])),
        word @ ("integer" | "number") => format!("{word}{}", bounds(value)),
        "boolean" => "`true` or `false`".to_owned(),
        word => word.to_owned(),
    }
}

fn bounds(value: &Value) -> String {
    match (&value["minimum"], &value["maximum"]) {
        (Value::Null, _) => String::new(),
        (least, Value::Null) => format!(" ≥ {least}"),
        (least, greatest) => format!(" from {least} to {greatest}"),
    }
}

fn row(key: &str, value: &Value, required: bool) -> String {
    let default = match &value["default"] {
        _ if required => "required".to_owned(),
        Value::Null | Value::Object(_) => String::new(),
        Value::String(word) => format!("`{word}`"),
        other => format!("`{other}`"),
    };
    let cells = [format!("`{key}`"), kind(value), default, sentence(value)];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

fn table(value: &Value, properties: &Map<String, Value>) -> String {
    let required = |key: &str| value["required"].as_array().is_some_and(|keys| keys.iter().any(|k| k == key));
    let rows = properties.iter().map(|(key, value)| row(key, value, required(key)));
    format!("| key | what | default | meaning |\n| --- | --- | --- | --- |\n{}", rows.collect::<String>())
}

/// One of the forms that a value may have.
fn form(value: &Value) -> String {
    let words = |words: &[Value]| {
        words.iter().map(|word| format!("`{}`", word.as_str().expect("a word"))).collect::<Vec<_>>().join(", ")
    };
    let what = match (&value["const"], &value["enum"], &value["properties"]) {
        (Value::String(word), _, _) => format!("`{word}`"),
        (_, Value::Array(list), _) => words(list),
        (_, _, Value::Object(properties)) => {
            properties.iter().map(|(key, value)| format!("`{key}:` {}", kind(value))).collect::<Vec<_>>().join(", ")
        }
        _ => kind(value),
    };
    match sentence(value) {
        said if said.is_empty() => format!("- {what}\n"),
        said => format!("- {what}: {said}\n"),
    }
}

fn body(value: &Value) -> String {
    if let Some(properties) = value["properties"].as_object() {
        return table(value, properties);
    }
    let forms = value["oneOf"].as_array().or(value["anyOf"].as_array());
    match forms {
        Some(forms) => forms.iter().map(form).collect(),
        None if value["enum"].is_null() => "It is written `{}`.\n".to_owned(),
        // Its sentence stands above.
        None => form(&serde_json::json!({ "enum": value["enum"] })),
    }
}

#[test]
fn the_recipe_reference_is_that_of_the_program() {
    let schema = schema();
    let section = |(name, value): (&str, &Value)| format!("## {name}\n\n{}\n\n{}", sentence(value), body(value));
    let page = sections(&schema).into_iter().map(section).collect::<Vec<_>>().join("\n");
    bless_or_compare(&repository("docs/recipe-reference.md"), &format!("{HEAD}{page}"));
}

#[test]
fn every_definition_of_the_schema_is_a_section() {
    let schema = schema();
    let sections = sections(&schema);
    let missing = schema["$defs"].as_object().expect("definitions").keys();
    let missing: Vec<_> = missing.filter(|name| !sections.iter().any(|(known, _)| known == name)).collect();
    assert!(missing.is_empty(), "no key leads to {missing:?}");
}
