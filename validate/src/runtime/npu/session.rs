//! A session over graphs of fixed shapes.

use std::fs;
use std::path::Path;

use converters::export::npu::{Bucket, HOST_FILE, Host, Place, Port};
use graph::{Cache, Feeds, PortRole, Tensor};

use super::ports::{self, Signature};
use super::value::{Codes, Value, floats, type_name, write_token, zeros};
use crate::runtime::error::RuntimeError;
use crate::runtime::interface::Session;
use report::Check;
use report::Engine;

/// A description is a few hundred ports.
const HOST_BYTES: u64 = 16 << 20;

/// Whatever runs one graph.
pub(in crate::runtime) trait Step {
    /// What the graph takes and returns.
    fn signature(&self) -> Signature;

    /// Runs it. `inputs`: by name, all of them. Returns the outputs of these names. Errors: the engine's words.
    fn run(&mut self, inputs: &[(&str, &Value)], outputs: &[&str]) -> Result<Vec<Value>, String>;

    /// What the engine checks by itself after it has run.
    fn checks(_: &mut Steps<Self>) -> Vec<Check>
    where
        Self: Sized,
    {
        Vec::new()
    }
}

/// Runs an artifact as `npu.json` says: the encoder once a sequence, the decoder once a token.
pub(in crate::runtime) struct Steps<S> {
    runtime: &'static str,
    engine: Engine,
    host: Host,
    /// Of each bucket.
    graphs: Vec<Pair<S>>,
    encoded: Option<Encoded>,
}

/// The graphs of a bucket.
pub(in crate::runtime) struct Pair<S> {
    pub(in crate::runtime) encoder: S,
    pub(in crate::runtime) decoder: S,
}

struct Encoded {
    source: Feeds,
    rows: Vec<Row>,
}

/// One sequence.
struct Row {
    bucket: usize,
    /// i32[source]; empty when the source has no mask.
    mask: Vec<i32>,
    /// As the encoder's outputs are listed.
    cross: Vec<Value>,
    /// As the decoder's inputs list them.
    past: Vec<Value>,
    fed: usize,
}

/// Reads the description of an artifact. Errors: a sentence for everything that a host could not run by.
fn read(dir: &Path) -> Result<Host, String> {
    let file = dir.join(HOST_FILE);
    let place = |message: String| format!("{}: {message}", file.display());
    let len = fs::metadata(&file).map_err(|e| place(e.to_string()))?.len();
    if len > HOST_BYTES {
        return Err(place(format!("expected at most {HOST_BYTES} bytes, found {len}")));
    }
    let host =
        Host::read(dir).map_err(|e| e.to_string())?.ok_or_else(|| place("expected it, found none".to_owned()))?;
    match ports::check(&host) {
        wrong if wrong.is_empty() => Ok(host),
        wrong => Err(place(wrong.join("\n  "))),
    }
}

impl<S: Step> Steps<S> {
    /// Opens every graph of the artifact in `dir`.
    ///
    /// Errors: those of `open`, which is given a file; and everything in which `npu.json` and the graphs differ, at once.
    pub(in crate::runtime) fn open(
        runtime: &'static str,
        engine: Engine,
        dir: &Path,
        mut open: impl FnMut(&Path) -> Result<S, RuntimeError>,
    ) -> Result<Steps<S>, RuntimeError> {
        let failed = |message: String| RuntimeError::Failed { runtime, message };
        let host = read(dir).map_err(failed)?;
        let mut graphs = Vec::new();
        let mut wrong = Vec::new();
        for bucket in &host.buckets {
            let mut of = |place: &Place| {
                let graph = open(&dir.join(&place.file))?;
                wrong.extend(ports::compare(place, &graph.signature()));
                Ok(graph)
            };
            graphs.push(Pair { encoder: of(&bucket.encoder)?, decoder: of(&bucket.decoder)? });
        }
        match wrong.is_empty() {
            true => Ok(Steps { runtime, engine, host, graphs, encoded: None }),
            false => Err(failed(format!("{} and its graphs differ:\n  {}", HOST_FILE, wrong.join("\n  ")))),
        }
    }

    /// Every graph with its file.
    pub(in crate::runtime) fn graphs(&mut self) -> impl Iterator<Item = (&str, &mut S)> {
        let places = self.host.buckets.iter().flat_map(|b| [b.encoder.file.as_str(), b.decoder.file.as_str()]);
        places.zip(self.graphs.iter_mut().flat_map(|pair| [&mut pair.encoder, &mut pair.decoder]))
    }

