//! Where a wrong answer comes from: the token, the distributions there, and the first tensor that is off.

use std::collections::HashMap;

use graph::WeightError;
use graph::eval::Interpreter;
use rayon::prelude::*;
use report::Link;

use super::culprit;
use super::error::ChainError;
use super::explained::Explained;
use super::limits::F32_NOISE;
use super::links;
use super::measure::Outputs;
use super::pair::Pair;
use super::partings::{self, Parted, Prefix, Runs};
use super::shown::{self, Compared};
use super::subject::Subject;
use super::values;
use super::walk::{Context, Walk};
use crate::runtime::Session;
use crate::runtime::reference::{Reference, caching};

impl Walk<'_> {
    /// Where the quantized graph leaves the float model, and how far off its values are.
    ///
    /// Errors: a weight cannot be read.
    pub(super) fn trace_quantization(&mut self, quantized: &Outputs) -> Result<(), ChainError> {
        let Context { baseline, quantized: model, .. } = self.context;
        let subject = &baseline.subject;
        let runs = Runs {
            stage: Link::Quantization,
            run: 0,
            reference: &baseline.outputs.generated,
            choices: &baseline.outputs.choices,
            found: &quantized.generated,
            limit: usize::MAX,
        };
        let is_lossless = links::lossless(&subject.exact.graph, &model.graph);
        let max_kl = self.context.limits.max_kl;
        let mut parted = runs.partings(subject, &|choice, token| match is_lossless {
            true => choice.is_tie(token, F32_NOISE),
            false => choice.is_within(token, max_kl),
        });
        let [exact, found] = [&subject.exact.graph, &model.graph].map(caching);
        add_candidates(subject, &runs, &mut parted, [&exact, &found]);
        match Pair::new(&exact, &found) {
            Ok(pair) => {
                self.values = self.value_errors(&pair);
                self.add_tensors(&exact, &runs, &mut parted)?;
            }
            // As in an artifact for NPUs, which has graphs of one step only.
            Err(error) => parted.iter_mut().for_each(|parted| parted.parting.sentence = error.to_string()),
        }
        self.partings.extend(parted);
        Ok(())
    }

    /// Where an engine leaves the quantized graph. `limit`: the most tokens that it can say. `rel_l2`: how far its logits may be off.
    /// `is_slow`: not to be asked again.
    pub(super) fn trace_engine(
        &mut self,
        session: &mut dyn Session,
        [quantized, outputs]: [&Outputs; 2],
        limit: usize,
        rel_l2: f64,
        is_slow: bool,
    ) {
        let Context { baseline, quantized: model, .. } = self.context;
        let subject = &baseline.subject;
        let runs = Runs {
            stage: Link::Runtime,
            run: self.runs.len(),
            reference: &quantized.generated,
            choices: &quantized.choices,
            found: &outputs.generated,
            limit,
        };
        let mut parted = runs.partings(subject, &|choice, token| choice.is_tie(token, rel_l2));
        if !parted.is_empty() && !is_slow {
            let interpreter = caching(&model.graph);
            let asked = Asked { subject, runs: &runs, interpreter: &interpreter, rel_l2 };
            asked.candidates(session, &mut parted);
            asked.tensors(session, &mut parted);
        }
        self.partings.extend(parted);
    }

    /// Of the first samples; none where they cannot be computed, which the logits show.
    fn value_errors(&self, pair: &Pair) -> Vec<report::ValueError> {
        let subject = &self.context.baseline.subject;
        let samples = values::SAMPLES.min(subject.data.samples.len());
        let feeds = (0..samples).filter_map(|sample| Some(Prefix::of_target(subject, sample).ok()?.feeds()));
        values::errors(pair, &feeds.collect::<Vec<_>>(), &self.context.tensors).unwrap_or_default()
    }

    /// Looks for the first tensor on some samples, ties last.
    fn add_tensors(&self, exact: &Interpreter, runs: &Runs, parted: &mut [Parted]) -> Result<(), ChainError> {
        if parted.is_empty() {
            return Ok(());
        }
        let Context { baseline, quantized, tensors, .. } = self.context;
        let subject = &baseline.subject;
        let told: HashMap<&str, f64> = tensors.iter().map(|row| (row.name.as_str(), row.rel_l2)).collect();
        let explained = Explained::new(exact.graph(), &quantized.graph, &told)
            .map_err(|WeightError { source, .. }| ChainError::Io(source))?;
        let found = caching(&explained.graph);
        let pair = Pair::new(exact, &found).map_err(|error| ChainError::Data(error.to_string()))?;
        traced(parted).into_par_iter().with_max_len(1).for_each(|parted| {
            let found = runs.prefix(subject, parted).and_then(|prefix| {
                culprit::find(&pair, &explained, &prefix.feeds()).map_err(|error| error.to_string()) //
            });
            match found {
                Ok(None) => parted.parting.sentence = explained.sentence(),
                Ok(tensor) => parted.parting.tensor = tensor,
                Err(error) => parted.parting.sentence = error,
            }
        });
        Ok(())
    }
}

