//! How an engine computes.

/// The type of cached keys and values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cache {
    /// As computed.
    #[default]
    F32,
    /// Half the memory, and numbers rounded to 11 bits.
    F16,
}

/// Which matrices are rearranged for ggml's kernels when they are loaded, where the processor has kernels for their type:
/// on x86 those of `Q4_0` and `Q4_K`.
///
/// A table that is also the head is then in memory twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Repacking {
    /// None.
    #[default]
    None,
    /// Those of the decoder.
    Decoder,
    /// Those of the encoder too.
    All,
}

/// How an engine computes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Threads of the encoder, and of decoding many tokens at once, at most. They wait for each other by spinning, some hundred times
    /// a call, and need processors of their own: there are as many as other programs leave idle.
    pub encoder_threads: usize,
    /// Threads of a step. `None`: as of the encoder.
    pub decoder_threads: Option<usize>,
    /// Keys and values.
    pub cache: Cache,
    /// Matrices.
    pub repack: Repacking,
    /// Spells out the activations that ggml reads from tables of f16.
    pub exact_activations: bool,
}

impl Default for Options {
    /// All processors for the encoder, those that are idle for a step, and the numbers of llama.cpp with an f32 cache.
    fn default() -> Options {
        Options {
            encoder_threads: std::thread::available_parallelism().map_or(1, usize::from),
            decoder_threads: None,
            cache: Cache::F32,
            repack: Repacking::None,
            exact_activations: false,
        }
    }
}
