//! A column of one's own: mean scores that another judge gave.

use metrics::Mean;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact::ArtifactReport;

/// Mean scores of another judge's.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// `COMET`.
    pub name: String,
    /// Whether more is better.
    pub rises: bool,
    /// File name of the scores.
    pub source: String,
    /// Of that file, in lowercase hexadecimal.
    pub sha256: String,
    /// Of the float model's outputs.
    pub float: Option<Mean>,
    /// Of those runs that were judged.
    pub runs: Vec<JudgedRun>,
}

/// The mean score of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgedRun {
    /// The artifact's name.
    pub artifact: String,
    /// Its place in [`ArtifactReport::runs`].
    pub run: u64,
    /// Over all of its outputs.
    pub score: Mean,
}

impl Column {
    /// The mean of a run.
    pub fn of(&self, artifact: &ArtifactReport, run: usize) -> Option<&Mean> {
        let is_it = |one: &&JudgedRun| one.artifact == artifact.name && one.run == run as u64;
        self.runs.iter().find(is_it).map(|one| &one.score)
    }
}
