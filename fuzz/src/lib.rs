//! What the fuzzer runs: every reader of files that come from outside, and importers with settings that nobody meant.
//!
//! A target must not panic, and must take no more memory than `converters::limits::memory` allows for the length of its input:
//! the allocator here counts, and stops the process where it is more.

mod memory;
mod seeds;
mod settings;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use converters::audio::{Features, FeatureExtractor};
use converters::export::ctranslate2::ModelFile;
use converters::export::imatrix;
use converters::export::npu::{Evidence, Host, PROFILES};
use converters::export::onnx::{OnnxFile, describe};
use converters::frontend::image::{ImageProcessor, ImageSettings, Library};
use converters::{Tokenizer, import};
use tempfile::TempDir;
use validate::task::{Data, Ids};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// A checkpoint of each family.
pub(crate) const FAMILIES: [&str; 22] = [
    "bart", "mbart", "pegasus", "blenderbot", "blenderbot-small", "plbart", "m2m_100", "nllb", "marian", "moonshine", "mu",
    "t5-v1.0", "mt5", "umt5", "t5gemma", "t5gemma2", "whisper", "trocr-vit", "vit-bert", "vit-gpt2",
    "donut", "florence2",
];

/// One of [`TARGETS`].
pub struct Target {
    name: &'static str,
    run: fn(&[u8]),
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target, with what it reads.
const TARGETS: &[Target] = &[
    Target { name: "config", run: config, seeds: || seeds::by_family("config.json") },
    Target { name: "settings", run: settings::run, seeds: settings::seeds },
    Target { name: "generation", run: generation, seeds: || seeds::by_family("generation_config.json") },
    Target { name: "safetensors", run: |data| checkpoint("t5-v1.1", "model.safetensors", data), seeds: seeds::safetensors },
    Target {
        name: "index",
        run: |data| checkpoint("t5-sharded", "model.safetensors.index.json", data),
        seeds: || seeds::files(&["t5-sharded/model.safetensors.index.json"]),
    },
    Target { name: "gguf", run: gguf, seeds: seeds::gguf },
    Target { name: "pickle", run: |data| checkpoint("t5-bin", "pytorch_model.bin", data), seeds: seeds::pickle },
    Target { name: "tokenizer", run: |data| tokenizer(&[("tokenizer.json", data)]), seeds: seeds::tokenizers },
    Target { name: "sentencepiece", run: sentencepiece, seeds: seeds::sentencepiece },
    Target { name: "vocabulary", run: vocabulary, seeds: seeds::vocabulary },
    Target { name: "word_pieces", run: word_pieces, seeds: seeds::word_pieces },
    Target { name: "tokenizer_config", run: tokenizer_config, seeds: seeds::tokenizer_config },
    Target { name: "wav", run: wav, seeds: seeds::wav },
    Target { name: "image", run: image, seeds: seeds::images },
    Target { name: "preprocessor", run: preprocessor, seeds: seeds::preprocessors },
    Target { name: "onnx", run: onnx, seeds: seeds::onnx },
    Target { name: "npu", run: npu, seeds: seeds::npu },
    Target { name: "data", run: data_lines, seeds: || vec![b"{\"input\": \"3 4 1\", \"target\": \"5 1\"}\n3\n".to_vec()] },
    Target { name: "ctranslate2", run: |data| drop(ModelFile::open(&written("model.bin", data))), seeds: seeds::ctranslate2 },
    Target { name: "imatrix", run: |data| drop(imatrix::read(&written("imatrix.gguf", data))), seeds: seeds::imatrix },
];

impl Target {
    /// The one that `TREFOIL_FUZZ` names.
    pub fn chosen() -> &'static Target {
        static CHOSEN: OnceLock<&Target> = OnceLock::new();
        CHOSEN.get_or_init(|| {
            let name = std::env::var("TREFOIL_FUZZ").unwrap_or_default();
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            let found = TARGETS.iter().find(|target| target.name == name);
            found.unwrap_or_else(|| panic!("TREFOIL_FUZZ: expected one of {}, found {name:?}", names.join(" ")))
        })
    }

    /// Reads an input.
    pub fn run(&self, data: &[u8]) {
        memory::bounded(data.len(), || (self.run)(data));
    }

