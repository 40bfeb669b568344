//! Where the recorded checkpoints are and what is recorded in them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use graph::passes::{QuantizeStatically, run_one};
use graph::{FakeQuant, Feeds, Graph, Tensor};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A path of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A checkpoint below `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    repository("tests/fixtures").join(name)
}

/// A copy of a checkpoint below `tests/fixtures`, to be edited.
pub fn copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    for entry in fs::read_dir(fixture(name)).expect("a fixture") {
        let from = entry.expect("readable").path();
        fs::copy(&from, folder.path().join(from.file_name().expect("a file"))).expect("copied");
    }
    folder
}

/// What an encoder of tokens is fed.
pub fn tokens(input_ids: &Tensor, attention_mask: &Tensor) -> Feeds {
    let named = [("input_ids", input_ids), ("attention_mask", attention_mask)];
    named.map(|(name, tensor)| (name.to_owned(), tensor.clone())).into()
}

/// What the last bits of float computations depend on: the matrix kernels, and the system's functions of floats.
pub fn arithmetic() -> String {
    let mut sum = Sha256::new();
    for i in 0..4096 {
        let x = i as f32 / 256.0 - 8.0;
        for y in [x.exp(), x.tanh(), x.abs().ln(), x.sin(), x.cos()] {
            sum.update(y.to_le_bytes());
        }
    }
    let functions: String = sum.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}, functions {functions}", graph::eval::kernel())
}

/// The input of every linear layer with int8 weights rounded to the same steps, where their width does not matter.
pub fn round_to_fixed_steps(graph: &mut Graph) {
    let steps = FakeQuant { scale: 0.01, zero: 128, bits: 8 };
    let steps = graph.values.iter().map(|value| (value.name.clone(), steps)).collect();
    let fired = run_one(graph, &QuantizeStatically { steps: &steps }).expect("steps for all");
    assert!(fired.count > 0);
}

/// The inputs of a recording that an encoder may take.
const SOURCES: [&str; 5] = ["input_ids", "input_features", "input_values", "pixel_values", "attention_mask"];

/// What the encoder of a recording was fed.
pub fn source(recorded: &BTreeMap<String, Tensor>) -> Feeds {
    recorded.iter().filter(|(name, _)| SOURCES.contains(&name.as_str())).map(|(n, t)| (n.clone(), t.clone())).collect()
}

/// What the whole pass of a recording was fed.
pub fn feeds(recorded: &BTreeMap<String, Tensor>) -> Feeds {
    let mut feeds = source(recorded);
    feeds.insert("decoder_input_ids".to_owned(), recorded["decoder_input_ids"].clone());
    feeds
}

/// What the whole pass of a recording was fed; for tokens three rows, the second padded, and more target than source tokens.
pub fn sample(dir: &Path) -> Feeds {
    let recorded = feeds(&expected(dir).0);
    if !recorded.contains_key("input_ids") {
        return recorded;
    }
    let row = |seed: i64, n: i64| (0..n).map(move |i| 3 + (i * 7 + seed * 5) % 36);
    let mut mask = vec![1; 21];
    mask[10..14].fill(0);
    let seen = recorded.get_key_value("pixel_values").map(|(name, pixels)| (name.clone(), pixels.clone()));
    let mut feeds = Feeds::from([
        ("input_ids".into(), Tensor::i64([3, 7], (0..3).flat_map(|seed| row(seed, 7)).collect())),
        ("attention_mask".into(), Tensor::i64([3, 7], mask)),
        ("decoder_input_ids".into(), Tensor::i64([3, 9], (0..3).flat_map(|seed| row(seed + 3, 9)).collect())),
    ]);
    feeds.extend(seen);
    feeds
}

/// `count` floats from -1 to 1, made as `lcg` of recording.py makes them.
pub fn lcg(seed: i64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = (1_103_515_245 * state + 12_345) % (1 << 31);
        (state as f64 / f64::from(1 << 30) - 1.0) as f32
    };
    (0..count).map(|_| next()).collect()
}

/// Every checkpoint below `tests/fixtures` with recorded numbers.
pub fn fixtures() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(repository("tests/fixtures"))
        .expect("the fixtures are in the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|dir| dir.join("expected.safetensors").exists())
        .collect();
    folders.sort();
    assert!(folders.len() >= 18, "found only {folders:?}");
    folders
}

/// Whether a recorded checkpoint sees images, which no reader of GGUF, CTranslate2 or whisper.cpp does.
pub fn sees(dir: &Path) -> bool {
    expected(dir).0.contains_key("pixel_values")
}

/// Those that the format npu takes, with their names: it refuses frames whose number is made.
pub fn npu_fixtures() -> Vec<(String, PathBuf)> {
    let name = |dir: &Path| dir.file_name().expect("a folder").to_string_lossy().into_owned();
    let all = fixtures().into_iter().map(|dir| (name(&dir), dir));
    let found: Vec<(String, PathBuf)> = all.filter(|(name, _)| !name.starts_with("moonshine")).collect();
    assert!(found.len() >= 40, "{}", found.len());
    found
}

/// What transformers computed, and the metadata of the recording. Read by the safetensors crate, which the importer does
/// not use.
pub fn expected(dir: &Path) -> (BTreeMap<String, Tensor>, HashMap<String, String>) {
    let bytes = fs::read(dir.join("expected.safetensors")).expect("recorded");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
    let tensors = SafeTensors::deserialize(&bytes).expect("tensors").tensors().into_iter().map(|(name, view)| {
        let tensor = match view.dtype() {
            Dtype::F32 => {
                let data = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
                Tensor::f32(view.shape(), data.collect())
            }
            Dtype::I64 => {
                let data = view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b));
                Tensor::i64(view.shape(), data.collect())
            }
            other => panic!("{name}: {other:?} is not recorded"),
        };
        (name, tensor)
    });
    (tensors.collect(), header.metadata().clone().expect("make.py writes it"))
}
