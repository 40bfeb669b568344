//! What a search remembers of earlier ones.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};

use quant::Scheme;
use quant::tune::Measured;
use serde::{Deserialize, Serialize};
use serde_json::json;
use validate::metrics::TaskMetric;
use validate::metrics::normalize::Rules;

use super::found::Whole;
use crate::build::cache::{self, Key, Kind};
use crate::build::error::PipelineError;
use crate::build::observed::Observed;
use crate::command::shard::Shard;
use crate::recipe::target::Target;

/// What measurements follow from.
pub struct About<'a> {
    /// The artifact: format, its options, what the policy says beside schemes and rules.
    pub target: &'a Target,
    /// The samples and the model on them.
    pub observed: &'a Observed,
    /// How many of the samples judge.
    pub judged: usize,
    /// As the recipe names it.
    pub metric: TaskMetric,
    /// How texts are put for it.
    pub rules: Rules,
}

impl About<'_> {
    fn key(&self) -> Key {
        let policy = self.target.policy();
        let chosen = json!([policy.method, policy.clip, policy.gptq]);
        let options = [json!(self.target.format_options()), json!(self.target.rescale_residual)];
        Key::of(&json!([self.observed.key(), options, chosen, self.judged, self.metric.name(), self.rules.name()]))
    }
}

/// Measurements of earlier runs on the same checkpoint, data and settings, so that an interrupted search goes on and another
/// budget costs little. One JSON object a line; the last line may be cut short.
pub struct Memory {
    file: Option<fs::File>,
    /// Why something was not kept.
    lost: Option<io::Error>,
    /// By weight and scheme.
    pub each: HashMap<(String, Scheme), Measured>,
    /// By policy.
    pub wholes: BTreeMap<String, Whole>,
}

/// A measurement.
#[derive(Serialize, Deserialize)]
pub enum Line {
    /// Of one weight at one scheme.
    Each(Measured),
    /// Of all weights under a policy, as JSON.
    Whole { policy: String, whole: Whole },
}

impl Memory {
    /// What was measured of these candidates for this artifact, on these samples. Without a cache folder nothing is remembered, and
    /// that is all.
    ///
    /// `shard`: this machine is one of several, and keeps what it measures in a file of its own. All files are read.
    pub fn open(about: &About, shard: Option<Shard>) -> Memory {
        let mut memory = Memory { file: None, lost: None, each: HashMap::new(), wholes: BTreeMap::new() };
        let part = shard.map(|shard| shard.to_string().replace('/', "of"));
        let Some(path) = cache::file(Kind::Tune, &about.key(), part.as_deref()) else { return memory };
        for file in cache::files(Kind::Tune, &about.key()) {
            let text = fs::read_to_string(&file).unwrap_or_default();
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).for_each(|line| memory.keep(line));
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        memory.file = fs::File::options().create(true).append(true).open(&path).ok();
        if let (Some(file), false) = (&mut memory.file, text.is_empty() || text.ends_with('\n')) {
            // After a line that was cut short.
            let _ = file.write_all(b"\n");
        }
        memory
    }

    /// Errors: something that was measured is not where others could find it.
    pub fn all_is_kept(&mut self) -> Result<(), PipelineError> {
        let lost = match (&self.file, self.lost.take()) {
            (_, Some(error)) => error,
            (None, None) => io::Error::new(io::ErrorKind::NotFound, "there is no file for it"),
            (Some(_), None) => return Ok(()),
        };
        Err(PipelineError::NotKept { folder: cache::folder().unwrap_or_default(), source: lost })
    }

    /// A weight at a scheme, if it was measured.
    pub fn known(&self, name: &str, scheme: Scheme) -> Option<&Measured> {
        self.each.get(&(name.to_owned(), scheme))
    }

    fn keep(&mut self, line: Line) {
        match line {
            Line::Each(measured) => drop(self.each.insert((measured.name.clone(), measured.scheme), measured)),
            Line::Whole { policy, whole } => drop(self.wholes.insert(policy, whole)),
        }
    }

    /// Keeps a measurement.
    pub fn remember(&mut self, line: Line) {
        let mut text = serde_json::to_string(&line).expect("plain data");
        text.push('\n');
        if let Some(file) = &mut self.file {
            // A full disk costs the next run its time, not this one its result.
            self.lost = file.write_all(text.as_bytes()).err().or(self.lost.take());
        }
        self.keep(line);
    }
}
