//! Evaluation data: inputs, targets, their tokens, and batches of them.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use converters::Tokenizer;
use converters::audio::{Clip, FrontEnd};
use converters::checkpoint::Generation;
use converters::limits::LINE_BYTES;
use graph::{DType, Feeds, Graph, Op, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::metrics::Score;

/// Most numbers of sources in one batch: encoders of features hold memory for the square of their frames.
const SOURCE_ELEMENTS: usize = 1 << 20;

/// Text to token ids and back.
pub trait Text: Sync {
    /// Ids as the model is fed them, its end-of-sequence id included. Errors: the tokenizer's own words.
    fn encode(&self, text: &str) -> Result<Vec<i64>, String>;

    /// Ids as the model should say them. Errors: likewise.
    fn encode_target(&self, text: &str) -> Result<Vec<i64>, String> {
        self.encode(text)
    }

    /// Text of generated ids; special tokens are left out.
    fn decode(&self, ids: &[i64]) -> String;

    /// What an input is to the encoder: a text its ids. `dir`: where a relative path begins, for inputs that are files.
    /// Errors: in words, without the input.
    fn source(&self, input: &str, dir: &Path) -> Result<Source, String> {
        let _ = dir;
        match self.encode(input)? {
            ids if ids.is_empty() => Err("it has no tokens".to_owned()),
            ids => Ok(Source::Ids(ids)),
        }
    }
}

/// For models without a tokenizer: a text is its ids, separated by spaces.
#[derive(Clone, Copy, Debug)]
pub struct Ids;

impl Text for Ids {
    fn encode(&self, text: &str) -> Result<Vec<i64>, String> {
        text.split_whitespace().map(|id| id.parse().map_err(|_| format!("{id} is not a token id"))).collect()
    }

    fn decode(&self, ids: &[i64]) -> String {
        ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")
    }
}

impl Text for Tokenizer {
    fn encode(&self, text: &str) -> Result<Vec<i64>, String> {
        Tokenizer::encode(self, text).map_err(|e| e.to_string())
    }

    fn encode_target(&self, text: &str) -> Result<Vec<i64>, String> {
        Tokenizer::encode_target(self, text).map_err(|e| e.to_string())
    }

    fn decode(&self, ids: &[i64]) -> String {
        // What cannot be decoded is shown as such: it equals no target.
        Tokenizer::decode(self, ids, true).unwrap_or_else(|e| e.to_string())
    }
}

/// For models that recognize speech: inputs are paths of clips.
pub struct Speech<'a> {
    /// Of what is said.
    pub text: &'a dyn Text,
    /// Of what is heard.
    pub front_end: FrontEnd,
    /// Ends what is said.
    pub eos: Option<i64>,
}

impl Text for Speech<'_> {
    fn encode(&self, text: &str) -> Result<Vec<i64>, String> {
        self.text.encode(text)
    }

    /// Without the special tokens around a text: the decoder is prompted with its own.
    fn encode_target(&self, text: &str) -> Result<Vec<i64>, String> {
        let ids = self.text.encode_target(text)?;
        let is_text = |id: &i64| !self.text.decode(&[*id]).is_empty();
        let (first, end) = match (ids.iter().position(is_text), ids.iter().rposition(is_text)) {
            (Some(first), Some(last)) => (first, last + 1),
            _ => (0, 0),
        };
        let ends = ids[first..end].last().copied() == self.eos;
        Ok(ids[first..end].iter().copied().chain(self.eos.filter(|_| !ends)).collect())
    }

    fn decode(&self, ids: &[i64]) -> String {
        self.text.decode(ids)
    }

    fn source(&self, input: &str, dir: &Path) -> Result<Source, String> {
        match self.front_end.listen(&dir.join(input)).map_err(|e| e.to_string())? {
            Clip::LogMel(features) => Ok(Source::Features(features)),
            Clip::Samples(samples) => Ok(Source::Samples(samples)),
        }
    }
}

