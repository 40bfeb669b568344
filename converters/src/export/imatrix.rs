//! The importance matrix that `llama-quantize --imatrix` reads: of each matrix how large its inputs are, channel by channel.
//!
//! A GGUF file without `general.architecture`:
//!
//! | key | value |
//! | --- | --- |
//! | `general.type` | `imatrix` |
//! | `imatrix.datasets` | the name of the calibration text, an array of one string |
//! | `imatrix.chunk_count`, `imatrix.chunk_size` | u32: one chunk, as long as the largest number of rows |
//!
//! and of each matrix two tensors, sorted by name:
//!
//! | tensor | shape | value |
//! | --- | --- | --- |
//! | `<name>.in_sum2` | `f32[channels]` | `Σ x²` over all rows |
//! | `<name>.counts` | `f32[1]` | how many rows |
//!
//! llama.cpp calls a tensor by at most 63 bytes, which leaves 55 for `<name>`. A matrix that the file lacks is quantized as
//! without it. Sources: common/imatrix-loader.cpp and ggml/src/gguf.cpp of llama.cpp (llama-cpp-sys-2 0.1.161), and
//! tools/imatrix/imatrix.cpp and tools/quantize/quantize.cpp in llama.cpp's repository.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use checkpoint::gguf::{Array, GgufFile, TensorType, Value};
use graph::FloatType;

use super::gguf::container::{self, Planned};
use crate::error::ExportError;

const SUM_SUFFIX: &str = ".in_sum2";
const COUNT_SUFFIX: &str = ".counts";
/// Longest name of a tensor (`GGML_MAX_NAME`, less its terminator).
const NAME_LIMIT_BYTES: usize = 63;

/// What is known of the inputs of one matrix.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Entry<'a> {
    /// GGUF's name of the matrix, for example `enc.blk.0.attn_q.weight`.
    pub name: &'a str,
    /// Of each input channel the mean of the squares.
    pub mean_square: &'a [f32],
    /// How many rows the mean is over; above 2^24 the nearest f32 is stored.
    pub rows: u64,
}

/// What [`read`] finds of one matrix.
#[derive(Clone, PartialEq, Debug)]
pub struct Channels {
    /// GGUF's name of the matrix.
    pub name: String,
    /// Of each input channel the mean of the squares, to the bit what llama-quantize works with.
    pub mean_square: Vec<f32>,
    /// How many rows the mean is over.
    pub rows: u64,
}

/// Writes the file, whole or not at all; one that is there is replaced.
///
/// The format has sums, so a reader's mean may be the f32 next to the one given here: who wants the very bytes of
/// llama-quantize takes the means from [`read`]. Errors: `InvalidInput` with all entries that llama.cpp would refuse or
/// misread, and what the system says.
pub fn write(path: &Path, entries: &[Entry<'_>], dataset: &str) -> io::Result<()> {
    let faults = faults(entries);
    if !faults.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, faults.join("; ")));
    }
    let mut entries = entries.to_vec();
    entries.sort_by_key(|entry| entry.name);
    let most_rows = entries.iter().map(|entry| entry.rows).max().unwrap_or(0);
    let metadata = [
        ("general.type", Value::string("imatrix")),
        ("imatrix.datasets", Value::Array(Array::String(vec![dataset.to_owned()]))),
        ("imatrix.chunk_count", Value::U32(1)),
        // llama.cpp takes it for an i32.
        ("imatrix.chunk_size", Value::U32(most_rows.min(i32::MAX as u64) as u32)),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let shapes: Vec<[usize; 1]> = entries.iter().map(|entry| [entry.mean_square.len()]).collect();
    let kind = TensorType::Float(FloatType::F32);
    let tensors: Vec<Planned<'_>> = entries
        .iter()
        .zip(&shapes)
        .flat_map(|(entry, shape)| {
            let planned = |suffix, shape| Planned { name: format!("{}{suffix}", entry.name), shape, kind };
            [planned(SUM_SUFFIX, shape), planned(COUNT_SUFFIX, &[1])]
        })
        .collect();

    let written = container::write(path, &metadata, &tensors, |index, out| {
        let entry = &entries[index / 2];
        match index % 2 {
            0 => out(&entry.mean_square.iter().flat_map(|v| sum(*v, entry.rows).to_le_bytes()).collect::<Vec<u8>>()),
            _ => out(&(entry.rows as f32).to_le_bytes()),
        }
    });
    match written {
        Ok(()) => Ok(()),
        Err(ExportError::Io { source, .. }) => Err(source),
        Err(other) => Err(io::Error::new(io::ErrorKind::InvalidInput, other)),
    }
}

