//! The YAML at the head of a card, in the fields that the Hub reads.

use serde_json::Value;

use super::source::Source;
use crate::build::manifest::Manifest;

/// Words that YAML 1.1 takes for something else than a text, `no` for Norwegian among them.
const NO_TEXTS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// The block with its dashes.
pub fn front(manifest: &Manifest, source: &Source) -> String {
    let mut out = "---\n".to_owned();
    let mut line = |key: &str, value: &str| out.push_str(&format!("{key}: {}\n", scalar(value)));
    if let Some(name) = &source.hub_name {
        line("base_model", name);
        line("base_model_relation", "quantized");
    }
    if manifest.format == "safetensors" {
        line("library_name", "transformers");
    }
    let fields = [
        ("pipeline_tag", &source.pipeline_tag),
        ("license", &source.license),
        ("license_name", &source.license_name),
        ("license_link", &source.license_link),
    ];
    fields
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.as_ref()?)))
        .for_each(|(key, value)| line(key, value));
    list(&mut out, "language", &source.language);
    list(&mut out, "tags", &tags(manifest));
    out + "---\n"
}

fn list(out: &mut String, key: &str, values: &[String]) {
    if !values.is_empty() {
        out.push_str(&format!("{key}:\n"));
        values.iter().for_each(|value| out.push_str(&format!("- {}\n", scalar(value))));
    }
}

fn tags(manifest: &Manifest) -> Vec<String> {
    let format = match manifest.format.as_str() {
        "npu" => vec!["onnx", "npu"],
        "safetensors" if has_codes(manifest) => vec!["safetensors", "compressed-tensors"],
        format => vec![format],
    };
    format.into_iter().chain(["trefoil", &manifest.model.model_type]).map(str::to_owned).collect()
}

/// Whether some weight is stored as something else than floats.
pub fn has_codes(manifest: &Manifest) -> bool {
    manifest.tensors.iter().any(|tensor| tensor.scheme.is_quantized())
}

/// A text as YAML reads it back: bare where that is safe, else between quotes, as JSON has them.
fn scalar(text: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_bare);
    match is_word && !NO_TEXTS.contains(&text.to_ascii_lowercase().as_str()) {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_reads_back_as_itself() {
        for text in ["apache-2.0", "org/name", "no", "2", "a: b", "- x", "a\nb: c", "\"q\"", "", "ja # x", "NULL"] {
            let read: Value = crate::recipe::yaml::parse(&format!("key: {}\n", scalar(text)), "card").expect("YAML");
            assert_eq!(read["key"], text, "{}", scalar(text));
        }
    }
}