    fn failed(&self, message: impl Into<String>) -> RuntimeError {
        RuntimeError::Failed { runtime: self.runtime, message: message.into() }
    }

    /// The sequences of a batch, each without its padding. Floats have none: what makes them has filled them to one shape.
    fn given(&self, source: &Feeds) -> Result<Vec<Given>, RuntimeError> {
        let mut seen = Vec::new();
        for (port, tensor) in source.iter().filter(|(_, tensor)| tensor.as_f32().is_some()) {
            seen.push(self.whole(port, tensor)?);
        }
        if !seen.is_empty() && !source.contains_key("input_ids") {
            let rows = seen.iter().map(Vec::len).min().unwrap_or_default();
            return Ok((0..rows).map(|row| Given { tokens: None, whole: of_row(&seen, row) }).collect());
        }
        let read = self.tokens(source)?;
        if let Some(other) = seen.iter().find(|rows| rows.len() != read.len()) {
            return Err(self.failed(format!("input_ids: expected {} sequences, found {}", other.len(), read.len())));
        }
        let given = |(row, tokens)| Given { tokens: Some(tokens), whole: of_row(&seen, row) };
        Ok(read.into_iter().enumerate().map(given).collect())
    }

    /// Floats of one port, by sequence.
    fn whole(&self, port: &str, tensor: &Tensor) -> Result<Vec<Whole>, RuntimeError> {
        let ([rows, of_one @ ..], Some(data)) = (tensor.shape(), tensor.as_f32()) else {
            return Err(self.failed(format!("{port}: expected f32 with a batch, found {:?}", tensor.shape())));
        };
        let of = |row: &[f32]| {
            let (port, shape, data) = (port.to_owned(), [&[1], of_one].concat(), row.to_vec());
            Whole { port, shape, data }
        };
        Ok(data.chunks(of_one.iter().product::<usize>().max(1)).take(*rows).map(of).collect())
    }

    /// Tokens, by sequence.
    fn tokens(&self, source: &Feeds) -> Result<Vec<Tokens>, RuntimeError> {
        let given = |name: &str| {
            let found: Vec<&str> = source.keys().map(String::as_str).collect();
            let tensor = source.get(name);
            let tensor = tensor.filter(|t| t.shape().len() == 2 && t.as_i64().is_some());
            tensor.ok_or_else(|| self.failed(format!("{name}: expected i64[b, enc], found {}", found.join(", "))))
        };
        let (ids, mask) = (given("input_ids")?, given("attention_mask")?);
        if ids.shape() != mask.shape() {
            let (expected, found) = (ids.shape(), mask.shape());
            return Err(self.failed(format!("attention_mask: expected i64{expected:?}, as input_ids, found {found:?}")));
        }
        let width = ids.shape()[1].max(1);
        let [ids, mask] = [ids, mask].map(|t| t.as_i64().expect("just seen"));
        let of = |(row, (ids, mask)): (usize, (&[i64], &[i64]))| {
            let len = mask.iter().rposition(|m| *m != 0).map_or(0, |last| last + 1);
            let ids = ids[..len].iter().map(|id| i32::try_from(*id)).collect::<Result<Vec<i32>, _>>();
            let ids =
                ids.map_err(|_| self.failed(format!("input_ids[{row}]: expected int32 ids, found larger ones")))?;
            Ok(Tokens { ids, mask: mask[..len].iter().map(|m| i32::from(*m != 0)).collect() })
        };
        ids.chunks(width).zip(mask.chunks(width)).enumerate().map(of).collect()
    }

    /// The bucket for a sequence of so many tokens or frames.
    fn bucket(&self, row: usize, len: usize) -> Result<usize, RuntimeError> {
        self.host.buckets.iter().position(|bucket| bucket.source >= len).ok_or_else(|| {
            let largest = self.host.buckets.iter().map(|b| b.source).max().unwrap_or(0);
            self.failed(format!(
                "source {row}: expected at most {largest} tokens, as the artifact's largest bucket takes, found {len}"
            ))
        })
    }

