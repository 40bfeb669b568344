//! How fast this machine reads memory: the limit of a decoder, which reads its weights for every token.

use std::hint::black_box;
use std::time::Instant;

/// Far above what caches of a core hold.
const BYTES: usize = 256 << 20;
const PASSES: usize = 5;

/// Bytes a second that `threads` threads read together, each its part of one buffer, in each of some passes.
pub fn passes(threads: usize) -> Vec<f64> {
    let threads = threads.max(1);
    // Not zeros: pages that were never written may all be one.
    let words: Vec<u64> = (0..BYTES as u64 / 8).collect();
    let part = words.len().div_ceil(threads);
    let pass = |_| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let sum = |words: &[u64]| words.iter().fold(0_u64, |sum, word| sum ^ word);
            words.chunks(part).for_each(|words| drop(scope.spawn(move || black_box(sum(words)))));
        });
        BYTES as f64 / start.elapsed().as_secs_f64()
    };
    pass(0);
    (0..PASSES).map(pass).collect()
}
