//! onnxruntime through its C library, found or fetched: ONNX artifacts as Optimum and transformers.js call them.

mod between;
pub(super) mod fetch;
pub(super) mod fixed;
mod opening;
mod tensors;

pub use fetch::cache_folder;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use converters::Artifact;
use converters::export::onnx::{Folder, describe};
use graph::{Feeds, Tensor};
use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{DynValue, Tensor as OrtTensor, TensorElementType, ValueType};

use crate::runtime::error::RuntimeError;
use crate::runtime::interface::{Between, Options, Present, Program, Runtime, Session};
use crate::runtime::names::ONNXRUNTIME;
use crate::runtime::npu::{self, Steps};
use crate::runtime::reference::{beside, of_rows};
use crate::runtime::{environments, host};
use between::Shown;
use fixed::FixedGraph;
use opening::{Config, Opening, session};
use report::Engine;
use report::figures::counted;
use tensors::{failed, from_ort, nothing_for, to_ort};

/// `onnxruntime` on the CPU.
#[derive(Clone, Copy, Debug)]
pub struct OnnxRuntime;

impl Program for OnnxRuntime {
    fn name(&self) -> &'static str {
        ONNXRUNTIME
    }

    fn runs(&self, format: &str) -> bool {
        format == "onnx" || format == npu::FORMAT
    }

    fn probe(&self, options: &Options) -> Result<Present, RuntimeError> {
        let library = fetch::local()?;
        let place = library.display().to_string();
        match &options.host {
            Some(program) => host::probe(ONNXRUNTIME, program, options, &[(fetch::VARIABLE, library)]),
            None => Ok(Present { version: load(options)?.version, place }),
        }
    }
}

impl Runtime for OnnxRuntime {
    fn open(&self, artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        if let Some(program) = &options.host {
            let library = fetch::library(options)?;
            return host::open(ONNXRUNTIME, program, artifact, options, &[(fetch::VARIABLE, library)]);
        }
        match artifact.format {
            npu::FORMAT => Ok(Box::new(open_fixed(&artifact.dir, options)?)),
            _ => Ok(Box::new(OnnxSession::open(&artifact.dir, options, GraphOptimizationLevel::All)?)),
        }
    }
}

/// The same with every node computed as it stands in the file.
pub fn open_as_written(artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError> {
    Ok(Box::new(OnnxSession::open(&artifact.dir, options, GraphOptimizationLevel::Disable)?))
}

// What is set because it matters for numbers. By default (4) onnxruntime 1.32 rounds the activations of weight-only int8
// layers to int8, which would be told as an error of the artifact; 1 keeps them in f32.
const CONFIG: [(&str, &str); 1] = [("session.qdq_matmulnbits_accuracy_level", "1")];

// For graphs with activations in fixed steps. Products of uint8 and int8 saturate at 16 bits on x86 without VNNI, so these
// layers stay as the file has them: rounded, and multiplied in f32. (`session.x64quantprecision` is for this too, but with
// it onnxruntime 1.32 does not run some graphs with a Relu.)
const FIXED_STEPS: (&str, &str) = ("session.disable_quant_qdq", "1");

/// What to set for graphs. One that cannot be read is told when it is opened.
fn config(files: impl IntoIterator<Item = PathBuf>, options: &Options) -> Config {
    if options.as_used {
        return Vec::new();
    }
    let fixed_steps = files
        .into_iter()
        .any(|file| describe(&file).is_ok_and(|described| described.operators.contains_key("QuantizeLinear")));
    CONFIG.into_iter().chain(fixed_steps.then_some(FIXED_STEPS)).collect()
}

/// For the report.
fn settings(options: &Options, optimizations: GraphOptimizationLevel, config: &Config, graphs: &str) -> String {
    let config = config.iter().map(|(key, value)| format!("{key} = {value}"));
    let optimizations = if matches!(optimizations, GraphOptimizationLevel::Disable) { "no" } else { "all" };
    let threads = counted(options.threads.max(1) as u64, "thread");
    let set = [format!("CPU, {threads}, {optimizations} optimizations")];
    set.into_iter().chain(config).chain([graphs.to_owned()]).collect::<Vec<_>>().join(", ")
}

/// Graphs of fixed shapes, one token a step.
fn open_fixed(dir: &Path, options: &Options) -> Result<Steps<FixedGraph>, RuntimeError> {
    let loaded = load(options)?;
    let all = GraphOptimizationLevel::All;
    let files = std::fs::read_dir(dir).map_err(|error| failed(format!("{}: {error}", dir.display())))?;
    let files = files.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "onnx"));
    let config = config(files, options);
    let settings = settings(options, all, &config, "fixed shapes, one token a step");
    let engine = Engine { name: ONNXRUNTIME.to_owned(), version: loaded.version.clone(), settings };
    Steps::open(ONNXRUNTIME, engine, dir, |file| {
        let session = session(&loaded.environment, file, options.threads, all, &config);
        session.map(FixedGraph).map_err(|error| failed(format!("{}: {error}", file.display())))
    })
}