/// `Σ x²`, of which the mean over `rows` is at most one f32 away from `mean_square`.
fn sum(mean_square: f32, rows: u64) -> f32 {
    mean_square * rows as f32
}

/// Everything for which llama.cpp refuses the file or quantizes other than meant.
fn faults(entries: &[Entry<'_>]) -> Vec<String> {
    let mut faults = Vec::new();
    if entries.is_empty() {
        faults.push("expected at least one matrix, found none".to_owned());
    }
    let mut seen = BTreeMap::new();
    for &Entry { name, mean_square, rows } in entries {
        *seen.entry(name).or_insert(0) += 1;
        let longest = NAME_LIMIT_BYTES - SUM_SUFFIX.len();
        if !(1..=longest).contains(&name.len()) {
            faults.push(format!("{name}: expected a name of 1 to {longest} bytes, found {}", name.len()));
        }
        if mean_square.is_empty() {
            faults.push(format!("{name}: expected channels, found none"));
        }
        if rows == 0 {
            faults.push(format!("{name}: expected a mean over rows, found 0 rows"));
        }
        let unusable = |v: &f32| *v < 0.0 || !sum(*v, rows).is_finite();
        if let Some(at) = mean_square.iter().position(unusable) {
            let found = mean_square[at];
            faults.push(format!("{name}: channel {at}: expected a mean square whose sum is finite, found {found:e}"));
        }
    }
    let twice = seen.into_iter().filter(|(_, count)| *count > 1);
    faults.extend(twice.map(|(name, count)| format!("{name}: expected one entry, found {count}")));
    faults
}

/// Reads a file of this module or of llama-imatrix, the matrices sorted by name.
///
/// As llama-quantize does, it divides sums by counts, and takes 1 for every channel where the count is 0. Errors:
/// [`ExportError::Malformed`] with all faults, among them matrices with several counts, which are those of experts.
pub fn read(path: &Path) -> Result<Vec<Channels>, ExportError> {
    let file = GgufFile::open(path)?;
    let malformed = |message| ExportError::Malformed { file: path.to_owned(), message };
    let mut faults: Vec<String> = ["imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"]
        .into_iter()
        .filter(|key| file.get(key).is_none())
        .map(|key| format!("the key {key} is missing"))
        .collect();
    let mut found: BTreeMap<&str, [Option<Vec<f32>>; 2]> = BTreeMap::new();
    for tensor in &file.tensors {
        let of = |suffix| tensor.name.strip_suffix(suffix);
        let (name, part) = match (of(SUM_SUFFIX), of(COUNT_SUFFIX)) {
            (Some(name), _) => (name, 0),
            (_, Some(name)) => (name, 1),
            // llama-imatrix also stores plain sums, which no quantization uses.
            _ => continue,
        };
        if tensor.kind != TensorType::Float(FloatType::F32) {
            faults.push(format!("{}: expected F32, found {}", tensor.name, tensor.kind));
            continue;
        }
        let bytes = tensor.data.read().map_err(|source| ExportError::Io { file: path.to_owned(), source })?;
        let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        found.entry(name).or_default()[part] = Some(values);
    }
    if found.is_empty() {
        faults.push("expected at least one matrix, found none".to_owned());
    }
    let mut all = Vec::new();
    for (name, parts) in found {
        match parts {
            [Some(sums), Some(counts)] => match channels(name, &sums, &counts) {
                Ok(channels) => all.push(channels),
                Err(fault) => faults.push(fault),
            },
            [None, _] => faults.push(format!("{name}{SUM_SUFFIX} is missing")),
            [_, None] => faults.push(format!("{name}{COUNT_SUFFIX} is missing")),
        }
    }
    if faults.is_empty() { Ok(all) } else { Err(malformed(faults.join("; "))) }
}

fn channels(name: &str, sums: &[f32], counts: &[f32]) -> Result<Channels, String> {
    let &[count] = counts else {
        return Err(format!("{name}{COUNT_SUFFIX}: expected 1 count, found {}", counts.len()));
    };
    if !(0.0..=u64::MAX as f32).contains(&count) {
        return Err(format!("{name}{COUNT_SUFFIX}: expected a number of rows, found {count}"));
    }
    let rows = count.round() as u64;
    let mean = |sum: &f32| if rows == 0 { 1.0 } else { sum / rows as f32 };
    let mean_square: Vec<f32> = sums.iter().map(mean).collect();
    match mean_square.iter().position(|v| *v < 0.0 || !v.is_finite()) {
        Some(at) => Err(format!("{name}{SUM_SUFFIX}: channel {at}: expected a sum of squares, found {}", sums[at])),
        None => Ok(Channels { name: name.to_owned(), mean_square, rows }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const WIDE: [f32; 5] = [0.1, 0.0, 1e-30, 3.4e6, f32::MIN_POSITIVE];
    const NARROW: [f32; 3] = [0.3, 7.0, 1.0 / 3.0];

    /// Two matrices, not in the order of the file.
    fn entries() -> [Entry<'static>; 2] {
        [
            Entry { name: "enc.blk.1.ffn_down.weight", mean_square: &WIDE, rows: 1021 },
            Entry { name: "dec.blk.0.attn_q.weight", mean_square: &NARROW, rows: 77 },
        ]
    }

    fn written() -> (tempfile::TempDir, std::path::PathBuf) {
        let home = tempfile::tempdir().expect("temporary folder");
        let path = home.path().join("imatrix.gguf");
        write(&path, &entries(), "wiki.test.raw").expect("written");
        (home, path)
    }

    /// A file with these tensors and the keys that a reader asks for.
    fn crafted(tensors: &[(&str, &[usize], &[f32])]) -> Result<Vec<Channels>, String> {
        let home = tempfile::tempdir().expect("temporary folder");
        let path = home.path().join("imatrix.gguf");
        let keys = ["imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"];
        let metadata = keys.map(|key| (key.to_owned(), Value::U32(1)));
        let kind = TensorType::Float(FloatType::F32);
        let planned: Vec<_> =
            tensors.iter().map(|(name, shape, _)| Planned { name: (*name).to_owned(), shape, kind }).collect();
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        container::write(&path, &metadata, &planned, |i, out| out(&bytes(tensors[i].2))).expect("written");
        let place = format!("{}: ", path.display());
        read(&path).map_err(|error| error.to_string().replace(&place, ""))
    }

    #[test]
    fn keys_sums_and_counts_read_back_to_the_bit() {
        let (home, path) = written();
        let file = GgufFile::open(&path).expect("opens");
        let datasets = Value::Array(Array::String(vec!["wiki.test.raw".to_owned()]));
        let keys = [
            ("general.type", Value::string("imatrix")),
            ("imatrix.datasets", datasets),
            ("imatrix.chunk_count", Value::U32(1)),
            ("imatrix.chunk_size", Value::U32(1021)),
        ];
        assert_eq!(file.metadata, keys.map(|(key, value)| (key.to_owned(), value)));
        let tensors: Vec<(&str, &[usize], Vec<u8>)> =
            file.tensors.iter().map(|t| (&*t.name, &*t.shape, t.data.read().expect("reads"))).collect();
        let sums = |mean: &[f32], rows: f32| mean.iter().flat_map(|v| (v * rows).to_le_bytes()).collect::<Vec<u8>>();
        let expected: [(&str, &[usize], Vec<u8>); 4] = [
            ("dec.blk.0.attn_q.weight.in_sum2", &[3], sums(&NARROW, 77.0)),
            ("dec.blk.0.attn_q.weight.counts", &[1], 77_f32.to_le_bytes().to_vec()),
            ("enc.blk.1.ffn_down.weight.in_sum2", &[5], sums(&WIDE, 1021.0)),
            ("enc.blk.1.ffn_down.weight.counts", &[1], 1021_f32.to_le_bytes().to_vec()),
        ];
        assert_eq!(tensors, expected);
        assert_eq!(fs::read_dir(home.path()).expect("listed").count(), 1, "nothing is left beside the file");
    }

    #[test]
    fn means_read_back_to_the_nearest_float_but_one() {
        let (_home, path) = written();
        let found = read(&path).expect("reads");
        let [wide, narrow] = entries();
        for (entry, found) in [narrow, wide].iter().zip(&found) {
            assert_eq!((entry.name, entry.rows), (&*found.name, found.rows));
            assert_eq!(entry.mean_square.len(), found.mean_square.len());
            for (mean, found) in entry.mean_square.iter().zip(&found.mean_square) {
                assert!(mean.to_bits().abs_diff(found.to_bits()) <= 1, "{mean:e} became {found:e}");
            }
        }
        // What was read survives another round, or the bytes of a quantization would drift with every copy.
        let again: Vec<Entry<'_>> =
            found.iter().map(|c| Entry { name: &c.name, mean_square: &c.mean_square, rows: c.rows }).collect();
        write(&path, &again, "").expect("replaced");
        assert_eq!(read(&path).expect("reads"), found);
    }

    #[test]
    fn gguf_rs_sees_the_same_tensors() {
        let (_home, path) = written();
        let text = path.to_str().expect("a path of the test");
        let foreign = gguf_rs::get_gguf_container_array_size(text, 16).expect("opens").decode().expect("decodes");
        let tensors: Vec<_> = foreign.tensors().iter().map(|t| (t.name.as_str(), t.kind, t.size)).collect();
        let expected = [
            ("dec.blk.0.attn_q.weight.in_sum2", 0, 12),
            ("dec.blk.0.attn_q.weight.counts", 0, 4),
            ("enc.blk.1.ffn_down.weight.in_sum2", 0, 20),
            ("enc.blk.1.ffn_down.weight.counts", 0, 4),
        ];
        assert_eq!(tensors, expected);
    }

    #[test]
    fn entries_that_llama_cpp_would_refuse_are_told_together_and_nothing_is_written() {
        let home = tempfile::tempdir().expect("temporary folder");
        let path = home.path().join("imatrix.gguf");
        let long = "x".repeat(56);
        let entry = |name, mean_square, rows| Entry { name, mean_square, rows };
        let bad = [
            entry("a", &[1.0, f32::NAN][..], 1),
            entry("a", &[-1.0], 1),
            entry("b", &[], 0),
            entry("c", &[f32::MAX], 2),
            entry(&long, &[1.0], 1),
        ];
        let error = write(&path, &bad, "").expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let lines = [
            "a: channel 1: expected a mean square whose sum is finite, found NaN",
            "a: channel 0: expected a mean square whose sum is finite, found -1e0",
            "b: expected channels, found none",
            "b: expected a mean over rows, found 0 rows",
            "c: channel 0: expected a mean square whose sum is finite, found 3.4028235e38",
            &format!("{long}: expected a name of 1 to 55 bytes, found 56"),
            "a: expected one entry, found 2",
        ];
        assert_eq!(error.to_string(), lines.join("; "));
        let error = write(&path, &[], "").expect_err("refused");
        assert_eq!(error.to_string(), "expected at least one matrix, found none");
        assert_eq!(fs::read_dir(home.path()).expect("listed").count(), 0);
    }

    #[test]
    fn what_llama_imatrix_writes_beside_is_passed_over_and_a_count_of_zero_means_ones() {
        let tensors: [(&str, &[usize], &[f32]); 3] =
            [("w.in_sum", &[2], &[-1.0, 1.0]), ("w.in_sum2", &[2], &[0.0, 8.0]), ("w.counts", &[1], &[0.0])];
        let ones = Channels { name: "w".to_owned(), mean_square: vec![1.0, 1.0], rows: 0 };
        assert_eq!(crafted(&tensors), Ok(vec![ones]));
    }

    #[test]
    fn faults_of_a_file_are_told_together() {
        let tensors: [(&str, &[usize], &[f32]); 8] = [
            ("a.in_sum2", &[1], &[1.0]),
            ("b.counts", &[1], &[1.0]),
            ("c.in_sum2", &[2], &[1.0, 1.0]),
            ("c.counts", &[2], &[1.0, 1.0]),
            ("d.in_sum2", &[2], &[1.0, f32::INFINITY]),
            ("d.counts", &[1], &[1.0]),
            ("e.in_sum2", &[1], &[1.0]),
            ("e.counts", &[1], &[f32::NAN]),
        ];
        let lines = [
            "a.counts is missing",
            "b.in_sum2 is missing",
            "c.counts: expected 1 count, found 2",
            "d.in_sum2: channel 1: expected a sum of squares, found inf",
            "e.counts: expected a number of rows, found NaN",
        ];
        assert_eq!(crafted(&tensors), Err(lines.join("; ")));
        assert_eq!(crafted(&[]), Err("expected at least one matrix, found none".to_owned()));
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_without_a_panic() {
        let (_home, path) = written();
        let whole = fs::read(&path).expect("there");
        // Behind the last number there is only padding.
        let end = GgufFile::open(&path).expect("opens").tensors.last().map(|t| t.offset_bytes + t.data.len());
        let end = end.expect("four tensors") as usize;
        for at in (0..16).map(|i| end * i / 16).chain([end - 1]) {
            fs::write(&path, &whole[..at]).expect("written");
            assert!(read(&path).is_err(), "{at} of {end} bytes");
        }
    }
}
