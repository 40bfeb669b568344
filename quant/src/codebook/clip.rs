//! The clipping range with the least squared error.
//!
//! Clipping trades a large error of few weights for a finer step of all others. The ranges tried are the whole one times
//! 1, 39/40, 38/40, … 8/40: below a fifth, weights of no distribution that a block of a trained model shows gain. Of
//! ranges with the same error the widest wins. The whole range is among them, so clipping never costs accuracy of the
//! weights.
//!
//! The search stops early where no narrower range can win. The error of a range is that of the weights beyond it, which
//! only grows as the range narrows, plus at most `scale²/4` for each of the others; so once `error - n·scale²/4` passes
//! the least error found, it stays there, but for what rounding scales to f16 moves.

use super::grid::{Extent, Grid, Step};

/// Denominator of the ranges tried.
const PARTS: u16 = 40;
/// Numerator of the narrowest.
const NARROWEST: u16 = 8;

/// The same with `importance`, what a squared error at each place counts (finite, not negative). When all of it is 0, any
/// range does as well, and the whole one is taken.
pub fn least_weighted_squares(values: &[f32], importance: &[f32], grid: Grid) -> Step {
    let whole = Extent::of(values);
    let range = |part: u16| grid.step(whole.times(f32::from(part) / f32::from(PARTS)));
    let error = |step: &Step| grid.weighted_squared_error(values, importance, *step);
    let tried = (NARROWEST..PARTS).rev().map(range).map(|step| (error(&step), step));
    let first = grid.step(whole);
    tried.fold((error(&first), first), |best, next| if next.0 < best.0 { next } else { best }).1
}

/// Scale and zero of the range tried that leaves the least sum of squared errors over `values` (finite).
pub fn least_squares(values: &[f32], grid: Grid) -> Step {
    let whole = Extent::of(values);
    let mut best = grid.step(whole);
    let mut least = grid.squared_error(values, best);
    for part in (NARROWEST..PARTS).rev() {
        let step = grid.step(whole.times(f32::from(part) / f32::from(PARTS)));
        let error = grid.squared_error(values, step);
        if error < least {
            (best, least) = (step, error);
        }
        let half_step = f64::from(step.scale.to_f32()) / 2.0;
        if error - values.len() as f64 * half_step * half_step > least {
            break;
        }
    }
    best
}
