//! `calibration.json`: what the tensors of a graph held while samples ran through the model.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use checkpoint::json;

use crate::artifact::write_json;
use crate::error::ExportError;

/// The file's name; it lies beside the graphs.
pub const EVIDENCE_FILE: &str = "calibration.json";

/// Ranges by the names of values. Scores of hidden keys are left out: they are as low as the mask.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// How many samples ran.
    pub samples: usize,
    /// By the float tensor's name in the graphs: that before a QuantizeLinear, and any other that was seen.
    pub values: BTreeMap<String, Range>,
}

/// The least and the greatest number that a tensor held in any sample.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The least.
    pub min: f32,
    /// The greatest.
    pub max: f32,
}

impl Range {
    /// The number farthest from 0.
    pub fn magnitude(&self) -> f32 {
        self.min.abs().max(self.max.abs())
    }
}

impl Evidence {
    /// What lies in a folder, if there is any. Errors: the file cannot be read, or is not what it should be.
    pub fn read(dir: &Path) -> Result<Option<Evidence>, ExportError> {
        let file = dir.join(EVIDENCE_FILE);
        let Some(evidence) = json::read_if_there::<Evidence>(&file)? else { return Ok(None) };
        match evidence
            .values
            .iter()
            .find(|(_, range)| range.min.is_nan() || range.max.is_nan() || range.min > range.max)
        {
            Some((name, Range { min, max })) => {
                let message = format!("{name}: expected min ≤ max, found {min}, {max}");
                Err(ExportError::Malformed { file, message })
            }
            None => Ok(Some(evidence)),
        }
    }

    /// Writes the file into a folder.
    pub fn write(&self, dir: &Path) -> Result<(), ExportError> {
        write_json(&dir.join(EVIDENCE_FILE), self)
    }
}