    fn encode_row(&mut self, row: usize, given: Given) -> Result<Row, RuntimeError> {
        let index = self.bucket(row, given.len())?;
        let bucket = &self.host.buckets[index];
        let (inputs, mask) = given.fill(bucket, self.host.pad_token_id);
        let of = |port: &str| inputs.iter().find(|(name, _)| *name == port).map(|(_, value)| value);
        let mut feeds = Vec::new();
        for port in &bucket.encoder.inputs {
            let value = of(&port.port);
            let value = value.filter(|v| v.codes.len() == port.shape.iter().product::<usize>()).ok_or_else(|| {
                let found: Vec<String> =
                    inputs.iter().map(|(n, v)| format!("{n} {}{:?}", v.codes.type_name(), v.shape)).collect();
                self.failed(format!(
                    "{}: {}: expected {:?}, found {}",
                    bucket.encoder.file,
                    port.port,
                    port.shape,
                    found.join(", ")
                ))
            })?;
            // The port says in which shape.
            feeds.push((port.name.as_str(), Value { shape: port.shape.clone(), codes: value.codes.clone() }));
        }
        let feeds: Vec<(&str, &Value)> = feeds.iter().map(|(name, value)| (*name, value)).collect();
        let names: Vec<&str> = bucket.encoder.outputs.iter().map(|port| port.name.as_str()).collect();
        let cross = self.graphs[index].encoder.run(&feeds, &names).and_then(|out| as_described(&bucket.encoder, out));
        let cross = cross.map_err(|e| self.failed(format!("{}: {e}", bucket.encoder.file)))?;
        Ok(Row { bucket: index, mask, cross, past: pasts(bucket), fed: 0 })
    }

    /// One token of one sequence; its logits.
    fn step(&mut self, row: &mut Row, id: i64) -> Result<Vec<f32>, RuntimeError> {
        let Bucket { encoder, decoder, .. } = &self.host.buckets[row.bucket];
        let failed = |message: String| RuntimeError::Failed {
            runtime: self.runtime,
            message: format!("{}: {message}", decoder.file),
        };
        let id = i32::try_from(id).map_err(|_| failed(format!("expected an int32 token, found {id}")))?;
        let position = i32::try_from(row.fed).expect("below target, which is the length of an int32 input");
        let integers = |port: &Port| {
            let codes = match PortRole::of(&port.port) {
                PortRole::DecoderIds => vec![id],
                PortRole::Position => vec![position],
                PortRole::Input("attention_mask") => row.mask.clone(),
                PortRole::Slot => (0..port.shape.iter().product()).map(|i: usize| i32::from(i == row.fed)).collect(),
                _ => return None,
            };
            Some(Value { shape: port.shape.clone(), codes: Codes::Int32(codes) })
        };
        let made: Vec<Option<Value>> = decoder.inputs.iter().map(integers).collect();
        let mut past = row.past.iter();
        let mut feeds: Vec<(&str, &Value)> = Vec::new();
        for (port, made) in decoder.inputs.iter().zip(&made) {
            let value = match made {
                Some(value) => value,
                None if matches!(PortRole::of(&port.port), PortRole::Past(_)) => {
                    past.next().expect("one for each such input")
                }
                None => {
                    let place = encoder.outputs.iter().position(|output| output.port == port.port);
                    &row.cross[place.expect("checked when it was opened")]
                }
            };
            feeds.push((&port.name, value));
        }
        let names: Vec<&str> = decoder.outputs.iter().map(|port| port.name.as_str()).collect();
        let outputs = self.graphs[row.bucket].decoder.run(&feeds, &names);
        let outputs = outputs.and_then(|out| as_described(decoder, out)).map_err(failed)?;

        let appends = ports::appends(decoder);
        let past = |port: &Port| match PortRole::of(&port.port) {
            PortRole::Past(cache) => Some(cache),
            _ => None,
        };
        let pasts: Vec<Cache> = decoder.inputs.iter().filter_map(past).collect();
        let mut logits = Vec::new();
        for (port, value) in decoder.outputs.iter().zip(outputs) {
            let PortRole::Present(cache) = PortRole::of(&port.port) else {
                logits = floats(&value.codes, port.numbers);
                continue;
            };
            let place = pasts.iter().position(|past| *past == cache).expect("checked when it was opened");
            let axis = port.token_axis.expect("checked when it was opened");
            let past = &mut row.past[place];
            match appends {
                // The last token has none after it that would look at it.
                true if row.fed < past.shape[axis] => write_token(past, &value, axis, row.fed),
                true => {}
                false => *past = value,
            }
        }
        row.fed += 1;
        Ok(logits)
    }
}

/// Outputs, when they have the types and shapes of their ports.
fn as_described(place: &Place, outputs: Vec<Value>) -> Result<Vec<Value>, String> {
    for (port, value) in place.outputs.iter().zip(&outputs) {
        if value.shape != port.shape || value.codes.type_name() != type_name(port.numbers) {
            let (found, shape) = (value.codes.type_name(), &value.shape);
            return Err(format!("{}: expected {}, found {found}{shape:?}", port.port, ports::ty(port)));
        }
    }
    Ok(outputs)
}

