//! preprocessor_config.json, every key of which is read, known to be without effect, or an error.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde_json::Value;

use checkpoint::json::Unique;
use checkpoint::limits::{CLIP_FEATURES, CLIP_SAMPLES, WINDOW_SAMPLES};
use checkpoint::names::{PREPROCESSOR_CONFIG, PROCESSOR_CONFIG};
use checkpoint::{CheckpointError, Files};

const RATES: RangeInclusive<u64> = 1..=1_000_000;

/// Of `WhisperFeatureExtractor`.
pub(super) struct LogMel {
    pub(super) feature_size: usize,
    pub(super) sampling_rate: u32,
    pub(super) hop_length: usize,
    pub(super) n_fft: usize,
    /// `chunk_length · sampling_rate`.
    pub(super) samples: usize,
    pub(super) padding_value: f32,
}

/// What a model that hears samples takes: the parameters of `Wav2Vec2FeatureExtractor`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// Samples a second.
    pub sampling_rate: u32,
    /// Whether clips are brought to mean 0 and variance 1.
    pub normalize: bool,
}

impl Heard {
    /// That of a checkpoint's files. Errors: they say nothing, or a key that changes the samples and is not supported or not known.
    pub fn of(files: &Files) -> Result<Heard, CheckpointError> {
        samples(files)
    }
}

/// Those of a checkpoint of Whisper; the extractor's defaults where the folder says nothing.
pub(super) fn log_mel(files: &Files) -> Result<LogMel, CheckpointError> {
    let mut keys = Keys::open(files)?.unwrap_or_else(|| Keys::new(files.path(PREPROCESSOR_CONFIG), Vec::new()));
    keys.only("feature_extractor_type", "WhisperFeatureExtractor")?;
    keys.only("padding_side", "right")?;
    // Random numbers are added to the samples.
    keys.only("dither", 0.0)?;
    // The extractor computes the first three itself; `do_normalize` is an argument of its call, never a default.
    keys.ignore(&[
        "mel_filters",
        "n_samples",
        "nb_max_frames",
        "do_normalize",
        "return_attention_mask",
        "processor_class",
    ]);
    let sampling_rate = keys.number("sampling_rate", 16_000, RATES)?;
    let chunk_length = keys.number("chunk_length", 30, 1..=CLIP_SAMPLES / sampling_rate)?;
    let samples = chunk_length * sampling_rate;
    let n_fft = keys.number("n_fft", 400, 2..=samples.min(WINDOW_SAMPLES))?;
    if n_fft % 2 != 0 {
        return Err(keys.wrong("n_fft", "an even number", &Value::from(n_fft)));
    }
    let feature_size = keys.number("feature_size", 80, 1..=1024)?;
    let hop_length = keys.number("hop_length", 160, 1..=samples)?;
    if feature_size * (samples / hop_length) > CLIP_FEATURES {
        let expected = format!("one with which a clip has at most {CLIP_FEATURES} features");
        return Err(keys.wrong("hop_length", &expected, &Value::from(hop_length)));
    }
    let parameters = LogMel {
        feature_size: feature_size as usize,
        sampling_rate: sampling_rate as u32,
        hop_length: hop_length as usize,
        n_fft: n_fft as usize,
        samples: samples as usize,
        padding_value: keys.float("padding_value", 0.0)?,
    };
    keys.finish()?;
    Ok(parameters)
}

/// Those of a checkpoint of Moonshine. Errors: the folder says nothing.
pub(super) fn samples(files: &Files) -> Result<Heard, CheckpointError> {
    let expected = format!("{PREPROCESSOR_CONFIG}, which says whether samples are normalized");
    let mut keys =
        Keys::open(files)?.ok_or(CheckpointError::NotACheckpoint { dir: files.dir().to_owned(), expected })?;
    keys.only("feature_extractor_type", "Wav2Vec2FeatureExtractor")?;
    keys.only("padding_side", "right")?;
    keys.only("feature_size", 1)?;
    keys.only("padding_value", 0.0)?;
    keys.ignore(&["return_attention_mask", "processor_class"]);
    let parameters = Heard {
        sampling_rate: keys.number("sampling_rate", 16_000, RATES)? as u32,
        normalize: keys.bool("do_normalize", true)?,
    };
    keys.finish()?;
    Ok(parameters)
}

/// A JSON object whose keys are taken out as they are read. A key at null counts as absent.
struct Keys {
    file: PathBuf,
    left: BTreeMap<String, Value>,
}

impl Keys {
    /// The object `feature_extractor` of processor_config.json, else preprocessor_config.json, if there.
    fn open(files: &Files) -> Result<Option<Keys>, CheckpointError> {
        if let Some(Unique(entries)) = files.json::<Unique<Value>>(PROCESSOR_CONFIG)? {
            let nested = entries.into_iter().find(|(key, _)| key == "feature_extractor");
            if let Some((_, Value::Object(entries))) = nested {
                return Ok(Some(Keys::new(files.path(PROCESSOR_CONFIG), entries.into_iter().collect())));
            }
        }
        let found = files.json::<Unique<Value>>(PREPROCESSOR_CONFIG)?;
        Ok(found.map(|Unique(entries)| Keys::new(files.path(PREPROCESSOR_CONFIG), entries)))
    }

    fn new(file: PathBuf, entries: Vec<(String, Value)>) -> Keys {
        Keys { file, left: entries.into_iter().filter(|(_, value)| !value.is_null()).collect() }
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> CheckpointError {
        CheckpointError::malformed(&self.file, format!("{key} = {found}, expected {expected}"))
    }

    fn number(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> Result<u64, CheckpointError> {
        let Some(value) = self.left.remove(key) else { return Ok(default) };
        let found = value.as_u64().filter(|n| range.contains(n));
        found.ok_or_else(|| self.wrong(key, &format!("a number from {} to {}", range.start(), range.end()), &value))
    }

    fn float(&mut self, key: &str, default: f32) -> Result<f32, CheckpointError> {
        let Some(value) = self.left.remove(key) else { return Ok(default) };
        let found = value.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
        found.ok_or_else(|| self.wrong(key, "a number", &value))
    }

    fn bool(&mut self, key: &str, default: bool) -> Result<bool, CheckpointError> {
        let Some(value) = self.left.remove(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(key, "true or false", &value))
    }

    /// A key that is supported at one value; numbers are compared as numbers.
    fn only(&mut self, key: &str, expected: impl Into<Value>) -> Result<(), CheckpointError> {
        let (Some(found), expected) = (self.left.remove(key), expected.into()) else { return Ok(()) };
        match found == expected || (found.is_number() && found.as_f64() == expected.as_f64()) {
            true => Ok(()),
            false => Err(self.wrong(key, &format!("{expected}; it changes the features"), &found)),
        }
    }

    fn ignore(&mut self, keys: &[&str]) {
        keys.iter().for_each(|key| drop(self.left.remove(*key)));
    }

    /// Errors: the keys that nothing read.
    fn finish(self) -> Result<(), CheckpointError> {
        let left: Vec<&str> = self.left.keys().map(String::as_str).collect();
        match left.is_empty() {
            true => Ok(()),
            false => Err(CheckpointError::malformed(
                &self.file,
                format!("not known, may change the features: {}", left.join(", ")),
            )),
        }
    }
}
