//! Samples on which quantizers watch the model decode.

use std::sync::Mutex;

use graph::progress::Unit;
use graph::{DEC, Feeds, Graph, Progress, Tensor, Tensors};
use quant::calibrate;
use quant::{Samples, Statistics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chain::{ChainError, too_long};
use crate::chain::measure;
use crate::generate::Greedy;
use crate::runtime::reference::caching;
use crate::task::{Batch, Data};

/// What the decoder is fed while the model is calibrated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Prefixes {
    /// The targets of the data; the model's own greedy output where the data has none.
    #[default]
    Targets,
    /// The model's own greedy output for all.
    Greedy,
}

impl Prefixes {
    /// As a report says it.
    pub fn name(self) -> &'static str {
        match self {
            Prefixes::Targets => "the data's targets, and greedy output where it has none",
            Prefixes::Greedy => "the model's own greedy output",
        }
    }
}

/// Calibration samples, each with the tokens that its decoder is fed.
pub struct Calibrated {
    batches: Vec<Batch>,
    /// The file.
    pub data: Data,
    /// Mean loss of the targets that the data has, in nats a token, when [`Calibrated::gather`] ran.
    pub loss: Option<f64>,
}

/// The data says what the model would not.
#[derive(Debug, thiserror::Error)]
pub enum CalibratedError {
    /// The samples do not run.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The statistics cannot be taken.
    #[error(transparent)]
    Quant(#[from] quant::CalibrationError),
    /// Targets of another task or another tokenizer.
    #[error(
        "{file}: expected targets that the model finds likelier than guessing (a loss below ln {vocabulary} = {guess:.2} nats a \
         token), found a loss of {loss:.2}: the file belongs to another model or task; `decode: greedy` calibrates on the \
         model's own output instead"
    )]
    Foreign {
        /// The file.
        file: String,
        /// Logits a position.
        vocabulary: usize,
        /// The loss of equal probabilities.
        guess: f64,
        /// Of the targets.
        loss: f64,
    },
}

impl Calibrated {
    /// Tokens for each decoder. `graph` was split.
    ///
    /// Errors: samples longer than the model has positions for; a model that cannot be evaluated.
    pub fn new(
        graph: &Graph,
        mut data: Data,
        greedy: &Greedy,
        prefixes: Prefixes,
        progress: &dyn Progress,
    ) -> Result<Calibrated, ChainError> {
        let greedy = greedy.at_most(greedy.new_tokens(graph.longest(DEC)));
        if prefixes == Prefixes::Greedy {
            data.samples.iter_mut().for_each(|sample| sample.target_ids.clear());
        }
        too_long(graph, &greedy, &data, "the calibration data")?;
        if data.samples.iter().any(|sample| sample.target_ids.is_empty()) {
            progress.stage("calibrate: greedy output", data.samples.len() as u64, Unit::Samples);
            let found = measure::generate(&caching(graph), &data, &greedy, progress)?;
            for (sample, found) in data.samples.iter_mut().zip(found).filter(|(s, _)| s.target_ids.is_empty()) {
                sample.target = None;
                sample.target_ids = found.tokens;
            }
        }
        let alone = |i| Batch::new(&data, &[i], &greedy.prompt(), greedy.settings.pad_token_id);
        let batches = (0..data.samples.len()).map(alone).collect::<Result<_, _>>().map_err(ChainError::Data)?;
        Ok(Calibrated { batches, data, loss: None })
    }

    /// What the entry `full` takes for one sample.
    pub fn feeds(&self, sample: usize) -> Feeds {
        let batch = &self.batches[sample];
        let mut feeds = batch.source.clone();
        feeds.insert("decoder_input_ids".to_owned(), batch.decoder_input_ids.clone());
        feeds
    }

    /// Tokens that decoders are fed.
    pub fn positions(&self) -> u64 {
        self.batches.iter().map(|batch| batch.decoder_tokens() as u64).sum()
    }

    /// Runs the float model over all samples, and measures how likely it finds the targets that the data has.
    ///
    /// Errors: activations that are not finite; targets less likely than by guessing.
    pub fn gather(&mut self, graph: &Graph, progress: &dyn Progress) -> Result<Statistics, CalibratedError> {
        let losses = Mutex::new(vec![(0.0, 0); self.batches.len()]);
        let vocabulary = Mutex::new(0);
        let watch = |sample: usize, outputs: &Tensors| {
            if let (Some(logits), true) = (outputs.get("logits"), self.data.samples[sample].target.is_some()) {
                let loss = self.loss_of(sample, logits);
                losses.lock().expect("no panic while holding the lock")[sample] = loss;
                *vocabulary.lock().expect("no panic while holding the lock") = logits.shape()[2];
            }
        };
        let feeds = |sample: usize| self.feeds(sample);
        let samples = Samples { entry: "full", count: self.batches.len(), feeds: &feeds };
        let statistics = calibrate::gather(graph, &samples, &watch, progress)?;
        let losses = losses.into_inner().expect("no panic while holding the lock");
        let (sum, tokens) = losses.iter().fold((0.0, 0), |(sum, n), (loss, tokens)| (sum + loss, n + tokens));
        let vocabulary = vocabulary.into_inner().expect("no panic while holding the lock");
        if tokens > 0 {
            let (loss, guess) = (sum / tokens as f64, (vocabulary as f64).ln());
            if loss.is_nan() || loss >= guess {
                return Err(CalibratedError::Foreign { file: self.data.source.clone(), vocabulary, guess, loss });
            }
            self.loss = Some(loss);
        }
        Ok(statistics)
    }

    /// `-Σ ln p(token)` over the target of a sample, and its tokens. `logits`: f32[1, n, vocabulary].
    fn loss_of(&self, sample: usize, logits: &Tensor) -> (f64, usize) {
        let target = &self.data.samples[sample].target_ids;
        let (positions, width) = (logits.shape()[1], logits.shape()[2]);
        let rows = logits.as_f32().unwrap_or_default().chunks(width.max(1)).skip(positions - target.len().min(positions));
        let loss = |(row, id): (&[f32], &i64)| {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|x| f64::from(x - top).exp()).sum();
            let own = usize::try_from(*id).ok().and_then(|id| row.get(id)).copied().unwrap_or(f32::NEG_INFINITY);
            sum.ln() - f64::from(own - top)
        };
        (rows.zip(target).map(loss).sum(), target.len())
    }
}
