//! The links that need no engine: import, passes, export.

use std::collections::BTreeMap;
use std::path::Path;

use converters::ExportError;
use converters::export::npu::{HOST_FILE, Host, Severity, profile};
use converters::limits;
use graph::eval::{Feeds, Interpreter};
use graph::{DType, Graph, Tensor, WeightData, WeightError, Weights};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};

use super::agreement::agreement;
use super::error::ChainError;
use super::limits::{Arithmetic, F32_NOISE};
use super::measure::{self, Outputs, Plan, Way};
use super::subject::Subject;
use crate::generate::Generated;
use crate::lint::{self, Finding};
use crate::runtime::reference::{Reference, caching};
use crate::runtime::{RuntimeError, Session};
use metrics::{Distances, Meter};
use report::{Check, Limit, Link, Metric, OutputFile};

/// A recorded file larger than this is not what `record` scripts write.
const RECORDED_BYTES: u64 = 1 << 30;
/// Elements of a weight compared at a time.
const PIECE: usize = 1 << 20;
/// Weights, or rules, that a sentence names.
const NAMED: usize = 5;

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
pub fn import(subject: &Subject) -> Vec<Check> {
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
        let is_off = |apart: f64| !((apart / size).sqrt() <= F32_NOISE);
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
    let own = crate::generate::Greedy::from(subject.exact.checkpoint.generation());
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

/// The graph before the passes against the one after, and the whole target against steps with cache.
///
/// Errors: the graph cannot be evaluated.
pub fn passes(
    subject: &Subject,
    interpreter: &Interpreter,
    plan: &Plan,
    outputs: &Outputs,
) -> Result<Vec<Check>, ChainError> {
    let limit = Limit::AtMost(F32_NOISE);
    let mut checks = Vec::new();
    let (_, call) = plan.of(Way::Padded).next().expect("every plan has a padded batch");
    // Two of very different lengths: an encoder may be long.
    let mut rows = vec![0, call.batch.len() - 1];
    rows.dedup();
    let batch = call.batch.of(&rows);
    let decoder_input_ids = batch.decoder_columns(0, call.tokens(None).min(batch.decoder_tokens()));
    let mut feeds = batch.source.clone();
    feeds.insert("decoder_input_ids".to_owned(), decoder_input_ids.clone());
    let failed = |e: graph::EvalError| RuntimeError::Failed { runtime: "reference", message: e.to_string() };
    let whole = |interpreter: &Interpreter| -> Result<Tensor, ChainError> {
        let mut out = interpreter.call("full", &feeds).map_err(failed)?;
        out.remove("logits").ok_or(ChainError::Lacks { expected: "an output logits of the entry full" })
    };
    let before = whole(&caching(subject.imported))?;
    let mut session = Reference::new(interpreter);
    session.encode(&batch.source)?;
    let split = crate::generate::decode(&mut session, &decoder_input_ids)?;
    let mut compare = |what: &str, found: &Tensor, broken: &str| {
        let (Some(a), Some(b), true) = (before.as_f32(), found.as_f32(), before.shape() == found.shape()) else {
            let sentence = format!("expected logits {:?}, found {:?}", before.shape(), found.shape());
            checks.push(Check::failed(Link::Passes, what, sentence));
            return;
        };
        let mut meter = Meter::ZERO;
        meter.add(a, b, plan.vocabulary);
        let found = meter.distances();
        checks.push(Check::judge(Link::Passes, what, Metric::RelL2, found.rel_l2, limit, broken).with(found));
    };
    compare(
        "the whole model before and after the passes",
        &whole(interpreter)?,
        "a pass changes the meaning of the graph: leave out one pass at a time to find it",
    );
    compare(
        "the whole model and encoder + decoder",
        &split,
        "the entries that split made compute something else than the whole model",
    );
    let found = measure::between(plan, outputs, Way::Padded, Way::Steps)?.distances();
    let broken = "decoding with cache differs from the whole target: split moved a position, mask or bias wrongly";
    let what = "the whole target and one token at a time, with cache";
    checks.push(Check::judge(Link::Passes, what, Metric::RelL2, found.rel_l2, limit, broken).with(found));
    Ok(checks)
}

/// Whether every weight of `quantized` is still stored as in `exact`, or wider.
pub fn lossless(exact: &Graph, quantized: &Graph) -> bool {
    let wide = |data: &WeightData| data.type_name() == "f32";
    quantized.weights.iter().all(|(_, weight)| {
        let original = exact.weights.find(&weight.name).map(|id| &exact.weights.get(id).data);
        match (&weight.data, original) {
            (data, Some(original)) => wide(data) || data.base().type_name() == original.base().type_name(),
            (_, None) => false,
        }
    }) && Arithmetic::of(quantized) == Arithmetic::of(exact)
}

/// The graph's weights against those read back from the artifact, bit for bit.
pub fn export(graph: &Graph, read: Result<Weights, ExportError>) -> Check {
    let what = format!("{} weights read back", graph.weights.len());
    let read = match read {
        Ok(read) => read,
        Err(error) => return Check::failed(Link::Export, what, format!("the artifact cannot be read back: {error}")),
    };
    let ids: Vec<_> = graph.weights.iter().map(|(id, _)| id).collect();
    let mut wrong: Vec<String> = ids.par_iter().filter_map(|id| differs(graph.weights.get(*id), &read).err()).collect();
    let extra = read.iter().filter(|(_, w)| graph.weights.find(&w.name).is_none());
    wrong.extend(extra.map(|(_, w)| format!("{}: not a weight of the graph", w.name)));
    let count = wrong.len();
    let more = if count > NAMED { format!("; and {} more", count - NAMED) } else { String::new() };
    wrong.truncate(NAMED);
    let broken = format!(
        "the file does not hold what the graph does, so its writer or reader is wrong: {}{more}",
        wrong.join("; ")
    );
    Check::judge(Link::Export, what, Metric::DifferingWeights, Some(count as f64), Limit::AtMost(0.0), &broken)
}

/// The files of an artifact against those that its manifest names.
pub fn digests(manifest: &[OutputFile], found: &[OutputFile]) -> Check {
    let what = format!("{} files and their digests", manifest.len());
    let of = |files: &[OutputFile], path: &str| files.iter().find(|file| file.path == path).cloned();
    let mut wrong: Vec<String> = manifest
        .iter()
        .filter_map(|then| match of(found, &then.path) {
            None => Some(format!("{} is gone", then.path)),
            Some(now) if now.bytes != then.bytes => {
                Some(format!("{}: expected {} bytes, found {}", then.path, then.bytes, now.bytes))
            }
            Some(now) if now.sha256 != then.sha256 => Some(format!("{} has another SHA-256", then.path)),
            Some(_) => None,
        })
        .collect();
    let strangers = found.iter().filter(|now| of(manifest, &now.path).is_none());
    wrong.extend(strangers.map(|now| format!("{} was not written with it", now.path)));
    if wrong.is_empty() {
        return Check::passed(Link::Export, what, "");
    }
    let more = if wrong.len() > NAMED { format!("; and {} more", wrong.len() - NAMED) } else { String::new() };
    wrong.truncate(NAMED);
    let sentence = format!("the artifact is not what was written: {}{more}; convert it again", wrong.join("; "));
    Check::failed(Link::Export, what, sentence)
}

/// The graphs of an artifact for NPUs against the rules of the profile that it was written for.
pub fn lint(dir: &Path) -> Check {
    linted(dir).unwrap_or_else(|sentence| Check::failed(Link::Export, "lint", sentence))
}

fn linted(dir: &Path) -> Result<Check, String> {
    let host =
        Host::read(dir).map_err(|e| e.to_string())?.ok_or_else(|| format!("expected a {HOST_FILE}, found none"))?;
    let profile = profile(&host.profile)
        .ok_or_else(|| format!("{HOST_FILE}: expected a known profile, found {}", host.profile))?;
    let graphs = lint::graphs(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let judged = lint::lint(&graphs, profile).map_err(|e| e.to_string())?;
    let what = format!("lint for {}", profile.name);
    let warnings = match lint::count(&judged, Severity::Warning) {
        0 => "no warnings".to_owned(),
        1 => "1 warning".to_owned(),
        n => format!("{n} warnings"),
    };
    let findings = judged.iter().flat_map(|judged| &judged.findings);
    let mut errors: BTreeMap<&str, (usize, &Finding)> = BTreeMap::new();
    for finding in findings.filter(|finding| finding.severity == Severity::Error) {
        errors.entry(finding.rule).or_insert((0, finding)).0 += 1;
    }
    if errors.is_empty() {
        return Ok(Check::passed(Link::Export, what, warnings));
    }
    let named = errors.iter().take(NAMED).map(|(rule, (count, first))| format!("{rule} {count} times: {}", first.why));
    let named: Vec<String> = named.collect();
    let more = match errors.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!("; and {n} more rules"),
    };
    let sentence = format!(
        "the toolchain refuses the graphs or computes them wrongly, see `trefoil lint`: {}{more}; {warnings}",
        named.join("; ")
    );
    Ok(Check::failed(Link::Export, what, sentence))
}

/// Errors: one line that says how the weight differs.
fn differs(weight: &graph::Weight, read: &Weights) -> Result<(), String> {
    let name = &weight.name;
    let found = read.find(name).map(|id| read.get(id)).ok_or_else(|| format!("{name}: missing"))?;
    if found.shape != weight.shape {
        return Err(format!("{name}: expected {:?}, found {:?}", weight.shape, found.shape));
    }
    let [rows, columns] = weight.matrix();
    let step = (PIECE / columns.max(1)).max(1);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for from in (0..rows).step_by(step) {
        let piece = from..rows.min(from + step);
        let text = |e: WeightError| e.to_string();
        weight.rows(piece.clone(), &mut a).map_err(text)?;
        found.rows(piece, &mut b).map_err(text)?;
        if let Some(i) = a.iter().zip(&b).position(|(a, b)| a.to_bits() != b.to_bits()) {
            let (row, column) = (from + i / columns.max(1), i % columns.max(1));
            return Err(format!("{name}[{row}, {column}]: expected {:?}, found {:?}", a[i], b[i]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use graph::{Blob, FloatType, Weight};

    use super::*;

    fn weights(list: &[(&str, [usize; 2], &[f32])]) -> Weights {
        let mut weights = Weights::default();
        for (name, shape, values) in list {
            let mut bytes = vec![0; values.len() * 4];
            FloatType::F32.encode(values, &mut bytes);
            let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
            weights.push(Weight { name: (*name).into(), shape: shape.to_vec(), data });
        }
        weights
    }

    fn sentence(graph: &[(&str, [usize; 2], &[f32])], read: &[(&str, [usize; 2], &[f32])]) -> (f64, String) {
        let graph = Graph { weights: weights(graph), ..Graph::default() };
        let check = export(&graph, Ok(weights(read)));
        (check.value.expect("a count"), check.sentence)
    }

    #[test]
    fn bits_are_compared_and_every_kind_of_difference_is_told() {
        let graph = [("a", [2, 2], &[1.0, 2.0, 0.0, f32::NAN][..]), ("b", [1, 1], &[1.0])];
        assert_eq!(sentence(&graph, &graph), (0.0, String::new()));
        let minus_zero = [("a", [2, 2], &[1.0, 2.0, -0.0, f32::NAN][..]), graph[1]];
        let (count, text) = sentence(&graph, &minus_zero);
        assert!(count == 1.0 && text.ends_with("a[1, 0]: expected 0.0, found -0.0"), "{text}");
        let (count, text) = sentence(&graph, &[("a", [4, 1], graph[0].2), ("c", [1, 1], &[1.0])]);
        assert_eq!(count, 3.0);
        assert!(text.ends_with("a: expected [2, 2], found [4, 1]; b: missing; c: not a weight of the graph"), "{text}");
    }

    #[test]
    fn a_truncated_weight_is_told_and_does_not_panic() {
        let graph = Graph { weights: weights(&[("a", [1, 2], &[1.0, 2.0])]), ..Graph::default() };
        let data = WeightData::Stored { blob: Blob::memory([0; 7]), dtype: FloatType::F32 };
        let mut read = Weights::default();
        read.push(Weight { name: "a".into(), shape: vec![1, 2], data });
        let check = export(&graph, Ok(read));
        assert!(check.sentence.contains("a: cannot read its rows"), "{}", check.sentence);
    }
}
