//! A Hugging Face folder, or a GGUF artifact: config, weights by name, and an account of what was asked for.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use graph::{Blob, FloatType, Quantized, Scratch, Weight, WeightData};
use serde_json::{Map, Value};

use crate::config::{Config, Size};
use crate::error::{CheckpointError, Problem};
use crate::files::Files;
use crate::generation::Generation;
use crate::gguf::container::GgufFile;
use crate::gguf::keys;
use crate::json::{self, Unique};
use crate::stored::{Bytes, Integers, Stored, Weights, stand_in};
use crate::whole::{Whole, whole};
use crate::{names, pickle, tensors};

/// Bytes of two tensors that are compared at once.
const CHUNK_BYTES: usize = 1 << 20;

/// An opened checkpoint. Headers are read, data is not.
#[derive(Debug)]
pub struct Checkpoint {
    files: Files,
    /// Every file that was read or that an artifact copies.
    inputs: Vec<PathBuf>,
    /// What holds the config, or would.
    config_file: PathBuf,
    config: Config,
    /// generation_config.json.
    generation_json: Option<Value>,
    generation: OnceLock<Generation>,
    weights: Weights,
    /// Of a GGUF artifact.
    whole: Option<Whole>,
    account: Mutex<Account>,
    // Takes tensors of pickles and transposed ones, which have no plain range of bytes in their file.
    scratch: OnceLock<Scratch>,
}

#[derive(Debug, Default)]
struct Account {
    asked: BTreeSet<String>,
    carried: Vec<Weight>,
    integers: Vec<Integers>,
    problems: Vec<Problem>,
}

impl Checkpoint {
    /// Opens a folder with weights: `model.safetensors`, `model.safetensors.index.json`, `pytorch_model.bin`,
    /// `pytorch_model.bin.index.json` or `model.pt`, the first of them that is there; or a `model.gguf` that trefoil wrote,
    /// which holds the configs too, and they count rather than what lies beside it.
    ///
    /// Without config.json the config is empty: some families are known by their tensors.
    ///
    /// Errors: a missing file, JSON or a header that is not one, shards and index that disagree.
    pub fn open(dir: &Path) -> Result<Checkpoint, CheckpointError> {
        match Files::gguf_of(dir) {
            Some(file) => Checkpoint::of_gguf(&file, Files::around),
            None => Checkpoint::of_folder(Files::folder(dir)),
        }
    }

