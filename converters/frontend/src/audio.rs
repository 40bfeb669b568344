//! From a WAV to what a speech model's encoder is fed: `WhisperFeatureExtractor` and, for Moonshine,
//! `Wav2Vec2FeatureExtractor` of transformers 5.23.

mod error;
mod log_mel;
mod parameters;
#[cfg(test)]
mod tests;
mod wav;

use std::path::Path;

use checkpoint::Files;
use graph::Tensor;

use crate::input::{Fill, Input};

pub use error::AudioError;
use log_mel::LogMel;
pub use log_mel::MelTables;
pub use parameters::Heard;
use wav::Lengths;

/// What a family makes of clips.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Features {
    /// The logarithm of the power in each band of the mel scale, of clips that are padded with silence to one length
    /// (Whisper).
    LogMel,
    /// The samples as they are, or normalized (Moonshine).
    Samples,
}

/// What an encoder is fed for one clip.
#[derive(Clone, PartialEq, Debug)]
pub enum Clip {
    /// f32[feature_size, frames].
    LogMel(Tensor),
    /// One channel.
    Samples(Vec<f32>),
}

impl From<Clip> for Input {
    fn from(clip: Clip) -> Input {
        match clip {
            Clip::LogMel(features) => Input::new("input_features", features, Fill::Never),
            Clip::Samples(samples) => Input::new("input_values", Tensor::f32([samples.len()], samples), Fill::Silence),
        }
    }
}

/// The samples of a WAV of any length, as [`FeatureExtractor::read`] reads them. Errors: likewise.
pub fn samples(clip: &Path, sampling_rate: u32) -> Result<Vec<f32>, AudioError> {
    wav::read(clip, sampling_rate, Lengths { least: 1, most: usize::MAX, why: "" })
}

/// Reads clips and computes features from them.
pub struct FeatureExtractor {
    sampling_rate: u32,
    lengths: Lengths,
    kind: Kind,
}

enum Kind {
    LogMel(LogMel),
    Samples { normalize: bool },
}

impl FeatureExtractor {
    /// What the checkpoint or artifact in `dir` asks for.
    ///
    /// Without preprocessor_config.json: the extractor's defaults for `LogMel`; an error for `Samples`, since the default of
    /// `Wav2Vec2FeatureExtractor` normalizes and published Moonshine checkpoints do not. Errors: a key that changes the
    /// features and is not supported or not known.
    pub fn open(dir: &Path, features: Features) -> Result<FeatureExtractor, AudioError> {
        FeatureExtractor::of(&Files::open(dir)?, features)
    }

    /// The same of a checkpoint's files.
    pub fn of(files: &Files, features: Features) -> Result<FeatureExtractor, AudioError> {
        Ok(match features {
            Features::LogMel => {
                let parameters = parameters::log_mel(files)?;
                let why = "long-form decoding is not supported; cut the clip at silences";
                FeatureExtractor {
                    sampling_rate: parameters.sampling_rate,
                    lengths: Lengths { least: 1, most: parameters.samples, why },
                    kind: Kind::LogMel(LogMel::new(&parameters)),
                }
            }
            Features::Samples => {
                let Heard { sampling_rate, normalize } = parameters::samples(files)?;
                // `assert 0.1 < num_seconds < 64` in transcribe.py of github.com/moonshine-ai/moonshine.
                let [least, most] = [sampling_rate as usize / 10, sampling_rate as usize * 64];
                let why = "Moonshine takes clips of 0.1 to 64 s; cut longer ones at silences";
                FeatureExtractor {
                    sampling_rate,
                    lengths: Lengths { least, most, why },
                    kind: Kind::Samples { normalize },
                }
            }
        })
    }

    /// The features of a WAV. Errors: those of [`FeatureExtractor::read`].
    pub fn listen(&self, clip: &Path) -> Result<Clip, AudioError> {
        Ok(self.features(&self.read(clip)?))
    }

    /// The samples of a WAV, channels averaged, from -1 to 1 where the file holds integers.
    ///
    /// Reads 8, 16, 24 and 32-bit PCM and 32 and 64-bit floats. Errors: another format, a file cut short, a sample that is
    /// not a number, another sampling rate, a length that the model does not take.
    pub fn read(&self, clip: &Path) -> Result<Vec<f32>, AudioError> {
        wav::read(clip, self.sampling_rate, self.lengths)
    }

    /// Whether all clips are filled up to one length.
    pub fn pads_clips(&self) -> bool {
        matches!(self.kind, Kind::LogMel(_))
    }

    /// Samples a second.
    pub fn sampling_rate(&self) -> u32 {
        self.sampling_rate
    }

    /// The longest clip that the model takes, in samples.
    pub fn longest(&self) -> usize {
        self.lengths.most
    }

    /// The features of samples that [`FeatureExtractor::read`] gave.
    pub fn features(&self, samples: &[f32]) -> Clip {
        match &self.kind {
            Kind::LogMel(log_mel) => {
                Clip::LogMel(Tensor::f32([log_mel.bins(), log_mel.frames()], log_mel.features(samples)))
            }
            Kind::Samples { normalize: true } => Clip::Samples(normalized(samples).collect()),
            Kind::Samples { normalize: false } => Clip::Samples(samples.to_vec()),
        }
    }
}

/// `(x - mean) / √(variance + 1e-7)`, as `zero_mean_unit_var_norm` does.
fn normalized(clip: &[f32]) -> impl Iterator<Item = f32> {
    let count = clip.len().max(1) as f64;
    let mean = clip.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let variance = clip.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
    let scale = (variance + 1e-7).sqrt();
    clip.iter().map(move |x| ((f64::from(*x) - mean) / scale) as f32)
}