/// No token yet.
fn pasts(bucket: &Bucket) -> Vec<Value> {
    bucket
        .decoder
        .inputs
        .iter()
        .filter(|port| matches!(PortRole::of(&port.port), PortRole::Past(_)))
        .map(zeros)
        .collect()
}

/// A source without padding: tokens, floats, or tokens beside floats.
struct Given {
    tokens: Option<Tokens>,
    whole: Vec<Whole>,
}

struct Tokens {
    ids: Vec<i32>,
    mask: Vec<i32>,
}

/// Floats of one port. Nothing hides some of them from an encoder, so that all must be there.
#[derive(Clone)]
struct Whole {
    port: String,
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// Those of one sequence, of all ports.
fn of_row(ports: &[Vec<Whole>], row: usize) -> Vec<Whole> {
    ports.iter().map(|rows| rows[row].clone()).collect()
}

impl Given {
    fn len(&self) -> usize {
        let last = |whole: &Whole| whole.shape.last().copied().unwrap_or(0);
        self.tokens.as_ref().map_or_else(|| self.whole.first().map_or(0, last), |tokens| tokens.ids.len())
    }

    /// The encoder's inputs, filled to the length of a bucket, and the mask for its decoder.
    fn fill(self, bucket: &Bucket, pad_token_id: i64) -> (Vec<(String, Value)>, Vec<i32>) {
        let floats = |Whole { port, shape, data }: Whole| (port, Value { shape, codes: Codes::Float32(data) });
        let mut inputs: Vec<(String, Value)> = self.whole.into_iter().map(floats).collect();
        let Some(Tokens { mut ids, mut mask }) = self.tokens else { return (inputs, Vec::new()) };
        ids.resize(bucket.source, i32::try_from(pad_token_id).expect("checked when it was opened"));
        mask.resize(bucket.source, 0);
        let value = |codes| Value { shape: vec![1, bucket.source], codes: Codes::Int32(codes) };
        let tokens = [("input_ids", value(ids)), ("attention_mask", value(mask.clone()))];
        inputs.extend(tokens.map(|(port, value)| (port.to_owned(), value)));
        (inputs, mask)
    }
}

impl<S: Step> Session for Steps<S> {
    fn engine(&self) -> Engine {
        self.engine.clone()
    }

    fn limit_tokens(&self) -> Option<usize> {
        Some(self.host.target)
    }

    fn rows_at_once(&self) -> Option<usize> {
        Some(1)
    }

    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError> {
        if let Some(Encoded { source: known, rows }) = &mut self.encoded
            && known == source
        {
            // The same sources again: only the targets start anew.
            for row in rows {
                (row.past, row.fed) = (pasts(&self.host.buckets[row.bucket]), 0);
            }
            return Ok(());
        }
        self.encoded = None;
        let given = self.given(source)?;
        let rows = given.into_iter().enumerate().map(|(row, given)| self.encode_row(row, given));
        let rows = rows.collect::<Result<Vec<Row>, RuntimeError>>()?;
        self.encoded = Some(Encoded { source: source.clone(), rows });
        Ok(())
    }

    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError> {
        // Until it has succeeded, the sequences are not in step.
        let Some(mut encoded) = self.encoded.take() else {
            return Err(self.failed("decode before encode"));
        };
        let (&[rows, tokens], Some(ids)) = (decoder_input_ids.shape(), decoder_input_ids.as_i64()) else {
            return Err(self.failed(format!("decoder_input_ids: expected i64[b, n], found {decoder_input_ids:?}")));
        };
        if rows != encoded.rows.len() || tokens == 0 {
            let expected = encoded.rows.len();
            return Err(self.failed(format!(
                "decoder_input_ids: expected {expected} sequences of at least a token, as encoded, found {rows} of {tokens}"
            )));
        }
        let mut logits = Vec::new();
        for (row, ids) in encoded.rows.iter_mut().zip(ids.chunks(tokens)) {
            if row.fed + tokens > self.host.target {
                let (limit, found) = (self.host.target, row.fed + tokens);
                return Err(self.failed(format!(
                    "decoder_input_ids: expected at most {limit} tokens, for so many the artifact has room, found {found}"
                )));
            }
            for id in ids {
                logits.extend(self.step(row, *id)?);
            }
        }
        self.encoded = Some(encoded);
        let width = logits.len() / (rows * tokens).max(1);
        Ok(Tensor::f32([rows, tokens, width], logits))
    }

    fn checks(&mut self) -> Vec<Check> {
        S::checks(self)
    }
}