/// The figure that says how well the model does its task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskMetric {
    /// Share of outputs whose words equal the target's.
    #[default]
    ExactMatch,
    /// Edit distance over words, over words of the target.
    TokenErrorRate,
}

impl TaskMetric {
    /// As the recipe spells it.
    pub fn name(self) -> &'static str {
        match self {
            TaskMetric::ExactMatch => "exact_match",
            TaskMetric::TokenErrorRate => "token_error_rate",
        }
    }

    /// Points (hundredths) by which `found` is worse than `reference`; negative when better.
    pub fn points_lost(self, reference: &Score, found: &Score) -> f64 {
        let lost = match self {
            TaskMetric::ExactMatch => reference.exact_match - found.exact_match,
            TaskMetric::TokenErrorRate => found.token_error_rate - reference.token_error_rate,
        };
        // One of 500 is 0.2 points and keeps a limit of 0.2, though 0.554 - 0.552 is a little more than 0.002 in binary.
        (lost * 1e11).round() / 1e9
    }
}

/// What an encoder is fed for one sample.
#[derive(Clone, PartialEq, Debug)]
pub enum Source {
    /// `input_ids`; not empty.
    Ids(Vec<i64>),
    /// `input_features`: f32[n_mels, frames], as many frames in every sample.
    Features(Tensor),
    /// `input_values`: raw samples of one channel; not empty.
    Samples(Vec<f32>),
}

impl Source {
    /// Tokens, frames or samples: what attention or convolutions run along.
    pub fn len(&self) -> usize {
        match self {
            Source::Ids(ids) => ids.len(),
            Source::Features(features) => features.shape().last().copied().unwrap_or(0),
            Source::Samples(samples) => samples.len(),
        }
    }

    /// Whether there is nothing to encode.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers in it.
    fn elements(&self) -> usize {
        match self {
            Source::Features(features) => features.len(),
            Source::Ids(_) | Source::Samples(_) => self.len(),
        }
    }

    /// What sources are called together: all of one kind, and features of one shape.
    ///
    /// `input_ids` are filled with `pad` at the end, `input_values` with 0, each beside an `attention_mask` i64 that is 0 there;
    /// `input_features` are stacked and have no mask. Errors: sources that cannot stand in one batch, in words.
    pub fn batch(sources: &[&Source], pad: i64) -> Result<Feeds, String> {
        let mixed = || "expected sources of one kind, found several".to_owned();
        let named = |pairs: Vec<(&str, Tensor)>| pairs.into_iter().map(|(name, t)| (name.to_owned(), t)).collect();
        let mask = || {
            let ones: Vec<Vec<i64>> = sources.iter().map(|s| vec![1; s.len()]).collect();
            let (shape, mask) = padded(&ones, 0);
            ("attention_mask", Tensor::i64(shape, mask))
        };
        match sources.first() {
            None => Err("expected at least one source, found none".to_owned()),
            Some(Source::Ids(_)) => {
                let ids = sources.iter().map(|s| if let Source::Ids(ids) = s { Some(ids) } else { None });
                let (shape, ids) = padded(&ids.collect::<Option<Vec<_>>>().ok_or_else(mixed)?, pad);
                Ok(named(vec![("input_ids", Tensor::i64(shape, ids)), mask()]))
            }
            Some(Source::Samples(_)) => {
                let rows = sources.iter().map(|s| if let Source::Samples(row) = s { Some(row) } else { None });
                let (shape, samples) = padded(&rows.collect::<Option<Vec<_>>>().ok_or_else(mixed)?, 0.0);
                Ok(named(vec![("input_values", Tensor::f32(shape, samples)), mask()]))
            }
            Some(Source::Features(first)) => {
                let mut all = Vec::with_capacity(first.len() * sources.len());
                for source in sources {
                    let Source::Features(features) = source else { return Err(mixed()) };
                    if features.shape() != first.shape() {
                        let (expected, found) = (first.shape(), features.shape());
                        return Err(format!(
                            "expected features f32{expected:?} as in the first sample, found f32{found:?}"
                        ));
                    }
                    all.extend_from_slice(features.as_f32().ok_or("expected features of f32, found i64")?);
                }
                let shape = [&[sources.len()], first.shape()].concat();
                Ok(named(vec![("input_features", Tensor::f32(shape, all))]))
            }
        }
    }
}

