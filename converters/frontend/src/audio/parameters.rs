//! preprocessor_config.json, every key of which is read, known to be without effect, or an error.

use std::ops::RangeInclusive;

use serde_json::Value;

use checkpoint::limits::{CLIP_FEATURES, CLIP_SAMPLES, WINDOW_SAMPLES};
use checkpoint::names::PREPROCESSOR_CONFIG;
use checkpoint::{CheckpointError, Files};

use crate::keys::Keys;

/// The object of processor_config.json.
const INSIDE: &str = "feature_extractor";
/// What another value does.
const CHANGES: &str = "it changes the features";
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
    let mut keys = Keys::open(files, INSIDE)?.unwrap_or_else(|| Keys::defaults(files));
    keys.only("feature_extractor_type", "WhisperFeatureExtractor", CHANGES);
    keys.only("padding_side", "right", CHANGES);
    // Random numbers are added to the samples.
    keys.only("dither", 0.0, CHANGES);
    // The extractor computes the first three itself; `do_normalize` is an argument of its call, never a default.
    keys.ignore(&[
        "mel_filters",
        "n_samples",
        "nb_max_frames",
        "do_normalize",
        "return_attention_mask",
        "processor_class",
    ]);
    let sampling_rate = keys.number("sampling_rate", 16_000, RATES);
    let chunk_length = keys.number("chunk_length", 30, 1..=CLIP_SAMPLES / sampling_rate);
    let samples = chunk_length * sampling_rate;
    let n_fft = keys.number("n_fft", 400, 2..=samples.min(WINDOW_SAMPLES));
    if n_fft % 2 != 0 {
        keys.wrong("n_fft", "an even number", &Value::from(n_fft));
    }
    let feature_size = keys.number("feature_size", 80, 1..=1024);
    let hop_length = keys.number("hop_length", 160, 1..=samples);
    if feature_size * (samples / hop_length) > CLIP_FEATURES {
        let expected = format!("one with which a clip has at most {CLIP_FEATURES} features");
        keys.wrong("hop_length", &expected, &Value::from(hop_length));
    }
    let parameters = LogMel {
        feature_size: feature_size as usize,
        sampling_rate: sampling_rate as u32,
        hop_length: hop_length as usize,
        n_fft: n_fft as usize,
        samples: samples as usize,
        padding_value: keys.float("padding_value", 0.0),
    };
    keys.finish("features")?;
    Ok(parameters)
}

/// Those of a checkpoint of Moonshine. Errors: the folder says nothing.
pub(super) fn samples(files: &Files) -> Result<Heard, CheckpointError> {
    let expected = format!("{PREPROCESSOR_CONFIG}, which says whether samples are normalized");
    let mut keys =
        Keys::open(files, INSIDE)?.ok_or(CheckpointError::NotACheckpoint { dir: files.dir().to_owned(), expected })?;
    keys.only("feature_extractor_type", "Wav2Vec2FeatureExtractor", CHANGES);
    keys.only("padding_side", "right", CHANGES);
    keys.only("feature_size", 1, CHANGES);
    keys.only("padding_value", 0.0, CHANGES);
    keys.ignore(&["return_attention_mask", "processor_class"]);
    let parameters = Heard {
        sampling_rate: keys.number("sampling_rate", 16_000, RATES) as u32,
        normalize: keys.bool("do_normalize", true),
    };
    keys.finish("features")?;
    Ok(parameters)
}
