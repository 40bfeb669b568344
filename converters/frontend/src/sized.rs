//! Sources that a clock is run on: of a length that was asked for, drawn by a fixed rule.

use converters::audio::{Clip, FrontEnd};
use graph::Feeds;

use crate::task::{Draw, Source};

/// What an encoder is fed.
pub enum Draws {
    /// Tokens: lengths count them.
    Ids {
        /// Ids are below it.
        vocabulary: usize,
        /// Ids that end or fill sequences.
        special: Vec<i64>,
    },
    /// Noise: lengths are seconds.
    Sound(Box<FrontEnd>),
}

impl Draws {
    /// Lengths that are measured when none is asked for.
    pub fn lengths(&self) -> Vec<usize> {
        match self {
            Draws::Ids { .. } => vec![32, 128, 512],
            Draws::Sound(front_end) if self.is_padded() => vec![front_end.longest() / self.rate()],
            Draws::Sound(_) => vec![2, 8, 24],
        }
    }

    /// Of one, for tables.
    pub fn unit(&self) -> &'static str {
        match self {
            Draws::Ids { .. } => "tokens",
            Draws::Sound(_) => "s",
        }
    }

    /// Places of the encoder's output for a source of a length, as the front ends of the families make them; for counting
    /// what a decoder reads.
    pub fn places(&self, length: usize) -> usize {
        match self {
            Draws::Ids { .. } => length,
            // Frames of 10 ms, halved by a convolution.
            Draws::Sound(front_end) if self.is_padded() => front_end.longest() / self.rate() * 50,
            // Convolutions of strides 64, 3 and 2.
            Draws::Sound(_) => length * self.rate() / 384,
        }
    }

    /// A batch of sources of one length. The same numbers give the same batch.
    ///
    /// Errors: a length that the model does not take, in words.
    pub fn batch(&self, length: usize, rows: usize, seed: u64) -> Result<Feeds, String> {
        let mut draw = Draw::new(seed);
        let sources: Vec<Source> = (0..rows).map(|_| self.source(length, &mut draw)).collect::<Result<_, _>>()?;
        Source::batch(&sources.iter().collect::<Vec<_>>(), 0)
    }

    fn source(&self, length: usize, draw: &mut Draw) -> Result<Source, String> {
        match self {
            Draws::Ids { vocabulary, special } => {
                if length == 0 {
                    return Err("expected at least one token, found 0".to_owned());
                }
                let mut id = || {
                    // A vocabulary of special ids only has no others.
                    let tries = (0..16).map(|_| draw.below(*vocabulary) as i64).find(|id| !special.contains(id));
                    tries.unwrap_or(0)
                };
                Ok(Source::Ids((0..length).map(|_| id()).collect()))
            }
            Draws::Sound(front_end) => {
                let samples = length * self.rate();
                if samples == 0 || samples > front_end.longest() {
                    let most = front_end.longest() / self.rate();
                    return Err(format!("expected 1 to {most} s, found {length} s"));
                }
                let noise: Vec<f32> = (0..samples).map(|_| draw.float() * 0.1).collect();
                Ok(match front_end.features(&noise) {
                    Clip::LogMel(features) => Source::Features(features),
                    Clip::Samples(samples) => Source::Samples(samples),
                })
            }
        }
    }

    fn rate(&self) -> usize {
        match self {
            Draws::Ids { .. } => 1,
            Draws::Sound(front_end) => front_end.sampling_rate().max(1) as usize,
        }
    }

    /// Whether all clips are filled up to one length.
    fn is_padded(&self) -> bool {
        matches!(self, Draws::Sound(front_end) if matches!(front_end.features(&[0.0; 16]), Clip::LogMel(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_as_many_as_asked_for_within_the_vocabulary_and_never_special() {
        let draws = Draws::Ids { vocabulary: 5, special: vec![0, 1] };
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
