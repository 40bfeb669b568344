//! Evaluation data: inputs, targets, their tokens, and batches of them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use converters::Tokenizer;
use graph::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::metrics::Score;

/// The longest line of a data file, so that a binary file is refused instead of read into memory.
const LONGEST_LINE_BYTES: u64 = 1 << 20;

/// Text to token ids and back.
pub trait Text: Sync {
    /// Ids as the model is fed them, its end-of-sequence id included. Errors: the tokenizer's own words.
    fn encode(&self, text: &str) -> Result<Vec<i64>, String>;

    /// Text of generated ids; special tokens are left out.
    fn decode(&self, ids: &[i64]) -> String;
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

    fn decode(&self, ids: &[i64]) -> String {
        // What cannot be decoded is shown as such: it equals no target.
        Tokenizer::decode(self, ids, true).unwrap_or_else(|e| e.to_string())
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

/// One input and, if known, the right answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// As in the file.
    pub input: String,
    /// As in the file.
    pub target: Option<String>,
    /// What the encoder is fed; not empty.
    pub input_ids: Vec<i64>,
    /// What the decoder should say, ending with the end-of-sequence id; empty when there is no target.
    pub target_ids: Vec<i64>,
}

/// Samples and where they come from.
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// input a line. Empty lines are skipped.
    pub fn load(file: &Path, count: usize, text: &dyn Text) -> Result<Data, DataError> {
        let io = |source| DataError::Io { file: file.to_owned(), source };
        let json = file.extension().is_some_and(|e| e == "jsonl");
        let mut reader = BufReader::new(File::open(file).map_err(io)?);
        let (mut samples, mut raw, mut number) = (Vec::new(), Vec::new(), 0);
        let mut hash = Sha256::new();
        loop {
            raw.clear();
            let read = reader.by_ref().take(LONGEST_LINE_BYTES).read_until(b'\n', &mut raw).map_err(io)?;
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
            if read as u64 == LONGEST_LINE_BYTES && raw.last() != Some(&b'\n') {
                return Err(bad(format!("expected a line of at most {LONGEST_LINE_BYTES} bytes, found a longer one")));
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
            let encode = |words: &str| text.encode(words).map_err(|e| bad(format!("{words:?}: {e}")));
            let input_ids = encode(&found.input)?;
            if input_ids.is_empty() {
                return Err(bad("the input has no tokens".to_owned()));
            }
            let target_ids = found.target.as_deref().map_or(Ok(Vec::new()), encode)?;
            samples.push(Sample { input: found.input, target: found.target, input_ids, target_ids });
        }
        if samples.is_empty() {
            return Err(DataError::Empty { file: file.to_owned() });
        }
        let source = file.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
        let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Data { source, sha256, samples })
    }

    /// `count` inputs of 3 to 24 tokens drawn from `vocabulary` by a fixed rule, each ending with `eos`; without targets.
    ///
    /// For models whose recipe names no data: logits can be compared, a task cannot.
    pub fn drawn(count: usize, vocabulary: usize, eos: i64) -> Data {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            // Xorshift (Marsaglia 2003); its lower bits are enough for token ids.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below.max(1) as u64) as usize
        };
        let samples = (0..count.max(1)).map(|_| {
            let mut input_ids: Vec<i64> = (0..2 + next(22)).map(|_| next(vocabulary) as i64).collect();
            input_ids.push(eos);
            Sample { input: Ids.decode(&input_ids), target: None, input_ids, target_ids: Vec::new() }
        });
        let samples: Vec<Sample> = samples.collect();
        Data { source: format!("{} drawn inputs", samples.len()), sha256: String::new(), samples }
    }

    /// Whether every sample has a target, so that the task can be scored.
    pub fn has_targets(&self) -> bool {
        self.samples.iter().all(|s| s.target.is_some())
    }
}

