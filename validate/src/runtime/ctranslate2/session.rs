//! The logits of the engine's own greedy search.

use converters::Artifact;
use graph::tensor::Data;
use graph::{Feeds, FloatType, Tensor};
use report::Engine;
use report::figures::counted;
use serde_json::{Value, json};

use super::folder::{Folder, hears};
use super::{ENGINE, FORMAT, Reply, failed, probe, start};
use crate::runtime::error::RuntimeError;
use crate::runtime::interface::{Options, Present, Program, Runtime, Session};
use crate::runtime::pipe::Pipe;

/// Logits of one call; a reply that announces more is nonsense.
const LOGIT_BYTES: usize = 4 << 30;

/// `ctranslate2`, on the CPU, in the type that the artifact was saved for.
#[derive(Clone, Copy, Debug)]
pub struct CTranslate2;

impl Program for CTranslate2 {
    fn name(&self) -> &'static str {
        ENGINE
    }

    fn runs(&self, format: &str) -> bool {
        format == FORMAT
    }

    fn probe(&self, options: &Options) -> Result<Present, RuntimeError> {
        probe(options)
    }
}

impl Runtime for CTranslate2 {
    fn open(&self, artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        let folder = if hears(&artifact.dir) { None } else { Some(Folder::read(&artifact.dir).map_err(failed)?) };
        let pipe = start(artifact, options)?;
        let engine = Engine { name: ENGINE.to_owned(), version: String::new(), settings: String::new() };
        let mut session = Decoder { pipe, engine, folder, targets: Vec::new() };
        session.greet(options.threads.max(1))?;
        Ok(Box::new(session))
    }
}

struct Decoder {
    pipe: Pipe,
    engine: Engine,
    /// Of a model that reads texts; speech is spoken of in ids.
    folder: Option<Folder>,
    /// What has been fed since the batch was encoded.
    targets: Vec<Vec<i64>>,
}

impl Decoder {
    fn greet(&mut self, threads: usize) -> Result<(), RuntimeError> {
        let reply = self.call(&json!({ "call": "versions" }), Vec::new())?;
        let (Some(version), Some(compute_type)) = (reply.version, reply.compute_type) else {
            return Err(failed(self.pipe.nonsense("expected versions, found none")));
        };
        let counted = counted(threads as u64, "thread");
        self.engine.version = version;
        self.engine.settings = format!("compute type {compute_type}, beam size 1, {counted}");
        Ok(())
    }

    fn call(&mut self, request: &Value, values: Vec<Vec<u8>>) -> Result<Reply, RuntimeError> {
        self.pipe.call::<Reply>(request, values).map_err(failed)?.accepted()
    }

    /// Whether targets begin with the token after the last of the vocabulary: one that only begins them, for which the engine has zeros.
    fn starts_outside(&self) -> bool {
        let outside = self.folder.as_ref().map(|folder| folder.target.len() as i64);
        self.targets.iter().all(|target| target.first().copied() == outside)
    }

    /// What the engine is to be told of the targets: the first token of each, unless it knows it, and the rest.
    fn told(&self) -> Result<[Value; 2], String> {
        let first = self.targets.iter().map(|target| target[0]);
        let rest = self.targets.iter().map(|target| &target[1..]);
        let Some(folder) = &self.folder else {
            return Ok([json!(first.collect::<Vec<_>>()), json!(rest.collect::<Vec<_>>())]);
        };
        let token = |id: &i64| folder.target.token(*id);
        if self.starts_outside() {
            let given =
                rest.map(|rest| rest.iter().map(token).collect()).collect::<Result<Vec<Vec<&str>>, String>>()?;
            return Ok([Value::Null, json!(given)]);
        }
        let starts = self.targets.iter().map(|target| token(&target[0])).collect::<Result<Vec<&str>, String>>()?;
        let given = rest.map(|rest| rest.iter().map(token).collect()).collect::<Result<Vec<Vec<&str>>, String>>()?;
        let starts = match &folder.config.decoder_start_token {
            None => json!(starts),
            Some(known) => match starts.iter().find(|start| *start != known) {
                None => Value::Null,
                Some(other) => {
                    return Err(format!("config.json has {known} put before each target, and one begins with {other}"));
                }
            },
        };
        Ok([starts, json!(given)])
    }
}

