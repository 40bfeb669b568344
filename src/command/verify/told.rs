//! What was found, for people or for machines.

use std::path::Path;

use serde::Serialize;

use crate::build::error::PipelineError;
use crate::command::arguments::Common;
use crate::show::terminal::{one_line, print};

/// Prints lines, or the same as JSON.
pub fn tell(found: &impl Serialize, lines: &[String], common: &Common) -> Result<(), PipelineError> {
    let text = match common.json {
        true => serde_json::to_string_pretty(found).expect("only JSON types") + "\n",
        false => lines.iter().map(|line| one_line(line) + "\n").collect(),
    };
    print(&text).map_err(PipelineError::io(Path::new("stdout")))
}