/// Samples that are encoded and decoded side by side.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Their places in [`Data::samples`].
    pub samples: Vec<usize>,
    /// i64[b, enc], padded at the end.
    pub input_ids: Tensor,
    /// i64[b, enc], 0 at padding.
    pub attention_mask: Tensor,
    /// i64[b, dec]: the start token and the target but its last token, padded at the end.
    pub decoder_input_ids: Tensor,
    /// Tokens of each target: so many rows of logits count.
    pub target_tokens: Vec<usize>,
}

impl Batch {
    /// Batches the samples at the places `which`.
    pub fn new(data: &Data, which: &[usize], start: i64, pad: i64) -> Batch {
        let samples: Vec<&Sample> = which.iter().map(|&i| &data.samples[i]).collect();
        let inputs: Vec<Vec<i64>> = samples.iter().map(|s| s.input_ids.clone()).collect();
        let masks: Vec<Vec<i64>> = inputs.iter().map(|ids| vec![1; ids.len()]).collect();
        let shifted: Vec<Vec<i64>> = samples
            .iter()
            .map(|s| [&[start][..], s.target_ids.split_last().map_or(&[][..], |(_, before)| before)].concat())
            .collect();
        Batch {
            samples: which.to_vec(),
            input_ids: padded(&inputs, pad),
            attention_mask: padded(&masks, 0),
            decoder_input_ids: padded(&shifted, pad),
            target_tokens: samples.iter().map(|s| s.target_ids.len()).collect(),
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

fn padded(rows: &[Vec<i64>], fill: i64) -> Tensor {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let ids = rows.iter().flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(fill, width - row.len())));
    Tensor::i64([rows.len(), width], ids.collect())
}

/// All samples in batches of at most `rows`, neighbours in length together so that little is padding.
pub fn batches(data: &Data, rows: usize, start: i64, pad: i64) -> Vec<Batch> {
    let mut order: Vec<usize> = (0..data.samples.len()).collect();
    order.sort_by_key(|&i| (data.samples[i].input_ids.len(), data.samples[i].target_ids.len(), i));
    order.chunks(rows.max(1)).map(|which| Batch::new(data, which, start, pad)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

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
        assert_eq!((&data.samples[0].input_ids[..], &data.samples[0].target_ids[..]), (&[3, 4, 1][..], &[5, 1][..]));
        assert!(!data.has_targets());
        let whole = Data::load(&path, 9, &Ids).expect("three samples");
        assert_eq!((whole.samples.len(), &whole.sha256), (3, &data.sha256));
        let (_home, path) = file("a.txt", b"3 4\n5\n");
        assert_eq!(Data::load(&path, 9, &Ids).expect("two samples").samples[1].input_ids, [5]);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, expected) in [
            (&b"{\"input\":\"3\"}\n{\"in\":1}\n"[..], "a.jsonl:2: expected {\"input\""),
            (b"{\"input\":\"x\"}\n", "a.jsonl:1: \"x\": x is not a token id"),
            (b"{\"input\":\"\"}\n", "a.jsonl:1: the input has no tokens"),
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
            input_ids: input.to_vec(),
            target_ids: target.to_vec(),
        };
        let samples = vec![sample(&[7, 8, 1], &[5, 1]), sample(&[9, 1], &[4, 5, 6, 1])];
        let data = Data { source: String::new(), sha256: String::new(), samples };
        let batch = Batch::new(&data, &[0, 1], 2, 0);
        assert_eq!(batch.input_ids, Tensor::i64([2, 3], vec![7, 8, 1, 9, 1, 0]));
        assert_eq!(batch.attention_mask, Tensor::i64([2, 3], vec![1, 1, 1, 1, 1, 0]));
        assert_eq!(batch.decoder_input_ids, Tensor::i64([2, 4], vec![2, 5, 0, 0, 2, 4, 5, 6]));
        assert_eq!(batch.decoder_columns(1, 3), Tensor::i64([2, 2], vec![5, 0, 4, 5]));
        let all = batches(&data, 1, 2, 0);
        assert_eq!(all.iter().map(|b| b.samples[0]).collect::<Vec<_>>(), [1, 0]);
    }
}
