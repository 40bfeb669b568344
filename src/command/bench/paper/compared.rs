//! What `bench --paper` compares, and what it finds.

use std::path::{Path, PathBuf};

use validate::bench::Spread;
use validate::bench::measure::Times;
use validate::paper::{Layers, MU, MU_LAYERS, Shape, Sizes, SizesError};
use validate::report::Engine;

/// One length.
pub struct Row {
    pub source: usize,
    /// Of the encoder-decoder and of the decoder-only.
    pub first_ms: [Spread; 2],
    pub tokens_per_s: [Option<Spread>; 2],
    pub peak_mb: [Option<f64>; 2],
    pub gflops: [f64; 2],
    /// Of pairs of rounds.
    pub first_ratio: Spread,
    pub rate_ratio: Option<Spread>,
}

impl Row {
    pub fn new(source: usize, rounds: [Vec<Times>; 2], flops: [f64; 2]) -> Option<Row> {
        let spread = |of: &dyn Fn(&Times) -> Option<f64>| -> [Option<Spread>; 2] {
            [0, 1].map(|i| Spread::of(rounds[i].iter().filter_map(of)))
        };
        let [Some(ours), Some(theirs)] = spread(&|times| Some(times.first_token_ms())) else { return None };
        let ratios = |of: &dyn Fn(&Times) -> Option<f64>| {
            Spread::of(rounds[0].iter().zip(&rounds[1]).filter_map(|(a, b)| Some(of(a)? / of(b)?)))
        };
        let peak = |times: &Vec<Times>| Some(times.last()?.memory?.peak_bytes as f64 / 1e6);
        Some(Row {
            source,
            first_ms: [ours, theirs],
            tokens_per_s: spread(&|times| times.tokens_per_s(1)),
            peak_mb: [peak(&rounds[0]), peak(&rounds[1])],
            gflops: flops.map(|flops| flops / 1e9),
            first_ratio: ratios(&|times| Some(times.first_token_ms()))?,
            rate_ratio: ratios(&|times| times.tokens_per_s(1)),
        })
    }

    pub fn memory_ratio(&self) -> Option<f64> {
        Some(self.peak_mb[0]? / self.peak_mb[1]?)
    }

    pub fn flops_ratio(&self) -> f64 {
        self.gflops[0] / self.gflops[1]
    }
}

/// What is compared.
pub struct Compared {
    pub shape: Shape,
    pub depths: [usize; 2],
    /// Of the decoder-only.
    pub depth: usize,
    /// The config that the sizes are of, and what it says.
    pub config: Option<(PathBuf, Sizes)>,
}

impl Compared {
    /// Mu's shape, or that of a config. Errors: those of [`Sizes::of_config`].
    pub fn new(config: Option<&Path>) -> Result<Compared, SizesError> {
        let config = config.map(|file| Ok::<_, SizesError>((file.to_owned(), Sizes::of_config(file)?))).transpose()?;
        let (shape, depths) = config.as_ref().map_or((MU, MU_LAYERS), |(_, sizes)| (sizes.shape, sizes.depths));
        Ok(Compared { shape, depths, depth: shape.same_parameters(depths), config })
    }

    pub fn layers(&self) -> [Layers; 2] {
        [Layers::EncoderDecoder(self.depths), Layers::DecoderOnly(self.depth)]
    }
}

/// What the table stands on.
pub struct About {
    pub parameters: [u64; 2],
    pub compared: Compared,
    pub engine: Engine,
    pub computes: &'static str,
    pub threads: usize,
    pub tokens: usize,
    pub runs: usize,
    pub load: [Option<f64>; 2],
}
