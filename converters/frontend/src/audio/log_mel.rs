//! Log-mel features as Whisper was trained on.

use std::f64::consts::PI;
use std::sync::Arc;

use checkpoint::{CheckpointError, Files};
use realfft::{RealFftPlanner, RealToComplex};

use super::parameters;

/// Above it the Slaney mel scale is logarithmic, below linear.
const BREAK_HERTZ: f64 = 1000.0;
const BREAK_MEL: f64 = 15.0;
/// The upper end of the filters, whatever the sampling rate.
const HIGHEST_HERTZ: f64 = 8000.0;
/// Power below which everything is silence.
const FLOOR: f64 = 1e-10;

/// What log-mel features are computed with, for engines that are told.
#[derive(Clone, PartialEq, Debug)]
pub struct MelTables {
    /// Samples a second.
    pub sampling_rate: u32,
    /// Samples from one window to the next.
    pub hop_length: usize,
    /// Samples that every clip is filled up to.
    pub samples: usize,
    /// What it is filled up with.
    pub padding_value: f32,
    /// f32[n_fft].
    pub window: Vec<f32>,
    /// f32[mels, n_fft / 2 + 1], row after row.
    pub filters: Vec<f32>,
}

impl MelTables {
    /// Those of a checkpoint's files. Errors: a key that changes the features and is not supported or not known.
    pub fn of(files: &Files) -> Result<MelTables, CheckpointError> {
        let parameters = parameters::log_mel(files)?;
        let LogMel { hop, samples, padding_value, window, filters, .. } = LogMel::new(&parameters);
        let row = |filter: &Filter| {
            let mut row = vec![0.0; parameters.n_fft / 2 + 1];
            for (to, weight) in row[filter.first..].iter_mut().zip(&filter.weights) {
                *to = *weight as f32;
            }
            row
        };
        Ok(MelTables {
            sampling_rate: parameters.sampling_rate,
            hop_length: hop,
            samples,
            padding_value,
            window: window.iter().map(|x| *x as f32).collect(),
            filters: filters.iter().flat_map(row).collect(),
        })
    }
}

/// `max(log10(mel), max - 8)`, then `(x + 4) / 4`, where `mel = filters · |STFT|²`.
pub(super) struct LogMel {
    hop: usize,
    samples: usize,
    padding_value: f32,
    fft: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
    filters: Vec<Filter>,
}

/// One row of the filter bank: zero but in a run of bins.
struct Filter {
    first: usize,
    weights: Vec<f64>,
}

impl LogMel {
    pub(super) fn new(p: &parameters::LogMel) -> LogMel {
        LogMel {
            hop: p.hop_length,
            samples: p.samples,
            padding_value: p.padding_value,
            fft: RealFftPlanner::new().plan_fft_forward(p.n_fft),
            // The periodic Hann window of torch.hann_window.
            window: (0..p.n_fft).map(|i| 0.5 - 0.5 * (2.0 * PI * i as f64 / p.n_fft as f64).cos()).collect(),
            filters: filters(p.feature_size, p.n_fft / 2 + 1, p.sampling_rate),
        }
    }

    /// Rows of the features.
    pub(super) fn bins(&self) -> usize {
        self.filters.len()
    }

    /// Columns of the features: the last of the `1 + samples / hop` windows is dropped.
    pub(super) fn frames(&self) -> usize {
        self.samples / self.hop
    }

    /// f32[bins, frames] of a clip of at most `samples`.
    ///
    /// Sums are in f64, so the difference to transformers is the f32 noise there.
    pub(super) fn features(&self, clip: &[f32]) -> Vec<f32> {
        let half = self.window.len() / 2;
        let sample = |at: usize| f64::from(clip.get(at).copied().unwrap_or(self.padding_value));
        // Windows are centred; before the first sample and after the last one the signal is reflected.
        let padded = |at: usize| match at {
            at if at < half => sample(half - at),
            at if at < half + self.samples => sample(at - half),
            at => sample(2 * self.samples + half - 2 - at),
        };
        let frames = self.frames();
        let (mut frame, mut spectrum) = (self.fft.make_input_vec(), self.fft.make_output_vec());
        let mut scratch = self.fft.make_scratch_vec();
        let mut log_mel = vec![0.0; self.bins() * frames];
        let mut loudest = f64::NEG_INFINITY;
        for column in 0..frames {
            for (at, (x, window)) in frame.iter_mut().zip(&self.window).enumerate() {
                *x = padded(column * self.hop + at) * window;
            }
            self.fft
                .process_with_scratch(&mut frame, &mut spectrum, &mut scratch)
                .expect("buffers of the plan's lengths");
            for (row, Filter { first, weights }) in self.filters.iter().enumerate() {
                let power: f64 = weights.iter().zip(&spectrum[*first..]).map(|(w, x)| w * x.norm_sqr()).sum();
                let level = power.max(FLOOR).log10();
                loudest = loudest.max(level);
                log_mel[row * frames + column] = level;
            }
        }
        log_mel.into_iter().map(|level| ((level.max(loudest - 8.0) + 4.0) / 4.0) as f32).collect()
    }
}

/// Triangles evenly spaced on the mel scale of Slaney's Auditory Toolbox (1998), each of area 1 over hertz.
fn filters(count: usize, bins: usize, sampling_rate: u32) -> Vec<Filter> {
    let top = mel(HIGHEST_HERTZ);
    let corners: Vec<f64> = (0..count + 2).map(|i| hertz(top * i as f64 / (count + 1) as f64)).collect();
    let hertz_of = |bin: usize| f64::from(sampling_rate / 2) * bin as f64 / (bins - 1) as f64;
    let filter = |corners: &[f64]| {
        let [left, centre, right] = [corners[0], corners[1], corners[2]];
        let weight = |bin: usize| {
            let (up, down) = ((hertz_of(bin) - left) / (centre - left), (right - hertz_of(bin)) / (right - centre));
            up.min(down).max(0.0) * 2.0 / (right - left)
        };
        let first = (0..bins).find(|bin| weight(*bin) > 0.0).unwrap_or(bins);
        Filter { first, weights: (first..bins).map(weight).take_while(|w| *w > 0.0).collect() }
    };
    corners.windows(3).map(filter).collect()
}

/// 200/3 Hz a mel up to 1 kHz, then a factor of 6.4 every 27.
fn mel(hertz: f64) -> f64 {
    match hertz < BREAK_HERTZ {
        true => hertz * 3.0 / 200.0,
        false => BREAK_MEL + (hertz / BREAK_HERTZ).ln() * 27.0 / 6.4f64.ln(),
    }
}

fn hertz(mel: f64) -> f64 {
    match mel < BREAK_MEL {
        true => mel * 200.0 / 3.0,
        false => BREAK_HERTZ * ((mel - BREAK_MEL) * 6.4f64.ln() / 27.0).exp(),
    }
}