/// One input and, if known, the right answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// As in the file.
    pub input: String,
    /// As in the file.
    pub target: Option<String>,
    /// What the encoder is fed.
    pub source: Source,
    /// What the decoder should say, ending with the end-of-sequence id; empty when there is no target.
    pub target_ids: Vec<i64>,
}

/// Samples, their sources all of one kind, and where they come from.
#[derive(Clone, PartialEq, Debug)]
pub struct Data {
    /// File name, or how they were made.
    pub source: String,
    /// Of the file, in lowercase hexadecimal; empty when there is none.
    pub sha256: String,
    /// At least one.
    pub samples: Vec<Sample>,
}

/// The evaluation data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not a sample.
    #[error("{}:{line}: {message}", .file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// Expected, found.
        message: String,
    },
    /// No line is a sample.
    #[error("{}: expected at least one sample, found none", .file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Deserialize)]
struct JsonSample {
    input: String,
    target: Option<String>,
}

impl Data {
    /// The first `count` samples of a file: JSON lines `{"input": …, "target": …}` when its name ends in `.jsonl`, else one
    /// input a line. Empty lines are skipped. Paths of clips are relative to the file's folder.
    pub fn load(file: &Path, count: usize, text: &dyn Text) -> Result<Data, DataError> {
        let io = |source| DataError::Io { file: file.to_owned(), source };
        let json = file.extension().is_some_and(|e| e == "jsonl");
        let mut reader = BufReader::new(graph::open_file(file).map_err(io)?);
        let (mut samples, mut raw, mut number) = (Vec::new(), Vec::new(), 0);
        let mut hash = Sha256::new();
        loop {
            raw.clear();
            let read = reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut raw).map_err(io)?;
            if read == 0 {
                break;
            }
            number += 1;
            hash.update(&raw);
            if samples.len() == count {
                // The rest is read for its hash alone.
                continue;
            }
            let bad = |message: String| DataError::Line { file: file.to_owned(), line: number, message };
            if read as u64 == LINE_BYTES && raw.last() != Some(&b'\n') {
                return Err(bad(format!("expected a line of at most {LINE_BYTES} bytes, found a longer one")));
            }
            let line = std::str::from_utf8(&raw).map_err(|e| bad(format!("expected UTF-8: {e}")))?.trim();
            if line.is_empty() {
                continue;
            }
            let found = match json {
                true => serde_json::from_str(line)
                    .map_err(|e| bad(format!("expected {{\"input\": …, \"target\": …}}: {e}")))?,
                false => JsonSample { input: line.to_owned(), target: None },
            };
            let named = |words: &str, e: String| bad(format!("{words:?}: {e}"));
            let dir = file.parent().unwrap_or(Path::new(""));
            let source = text.source(&found.input, dir).map_err(|e| named(&found.input, e))?;
            let target_ids = found.target.as_deref().map_or(Ok(Vec::new()), |target| {
                text.encode_target(target).map_err(|e| named(target, e)) //
            })?;
            samples.push(Sample { input: found.input, target: found.target, source, target_ids });
        }
        if samples.is_empty() {
            return Err(DataError::Empty { file: file.to_owned() });
        }
        let source = file.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
        let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Data { source, sha256, samples })
    }

    /// `count` inputs drawn by a fixed rule for the encoder of a graph that was split; without targets.
    ///
    /// 3 to 24 tokens of the vocabulary of its embedding, none of them padding and the last an end if there is one; features
    /// of the shape that it takes, between -1 and 1; or a tenth to half a second of noise at 16 kHz. For models whose recipe
    /// names no data: logits can be compared, a task cannot. Errors: it takes nothing of the kind, in words.
    pub fn drawn(count: usize, graph: &Graph, decoding: &Generation) -> Result<Data, String> {
        let takes = Takes::of(graph)?;
        let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
        let samples = (0..count.max(1)).map(|i| {
            let source = takes.draw(&mut draw, decoding);
            let input = match &source {
                Source::Ids(ids) => Ids.decode(ids),
                Source::Features(_) | Source::Samples(_) => format!("noise {i}"),
            };
            Sample { input, target: None, source, target_ids: Vec::new() }
        });
        let samples: Vec<Sample> = samples.collect();
        Ok(Data { source: format!("{} drawn inputs", samples.len()), sha256: String::new(), samples })
    }

    /// Whether every sample has a target, so that the task can be scored.
    pub fn has_targets(&self) -> bool {
        self.samples.iter().all(|s| s.target.is_some())
    }
}

