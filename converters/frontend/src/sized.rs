//! Sources that a clock is run on: of a length that was asked for, drawn by a fixed rule.

use checkpoint::Files;
use checkpoint::names::{CONFIG, PREPROCESSOR_CONFIG};
use graph::{Feeds, Tensor};
use serde_json::Value;

use crate::audio::FeatureExtractor;
use crate::draw::Draw;
use crate::image::{ImageProcessor, Pixels};
use crate::input::Input;
use crate::kind::Kind;

/// What an encoder is fed.
pub struct Draws(Drawn);

enum Drawn {
    /// Lengths count them.
    Ids { vocabulary: usize, special: Vec<i64> },
    /// Lengths are seconds.
    Sound(Box<FeatureExtractor>),
    /// Of one length, 1.
    Image { shape: [usize; 3], places: usize },
    /// Lengths count what is asked, in ids, beside one image of so many places.
    AskedImage { shape: [usize; 3], places: usize, vocabulary: usize, special: Vec<i64> },
}

impl Draws {
    /// Sources of tokens. `vocabulary`: ids are below it; `special`: ids that end or fill sequences, which are left out.
    pub fn ids(vocabulary: usize, special: Vec<i64>) -> Draws {
        Draws(Drawn::Ids { vocabulary, special })
    }

    /// Sources for a front end: tokens as of [`Draws::ids`], or noise.
    ///
    /// Errors: the size of the vocabulary is not known and needed; parameters of the front end that are not supported; in words.
    pub fn open(kind: Kind, files: &Files, vocabulary: Option<usize>, special: Vec<i64>) -> Result<Draws, String> {
        match kind {
            Kind::Audio(features) => {
                let extractor = FeatureExtractor::of(files, features).map_err(|error| error.to_string())?;
                Ok(Draws(Drawn::Sound(Box::new(extractor))))
            }
            Kind::Image => {
                let shape = ImageProcessor::of(files).map_err(|error| error.to_string())?.shape();
                Ok(Draws(Drawn::Image { shape, places: places_of(shape, files)? }))
            }
            Kind::AskedImage => {
                let shape = ImageProcessor::of(files).map_err(|error| error.to_string())?.shape();
                let vocabulary = vocabulary.ok_or(UNKNOWN)?;
                Ok(Draws(Drawn::AskedImage { shape, places: features_of(files)?, vocabulary, special }))
            }
            Kind::Text => {
                let vocabulary = vocabulary.ok_or(UNKNOWN)?;
                Ok(Draws::ids(vocabulary, special))
            }
        }
    }

    /// What sources are, so that two models of equal ones do the same work.
    pub fn told(&self) -> String {
        match &self.0 {
            Drawn::Ids { vocabulary, .. } => format!("ids below {vocabulary}"),
            Drawn::Sound(_) => "sound".to_owned(),
            Drawn::Image { shape, .. } => format!("images of {shape:?}"),
            Drawn::AskedImage { shape, vocabulary, .. } => format!("images of {shape:?} and ids below {vocabulary}"),
        }
    }

    /// Lengths that are measured when none is asked for.
    pub fn lengths(&self) -> Vec<usize> {
        match &self.0 {
            Drawn::Ids { .. } => vec![32, 128, 512],
            Drawn::Sound(extractor) if extractor.pads_clips() => vec![extractor.longest() / self.rate()],
            Drawn::Sound(_) => vec![2, 8, 24],
            Drawn::Image { .. } => vec![1],
            Drawn::AskedImage { .. } => vec![16],
        }
    }

