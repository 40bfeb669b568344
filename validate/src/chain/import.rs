//! The link import: the imported graph beside what transformers computed with the checkpoint.

use std::path::Path;

use converters::limits;
use graph::eval::{Feeds, Interpreter};
use graph::{DType, Graph, Tensor};
use metrics::{Distances, Meter};
use report::{Check, Limit, Link, Metric};
use safetensors::{Dtype, SafeTensors};

use super::limits::F32_NOISE;
use super::subject::Subject;
use crate::answers::agreement;
use crate::generate::{Generated, Greedy};
use crate::runtime::reference::{Reference, caching};

/// A recorded file larger than this is not what `record` scripts write.
const RECORDED_BYTES: u64 = 1 << 30;

/// What transformers computed with the checkpoint.
struct Recorded {
    /// What the entry `full` takes, without `decoder_input_ids`.
    source: Feeds,
    decoder_input_ids: Tensor,
    encoder_hidden: Tensor,
    logits: Tensor,
    /// Greedy tokens with the prompt, for the first rows of the source.
    greedy: Option<Tensor>,
    /// `none` or `d_model^-0.5`.
    logit_scale: Option<String>,
    /// Version of transformers.
    version: String,
}

impl Recorded {
    /// What is recorded of the inputs and outputs of the entry `full` of a graph.
    ///
    /// Errors: a sentence that says what is wrong with the file.
    fn read(file: &Path, graph: &Graph) -> Result<Recorded, String> {
        let place = |message: String| format!("{}: {message}", file.display());
        let bytes = limits::read(file, RECORDED_BYTES).map_err(|e| place(e.to_string()))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| place(e.to_string()))?;
        let metadata = SafeTensors::read_metadata(&bytes).map_err(|e| place(e.to_string()))?.1;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        let get = |name: &str, dtype: Dtype, rank: usize| {
            let view = tensors.tensor(name).map_err(|_| place(format!("expected a tensor {name}, found none")))?;
            let (found, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data());
            match dtype {
                _ if found != dtype || shape.len() != rank => {
                    Err(place(format!("{name}: expected {dtype:?} of rank {rank}, found {found:?}{shape:?}")))
                }
                Dtype::I64 => {
                    Ok(Tensor::i64(shape, bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()))
                }
                _ => Ok(Tensor::f32(shape, bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())),
            }
        };
        let mut source = Feeds::new();
        let full = graph.entry("full").ok_or("expected an entry full, found none")?;
        for port in full.inputs.iter().filter(|port| port.name != "decoder_input_ids") {
            let ty = &graph.value(port.value).ty;
            let dtype = match ty.dtype {
                DType::F32 => Dtype::F32,
                DType::I64 => Dtype::I64,
            };
            source.insert(port.name.clone(), get(&port.name, dtype, ty.shape.len())?);
        }
        Ok(Recorded {
            source,
            decoder_input_ids: get("decoder_input_ids", Dtype::I64, 2)?,
            encoder_hidden: get("encoder_hidden", Dtype::F32, 3)?,
            logits: get("logits", Dtype::F32, 3)?,
            greedy: get("greedy", Dtype::I64, 2).ok(),
            logit_scale: metadata.get("logit_scale").cloned(),
            version: metadata.get("transformers").cloned().unwrap_or_else(|| "of unknown version".to_owned()),
        })
    }

    /// What the encoder is fed and the decoder, together.
    fn feeds(&self) -> Feeds {
        let mut feeds = self.source.clone();
        feeds.insert("decoder_input_ids".to_owned(), self.decoder_input_ids.clone());
        feeds
    }

    /// Whether row `row` of the encoder's output, all sequences after each other, is not of padding.
    ///
    /// The mask is over what the encoder is fed; where that is finer than its output, a frame stands at its share of it. A
    /// front end that looks ahead leaves fewer frames than that, so that at least one frame before padding is left out.
    fn is_real(&self, row: usize) -> bool {
        let Some(mask) = self.source.get("attention_mask") else { return true };
        let (fed, frames) = (mask.shape()[1], self.encoder_hidden.shape()[1]);
        let (sequence, frame) = (row / frames, row % frames);
        mask.as_i64().expect("read as i64")[sequence * fed + frame * fed / frames] != 0
    }

    /// The token that a row of a recorded tensor stands at or after; `None` for sound.
    fn token(&self, name: &str, sequence: usize, position: usize) -> Option<i64> {
        let ids = if name == "logits" { &self.decoder_input_ids } else { self.source.get("input_ids")? };
        let &[_, width] = ids.shape() else { return None };
        ids.as_i64()?.get(sequence * width + position).copied()
    }

    /// What the recorded logits are multiplied with to follow the semantics `ours`, which a checkpoint may leave open:
    /// versions of transformers differ there, and only there.
    fn rescaling(&self, ours: &str) -> f32 {
        let width = *self.encoder_hidden.shape().last().expect("of rank 3") as f32;
        let factor = |name: &str| if name.starts_with("d_model^-0.5") { width.powf(-0.5) } else { 1.0 };
        self.logit_scale.as_deref().map_or(1.0, |theirs| factor(ours) / factor(theirs))
    }
}

