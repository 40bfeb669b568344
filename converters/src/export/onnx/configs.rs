//! Files of JSON that an artifact has otherwise than the checkpoint.

use checkpoint::Files;
use graph::Graph;
use serde_json::{Value, json};

use super::folder::its_dtype;
use super::options::Placement;
use crate::error::ExportError;

/// The file that transformers.js reads first.
pub(super) const CONFIG: &str = "config.json";
/// Its table there.
const ITS_TABLE: &str = "transformers.js_config";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(super) const TOKEN_LIST: &str = "extra_special_tokens";

/// The checkpoint's tokenizer_config.json without the list of tokens that transformers 5 writes into it, or `None` when it
/// has none. transformers 4.x expects a table under that key and refuses the tokenizer; ids and texts do not depend on it.
pub(super) fn readable_tokenizer_config(files: &Files) -> Result<Option<String>, ExportError> {
    let Some(mut config) = files.json::<serde_json::Value>(TOKENIZER_CONFIG)? else { return Ok(None) };
    let Some(keys) = config.as_object_mut().filter(|keys| keys.get(TOKEN_LIST).is_some_and(|v| v.is_array())) else {
        return Ok(None);
    };
    keys.shift_remove(TOKEN_LIST);
    Ok(Some(format!("{config:#}\n")))
}

/// The checkpoint's config.json with what transformers.js has to know of the files, instead of what it was told of others.
///
/// Errors: config.json cannot be read.
pub(super) fn its_config(files: &Files, graph: &Graph, weights: Placement) -> Result<Option<String>, ExportError> {
    let Some(mut config) = files.json::<serde_json::Map<String, Value>>(CONFIG)? else { return Ok(None) };
    let (dtype, _) = its_dtype(graph);
    let is_beside = weights == Placement::External;
    config.insert(ITS_TABLE.to_owned(), json!({ "dtype": dtype, "use_external_data_format": is_beside }));
    Ok(Some(format!("{:#}\n", Value::Object(config))))
}
