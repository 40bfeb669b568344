//! Clips and features against those of transformers, recorded by tests/fixtures/audio/make.py.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::names::{PREPROCESSOR_CONFIG, PROCESSOR_CONFIG};
use safetensors::SafeTensors;

use super::*;

/// transformers' features are in f32, whose noise the logarithm makes larger where a bin is 80 dB below the loudest.
const MEL_NOISE: f32 = 5e-5; // 1.4e-5 of features from -0.84 to 1.38; their means 1.2e-7
/// Its mean and variance are summed in f32.
const F32_NOISE: f32 = 2e-6; // 2.4e-7

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/audio").join(name)
}

fn golden() -> HashMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(fixture("golden.safetensors")).expect("recorded");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    tensors.tensors().into_iter().map(|(name, t)| (name, (t.shape().to_vec(), t.data().to_vec()))).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// A folder with this preprocessor_config.json.
fn folder(json: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    fs::write(dir.path().join(PREPROCESSOR_CONFIG), json).expect("written");
    dir
}

fn log_mel(json: &str) -> FeatureExtractor {
    FeatureExtractor::open(folder(json).path(), Features::LogMel).unwrap_or_else(|e| panic!("{e}"))
}

fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

const WHOLE: Lengths = Lengths { least: 1, most: usize::MAX, why: "" };

