//! What no checkpoint says of images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How images are changed before the checkpoint's own preprocessing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSettings {
    /// Whether colours are taken away, as the application of manga-ocr does.
    pub gray: bool,
}