/// Xorshift (Marsaglia 2003), never 0.
pub(crate) struct Draw(u64);

impl Draw {
    /// Another sequence for each seed.
    pub(crate) fn new(seed: u64) -> Draw {
        let state = 0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0xd134_2543_de82_ef95);
        Draw(if state == 0 { 1 } else { state })
    }

    /// A number below `bound`; the lower bits are enough for token ids.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// A multiple of 2^-15 in [-1, 1).
    pub(crate) fn float(&mut self) -> f32 {
        self.below(1 << 16) as f32 / 32768.0 - 1.0
    }
}

/// What an encoder takes.
enum Takes {
    Ids { vocabulary: usize },
    Features { n_mels: usize, frames: usize },
    Samples,
}

impl Takes {
    fn of(graph: &Graph) -> Result<Takes, String> {
        let entry = graph.entry("encoder").ok_or("expected an entry encoder, found none; run the passes first")?;
        let input = |name: &str| entry.input(name).map(|id| (id, &graph.value(id).ty));
        if let Some((ids, _)) = input("input_ids") {
            let tables = graph.order(entry).into_iter().filter_map(|id| match (graph.op(id), graph.args(id)) {
                (Some(Op::Embed), &[of, table]) if of == ids => graph.value(table).ty.shape[0].literal(),
                _ => None,
            });
            let vocabulary = tables.min().ok_or("encoder: expected a table that embeds input_ids, found none")?;
            return Ok(Takes::Ids { vocabulary });
        }
        if let Some((_, ty)) = input("input_features") {
            let lengths: Vec<Option<usize>> = ty.shape.iter().map(|dim| dim.literal()).collect();
            return match (ty.dtype, &lengths[..]) {
                (DType::F32, &[_, Some(n_mels), Some(frames)]) => Ok(Takes::Features { n_mels, frames }),
                _ => Err(format!("encoder: expected input_features f32[batch, n_mels, frames], found {ty}")),
            };
        }
        match input("input_values") {
            Some((_, ty)) if ty.dtype == DType::F32 && ty.shape.len() == 2 => Ok(Takes::Samples),
            Some((_, ty)) => Err(format!("encoder: expected input_values f32[batch, samples], found {ty}")),
            None => {
                let found: Vec<&str> = entry.inputs.iter().map(|port| port.name.as_str()).collect();
                let found = found.join(", ");
                Err(format!("encoder: expected one of input_ids, input_features, input_values, found {found}"))
            }
        }
    }