/// The library of this process; it cannot be loaded twice.
static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) environment: Environment,
    pub(super) version: String,
}

/// Loads the library, once in this process.
pub(super) fn load(options: &Options) -> Result<Loaded, RuntimeError> {
    let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(loaded) = &*loaded {
        return Ok(loaded.clone());
    }
    let library = fetch::library(options)?;
    let builder = ort::init_from(&library).map_err(failed)?;
    let environment = builder.with_telemetry(false).build().map_err(failed)?;
    let new = Loaded { environment, version: version(&library) };
    *loaded = Some(new.clone());
    Ok(new)
}

/// The C interface that we bind has no word for it, but the library's file or the package around it has.
fn version(library: &Path) -> String {
    let path = library.canonicalize().unwrap_or_else(|_| library.to_owned());
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digits = |text: &str| {
        let start = text.find(|c: char| c.is_ascii_digit())?;
        let word: String = text[start..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let word = word.trim_end_matches('.').to_owned();
        word.contains('.').then_some(word)
    };
    let package = || environments::version(path.parent()?.parent()?.parent()?, "onnxruntime");
    digits(&file).or_else(package).unwrap_or_else(|| ort::info().to_owned())
}

/// Tokens that were looked up.
const EMBEDS: &str = "inputs_embeds";

/// Who decodes.
enum Decoder {
    /// One graph for all steps.
    Merged(OrtSession),
    /// The first step, and those after it.
    Pair(OrtSession, OrtSession),
}

struct OnnxSession {
    /// Of a model that sees and reads: what makes features for its encoder.
    sight: Option<OrtSession>,
    /// What looks its tokens up, where encoder and decoder take embeddings.
    lookup: Option<OrtSession>,
    encoder: OrtSession,
    decoder: Decoder,
    engine: Engine,
    /// What was encoded last.
    source: Feeds,
    /// The encoder's output and the mask, if there is one, from [`Session::encode`] on.
    memory: Option<(DynValue, Option<DynValue>)>,
    mask: Option<Tensor>,
    /// By the names of the inputs they go to; empty before the first step.
    caches: HashMap<String, DynValue>,
    /// How copies of the graphs that show their values are opened, and where the graphs are.
    opening: Opening,
    shown: Option<Shown>,
}

impl OnnxSession {
    fn open(dir: &Path, options: &Options, optimizations: GraphOptimizationLevel) -> Result<OnnxSession, RuntimeError> {
        let loaded = load(options)?;
        let folder = Folder::find(dir);
        let merged = options.merged || folder.is_merged_alone();
        let config = config(folder.graphs(), options);
        let graphs = if merged { "merged decoder" } else { "decoder and decoder with past" };
        let settings = settings(options, optimizations, &config, graphs);
        let engine = Engine { name: ONNXRUNTIME.to_owned(), version: loaded.version.clone(), settings };
        let (environment, threads) = (loaded.environment, options.threads);
        let opening = Opening { environment, folder, threads, optimizations, config };
        let open = |file: PathBuf| opening.session(&file);
        let decoder = match merged {
            true => Decoder::Merged(open(opening.folder.merged())?),
            false => {
                let [first, later] = opening.folder.pair();
                Decoder::Pair(open(first)?, open(later)?)
            }
        };
        let [sight, lookup] = [opening.folder.sight(), opening.folder.lookup()].map(|file| file.map(open).transpose());
        let encoder = open(opening.folder.encoder())?;
        let (source, caches) = (Feeds::new(), HashMap::new());
        let (sight, lookup) = (sight?, lookup?);
        Ok(OnnxSession {
            sight,
            lookup,
            encoder,
            decoder,
            engine,
            source,
            memory: None,
            mask: None,
            caches,
            opening,
            shown: None,
        })
    }
}

/// A cache of no tokens for an input [batch, heads, past, head width].
fn empty_cache(input: &ort::value::Outlet, batch: usize) -> Result<DynValue, RuntimeError> {
    match input.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } if shape.len() == 4 => {
            let literal = |axis: usize| usize::try_from(shape[axis]).unwrap_or(0);
            let shape = vec![batch, literal(1), 0, literal(3)];
            OrtTensor::from_array((shape, Vec::<f32>::new())).map(|t| t.into_dyn()).map_err(failed)
        }
        other => Err(failed(format!("{}: expected f32[batch, heads, past, width], found {other}", input.name()))),
    }
}

