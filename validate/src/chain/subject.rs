//! The float model and the samples that it is measured on, as they are given.

use std::path::Path;

use converters::Model;
use frontend::Text;
use graph::{DEC, ENC, Graph};
use metrics::{Scored, Scoring};

use super::error::ChainError;
use super::measure;
use crate::answers::{self, Said};
use crate::generate::Greedy;
use crate::task::{Data, Sample};

/// The float model and what it is measured on.
pub struct Subject<'a> {
    /// As the importer wrote it: the entry `full`.
    pub imported: &'a Graph,
    /// After the passes, and exact.
    pub exact: &'a Model,
    /// `expected.safetensors`, recorded by transformers; need not exist.
    pub recorded: &'a Path,
    /// Inputs and targets.
    pub data: Data,
    /// The model's tokenizer, or [`frontend::Ids`].
    pub text: &'a dyn Text,
    /// How it decodes.
    pub greedy: Greedy,
    /// What is scored; the first metric has a limit.
    pub scoring: Scoring,
}

impl Subject<'_> {
    /// What each of these outputs, of the first samples, is worth; `None` when the data has no targets.
    pub(super) fn scored(&self, said: &[Said]) -> Option<Scored> {
        answers::scored_texts(&self.scoring, &self.data.samples, said)
    }
}

/// Errors: inputs and targets that the model has no positions for; the worst of them, and how many there are.
pub fn too_long(graph: &Graph, greedy: &Greedy, data: &Data, about: &'static str) -> Result<(), ChainError> {
    let prompt = greedy.prompt().len();
    let of_input = |sample: &Sample| sample.source.positions();
    // The last token of a target is not fed.
    let of_target = |sample: &Sample| (prompt + sample.target_ids.len()).saturating_sub(1);
    let samples = &data.samples;
    let [inputs, targets] =
        [samples.iter().map(of_input).collect::<Vec<usize>>(), samples.iter().map(of_target).collect()];
    for (what, limit, lengths) in [("input", graph.longest(ENC), inputs), ("target", graph.longest(DEC), targets)] {
        let longer = lengths.iter().zip(samples).filter(|(length, _)| limit.is_some_and(|limit| **length > limit));
        let count = longer.clone().count();
        if let (Some((&found, sample)), Some(limit)) = (longer.max_by_key(|(length, _)| **length), limit) {
            let text = sample.input.chars().take(60).collect();
            return Err(ChainError::TooLong { about, what, limit, found, text, count });
        }
    }
    Ok(())
}

/// Bytes of logits that validation keeps at a time: the float model's and those of one quantized graph, in scratch files. At
/// most: targets that the data lacks are taken to be as long as the model may speak.
pub fn logits_bytes(graph: &Graph, greedy: &Greedy, data: &Data) -> u64 {
    let Ok(width) = vocabulary(graph) else { return 0 };
    let longest = (greedy.prompt().len() + greedy.new_tokens(graph.longest(DEC))) as u64;
    let of = |sample: &Sample| match sample.target_ids.len() {
        0 => longest,
        n => (greedy.prompt().len() + n) as u64,
    };
    let positions: u64 = data.samples.iter().map(of).sum();
    // Probes are a few samples more, each of them put in three ways.
    let probes = (3 * measure::PROBES) as u64 * data.samples.iter().map(of).max().unwrap_or(0);
    2 * 4 * width as u64 * (positions + probes)
}

pub(super) fn vocabulary(graph: &Graph) -> Result<usize, ChainError> {
    let logits = graph.entry("decoder").and_then(|entry| entry.output("logits"));
    let width = logits.and_then(|id| graph.value(id).ty.shape.last()?.literal());
    width.ok_or(ChainError::Lacks { expected: "an entry decoder with an output logits of a literal width" })
}