    fn draw(&self, draw: &mut Draw, decoding: &Generation) -> Source {
        match *self {
            Takes::Ids { vocabulary } => {
                let tokens = 2 + draw.below(22);
                let mut ids = Vec::new();
                while ids.len() < tokens {
                    let id = draw.below(vocabulary) as i64;
                    // Some embeddings count positions by tokens that are not padding (M2M100 in transformers).
                    if id != decoding.pad_token_id || vocabulary == 1 {
                        ids.push(id);
                    }
                }
                ids.extend(decoding.eos_token_ids.first());
                Source::Ids(ids)
            }
            Takes::Features { n_mels, frames } => {
                Source::Features(Tensor::f32([n_mels, frames], (0..n_mels * frames).map(|_| draw.float()).collect()))
            }
            // A frame of Moonshine's front end needs 895 samples.
            Takes::Samples => Source::Samples((0..1600 + draw.below(6400)).map(|_| draw.float()).collect()),
        }
    }
}

/// Samples that are encoded and decoded side by side.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Their places in [`Data::samples`].
    pub samples: Vec<usize>,
    /// For [`crate::Session::encode`].
    pub source: Feeds,
    /// i64[b, dec]: the prompt and the target but its last token, padded at the end.
    pub decoder_input_ids: Tensor,
    /// Tokens of the prompt after the first and of each target: so many rows of logits count.
    pub target_tokens: Vec<usize>,
}

impl Batch {
    /// Batches the samples at the places `which`. Errors: those of [`Source::batch`].
    ///
    /// `prompt`: what the decoder is fed before it says anything, such as a start token.
    pub fn new(data: &Data, which: &[usize], prompt: &[i64], pad: i64) -> Result<Batch, String> {
        let samples: Vec<&Sample> = which.iter().map(|&i| &data.samples[i]).collect();
        let sources: Vec<&Source> = samples.iter().map(|s| &s.source).collect();
        let shifted: Vec<Vec<i64>> = samples
            .iter()
            .map(|s| [prompt, s.target_ids.split_last().map_or(&[][..], |(_, before)| before)].concat())
            .collect();
        let (shape, shifted) = padded(&shifted, pad);
        Ok(Batch {
            samples: which.to_vec(),
            source: Source::batch(&sources, pad)?,
            decoder_input_ids: Tensor::i64(shape, shifted),
            target_tokens: samples.iter().map(|s| prompt.len().saturating_sub(1) + s.target_ids.len()).collect(),
        })
    }