/// An engine that is asked again about the samples on which it parted.
struct Asked<'a> {
    subject: &'a Subject<'a>,
    runs: &'a Runs<'a>,
    interpreter: &'a Interpreter<'a>,
    rel_l2: f64,
}

impl Asked<'_> {
    fn candidates(&self, session: &mut dyn Session, parted: &mut [Parted]) {
        for parted in parted.iter_mut().take(partings::WITH_CANDIDATES) {
            let Ok(prefix) = self.runs.prefix(self.subject, parted) else { continue };
            let expected = prefix.logits(&mut Reference::new(self.interpreter));
            if let (Ok(expected), Ok(found)) = (expected, prefix.logits(session)) {
                partings::compare(self.subject, &mut parted.parting, [&expected, &found]);
            }
        }
    }

    fn tensors(&self, session: &mut dyn Session, parted: &mut [Parted]) {
        for parted in traced(parted) {
            let found = self.runs.prefix(self.subject, parted).and_then(|prefix| self.compared(session, &prefix));
            match found {
                Ok(None) => parted.parting.sentence = "the engine shows nothing between input and logits".to_owned(),
                Ok(Some(Compared { values, first: None })) => {
                    parted.parting.sentence = format!("none of {values} values is farther off than the engine's noise");
                }
                Ok(Some(Compared { first, .. })) => parted.parting.tensor = first,
                Err(error) => parted.parting.sentence = error,
            }
        }
    }

    fn compared(&self, session: &mut dyn Session, prefix: &Prefix) -> Result<Option<Compared>, String> {
        let Prefix { source, decoder_input_ids } = prefix;
        let Some(shown) = session.between(source, decoder_input_ids).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let found = shown::compare(self.interpreter, source, decoder_input_ids, &shown, self.rel_l2);
        found.map(Some).map_err(|error| error.to_string())
    }
}

/// Those in which tensors are looked at.
fn traced(parted: &mut [Parted]) -> Vec<&mut Parted> {
    let mut order: Vec<&mut Parted> = parted.iter_mut().collect();
    order.sort_by_key(|parted| parted.parting.is_tie);
    order.truncate(partings::WITH_TENSORS);
    order
}

/// Adds what both graphs expected where they part.
fn add_candidates(subject: &Subject, runs: &Runs, parted: &mut [Parted], graphs: [&Interpreter; 2]) {
    let count = parted.len().min(partings::WITH_CANDIDATES);
    parted[..count].par_iter_mut().with_max_len(1).for_each(|parted| {
        let Ok(prefix) = runs.prefix(subject, parted) else { return };
        let logits = graphs.map(|interpreter| prefix.logits(&mut Reference::new(interpreter)));
        if let [Ok(expected), Ok(found)] = logits {
            partings::compare(subject, &mut parted.parting, [&expected, &found]);
        }
    });
}