/// Runs a graph on those of its inputs that it takes out of the feeds.
fn run(
    session: &mut OrtSession,
    feeds: &mut HashMap<String, DynValue>,
) -> Result<HashMap<String, DynValue>, RuntimeError> {
    let inputs = session.inputs().iter().map(|input| {
        let value = feeds.remove(input.name()).ok_or_else(|| nothing_for(input.name()))?;
        Ok((input.name().to_owned(), value))
    });
    let inputs = inputs.collect::<Result<Vec<_>, RuntimeError>>()?;
    let outputs = session.run(inputs).map_err(failed)?;
    Ok(outputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Rows of the table of tokens.
fn looked_up(lookup: &mut OrtSession, ids: DynValue) -> Result<DynValue, RuntimeError> {
    let mut feeds = HashMap::from([("input_ids".to_owned(), ids)]);
    run(lookup, &mut feeds)?.remove(EMBEDS).ok_or_else(|| failed("no output inputs_embeds"))
}

impl Session for OnnxSession {
    fn engine(&self) -> Engine {
        self.engine.clone()
    }

    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError> {
        self.caches.clear();
        if self.memory.is_some() && self.source == *source {
            return Ok(()); // only the targets start anew
        }
        self.memory = None;
        let mut feeds: HashMap<String, DynValue> = source
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), to_ort(tensor)?)))
            .collect::<Result<_, RuntimeError>>()?;
        if let Some(sight) = &mut self.sight {
            let seen = run(sight, &mut feeds)?;
            feeds.extend(seen);
        }
        let mut mask = source.get("attention_mask").cloned();
        if let Some(lookup) = &mut self.lookup {
            let tokens = looked_up(lookup, feeds.remove("input_ids").ok_or_else(|| nothing_for("input_ids"))?)?;
            let features = feeds.remove("image_features").ok_or_else(|| nothing_for("image_features"))?;
            let (features, tokens) = (from_ort("image_features", &features)?, from_ort(EMBEDS, &tokens)?);
            let seen = Tensor::i64(&features.shape()[..2], vec![1; features.shape()[..2].iter().product()]);
            mask = Some(beside(&seen, &mask.ok_or_else(|| nothing_for("attention_mask"))?)?);
            feeds.insert(EMBEDS.to_owned(), to_ort(&beside(&features, &tokens)?)?);
            feeds.extend(mask.as_ref().map(to_ort).transpose()?.map(|mask| ("attention_mask".to_owned(), mask)));
        }
        let mut outputs = run(&mut self.encoder, &mut feeds)?;
        let hidden = outputs.remove("last_hidden_state").ok_or_else(|| failed("no output last_hidden_state"))?;
        self.memory = Some((hidden, mask.as_ref().map(to_ort).transpose()?));
        self.mask = mask;
        self.source = source.clone();
        Ok(())
    }

    fn between(&mut self, source: &Feeds, decoder_input_ids: &Tensor) -> Result<Option<Between>, RuntimeError> {
        if self.opening.folder.is_merged_alone() {
            return Ok(None); // what it computes goes through both of its decoder's halves
        }
        let shown = match &mut self.shown {
            Some(shown) => shown,
            none => none.insert(Shown::open(&self.opening)?),
        };
        shown.run(source, decoder_input_ids).map(Some)
    }

    fn keep(&mut self, rows: &[usize]) -> Result<bool, RuntimeError> {
        let Some((hidden, _)) = &self.memory else { return Ok(false) };
        let of = |name: &str, value: &DynValue| to_ort(&of_rows(&from_ort(name, value)?, rows));
        let hidden = of("last_hidden_state", hidden)?;
        let caches = self.caches.iter().map(|(name, value)| Ok((name.clone(), of(name, value)?)));
        self.caches = caches.collect::<Result<_, RuntimeError>>()?;
        self.source.values_mut().for_each(|tensor| *tensor = of_rows(tensor, rows));
        self.mask = self.mask.as_ref().map(|mask| of_rows(mask, rows));
        self.memory = Some((hidden, self.mask.as_ref().map(to_ort).transpose()?));
        Ok(true)
    }

    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError> {
        let ids = match &mut self.lookup {
            Some(lookup) => looked_up(lookup, to_ort(decoder_input_ids)?)?,
            None => to_ort(decoder_input_ids)?,
        };
        let (hidden, mask) = self.memory.as_ref().ok_or_else(|| failed("decode before encode"))?;
        let first = self.caches.is_empty();
        let session = match &mut self.decoder {
            Decoder::Merged(session) => session,
            Decoder::Pair(session, _) if first => session,
            Decoder::Pair(_, session) => session,
        };
        let use_cache = OrtTensor::from_array(([1usize], vec![!first])).map_err(failed)?.into_dyn();
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::new();
        for input in session.inputs() {
            let value: SessionInputValue<'_> = match input.name() {
                "input_ids" | EMBEDS => (&ids).into(),
                name @ "encoder_attention_mask" => mask.as_ref().ok_or_else(|| nothing_for(name))?.into(),
                "encoder_hidden_states" => hidden.into(),
                "use_cache_branch" => (&use_cache).into(),
                name => match self.caches.get(name) {
                    Some(cache) => cache.into(),
                    None if first => empty_cache(input, decoder_input_ids.shape()[0])?.into(),
                    None => return Err(nothing_for(name)),
                },
            };
            inputs.push((Cow::Owned(input.name().to_owned()), value));
        }
        let mut outputs = session.run(inputs).map_err(failed)?;
        let logits = outputs.remove("logits").ok_or_else(|| failed("no output logits"))?;
        let names: Vec<String> =
            outputs.keys().filter(|name| name.starts_with("present.")).map(str::to_owned).collect();
        let mut made = Vec::new();
        for name in names {
            // The keys and values of the encoder's output do not change: those of the first step are kept.
            if first || !name.contains(".encoder.") {
                let value = outputs.remove(&name).expect("a name that was just listed");
                made.push((name.replacen("present.", "past_key_values.", 1), value));
            }
        }
        drop(outputs);
        self.caches.extend(made);
        from_ort("logits", &logits)
    }
}

#[cfg(test)]
mod tests;