/// `[batch, length]` and the ids.
fn ids(tensor: &Tensor) -> Result<([usize; 2], &[i64]), RuntimeError> {
    match (tensor.shape(), tensor.as_i64()) {
        ([batch, length], Some(ids)) if *length > 0 => Ok(([*batch, *length], ids)),
        (found, _) => Err(failed(format!("expected ids i64[b, n], n ≥ 1, found {found:?}"))),
    }
}

impl Session for Decoder {
    fn engine(&self) -> Engine {
        self.engine.clone()
    }

    fn process(&self) -> Option<u32> {
        Some(self.pipe.process())
    }

    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError> {
        self.targets.clear();
        let (request, values) = match (&self.folder, source.get("input_features")) {
            (Some(folder), _) => {
                let port = |name: &str| source.get(name).ok_or_else(|| failed(format!("expected {name}, found none")));
                let ([_, length], tokens) = ids(port("input_ids")?)?;
                let (_, mask) = ids(port("attention_mask")?)?;
                let rows = tokens.chunks(length).zip(mask.chunks(length));
                let real = rows.map(|(ids, mask)| {
                    ids.iter().zip(mask).filter(|(_, real)| **real != 0).map(|(id, _)| *id).collect()
                });
                let real: Vec<Vec<i64>> = real.collect();
                let sources =
                    real.iter().map(|ids| folder.source(ids)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
                (json!({ "call": "encode", "sources": sources }), Vec::new())
            }
            (None, Some(features)) => {
                let Data::F32(floats) = features.data() else { return Err(failed("expected f32 features".to_owned())) };
                let mut bytes = vec![0; 4 * floats.len()];
                FloatType::F32.encode(floats, &mut bytes);
                (json!({ "call": "encode", "shape": features.shape() }), vec![bytes])
            }
            (None, None) => return Err(failed("expected input_features, found none".to_owned())),
        };
        self.call(&request, values).map(drop)
    }

    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError> {
        let ([batch, length], next) = ids(decoder_input_ids)?;
        self.targets.resize(batch, Vec::new());
        self.targets.iter_mut().zip(next.chunks(length)).for_each(|(target, next)| target.extend(next));
        let [starts, given] = self.told().map_err(failed)?;
        let request = json!({ "call": "decode", "starts": starts, "given": given, "last": length });
        let vocabulary = self.call(&request, Vec::new())?.vocab.unwrap_or(0);
        let bytes = [batch, length, vocabulary, 4].into_iter().try_fold(1_usize, usize::checked_mul);
        let Some(bytes) = bytes.filter(|bytes| (1..=LOGIT_BYTES).contains(bytes)) else {
            let what = format!("expected logits of a vocabulary, found a width of {vocabulary}");
            return Err(failed(self.pipe.nonsense(&what)));
        };
        let values = self.pipe.values(bytes, "logits").map_err(failed)?;
        let mut logits = vec![0.0; bytes / 4];
        FloatType::F32.decode(&values, &mut logits);
        if self.starts_outside() {
            // The head has a row of zeros for it, and so no logit but 0.
            logits = logits.chunks(vocabulary).flat_map(|row| row.iter().copied().chain([0.0])).collect();
            return Ok(Tensor::f32([batch, length, vocabulary + 1], logits));
        }
        Ok(Tensor::f32([batch, length, vocabulary], logits))
    }

    fn keeps_for_nothing(&self) -> bool {
        true
    }

    fn keep(&mut self, rows: &[usize]) -> Result<bool, RuntimeError> {
        self.call(&json!({ "call": "keep", "rows": rows }), Vec::new())?;
        self.targets = rows.iter().filter_map(|row| self.targets.get(*row).cloned()).collect();
        Ok(true)
    }
}
