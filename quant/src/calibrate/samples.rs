//! The sequences that calibration runs on, and sums over them.

use graph::progress::Unit;
use graph::{Feeds, Progress};
use rayon::prelude::*;

use crate::error::CalibrationError;

/// Sequences to calibrate on.
pub struct Samples<'a> {
    /// Which entry takes them: `full`.
    pub entry: &'a str,
    /// How many; at least one.
    pub count: usize,
    /// The feeds of one, a batch of 1 without padding.
    pub feeds: &'a (dyn Fn(usize) -> Feeds + Sync),
}

/// Samples that one task sums up before their sums are added in order; fixed, so that sums do not depend on the number of
/// threads.
const TOGETHER: usize = 8;

/// What `add` makes of all samples, in sums of [`TOGETHER`] that `merge` joins in order: the same at any number of threads.
pub(crate) fn summed<S: Default + Send>(
    samples: &Samples,
    add: impl Fn(usize, &mut S) -> Result<(), CalibrationError> + Sync,
    merge: impl Fn(&mut S, &S),
    progress: &dyn Progress,
) -> Result<S, CalibrationError> {
    progress.stage("calibrate", samples.count as u64, Unit::Samples);
    let task = |from: usize| -> Result<S, CalibrationError> {
        let mut sum = S::default();
        let until = samples.count.min(from + TOGETHER);
        (from..until).try_for_each(|sample| add(sample, &mut sum))?;
        progress.advance((until - from) as u64);
        Ok(sum)
    };
    let tasks: Vec<usize> = (0..samples.count).step_by(TOGETHER).collect();
    // Some tasks at a time, so that memory does not grow with the samples.
    let mut sum = S::default();
    for tasks in tasks.chunks(2 * rayon::current_num_threads()) {
        let done: Result<Vec<S>, CalibrationError> = tasks.par_iter().map(|from| task(*from)).collect();
        done?.iter().for_each(|part| merge(&mut sum, part));
    }
    Ok(sum)
}
