//! The stages of a tokenizer.json: normalizers, pre-tokenizers, what is put around, decoders.

use serde_json::{Map, Value};

/// The steps of a stage that may be a `Sequence` of others.
pub(super) fn flatten<'j>(stage: Option<&'j Value>, key: &str, steps: &mut Vec<&'j Value>) {
    let Some(stage) = stage.filter(|stage| !stage.is_null()) else { return };
    let inner = stage.get(key).and_then(Value::as_array);
    inner.into_iter().flatten().for_each(|step| flatten(Some(step), key, steps));
    // Whoever has other keys beside may be another step, which passes over this one.
    let is_sequence = |stage: &Map<String, Value>| stage.keys().all(|known| known == "type" || known == key);
    if inner.is_none() || !stage.as_object().is_some_and(is_sequence) {
        steps.push(stage);
    }
}

/// The `type` of a step, in words.
pub(super) fn step_type(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or("without a type")
}