    /// Writes the first inputs, made of the fixtures.
    pub fn write_seeds(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        for (i, seed) in (self.seeds)().into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{i}")), seed).expect("written");
        }
    }
}

/// A path of the repository's fixtures.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// A folder of this process, emptied of what the last input left.
pub(crate) fn folder() -> PathBuf {
    thread_local!(static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) });
    FOLDER.with_borrow_mut(|folder| {
        let memory = Path::new("/dev/shm");
        let new = || if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.get_or_insert_with(|| new().expect("temporary folder")).path().to_owned();
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("readable").path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
        }
        folder
    })
}

fn written(name: &str, data: &[u8]) -> PathBuf {
    let file = folder().join(name);
    fs::write(&file, data).expect("written");
    file
}

/// The folder with the files of a fixture, linked.
pub(crate) fn linked(name: &str) -> PathBuf {
    let folder = folder();
    for entry in fs::read_dir(fixture(name)).expect("a fixture") {
        let path = fs::canonicalize(entry.expect("readable").path()).expect("there");
        if path.is_file() {
            std::os::unix::fs::symlink(&path, folder.join(path.file_name().expect("a file"))).expect("linked");
        }
    }
    folder
}

/// Puts a file in place of another, which is a link to a fixture.
pub(crate) fn replaced(folder: &Path, file: &str, data: &[u8]) {
    let _ = fs::remove_file(folder.join(file));
    fs::write(folder.join(file), data).expect("written");
}

fn checkpoint(name: &str, file: &str, data: &[u8]) {
    let folder = linked(name);
    replaced(&folder, file, data);
    if let Ok(model) = import(&folder) {
        let _ = converters::checkpoint::check_finite(&model.graph.weights);
    }
}

/// The first byte says which family.
fn config(data: &[u8]) {
    let Some((family, config)) = data.split_first() else { return };
    checkpoint(FAMILIES[usize::from(*family) % FAMILIES.len()], "config.json", config);
}

fn generation(data: &[u8]) {
    let Some((family, config)) = data.split_first() else { return };
    checkpoint(FAMILIES[usize::from(*family) % FAMILIES.len()], "generation_config.json", config);
}

fn gguf(data: &[u8]) {
    let file = written("model.gguf", data);
    let _ = import(file.parent().expect("a folder"));
}

/// Texts with all that pipelines look for, and the ids of all pieces.
fn tokenizer(files: &[(&str, &[u8])]) {
    let folder = folder();
    for (name, content) in files {
        fs::write(folder.join(name), content).expect("written");
    }
    let Ok(tokenizer) = Tokenizer::open(&folder) else { return };
    let _ = tokenizer.vocabulary();
    for text in ["", "a", " Hello,  World! <s>x</s> <mask> \n\t", ">>de<< \u{fdfa} e\u{301}\u{301} \u{200d}\u{1f1e9}\u{1f1ea} 123 'll", "aaaaaaaaaaaaaaaaaaaaaaaa", "\u{0}"] {
        let Ok(ids) = tokenizer.encode(text) else { continue };
        let _ = tokenizer.encode_target(text);
        for skip_special in [false, true] {
            let _ = tokenizer.decode(&ids, skip_special);
        }
    }
    let all: Vec<i64> = (-1..300).chain([i64::MAX, i64::MIN, 1 << 32]).collect();
    let _ = tokenizer.decode(&all, false);
}

/// The first byte says whose file it is.
fn sentencepiece(data: &[u8]) {
    let Some((which, model)) = data.split_first() else { return };
    let class = |class: &str| format!("{{\"tokenizer_class\": \"{class}\"}}").into_bytes();
    let config = "tokenizer_config.json";
    let ids: &[u8] = br#"{"</s>": 0, "<unk>": 1, "<pad>": 2, "<s>": 3, "a": 4}"#;
    match which % 5 {
        0 => tokenizer(&[("spiece.model", model)]),
        1 => tokenizer(&[("spiece.model", model), (config, &class("PegasusTokenizer"))]),
        2 => tokenizer(&[("sentencepiece.bpe.model", model), (config, &class("MBartTokenizer"))]),
        3 => tokenizer(&[("sentencepiece.bpe.model", model), (config, &class("PLBartTokenizer"))]),
        _ => tokenizer(&[("source.spm", model), ("target.spm", model), ("vocab.json", ids)]),
    }
}