/// The imported graph against what transformers recorded: hidden states, logits, greedy tokens.
pub fn checks(subject: &Subject) -> Vec<Check> {
    let what = "the import against transformers";
    if !subject.recorded.exists() {
        let file = subject.recorded.file_name().unwrap_or_default().to_string_lossy();
        let why = format!(
            "{file} is not in the model's folder; tests/fixtures/record_g2p.py shows how to record it with transformers"
        );
        return vec![Check::not_run(Link::Import, what, why)];
    }
    let broken = "the importer computes something else than transformers: compare layer by layer with `trefoil inspect`, \
                  beginning at the encoder";
    let compared = Recorded::read(subject.recorded, subject.imported).and_then(|recorded| {
        let [hidden, logits] = compare_recorded(subject, &recorded)?;
        Ok((recorded, hidden, logits))
    });
    let (recorded, hidden, logits) = match compared {
        Ok(compared) => compared,
        Err(sentence) => return vec![Check::failed(Link::Import, what, sentence)],
    };
    let limit = Limit::AtMost(F32_NOISE);
    let judge = |what: &str, compared: &Compared| {
        let found = compared.meter.distances();
        let what = format!("{what} against transformers {}", recorded.version);
        let broken = format!("{broken}{}", compared.first(&recorded));
        Check::judge(Link::Import, what, Metric::RelL2, found.rel_l2, limit, &broken).with(found)
    };
    let rescaled = recorded.rescaling(&subject.exact.semantics.logit_scale);
    let scale = if rescaled == 1.0 { String::new() } else { format!(" (recorded ones x {rescaled}, see logit scale)") };
    let mut checks = vec![judge("encoder hidden states", &hidden), judge(&format!("logits{scale}"), &logits)];
    // Hidden states are no distributions over words.
    checks[0].distances = checks[0].distances.map(|d| Distances { kl: None, top1: None, ..d });
    checks.extend(recorded.greedy.as_ref().map(|greedy| greedy_check(subject, &recorded, greedy)));
    checks
}

/// A recorded tensor beside the graph's, row by row: what stands at one position of one sequence.
struct Compared {
    name: &'static str,
    meter: Meter,
    /// Of rows that count: sequence, position, and the squares of the distance and of what was recorded.
    rows: Vec<([usize; 2], [f64; 2])>,
}

impl Compared {
    fn row(&mut self, place: [usize; 2], a: &[f32], b: &[f32]) {
        self.meter.add(a, b, a.len());
        let square = |x: f64| x * x;
        let apart = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
        self.rows.push((place, [apart, a.iter().map(|a| square(f64::from(*a))).sum()]));
    }

    /// Where it differs first, for a sentence; rows are related to the mean of all.
    fn first(&self, recorded: &Recorded) -> String {
        let size = self.rows.iter().map(|(_, [_, size])| size).sum::<f64>() / self.rows.len().max(1) as f64;
        // A row that holds a NaN is off too.
        let is_off = |apart: f64| apart.is_nan() || (apart / size).sqrt() > F32_NOISE;
        let Some((place, [apart, _])) = self.rows.iter().find(|(_, [apart, _])| is_off(*apart)) else {
            return String::new();
        };
        let [sequence, position] = *place;
        let token = recorded.token(self.name, sequence, position).map(|id| format!(" (token {id})"));
        format!(
            "; {} differs first in sequence {sequence} at position {position}{}, relative L2 {:.2e}",
            self.name,
            token.unwrap_or_default(),
            (apart / size).sqrt()
        )
    }
}