    /// Of one, for tables.
    pub fn unit(&self) -> &'static str {
        match &self.0 {
            Drawn::Ids { .. } | Drawn::AskedImage { .. } => "tokens",
            Drawn::Sound(_) => "s",
            Drawn::Image { .. } => "image",
        }
    }

    /// Places of the encoder's output for a source of a length, as the front ends of the families make them; for counting
    /// what a decoder reads.
    pub fn places(&self, length: usize) -> usize {
        match &self.0 {
            Drawn::Ids { .. } => length,
            // Frames of 10 ms, halved by a convolution.
            Drawn::Sound(extractor) if extractor.pads_clips() => extractor.longest() / self.rate() * 50,
            // Convolutions of strides 64, 3 and 2.
            Drawn::Sound(_) => length * self.rate() / 384,
            Drawn::Image { places, .. } => *places,
            Drawn::AskedImage { places, .. } => places + length,
        }
    }

    /// A batch of sources of one length. The same numbers give the same batch.
    ///
    /// Errors: a length that the model does not take, in words.
    pub fn batch(&self, length: usize, rows: usize, seed: u64) -> Result<Feeds, String> {
        let mut draw = Draw::new(seed);
        let sources: Vec<Input> = (0..rows).map(|_| self.source(length, &mut draw)).collect::<Result<_, _>>()?;
        Input::batch(&sources.iter().collect::<Vec<_>>(), 0)
    }

    fn source(&self, length: usize, draw: &mut Draw) -> Result<Input, String> {
        match &self.0 {
            Drawn::Ids { vocabulary, special } => ids(length, *vocabulary, special, draw),
            Drawn::AskedImage { shape, vocabulary, special, .. } => {
                let ids = ids(length, *vocabulary, special, draw)?;
                let pixels = (0..shape.iter().product()).map(|_| draw.float()).collect();
                Ok(ids.beside(Pixels(Tensor::f32(*shape, pixels)).into()))
            }
            Drawn::Sound(extractor) => {
                let samples = length * self.rate();
                if samples == 0 || samples > extractor.longest() {
                    let most = extractor.longest() / self.rate();
                    return Err(format!("expected 1 to {most} s, found {length} s"));
                }
                let noise: Vec<f32> = (0..samples).map(|_| draw.float() * 0.1).collect();
                Ok(extractor.features(&noise).into())
            }
            Drawn::Image { shape, .. } if length == 1 => {
                let pixels = (0..shape.iter().product()).map(|_| draw.float()).collect();
                Ok(Pixels(Tensor::f32(*shape, pixels)).into())
            }
            Drawn::Image { .. } => Err(format!("expected 1 image, found {length}")),
        }
    }

    fn rate(&self) -> usize {
        match &self.0 {
            Drawn::Ids { .. } | Drawn::Image { .. } | Drawn::AskedImage { .. } => 1,
            Drawn::Sound(extractor) => extractor.sampling_rate().max(1) as usize,
        }
    }
}

const UNKNOWN: &str = "expected the size of the vocabulary, found none";

/// Tokens below a number, of which none is special. Errors: none are asked for, in words.
fn ids(length: usize, vocabulary: usize, special: &[i64], draw: &mut Draw) -> Result<Input, String> {
    if length == 0 {
        return Err("expected at least one token, found 0".to_owned());
    }
    let mut id = || {
        // A vocabulary of special ids only has no others.
        let tries = (0..16).map(|_| draw.below(vocabulary) as i64).find(|id| !special.contains(id));
        tries.unwrap_or(0)
    };
    Ok(Input::tokens((0..length).map(|_| id()).collect()))
}

/// Features of an image, as the file of the image processor counts them; none where it does not.
fn features_of(files: &Files) -> Result<usize, String> {
    let settings: Option<Value> = files.json(PREPROCESSOR_CONFIG).map_err(|error| error.to_string())?;
    let count = settings.and_then(|settings| settings["image_seq_length"].as_u64());
    Ok(count.map_or(0, |count| count as usize))
}

/// Patches of an image and the place of its class, as the encoder of config.json cuts them; none where it does not say.
fn places_of([_, height, width]: [usize; 3], files: &Files) -> Result<usize, String> {
    let config: Option<Value> = files.json(CONFIG).map_err(|error| error.to_string())?;
    let side = config.and_then(|config| config["encoder"]["patch_size"].as_u64()).unwrap_or(0) as usize;
    let patches = height.checked_div(side).zip(width.checked_div(side));
    Ok(patches.map_or(0, |(rows, columns)| rows * columns + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_of_the_size_that_the_processor_makes() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let write = |file: &str, json: &str| std::fs::write(dir.path().join(file), json).expect("written");
        write("preprocessor_config.json", r#"{"image_processor_type": "ViTImageProcessor", "size": [16, 24]}"#);
        write("config.json", r#"{"encoder": {"image_size": [16, 24], "patch_size": 8}}"#);
        let files = Files::open(dir.path()).expect("a folder");
        let draws = Draws::open(Kind::Image, &files, None, Vec::new()).expect("a processor");
        assert_eq!((draws.lengths(), draws.unit(), draws.places(1)), (vec![1], "image", 7));
        let feeds = draws.batch(1, 2, 7).expect("drawn");
        assert_eq!(feeds["pixel_values"].shape(), [2, 3, 16, 24]);
        assert_eq!(draws.batch(2, 1, 7), Err("expected 1 image, found 2".to_owned()));
    }

    #[test]
    fn ids_are_as_many_as_asked_for_within_the_vocabulary_and_never_special() {
        let draws = Draws::ids(5, vec![0, 1]);
        let feeds = draws.batch(200, 3, 7).expect("drawn");
        let ids = feeds["input_ids"].as_i64().expect("ids");
        assert_eq!(feeds["input_ids"].shape(), [3, 200]);
        assert!(ids.iter().all(|id| (2..5).contains(id)), "{ids:?}");
        assert!(feeds["attention_mask"].as_i64().expect("a mask").iter().all(|m| *m == 1));
        assert_eq!(draws.batch(200, 3, 7).expect("drawn")["input_ids"].as_i64(), Some(ids));
        assert_ne!(draws.batch(200, 3, 8).expect("drawn")["input_ids"].as_i64(), Some(ids));
        assert!(draws.batch(0, 1, 7).is_err());
    }
}
