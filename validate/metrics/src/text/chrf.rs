//! Corpus chrF as sacrebleu 2 computes it by default. Popović, 2015.
//!
//! `5·P·R / (4·P + R)`, where `P` and `R` are the means, over runs of one to six characters without spaces, of the share of the outputs'
//! runs that the targets have, and of the targets' that the outputs have. Lengths of runs that one side lacks are left out.

use crate::ngrams;
use crate::spaces::is_space;

/// For each length of runs: those of the output, of the target, and shared.
pub const SUMS: usize = 3 * ORDERS;
const ORDERS: usize = 6;
/// Recall weighs so many times as much as precision, squared.
const BETA_SQUARED: f64 = 4.0;

/// What sacrebleu prints for the same settings, but for its version.
pub const SIGNATURE: &str = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no";

/// What one text adds.
pub fn sums(found: &str, target: &str) -> [f64; SUMS] {
    let characters = |text: &str| text.chars().filter(|c| !is_space(*c)).collect::<Vec<char>>();
    let (found, target) = (characters(found), characters(target));
    let mut sums = [0.0; SUMS];
    for (n, sums) in (1..).zip(sums.chunks_exact_mut(3)) {
        let of_target = ngrams::count(target.len(), n);
        // As sacrebleu has it: an output's runs count only where its target has some of that length.
        let of_found = if of_target == 0 { 0 } else { ngrams::count(found.len(), n) };
        let shared = if of_found == 0 { 0 } else { ngrams::common(&found, &target, n) };
        sums.copy_from_slice(&[of_found, of_target, shared].map(|runs| runs as f64));
    }
    sums
}

/// The figure of added sums, in hundredths.
pub fn points(sums: &[f64]) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for sums in sums.chunks_exact(3) {
        let (found, target, shared) = (sums[0], sums[1], sums[2]);
        if found > 0.0 && target > 0.0 {
            precision += shared / found;
            recall += shared / target;
            orders += 1.0;
        }
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    100.0 * (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
}