    /// A GGUF file that trefoil wrote, under any name, with nothing but the file. Errors: as of [`Checkpoint::open`].
    pub fn open_gguf(file: &Path) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::of_gguf(file, Files::inside)
    }

    fn of_folder(files: Files) -> Result<Checkpoint, CheckpointError> {
        let missing = |expected: String| CheckpointError::NotACheckpoint { dir: files.dir().to_owned(), expected };
        let weights = names::WEIGHTS.iter().find(|name| files.has(name));
        if weights.is_none() && !files.has(names::CONFIG) {
            return Err(missing(names::CONFIG.to_owned()));
        }
        let config = files.json(names::CONFIG)?.unwrap_or_else(|| Unique(Vec::new()));
        let generation = files.json(names::GENERATION_CONFIG)?;
        let beside = names::CONFIGS.iter().chain(&names::FRONT_END).chain(names::TOKENIZER);
        let mut inputs = beside.filter_map(|name| files.locate(name)).collect();
        let weights =
            weights.ok_or_else(|| missing(format!("one of {}, {}", names::WEIGHTS.join(", "), keys::FILE)))?;
        let weights = Weights::Stored(tensors::open(weights, &files, &mut inputs)?);
        let config_file = files.path(names::CONFIG);
        Ok(Checkpoint::new(files, inputs, config_file, (config, generation), weights, None))
    }

    fn of_gguf(
        file: &Path,
        files: fn(&Path, &GgufFile) -> Result<Files, CheckpointError>,
    ) -> Result<Checkpoint, CheckpointError> {
        let gguf = GgufFile::open(file)?;
        let files = files(file, &gguf)?;
        let (whole, tensors) = whole(file, gguf)?;
        let config = files.json(names::CONFIG)?.expect("a file without the key of its config is not whole");
        let generation = files.json(names::GENERATION_CONFIG)?;
        let beside = names::TOKENIZER.iter().filter_map(|name| files.locate(name));
        let inputs = [file.to_owned()].into_iter().chain(beside).collect();
        let weights = Weights::Stored(tensors);
        Ok(Checkpoint::new(files, inputs, file.to_owned(), (config, generation), weights, Some(whole)))
    }

    /// A config.json under any name, and nothing beside it: its weights have shapes and no bytes, and none is missing. For whoever
    /// asks how large a model is.
    ///
    /// Errors: no file, or JSON that is no object.
    pub fn of_config(file: &Path) -> Result<Checkpoint, CheckpointError> {
        let config = json::read::<Unique<Value>>(file)?;
        let files = Files::folder(file.parent().unwrap_or(Path::new(".")));
        let inputs = vec![file.to_owned()];
        Ok(Checkpoint::new(files, inputs, file.to_owned(), (config, None), Weights::OfConfigAlone, None))
    }

    /// What the configs of an artifact's folder and the tensors that its manifest lists say of the model that it was made from:
    /// weights have shapes and no bytes. Codes in the folder are none of the config's business here.
    ///
    /// `tensors`: names and shapes, from a file that may be hostile. Errors: JSON that is not one; a tensor of more elements than
    /// a file has bytes.
    pub fn listed(
        dir: &Path,
        tensors: impl IntoIterator<Item = (String, Vec<usize>)>,
    ) -> Result<Checkpoint, CheckpointError> {
        let files = Files::folder(dir);
        let mut config = files.json::<Unique<Value>>(names::CONFIG)?.unwrap_or_else(|| Unique(Vec::new()));
        config.0.retain(|(key, _)| key != "quantization_config");
        let generation = files.json(names::GENERATION_CONFIG)?;
        let config_file = files.path(names::CONFIG);
        let stored = |(name, shape): (String, Vec<usize>)| {
            let bytes = shape.iter().try_fold(4_u64, |bytes, len| bytes.checked_mul(*len as u64));
            let too_large =
                || CheckpointError::malformed(&config_file, format!("{name}: {shape:?} is no size of a tensor"));
            let blob = Blob::zeros(bytes.filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(too_large)?);
            let (file, dtype) = ("the list".to_owned(), "F32".to_owned());
            Ok((name, Stored { file, dtype, shape, bytes: Bytes::Range(blob) }))
        };
        let tensors = tensors.into_iter().map(stored).collect::<Result<_, CheckpointError>>()?;
        let parts = (config, generation);
        Ok(Checkpoint::new(files, Vec::new(), config_file, parts, Weights::Listed(tensors), None))
    }

    fn new(
        files: Files,
        inputs: Vec<PathBuf>,
        config_file: PathBuf,
        (config, generation): (Unique<Value>, Option<Unique<Value>>),
        weights: Weights,
        whole: Option<Whole>,
    ) -> Checkpoint {
        Checkpoint {
            files,
            inputs,
            config_file,
            config: Config::new(config.0),
            generation_json: generation.map(|Unique(entries)| entries.into_iter().collect()),
            generation: OnceLock::new(),
            weights,
            whole,
            account: Mutex::default(),
            scratch: OnceLock::new(),
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        self.files.dir()
    }

    /// Every file that was read or that an artifact copies: configs, front end, tokenizer, weights with their index.
    pub fn inputs(&self) -> &[PathBuf] {
        &self.inputs
    }

    /// Its small files, wherever they are.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// What a GGUF artifact says of its tensors.
    pub fn whole(&self) -> Option<&Whole> {
        self.whole.as_ref()
    }

    /// The file that holds the config, or that would.
    pub fn config_file(&self) -> &Path {
        &self.config_file
    }

    /// Takes a family for that of the checkpoint: its word where config.json has no `model_type`, and its defaults of
    /// decoding.
    ///
    /// `model_type`: its word; `defaults`: token ids by the keys that config.json may leave out.
    pub fn take_family(&mut self, model_type: &str, defaults: &[(&str, u32)]) {
        if self.config.model_type().is_none() {
            self.config.call(model_type);
        }
        let defaults = defaults.iter().map(|(key, id)| ((*key).to_owned(), Value::from(*id)));
        let found = Generation::read(self.generation_json.as_ref(), &self.config, &defaults.collect());
        self.generation = OnceLock::from(found);
    }

    /// config.json.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// config.json as it is.
    pub fn config_json(&self) -> &Value {
        self.config.json()
    }

    /// How the checkpoint decodes greedily.
    pub fn generation(&self) -> &Generation {
        self.generation.get_or_init(|| Generation::read(self.generation_json.as_ref(), &self.config, &Map::new()))
    }

    /// Notes that decoding has no end, which few families allow. A config alone decodes nothing.
    pub fn require_end(&self) {
        if self.weights.can_run() && self.generation().eos_token_ids.is_empty() {
            let file = if self.generation_json.is_some() { "generation_config.json" } else { "config.json" };
            self.config.note(Problem::MissingKey { file, key: "eos_token_id".to_owned() });
        }
    }

    /// Name, element type in safetensors' or ggml's words and shape of every tensor, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &str, &[usize])> {
        self.weights.iter().map(|(name, stored)| (name.as_str(), stored.dtype.as_str(), stored.shape.as_slice()))
    }

    /// The shape of a tensor, if the files hold it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.weights.get(name).map(|stored| stored.shape.as_slice())
    }

    /// Whether the files hold a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.weights.get(name).is_some()
    }

    /// A number of layers. More layers than tensors is refused here, before anyone writes that many.
    pub fn layers(&self, count: usize, key: &'static str) -> usize {
        self.layers_in(&self.config, count, key)
    }

    /// The same, of a section of config.json; missing is a problem.
    pub fn layers_of(&self, section: &Config, key: &'static str) -> usize {
        self.layers_in(section, section.usize(key), key)
    }

    /// Numbers of layers of the stages of a section, at least one; missing is a problem. All together are held to the same.
    pub fn depths_of(&self, section: &Config, key: &'static str) -> Vec<usize> {
        let depths = section.counts(key);
        let all = depths.iter().fold(0_usize, |sum, depth| sum.saturating_add(*depth));
        match self.weights.check_layers(all) {
            Ok(()) => depths,
            Err(expected) => {
                section.wrong_kind(key, &format!("{expected}, for all stages together"), &Value::from(depths));
                vec![1]
            }
        }
    }

    /// A number of layers that a section of the config says under a key.
    pub fn layers_in(&self, section: &Config, count: usize, key: &'static str) -> usize {
        match self.weights.check_layers(count) {
            Ok(()) => count,
            Err(expected) => {
                section.wrong_kind(key, &expected, &Value::from(count));
                1
            }
        }
    }

    /// Stops an import whose dimensions are unknown. Errors: [`CheckpointError::DoesNotFit`] with all problems of config.json.
    pub fn config_fits(&self) -> Result<(), CheckpointError> {
        match self.config.is_broken() {
            true => Err(self.does_not_fit()),
            false => Ok(()),
        }
    }

    /// All problems of config.json.
    pub fn does_not_fit(&self) -> CheckpointError {
        CheckpointError::DoesNotFit { dir: self.dir().to_owned(), problems: self.config.problems() }
    }

    /// A weight of this shape. A missing or different one is noted for [`Checkpoint::finish`], and a stand-in without
    /// bytes is returned.
    pub fn weight(&self, name: &str, shape: &[Size]) -> Weight {
        let data = self.stored(name, shape).unwrap_or_else(|problem| {
            self.account().problems.push(problem);
            stand_in()
        });
        Weight { name: name.to_owned(), shape: shape.iter().map(|size| size.len).collect(), data }
    }

    /// A matrix of this shape that the files hold with its axes swapped. What lists a graph's weights lists it as it is here.
    pub fn transposed_weight(&self, name: &str, shape: [Size; 2]) -> Weight {
        if !self.weights.can_run() {
            return self.weight(name, &shape);
        }
        let [n, e] = shape;
        let stored = self.weight(name, &[e, n]);
        let data = match &stored.data {
            WeightData::Stored { blob, dtype } if !blob.is_empty() => {
                let turned = blob
                    .read()
                    .and_then(|bytes| self.in_scratch(&graph::transposed(&bytes, [e.len, n.len], dtype.bytes())));
                match turned {
                    Ok(blob) => WeightData::Stored { blob, dtype: *dtype },
                    Err(error) => {
                        let file = self.weights.get(name).map(|stored| stored.file.clone()).unwrap_or_default();
                        let message = error.to_string();
                        self.account().problems.push(Problem::Unreadable { name: name.to_owned(), file, message });
                        stand_in()
                    }
                }
            }
            // A stand-in, whose problem is noted.
            _ => stored.data,
        };
        Weight { name: stored.name, shape: vec![n.len, e.len], data }
    }

    /// One weight that the files hold under one or more names, the first of which is asked for when none is there.
    ///
    /// `names`: each with the reason why it stands for the same weight. All copies must be equal byte for byte; one that
    /// is not is noted for [`Checkpoint::finish`] with its first difference.
    pub fn tied_weight(&self, names: &[(&str, &str)], shape: &[Size]) -> Weight {
        let mut stored = names.iter().filter(|(name, _)| self.has(name));
        let Some((name, _)) = stored.next() else { return self.weight(names[0].0, shape) };
        let weight = self.weight(name, shape);
        for (alias, why) in stored {
            self.ignore_tensor(alias);
            let problem = match self.difference(alias, name) {
                Ok(None) => continue,
                Ok(Some(difference)) => {
                    let (name, other, why) = ((*alias).to_owned(), (*name).to_owned(), (*why).to_owned());
                    Problem::AliasesDiffer { name, other, difference, why }
                }
                Err(problem) => problem,
            };
            self.account().problems.push(problem);
        }
        weight
    }

    /// Whether two names hold the same bytes; a tensor that cannot be read differs.
    pub fn same(&self, a: &str, b: &str) -> bool {
        self.weights.can_run() && self.has(a) && self.has(b) && matches!(self.difference(a, b), Ok(None))
    }

    /// Marks a tensor that is known to have no effect.
    pub fn ignore_tensor(&self, name: &str) {
        self.account().asked.insert(name.to_owned());
    }

    /// Marks every tensor whose name fits as one that belongs to the model and not to the forward pass that is imported.
    /// safetensors artifacts have it as it is.
    pub fn carry_tensors(&self, fits: impl Fn(&str) -> bool) {
        for (name, stored) in self.weights.iter().filter(|(name, _)| fits(name)) {
            self.ignore_tensor(name);
            let read = self.floats(name, stored);
            let mut account = self.account();
            match read {
                Ok((blob, dtype)) => {
                    let data = WeightData::Stored { blob, dtype };
                    account.carried.push(Weight { name: name.clone(), shape: stored.shape.clone(), data });
                }
                Err(problem) => account.problems.push(problem),
            }
        }
    }

    /// Marks integers that follow from the config: `expected` is the one at each place, row by row. A file may lack them;
    /// where it has others, that is noted for [`Checkpoint::finish`]. safetensors artifacts have them as they are.
    pub fn known_integers(&self, name: &str, shape: &[Size], expected: impl Fn(usize) -> i64) {
        self.ignore_tensor(name);
        let Some(stored) = self.weights.get(name) else { return };
        let values: Vec<i64> = (0..shape.iter().map(|size| size.len).product()).map(expected).collect();
        let known = Integers { name: name.to_owned(), shape: shape.iter().map(|size| size.len).collect(), values };
        let problem = if self.weights.can_run() { self.differs(&known, stored) } else { Ok(()) };
        let mut account = self.account();
        match problem {
            Ok(()) => account.integers.push(known),
            Err(problem) => account.problems.push(problem),
        }
    }

    /// Whether the files have these integers. Errors: what they have instead.
    fn differs(&self, known: &Integers, stored: &Stored) -> Result<(), Problem> {
        let Stored { file, dtype, shape, bytes } = stored;
        let differ = |found: String| Problem::OtherIntegers { name: known.name.clone(), found, file: file.clone() };
        if dtype != "I64" || *shape != known.shape {
            return Err(differ(format!("{dtype} {shape:?}, expected I64 {:?}", known.shape)));
        }
        let read = match bytes {
            Bytes::Range(blob) | Bytes::Blocks(_, blob) => blob.read(),
            Bytes::Pickled(tensor, file_bytes) => pickle::read(tensor, *file_bytes),
        };
        let unreadable = |error: io::Error| {
            let (name, file, message) = (known.name.clone(), file.clone(), error.to_string());
            Problem::Unreadable { name, file, message }
        };
        let read = read.map_err(unreadable)?;
        let found = read.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().expect("eight")));
        match found.zip(&known.values).enumerate().find(|(_, (found, expected))| found != *expected) {
            None => Ok(()),
            Some((at, (found, expected))) => Err(differ(format!("{found} at place {at}, expected {expected}"))),
        }
    }

    /// What [`Checkpoint::known_integers`] marked and the files have.
    pub fn integers(&self) -> Vec<Integers> {
        self.account().integers.clone()
    }

    /// What [`Checkpoint::carry_tensors`] marked.
    pub fn carried(&self) -> Vec<Weight> {
        self.account().carried.clone()
    }

    /// `prefix` if a tensor's name begins with it, else nothing: base models are saved without the prefix of the model
    /// around them.
    pub fn prefix<'p>(&self, prefix: &'p str) -> &'p str {
        if self.weights.iter().any(|(name, _)| name.starts_with(prefix)) { prefix } else { "" }
    }

    /// The end of an import. Errors: [`CheckpointError::DoesNotFit`] with every problem of config and tensors, every tensor
    /// that nothing asked for, and every key that nothing read.
    pub fn finish(&self) -> Result<(), CheckpointError> {
        let mut problems = self.config.problems();
        let account = self.account();
        problems.extend(account.problems.iter().cloned());
        for (name, stored) in self.weights.iter() {
            if !account.asked.contains(name) {
                problems.push(Problem::UnusedTensor {
                    name: name.clone(),
                    architecture: self.config.architecture(),
                    dtype: stored.dtype.clone(),
                    shape: stored.shape.clone(),
                    file: stored.file.clone(),
                });
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(CheckpointError::DoesNotFit { dir: self.dir().to_owned(), problems }),
        }
    }

    fn account(&self) -> std::sync::MutexGuard<'_, Account> {
        self.account.lock().expect("no panic while holding the lock")
    }

    fn stored(&self, name: &str, shape: &[Size]) -> Result<WeightData, Problem> {
        self.ignore_tensor(name);
        let expected = || {
            let (lens, names): (Vec<usize>, Vec<&str>) = shape.iter().map(|size| (size.len, size.name)).unzip();
            format!("{lens:?} ({})", names.join(", "))
        };
        let Some(stored) = self.weights.get(name) else {
            return self.weights.absent(name, expected());
        };
        let Stored { file, shape: found, .. } = stored;
        if !shape.iter().map(|size| size.len).eq(found.iter().copied()) {
            let (name, file) = (name.to_owned(), file.clone());
            return Err(Problem::WrongShape { name, expected: expected(), found: found.clone(), file });
        }
        if let Bytes::Blocks(kind, blocks) = &stored.bytes {
            return Ok(WeightData::Quantized(Quantized::Ggml { kind: *kind, blocks: blocks.clone() }));
        }
        let (blob, dtype) = self.floats(name, stored)?;
        Ok(WeightData::Stored { blob, dtype })
    }

    fn floats(&self, name: &str, stored: &Stored) -> Result<(Blob, FloatType), Problem> {
        let dtype = match stored.dtype.as_str() {
            "F32" => FloatType::F32,
            "F16" => FloatType::F16,
            "BF16" => FloatType::BF16,
            other => {
                let (name, file, dtype) = (name.to_owned(), stored.file.clone(), other.to_owned());
                return Err(Problem::WrongType { name, dtype, file });
            }
        };
        let blob = match &stored.bytes {
            Bytes::Range(blob) | Bytes::Blocks(_, blob) => Ok(blob.clone()),
            Bytes::Pickled(tensor, file_bytes) => self.unpickle(tensor, *file_bytes, dtype),
        };
        let unreadable = |e: io::Error| Problem::Unreadable {
            name: name.to_owned(),
            file: stored.file.clone(),
            message: e.to_string(),
        };
        Ok((blob.map_err(unreadable)?, dtype))
    }

    fn unpickle(&self, tensor: &pytorch_reader::Tensor, file_bytes: u64, dtype: FloatType) -> io::Result<Blob> {
        let mut bytes = pickle::read(tensor, file_bytes)?;
        if cfg!(target_endian = "big") {
            // The reader answers in the machine's order; weights are little-endian.
            bytes.chunks_exact_mut(dtype.bytes()).for_each(<[u8]>::reverse);
        }
        self.in_scratch(&bytes)
    }

    fn in_scratch(&self, bytes: &[u8]) -> io::Result<Blob> {
        if self.scratch.get().is_none() {
            // Another thread may have been first; its scratch file serves as well.
            let _ = self.scratch.set(Scratch::new()?);
        }
        let scratch = self.scratch.get().expect("just set");
        let range = scratch.reserve(bytes.len() as u64)?;
        range.write_at(0, bytes)?;
        Ok(range.into_blob())
    }

    /// The first difference between two tensors in words, or `None` when they are equal byte for byte.
    fn difference(&self, a: &str, b: &str) -> Result<Option<String>, Problem> {
        let stored = |name: &str| self.weights.get(name).expect("only tensors of the files are compared");
        let (stored_a, stored_b) = (stored(a), stored(b));
        if (&stored_a.dtype, &stored_a.shape) != (&stored_b.dtype, &stored_b.shape) {
            let told = |s: &Stored| format!("{} {:?}", s.dtype, s.shape);
            return Ok(Some(format!("{} against {}", told(stored_a), told(stored_b))));
        }
        let ((blob_a, dtype), (blob_b, _)) = (self.floats(a, stored_a)?, self.floats(b, stored_b)?);
        let unreadable = |e: io::Error| {
            let (name, file) = (a.to_owned(), stored_a.file.clone());
            Problem::Unreadable { name, file, message: e.to_string() }
        };
        let (mut chunk_a, mut chunk_b) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        let mut at = 0;
        while at < blob_a.len() {
            let len = CHUNK_BYTES.min((blob_a.len() - at) as usize);
            let (chunk_a, chunk_b) = (&mut chunk_a[..len], &mut chunk_b[..len]);
            blob_a.read_at(at, chunk_a).and_then(|()| blob_b.read_at(at, chunk_b)).map_err(unreadable)?;
            if let Some(byte) = chunk_a.iter().zip(chunk_b.iter()).position(|(x, y)| x != y) {
                let element = byte / dtype.bytes();
                let value = |chunk: &[u8]| {
                    let mut value = [0.0];
                    dtype.decode(&chunk[element * dtype.bytes()..(element + 1) * dtype.bytes()], &mut value);
                    value[0]
                };
                let (x, y) = (value(chunk_a), value(chunk_b));
                let element = at as usize / dtype.bytes() + element;
                let columns = stored_a.shape.last().copied().unwrap_or(1);
                let (row, column) = (element / columns, element % columns);
                return Ok(Some(format!("{x} against {y} at row {row}, column {column}")));
            }
            at += len as u64;
        }
        Ok(None)
    }
}
