//! ROUGE-1, ROUGE-2 and ROUGE-L of one text, as the package rouge-score computes them without a stemmer. Lin, 2004.
//!
//! `F = 2·P·R / (P + R)`, where `P` and `R` are the shares of the output's and of the target's words (or pairs of words) that the other
//! has, or the longest common subsequence over the words of each. Words are runs of `a` to `z` and digits, so that of a text in another
//! script nothing is left.

use crate::{edits, ngrams};

/// F of runs of `n` words.
pub fn of_runs(found: &str, target: &str, n: usize) -> f64 {
    let texts = [found, target].map(str::to_lowercase);
    let [found, target] = [words(&texts[0]), words(&texts[1])];
    f(ngrams::common(&found, &target, n), ngrams::count(found.len(), n), ngrams::count(target.len(), n))
}

/// F of the longest common subsequence.
pub fn of_longest(found: &str, target: &str) -> f64 {
    let texts = [found, target].map(str::to_lowercase);
    let [found, target] = [words(&texts[0]), words(&texts[1])];
    f(edits::longest_common(&found, &target), found.len(), target.len())
}

fn words(lowercase: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    lowercase.split(|c| !is_word(c)).filter(|word| !word.is_empty()).collect()
}

fn f(shared: usize, found: usize, target: usize) -> f64 {
    if shared == 0 {
        return 0.0;
    }
    let (precision, recall) = (shared as f64 / found as f64, shared as f64 / target as f64);
    2.0 * precision * recall / (precision + recall)
}