/// vocab.json and merges.txt with a zero between, the first byte saying whose they are.
fn vocabulary(data: &[u8]) {
    let Some((which, files)) = data.split_first() else { return };
    let zero = files.iter().position(|byte| *byte == 0).unwrap_or(files.len());
    let (vocab, merges) = (&files[..zero], files.get(zero + 1..).unwrap_or(b""));
    let class = ["BartTokenizer", "BlenderbotTokenizer", "WhisperTokenizer", "BlenderbotSmallTokenizer"];
    let config = format!("{{\"tokenizer_class\": \"{}\"}}", class[usize::from(*which) % class.len()]);
    tokenizer(&[("vocab.json", vocab), ("merges.txt", merges), ("tokenizer_config.json", config.as_bytes())]);
}

/// vocab.txt, the first byte saying whose it is.
fn word_pieces(data: &[u8]) {
    let Some((which, vocab)) = data.split_first() else { return };
    let config = [
        r#"{"tokenizer_class": "BertTokenizer"}"#,
        r#"{"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab", "subword_tokenizer_type": "character"}"#,
    ][usize::from(which % 2)];
    tokenizer(&[("vocab.txt", vocab), ("tokenizer_config.json", config.as_bytes())]);
}

/// tokenizer_config.json beside the files of a fixture, which the first byte names.
fn tokenizer_config(data: &[u8]) {
    let Some((which, config)) = data.split_first() else { return };
    let folder = linked(seeds::TOKENIZERS[usize::from(*which) % seeds::TOKENIZERS.len()]);
    replaced(&folder, "tokenizer_config.json", config);
    let Ok(tokenizer) = Tokenizer::open(&folder) else { return };
    let _ = tokenizer.encode("Hello <s> world").and_then(|ids| tokenizer.decode(&ids, true));
    let _ = tokenizer.encode_target("Hello");
}

fn wav(data: &[u8]) {
    let file = written("a.wav", data);
    let folder = file.parent().expect("a folder");
    fs::write(folder.join("preprocessor_config.json"), r#"{"do_normalize": true}"#).expect("written");
    for features in [Features::LogMel, Features::Samples] {
        let _ = FeatureExtractor::open(folder, features).map(|front_end| front_end.read(&file));
    }
}

/// The first byte says by which processor of the fixtures.
fn image(data: &[u8]) {
    static PROCESSORS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let Some((which, image)) = data.split_first() else { return };
    let processors = PROCESSORS.get_or_init(seeds::processors);
    let file = written("a.png", image);
    let folder = file.parent().expect("a folder");
    fs::write(folder.join("preprocessor_config.json"), &processors[usize::from(*which) % processors.len()]).expect("written");
    let processor = || ImageProcessor::open(folder).expect("a fixture");
    for library in [Library::Pillow, Library::Pillow13, Library::Torchvision] {
        let _ = processor().like(library).see(&file);
    }
    let _ = processor().with(ImageSettings { gray: true }).see(&file);
}

/// The first byte says nothing: it names the family of a seed.
fn preprocessor(data: &[u8]) {
    let Some((_, config)) = data.split_first() else { return };
    let file = written("preprocessor_config.json", config);
    let folder = file.parent().expect("a folder");
    for features in [Features::LogMel, Features::Samples] {
        let _ = FeatureExtractor::open(folder, features);
    }
    let _ = ImageProcessor::open(folder);
}

fn onnx(data: &[u8]) {
    let file = written("model.onnx", data);
    let _ = describe(&file);
    if OnnxFile::open(&file).is_ok() {
        for profile in PROFILES {
            let _ = validate::lint::lint(std::slice::from_ref(&file), profile);
        }
    }
}

fn npu(data: &[u8]) {
    let file = written("npu.json", data);
    let folder = file.parent().expect("a folder");
    fs::copy(&file, folder.join("calibration.json")).expect("copied");
    let _ = (Host::read(folder), Evidence::read(folder));
}

fn data_lines(data: &[u8]) {
    for name in ["a.jsonl", "a.txt"] {
        let _ = Data::load(&written(name, data), 100, &Ids);
    }
}
