//! Evaluation data: inputs, targets, their tokens, and batches of them.

mod lines;

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use converters::checkpoint::Generation;
use frontend::{Draw, FrontEnd, Input, Noise, Original};
use graph::{Feeds, Graph, Tensor};
use sha2::{Digest, Sha256};

pub use frontend::{Ids, Text};
pub use lines::{Line, Lines};

/// Most numbers of sources in one batch: encoders of features hold memory for the square of their frames.
const SOURCE_ELEMENTS: usize = 1 << 20;

/// One input and, if known, the right answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// As in the file.
    pub input: String,
    /// As in the file.
    pub target: Option<String>,
    /// What the encoder is fed.
    pub source: Input,
    /// What it was made of.
    pub original: Original,
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

impl Data {
    /// The first `count` samples of a file: JSON lines `{"input": …, "target": …}` when its name ends in `.jsonl`, else one
    /// input a line. Empty lines are skipped. Paths of clips and images are relative to the file's folder.
    pub fn load(file: &Path, count: usize, front_end: &dyn FrontEnd) -> Result<Data, DataError> {
        Data::load_prompted(file, count, front_end, &|_| Err("expected no prompt: none is asked for here".to_owned()))
    }

    /// The same, where a line may say what the decoder is fed first (`"prompt": …`). `is_fed`: whether that is what all samples are
    /// decoded with. Errors: it says why not.
    pub fn load_prompted(
        file: &Path,
        count: usize,
        front_end: &dyn FrontEnd,
        is_fed: &dyn Fn(&str) -> Result<(), String>,
    ) -> Result<Data, DataError> {
        let io = |source| DataError::Io { file: file.to_owned(), source };
        let mut lines = Lines::of_file(file, BufReader::new(graph::open_file(file).map_err(io)?));
        let mut samples = Vec::new();
        let mut hash = Sha256::new();
        while lines.advance().map_err(io)? {
            hash.update(lines.raw());
            if samples.len() == count {
                // The rest is read for its hash alone.
                continue;
            }
            let bad = |message: String| DataError::Line { file: file.to_owned(), line: lines.number(), message };
            let Some(found) = lines.line().map_err(bad)? else { continue };
            let named = |words: &str, e: String| bad(format!("{words:?}: {e}"));
            let asks = front_end.reads_prompts();
            if let Some(prompt) = found.prompt.as_deref().filter(|_| !asks) {
                is_fed(prompt).map_err(|e| named(prompt, e))?;
            }
            let dir = file.parent().unwrap_or(Path::new(""));
            let source = front_end.input(found.asked(asks), dir).map_err(|e| named(&found.input, e))?;
            let target_ids = found.target.as_deref().map_or(Ok(Vec::new()), |target| {
                front_end.target(target).map_err(|e| named(target, e)) //
            })?;
            let original = front_end.original(&found.input, dir);
            samples.push(Sample { input: found.input, target: found.target, source, original, target_ids });
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
    /// [`Noise`] for models whose recipe names no data: logits can be compared, a task cannot. Errors: it takes nothing of the
    /// kind, in words.
    pub fn drawn(count: usize, graph: &Graph, decoding: &Generation) -> Result<Data, String> {
        let (noise, mut draw) = (Noise::of(graph)?, Draw::default());
        let samples = (0..count.max(1)).map(|i| {
            let source = noise.input(&mut draw, decoding);
            let input = source.ids().map_or_else(|| format!("noise {i}"), |ids| Ids.decode(ids));
            Sample { input, target: None, source, original: Original::Drawn, target_ids: Vec::new() }
        });
        let samples: Vec<Sample> = samples.collect();
        Ok(Data { source: format!("{} drawn inputs", samples.len()), sha256: String::new(), samples })
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
    /// For [`crate::Session::encode`].
    pub source: Feeds,
    /// i64[b, dec]: the prompt and the target but its last token, padded at the end.
    pub decoder_input_ids: Tensor,
    /// Tokens of the prompt after the first and of each target: so many rows of logits count.
    pub target_tokens: Vec<usize>,
}

impl Batch {
    /// Batches the samples at the places `which`. Errors: those of [`Input::batch`].
    ///
    /// `prompt`: what the decoder is fed before it says anything, such as a start token.
    pub fn new(data: &Data, which: &[usize], prompt: &[i64], pad: i64) -> Result<Batch, String> {
        let samples: Vec<&Sample> = which.iter().map(|&i| &data.samples[i]).collect();
        let sources: Vec<&Input> = samples.iter().map(|s| &s.source).collect();
        let shifted: Vec<Vec<i64>> = samples
            .iter()
            .map(|s| [prompt, s.target_ids.split_last().map_or(&[][..], |(_, before)| before)].concat())
            .collect();
        let (shape, shifted) = padded(&shifted, pad);
        Ok(Batch {
            samples: which.to_vec(),
            source: Input::batch(&sources, pad)?,
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
/// Errors: those of [`Input::batch`].
pub fn batches(data: &Data, rows: usize, prompt: &[i64], pad: i64) -> Result<Vec<Batch>, String> {
    let mut order: Vec<usize> = (0..data.samples.len()).collect();
    order.sort_by_key(|&i| (data.samples[i].source.len(), data.samples[i].target_ids.len(), i));
    let largest = data.samples.iter().map(|s| s.source.elements()).max().unwrap_or(1).max(1);
    let rows = rows.min(SOURCE_ELEMENTS / largest).max(1);
    let together = |a: &usize, b: &usize| data.samples[*a].source.fits_beside(&data.samples[*b].source);
    let chunks = order.chunk_by(together).flat_map(|group| group.chunks(rows));
    chunks.map(|which| Batch::new(data, which, prompt, pad)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use frontend::audio::Clip;

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
        assert_eq!(
            (&data.samples[0].source, &data.samples[0].target_ids[..]),
            (&Input::tokens(vec![3, 4, 1]), &[5, 1][..])
        );
        assert!(!data.has_targets());
        let whole = Data::load(&path, 9, &Ids).expect("three samples");
        assert_eq!((whole.samples.len(), &whole.sha256), (3, &data.sha256));
        let (_home, path) = file("a.txt", b"3 4\n5\n");
        assert_eq!(Data::load(&path, 9, &Ids).expect("two samples").samples[1].source, Input::tokens(vec![5]));
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
            source: Input::tokens(input.to_vec()),
            original: Original::Drawn,
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
    fn a_batch_holds_few_sources_that_are_large() {
        let sample = |source: Input| Sample {
            input: String::new(),
            target: None,
            source,
            original: Original::Drawn,
            target_ids: vec![1],
        };
        let large = || sample(Clip::LogMel(Tensor::f32([80, 3000], vec![0.0; 80 * 3000])).into());
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
            source: Clip::Samples(vec![0.5; n]).into(),
            original: Original::Drawn,
            target_ids: vec![1],
        };
        let samples = [3, 5, 3, 3, 4].map(sample).to_vec();
        let data = Data { source: String::new(), sha256: String::new(), samples };
        let batches = batches(&data, 2, &[2], 0).expect("one kind");
        assert_eq!(batches.iter().map(|b| &b.samples[..]).collect::<Vec<_>>(), [&[0, 2][..], &[3], &[4], &[1]]);
    }
}
