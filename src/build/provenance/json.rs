//! JSON as both files have it.

use converters::limits;
use serde_json::Value;

/// What a file of anybody's says. Errors: in words.
pub fn parsed(text: &str) -> Result<Value, String> {
    limits::check_json(text.as_bytes(), 1)?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// The text of a file.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("only JSON types") + "\n"
}