#[test]
fn every_sample_format_is_read_as_its_numbers() {
    let golden = golden();
    let mut seen = 0;
    for (name, (_, data)) in &golden {
        let Some(clip) = name.strip_prefix("samples.") else { continue };
        let found = wav::read(&fixture(&format!("{clip}.wav")), 16_000, WHOLE).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(found, floats(data), "{clip}");
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn log_mel_features_equal_those_of_transformers() {
    let golden = golden();
    let columns: Vec<usize> =
        golden["frames"].1.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as usize).collect();
    for (bins, json) in [(80, "{}"), (128, r#"{"feature_size": 128}"#)] {
        let front_end = log_mel(json);
        let Clip::LogMel(features) = front_end.listen(&fixture("chirp.wav")).expect("a clip") else {
            panic!("log-mel")
        };
        assert_eq!(features.shape(), [bins, 3000]);
        let features = features.as_f32().expect("floats");
        let slice: Vec<f32> = features.chunks(3000).flat_map(|row| columns.iter().map(|c| row[*c])).collect();
        let means: Vec<f32> =
            features.chunks(3000).map(|row| (row.iter().map(|x| f64::from(*x)).sum::<f64>() / 3000.0) as f32).collect();
        let worst = difference(&slice, &floats(&golden[&format!("mel_{bins}")].1));
        assert!(worst <= MEL_NOISE, "{bins}: {worst}");
        let worst = difference(&means, &floats(&golden[&format!("mel_{bins}.mean")].1));
        assert!(worst <= MEL_NOISE, "{bins}, means: {worst}");
    }
    let front_end = log_mel(r#"{"feature_size": 8, "chunk_length": 1}"#);
    let Clip::LogMel(features) = front_end.listen(&fixture("chirp.wav")).expect("a clip") else { panic!("log-mel") };
    assert_eq!(features.shape(), [8, 100]);
    let worst = difference(features.as_f32().expect("floats"), &floats(&golden["mel_8"].1));
    assert!(worst <= MEL_NOISE, "all columns of 8 bins: {worst}");
}

#[test]
fn samples_are_normalized_as_transformers_does_or_left_alone() {
    let golden = golden();
    let open =
        |json: &str| FeatureExtractor::open(folder(json).path(), Features::Samples).unwrap_or_else(|e| panic!("{e}"));
    let front_end = open(r#"{"do_normalize": true}"#);
    let Clip::Samples(values) = front_end.listen(&fixture("chirp.wav")).expect("a clip") else { panic!("samples") };
    let every_61st: Vec<f32> = values.iter().step_by(61).copied().collect();
    let worst = difference(&every_61st, &floats(&golden["normalized"].1));
    assert!(worst <= F32_NOISE, "{worst}");
    let front_end =
        open(r#"{"do_normalize": false, "padding_value": 0.0, "feature_size": 1, "return_attention_mask": true}"#);
    assert_eq!(front_end.features(&[0.25, -0.5]), Clip::Samples(vec![0.25, -0.5]));
}

/// A file of these bytes, and the message of reading it at 16 kHz.
fn message(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().expect("temporary folder");
    fs::write(file.path(), bytes).expect("written");
    let error = wav::read(file.path(), 16_000, WHOLE).expect_err("refused").to_string();
    error.replace(&file.path().display().to_string(), "a.wav")
}

/// `bytes` with others at a place.
fn with(bytes: &[u8], at: usize, others: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + others.len()].copy_from_slice(others);
    bytes
}

#[test]
fn a_file_that_is_not_a_whole_wav_says_what_it_is() {
    // RIFF 0, WAVE 8, "fmt " 12, LIST 36, data 48, samples from 56.
    let pcm8 = fs::read(fixture("pcm8.wav")).expect("a fixture");
    let cases: [(Vec<u8>, &str); 12] = [
        (b"ID3".to_vec(), "not a WAV: expected RIFF and WAVE, found 3 bytes"),
        (b"OggS\0\x02\0\0\0\0\0\0".to_vec(), "found \"OggS\" and \"\\x00\\x00\\x00\\x00\""),
        (pcm8[..30].to_vec(), "cut short"),
        (pcm8[..44].to_vec(), "cut short: expected a chunk \"data\" after \"fmt \""),
        (pcm8[..70].to_vec(), "cut short: expected 24 bytes of samples, found 14"),
        // A header that promises 4 GB.
        (with(&pcm8, 52, &[0xff; 4]), "cut short: expected 4294967295 bytes of samples, found 24"),
        (with(&pcm8, 52, &[0; 4]), "expected samples, found none"),
        (with(&pcm8, 40, &[0xff; 4]), "cut short: expected a chunk \"data\" after \"fmt \""),
        (
            with(&pcm8, 20, &[2, 0]),
            "expected PCM of 8, 16, 24 or 32 bits or floats, found format 2 with 1 bytes a sample",
        ),
        (with(&pcm8, 22, &[0, 0]), "expected frames of whole samples, found 1 bytes for 0 channels"),
        (with(&pcm8, 24, &44_100u32.to_le_bytes()), "a.wav: expected 16000 samples a second, found 44100"),
        (with(&pcm8, 12, b"junk"), "expected a chunk \"fmt \" before \"data\", found none"),
    ];
    for (bytes, expected) in cases {
        let message = message(&bytes);
        assert!(message.contains(expected), "{message}\nexpected {expected}");
    }
    assert!(message(&with(&pcm8, 24, &[0; 4])).ends_with("hint: ffmpeg -i a.wav -ar 16000 -ac 1 resampled.wav"));
    let nan = with(&fs::read(fixture("f32-stereo.wav")).expect("a fixture"), 56 + 8, &f32::NAN.to_le_bytes());
    assert!(message(&nan).contains("expected finite samples, found NaN at 0.0001 s"), "{}", message(&nan));
}

#[test]
fn clips_of_other_lengths_than_the_model_takes_are_refused() {
    let refused = |front_end: &FeatureExtractor| {
        let error = front_end.read(&fixture("chirp.wav")).expect_err("refused").to_string();
        error.split_once("chirp.wav: ").expect("the file").1.to_owned()
    };
    let half_a_second = log_mel(r#"{"chunk_length": 1, "sampling_rate": 8000}"#);
    assert!(refused(&half_a_second).starts_with("expected 8000 samples a second, found 16000"));
    let message = match wav::read(&fixture("chirp.wav"), 16_000, Lengths { most: 8000, ..WHOLE }) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("0.61 s in 0.5 s"),
    };
    assert!(message.contains("expected at most 0.5 s, found 0.61 s"), "{message}");
    let samples = FeatureExtractor::open(folder("{}").path(), Features::Samples).expect("defaults");
    let error = samples.read(&fixture("pcm16-stereo.wav")).expect_err("12 samples").to_string();
    assert!(error.contains("expected at least 0.1 s, found 0.00 s: Moonshine takes clips of 0.1 to 64 s"), "{error}");
}

#[test]
fn parameters_that_change_the_features_are_used_or_refused() {
    let cases = [
        (r#"{"dither": 0.1}"#, "dither = 0.1, expected 0.0; it changes the features"),
        (r#"{"padding_side": "left"}"#, "padding_side = \"left\", expected \"right\"; it changes the features"),
        (r#"{"feature_extractor_type": "Wav2Vec2FeatureExtractor"}"#, "expected \"WhisperFeatureExtractor\""),
        (r#"{"feature_size": 0}"#, "feature_size = 0, expected a number from 1 to 1024"),
        (r#"{"chunk_length": 4000000000}"#, "chunk_length = 4000000000, expected a number from 1 to 7200"),
        (r#"{"n_fft": 401}"#, "n_fft = 401, expected an even number"),
        (r#"{"mel_scale": "htk", "top_db": 80}"#, "not known, may change the features: mel_scale, top_db"),
    ];
    for (json, expected) in cases {
        let error = FeatureExtractor::open(folder(json).path(), Features::LogMel).err().expect("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
    let empty = tempfile::tempdir().expect("temporary folder");
    assert!(FeatureExtractor::open(empty.path(), Features::LogMel).is_ok(), "the defaults of the extractor");
    let error = FeatureExtractor::open(empty.path(), Features::Samples).err().expect("refused").to_string();
    assert!(error.contains("expected preprocessor_config.json, which says whether samples are normalized"), "{error}");
    // What transformers 5 saves, and an old file with its filters.
    let dir = folder(
        r#"{"feature_size": 4, "mel_filters": [[0.0]], "n_samples": 480000, "dither": 0, "nb_max_frames": 3000}"#,
    );
    let shape = || match FeatureExtractor::open(dir.path(), Features::LogMel).expect("known keys").features(&[0.0]) {
        Clip::LogMel(features) => features.shape().to_vec(),
        Clip::Samples(_) => panic!("log-mel"),
    };
    assert_eq!(shape(), [4, 3000]);
    fs::write(dir.path().join(PROCESSOR_CONFIG), r#"{"feature_extractor": {"feature_size": 5}}"#).expect("written");
    assert_eq!(shape(), [5, 3000]);
}