    /// The sequences at the places `rows`; targets are cut to the longest of them.
    pub fn of(&self, rows: &[usize]) -> Batch {
        fn pick<T: Copy>(data: &[T], rows: &[usize], row_len: usize) -> Vec<T> {
            rows.iter().flat_map(|row| data[row * row_len..][..row_len].iter().copied()).collect()
        }
        let source = self.source.iter().map(|(name, tensor)| {
            let shape = [&[rows.len()], &tensor.shape()[1..]].concat();
            let row_len = tensor.shape()[1..].iter().product();
            let picked = match tensor.data() {
                graph::tensor::Data::F32(data) => Tensor::f32(shape, pick(data, rows, row_len)),
                graph::tensor::Data::I64(data) => Tensor::i64(shape, pick(data, rows, row_len)),
            };
            (name.clone(), picked)
        });
        let target_tokens: Vec<usize> = rows.iter().map(|row| self.target_tokens[*row]).collect();
        let width = self.decoder_tokens();
        let kept = target_tokens.iter().copied().max().unwrap_or(0).clamp(1, width);
        let ids = self.decoder_input_ids.as_i64().expect("made of i64");
        let ids = rows.iter().flat_map(|row| ids[row * width..][..kept].iter().copied()).collect();
        Batch {
            samples: rows.iter().map(|row| self.samples[*row]).collect(),
            source: source.collect(),
            decoder_input_ids: Tensor::i64([rows.len(), kept], ids),
            target_tokens,
        }
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Target positions fed to the decoder.
    pub fn decoder_tokens(&self) -> usize {
        self.decoder_input_ids.shape()[1]
    }

    /// Columns `from..to` of the decoder's input: i64[b, to - from].
    pub fn decoder_columns(&self, from: usize, to: usize) -> Tensor {
        let ids = self.decoder_input_ids.as_i64().expect("made of i64");
        let width = self.decoder_tokens();
        let columns = ids.chunks(width).flat_map(|row| row[from..to].iter().copied()).collect();
        Tensor::i64([self.len(), to - from], columns)
    }
}

/// Rows filled to the length of the longest, and the shape of all.
fn padded<T: Copy>(rows: &[impl AsRef<[T]>], fill: T) -> ([usize; 2], Vec<T>) {
    let width = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let filled = |row: &[T]| [row, &vec![fill; width - row.len()]].concat();
    ([rows.len(), width], rows.iter().flat_map(|row| filled(row.as_ref())).collect())
}

/// All samples in batches of at most `rows`, neighbours in length together so that little is padding. Raw samples stand
/// beside those of the same length only: their encoders hear padding.
///
/// Errors: those of [`Source::batch`].
pub fn batches(data: &Data, rows: usize, prompt: &[i64], pad: i64) -> Result<Vec<Batch>, String> {
    let mut order: Vec<usize> = (0..data.samples.len()).collect();
    order.sort_by_key(|&i| (data.samples[i].source.len(), data.samples[i].target_ids.len(), i));
    let largest = data.samples.iter().map(|s| s.source.elements()).max().unwrap_or(1).max(1);
    let rows = rows.min(SOURCE_ELEMENTS / largest).max(1);
    let together = |a: &usize, b: &usize| match (&data.samples[*a].source, &data.samples[*b].source) {
        (Source::Samples(a), Source::Samples(b)) => a.len() == b.len(),
        _ => true,
    };
    let chunks = order.chunk_by(together).flat_map(|group| group.chunks(rows));
    chunks.map(|which| Batch::new(data, which, prompt, pad)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::Write;

    use graph::{BATCH, Blob, Build, Dim, ENC, FloatType, Sym, Type, Weight, WeightData};

    use super::*;
    use converters::audio::Features;

    fn file(name: &str, text: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().expect("temporary folder");
        let path = home.path().join(name);
        File::create(&path).and_then(|mut f| f.write_all(text)).expect("written");
        (home, path)
    }

    #[test]
    fn json_lines_and_plain_lines_are_read_up_to_the_count() {
        let (_home, path) =
            file("a.jsonl", b"{\"input\":\"3 4 1\",\"target\":\"5 1\"}\n\n{\"input\":\"7 1\"}\n{\"input\":\"9\"}\n");
        let data = Data::load(&path, 2, &Ids).expect("two samples");
        assert_eq!(data.samples.len(), 2);
        assert_eq!(
            (&data.samples[0].source, &data.samples[0].target_ids[..]),
            (&Source::Ids(vec![3, 4, 1]), &[5, 1][..])
        );
        assert!(!data.has_targets());
        let whole = Data::load(&path, 9, &Ids).expect("three samples");
        assert_eq!((whole.samples.len(), &whole.sha256), (3, &data.sha256));
        let (_home, path) = file("a.txt", b"3 4\n5\n");
        assert_eq!(Data::load(&path, 9, &Ids).expect("two samples").samples[1].source, Source::Ids(vec![5]));
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, expected) in [
            (&b"{\"input\":\"3\"}\n{\"in\":1}\n"[..], "a.jsonl:2: expected {\"input\""),
            (b"{\"input\":\"x\"}\n", "a.jsonl:1: \"x\": x is not a token id"),
            (b"{\"input\":\"\"}\n", "a.jsonl:1: \"\": it has no tokens"),
            (b"\xff\n", "a.jsonl:1: expected UTF-8"),
            (b"\n\n", "a.jsonl: expected at least one sample, found none"),
        ] {
            let (_home, path) = file("a.jsonl", text);
            let error = Data::load(&path, 9, &Ids).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        }
        let (_home, path) = file("a.jsonl", &vec![b'x'; 3 << 20]);
        assert!(Data::load(&path, 9, &Ids).expect_err("refused").to_string().contains("a longer one"));
    }

    #[test]
    fn a_batch_shifts_targets_right_and_pads_at_the_end() {
        let sample = |input: &[i64], target: &[i64]| Sample {
            input: String::new(),
            target: None,
            source: Source::Ids(input.to_vec()),
            target_ids: target.to_vec(),
        };
        let samples = vec![sample(&[7, 8, 1], &[5, 1]), sample(&[9, 1], &[4, 5, 6, 1])];
        let data = Data { source: String::new(), sha256: String::new(), samples };
        let batch = Batch::new(&data, &[0, 1], &[2], 0).expect("one kind");
        assert_eq!(batch.source["input_ids"], Tensor::i64([2, 3], vec![7, 8, 1, 9, 1, 0]));
        assert_eq!(batch.source["attention_mask"], Tensor::i64([2, 3], vec![1, 1, 1, 1, 1, 0]));
        assert_eq!(batch.decoder_input_ids, Tensor::i64([2, 4], vec![2, 5, 0, 0, 2, 4, 5, 6]));
        assert_eq!(batch.decoder_columns(1, 3), Tensor::i64([2, 2], vec![5, 0, 4, 5]));
        let prompted = Batch::new(&data, &[0], &[2, 8, 9], 0).expect("one kind");
        assert_eq!(prompted.decoder_input_ids, Tensor::i64([1, 4], vec![2, 8, 9, 5]));
        assert_eq!(prompted.target_tokens, [4], "logits after each of them count");
        let all = batches(&data, 1, &[2], 0).expect("one kind");
        assert_eq!(all.iter().map(|b| b.samples[0]).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn features_are_stacked_without_a_mask_and_samples_are_filled_with_silence_beside_one() {
        let features = |first: f32, shape: [usize; 2]| {
            Source::Features(Tensor::f32(shape, (0..shape[0] * shape[1]).map(|i| first + i as f32).collect()))
        };
        let (a, b) = (features(0.0, [2, 3]), features(10.0, [2, 3]));
        let batch = Source::batch(&[&a, &b], 9).expect("one shape");
        let stacked = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
        assert_eq!(batch, Feeds::from([("input_features".to_owned(), Tensor::f32([2, 2, 3], stacked.to_vec()))]));

        let (short, long) = (Source::Samples(vec![0.5]), Source::Samples(vec![0.25, -1.0]));
        let batch = Source::batch(&[&short, &long], 9).expect("one kind");
        assert_eq!(batch["input_values"], Tensor::f32([2, 2], vec![0.5, 0.0, 0.25, -1.0]));
        assert_eq!(batch["attention_mask"], Tensor::i64([2, 2], vec![1, 0, 1, 1]));

        let error = Source::batch(&[&a, &features(0.0, [2, 4])], 9).expect_err("another length");
        assert_eq!(error, "expected features f32[2, 3] as in the first sample, found f32[2, 4]");
        for mixed in [[&a, &short], [&short, &a], [&Source::Ids(vec![1]), &short]] {
            assert_eq!(Source::batch(&mixed, 9), Err("expected sources of one kind, found several".to_owned()));
        }
    }

    #[test]
    fn a_batch_holds_few_sources_that_are_large() {
        let sample = |source: Source| Sample { input: String::new(), target: None, source, target_ids: vec![1] };
        let large = || sample(Source::Features(Tensor::f32([80, 3000], vec![0.0; 80 * 3000])));
        let data = Data { source: String::new(), sha256: String::new(), samples: (0..9).map(|_| large()).collect() };
        assert_eq!(
            batches(&data, 64, &[2], 0).expect("one kind").iter().map(Batch::len).collect::<Vec<_>>(),
            [4, 4, 1]
        );
    }

    #[test]
    fn raw_samples_share_a_batch_with_those_of_their_length_only() {
        let sample = |n: usize| Sample {
            input: String::new(),
            target: None,
            source: Source::Samples(vec![0.5; n]),
            target_ids: vec![1],
        };
        let samples = [3, 5, 3, 3, 4].map(sample).to_vec();
        let data = Data { source: String::new(), sha256: String::new(), samples };
        let batches = batches(&data, 2, &[2], 0).expect("one kind");
        assert_eq!(batches.iter().map(|b| &b.samples[..]).collect::<Vec<_>>(), [&[0, 2][..], &[3], &[4], &[1]]);
    }

    /// A tokenizer that stands ids above 7 for special tokens.
    struct Framed;

    impl Text for Framed {
        fn encode(&self, text: &str) -> Result<Vec<i64>, String> {
            Ok([&[8, 9][..], &Ids.encode(text)?, &[8]].concat())
        }

        fn decode(&self, ids: &[i64]) -> String {
            Ids.decode(&ids.iter().copied().filter(|id| *id < 8).collect::<Vec<_>>())
        }
    }

    #[test]
    fn a_spoken_target_is_its_text_and_an_end() {
        let front_end = || FrontEnd::open(Path::new("nowhere"), Features::LogMel).expect("defaults");
        let target = |text: &dyn Text, words: &str, eos| {
            Speech { text, front_end: front_end(), eos }.encode_target(words).expect("ids")
        };
        assert_eq!(target(&Framed, "3 4", Some(9)), [3, 4, 9]);
        assert_eq!(target(&Framed, "", Some(9)), [9]);
        assert_eq!(target(&Framed, "3 9 4", None), [3, 9, 4]);
        assert_eq!(target(&Ids, "3 4 9", Some(9)), [3, 4, 9], "ids that have one");
    }

    /// A graph with an encoder that takes what the test says.
    fn encoder(name: &str, ty: Type) -> Graph {
        let b = Build::new();
        let input = b.input(name, ty);
        let table = b.weight(Weight {
            name: "table".into(),
            shape: vec![7, 2],
            data: WeightData::Stored { blob: Blob::memory([0; 56]), dtype: FloatType::F32 },
        });
        let y = if name == "input_ids" { input.embed(table) } else { input * 2.0 };
        b.entry("encoder", &[(name, input)], &[("encoder_hidden", y)], BTreeMap::new());
        b.finish().expect("a graph")
    }

    #[test]
    fn what_is_drawn_is_what_the_encoder_takes() {
        let decoding = Generation::plain(0, &[1, 2], 3, 20);
        let drawn = |graph: &Graph| Data::drawn(40, graph, &decoding).map(|data| data.samples);
        for sample in drawn(&encoder("input_ids", Type::i64([BATCH, ENC]))).expect("ids") {
            let Source::Ids(ids) = sample.source else { panic!("{:?}", sample.source) };
            assert!(
                (3..=24).contains(&ids.len())
                    && ids.last() == Some(&1)
                    && ids.iter().all(|id| (0..7).contains(id) && *id != 3)
            );
        }
        let features = encoder("input_features", Type::f32([Dim::from(BATCH), 4.into(), 6.into()]));
        let found = drawn(&features).expect("features");
        assert!(found[0].source != found[1].source);
        for sample in found {
            let Source::Features(features) = sample.source else { panic!("{:?}", sample.source) };
            assert_eq!(features.shape(), [4, 6]);
            assert!(features.as_f32().expect("floats").iter().all(|x| (-1.0..1.0).contains(x)));
        }
        let found = drawn(&encoder("input_values", Type::f32([BATCH, Sym("samples")]))).expect("samples");
        assert!(found.iter().all(|s| (1600..8000).contains(&s.source.len()) && matches!(s.source, Source::Samples(_))));

        let error = drawn(&encoder("pixels", Type::f32([BATCH]))).expect_err("no such source");
        assert_eq!(error, "encoder: expected one of input_ids, input_features, input_values, found pixels");
        let error = drawn(&encoder("input_features", Type::f32([BATCH, ENC]))).expect_err("two dimensions");
        assert_eq!(error, "encoder: expected input_features f32[batch, n_mels, frames], found f32[batch, enc]");
    }
}
