//! What an ONNX artifact computes on the way, by copies of its graphs that return it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use converters::export::onnx::show_values;
use graph::{Feeds, Tensor, Tensors};
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::DynValue;
use tempfile::TempDir;

use super::opening::Opening;
use super::tensors::{failed, from_ort, nothing_for, to_ort};
use crate::runtime::error::RuntimeError;
use crate::runtime::interface::Between;

/// What a graph that sees hands to one that reads.
const FEATURES: &str = "image_features";

/// Copies of the graphs, opened as the graphs are.
pub(super) struct Shown {
    /// What sees, of a model that also reads.
    sight: Option<Graph>,
    graphs: [Graph; 2],
    /// Their files, which an engine may still read.
    _home: TempDir,
}

struct Graph {
    session: OrtSession,
    /// Of the values that it returns, by output.
    names: BTreeMap<String, String>,
}

impl Shown {
    pub(super) fn open(opening: &Opening) -> Result<Shown, RuntimeError> {
        let home = tempfile::tempdir().map_err(failed)?;
        let open = |file: PathBuf| {
            let names = show_values(&file, home.path()).map_err(failed)?;
            let copy = home.path().join(file.file_name().expect("a graph's file"));
            Ok(Graph { session: opening.session(&copy)?, names })
        };
        let [first, _] = opening.folder.pair();
        let sight = opening.folder.sight().map(open).transpose()?;
        Ok(Shown { sight, graphs: [open(opening.folder.encoder())?, open(first)?], _home: home })
    }

    /// Encodes a batch and feeds its targets.
    pub(super) fn run(&mut self, source: &Feeds, decoder_input_ids: &Tensor) -> Result<Between, RuntimeError> {
        let [encoder, decoder] = &mut self.graphs;
        let mut feeds = BTreeMap::new();
        for (name, tensor) in source {
            feeds.insert(name.clone(), to_ort(tensor)?);
        }
        let mut encoded = Tensors::new();
        if let Some(sight) = &mut self.sight {
            let (seen, features) = sight.run(&feeds, Some(FEATURES))?;
            encoded.extend(seen);
            feeds.extend(features.map(|features| (FEATURES.to_owned(), features)));
        }
        let (read, hidden) = encoder.run(&feeds, Some("last_hidden_state"))?;
        encoded.extend(read);
        let hidden = hidden.ok_or_else(|| failed("no output last_hidden_state"))?;
        let mask = source.get("attention_mask").map(to_ort).transpose()?;
        let mut feeds: BTreeMap<String, DynValue> = BTreeMap::new();
        feeds.insert("input_ids".to_owned(), to_ort(decoder_input_ids)?);
        feeds.insert("encoder_hidden_states".to_owned(), hidden);
        feeds.extend(mask.map(|mask| ("encoder_attention_mask".to_owned(), mask)));
        let (decoded, _) = decoder.run(&feeds, None)?;
        Ok(Between { encoder: encoded, decoder: decoded })
    }
}

impl Graph {
    /// The values that are floats, and the output named `kept` as it is.
    fn run(
        &mut self,
        feeds: &BTreeMap<String, DynValue>,
        kept: Option<&str>,
    ) -> Result<(Tensors, Option<DynValue>), RuntimeError> {
        let inputs = self.session.inputs().iter().map(|input| {
            let value = feeds.get(input.name()).ok_or_else(|| nothing_for(input.name()))?;
            Ok((input.name().to_owned(), SessionInputValue::from(value)))
        });
        let inputs = inputs.collect::<Result<Vec<_>, RuntimeError>>()?;
        let mut outputs = self.session.run(inputs).map_err(failed)?;
        let kept = kept.and_then(|name| outputs.remove(name));
        let floats = self.names.iter().filter_map(|(output, value)| {
            Some((value.clone(), from_ort(output, outputs.get(output)?).ok()?)) //
        });
        Ok((floats.collect(), kept))
    }
}