fn compare_recorded(subject: &Subject, recorded: &Recorded) -> Result<[Compared; 2], String> {
    let out = Interpreter::new(subject.imported).call("full", &recorded.feeds()).map_err(|e| e.to_string())?;
    let tensors = [("encoder_hidden", &recorded.encoder_hidden), ("logits", &recorded.logits)];
    let mut all = tensors.map(|(name, _)| Compared { name, meter: Meter::ZERO, rows: Vec::new() });
    for (compared, (name, expected)) in all.iter_mut().zip(tensors) {
        let found = out.get(name).ok_or_else(|| format!("expected an output {name} of full, found none"))?;
        let (Some(a), Some(b), true) = (expected.as_f32(), found.as_f32(), expected.shape() == found.shape()) else {
            return Err(format!("{name}: expected {:?} as recorded, found {:?}", expected.shape(), found.shape()));
        };
        let &[_, positions, width] = expected.shape() else { return Err(format!("{name}: expected rank 3")) };
        let is_logits = name == "logits";
        let scale = if is_logits { recorded.rescaling(&subject.exact.semantics.logit_scale) } else { 1.0 };
        for (row, (a, b)) in a.chunks(width).zip(b.chunks(width)).enumerate() {
            // What the encoder says at padding is never looked at, and differs between implementations.
            if is_logits || recorded.is_real(row) {
                let a: Vec<f32> = a.iter().map(|x| x * scale).collect();
                compared.row([row / positions, row % positions], &a, b);
            }
        }
    }
    Ok(all)
}

fn greedy_check(subject: &Subject, recorded: &Recorded, greedy: &Tensor) -> Check {
    let interpreter = caching(&subject.exact.graph);
    let mut session = Reference::new(&interpreter);
    let width = greedy.shape()[1];
    // The recording has the prompt, and ends where its longest sequence does. It was made with the checkpoint's own settings,
    // whatever a recipe puts in their place.
    let own = Greedy::from(subject.exact.checkpoint.generation());
    let prompt = own.prompt().len().min(width);
    let limit = own.at_most(width - prompt);
    let what = format!("greedy tokens against transformers {}", recorded.version);
    match limit.run(&mut session, &recorded.source) {
        Err(error) => Check::failed(Link::Import, what, error.to_string()),
        Ok(found) => {
            let expected: Vec<Generated> = greedy
                .as_i64()
                .expect("read as i64")
                .chunks(width.max(1))
                .map(|row| until_end(row, prompt, &limit.settings.eos_token_ids))
                .collect();
            let tokens = agreement(&expected[..expected.len().min(found.len())], &found, usize::MAX).map(|a| a.tokens);
            let broken = format!(
                "greedy decoding differs from transformers: if the logits above agree, look at the generation config{}",
                first_token(&expected, &found)
            );
            Check::judge(Link::Import, what, Metric::TokenAgreement, tokens, Limit::AtLeast(1.0), &broken)
        }
    }
}

/// Where sequences part first, for a sentence.
fn first_token(expected: &[Generated], found: &[Generated]) -> String {
    let parted = expected.iter().zip(found).enumerate().find(|(_, (a, b))| a.tokens != b.tokens);
    let Some((sequence, (a, b))) = parted else { return String::new() };
    let position = metrics::common_prefix(&a.tokens, &b.tokens);
    let told = |said: &Generated| said.tokens.get(position).map_or("the end".to_owned(), |id| format!("token {id}"));
    format!("; sequence {sequence} at position {position}: expected {}, found {}", told(a), told(b))
}

fn until_end(row: &[i64], prompt: usize, eos: &[i64]) -> Generated {
    let (prompt, said) = row.split_at(prompt);
    let end = said.iter().position(|token| eos.contains(token));
    let tokens = said[..end.map_or(said.len(), |end| end + 1)].to_vec();
    Generated { prompt: prompt.to_vec(), tokens, ended: end.is_some() }
}
