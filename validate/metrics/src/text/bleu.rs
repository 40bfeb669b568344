//! Corpus BLEU as sacrebleu 2 computes it by default. Papineni et al., 2002; Post, 2018.
//!
//! `BP · exp(¼ Σ ln p_n)` over runs of one to four tokens, where `p_n` is the share of the outputs' runs that the targets have too, and
//! `BP = exp(1 - target / found)` where the outputs hold fewer tokens.

use std::sync::LazyLock;

use regex::Regex;

use crate::ngrams;
use crate::spaces::{is_space, words};

/// Tokens of an output, tokens of its target, shared runs of one to four, runs of the output.
pub const SUMS: usize = 2 + 2 * ORDERS;
const ORDERS: usize = 4;

/// What sacrebleu prints for the same settings, but for its version.
pub const SIGNATURE: &str = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp";

/// What one text adds.
pub fn sums(found: &str, target: &str) -> [f64; SUMS] {
    let (found, target) = (tokenized(found), tokenized(target));
    let (found, target): (Vec<&str>, Vec<&str>) = (words(&found).collect(), words(&target).collect());
    let mut sums = [0.0; SUMS];
    (sums[0], sums[1]) = (found.len() as f64, target.len() as f64);
    for n in 1..=ORDERS {
        sums[1 + n] = ngrams::common(&found, &target, n) as f64;
        sums[1 + ORDERS + n] = ngrams::count(found.len(), n) as f64;
    }
    sums
}

/// The figure of added sums, in hundredths. A length of runs that no output has makes it 0.
pub fn points(sums: &[f64]) -> f64 {
    let (logs, orders) = logs_of_precisions(sums);
    if orders < ORDERS { 0.0 } else { score(sums, logs, orders) }
}

/// The figure of one text, with the lengths of runs that it has alone (`effective_order`), since a short one is no worse for being short.
pub fn points_of_one(sums: &[f64]) -> f64 {
    let (logs, orders) = logs_of_precisions(sums);
    score(sums, logs, orders)
}

fn score(sums: &[f64], logs: f64, orders: usize) -> f64 {
    let (found, target) = (sums[0], sums[1]);
    if orders == 0 {
        return 0.0;
    }
    let brevity = if found < target { (1.0 - target / found).exp() } else { 1.0 };
    // The exponential of a logarithm of 100 is a little more.
    (brevity * (logs / orders as f64).exp()).min(100.0)
}

/// `Σ ln p_n` and over how many lengths of runs; none where nothing is shared. The k-th length of which nothing is shared has
/// `p = 1 / (2^k · runs)`.
fn logs_of_precisions(sums: &[f64]) -> (f64, usize) {
    let (shared, runs) = (&sums[2..2 + ORDERS], &sums[2 + ORDERS..]);
    if shared.iter().all(|shared| *shared == 0.0) {
        return (0.0, 0);
    }
    let (mut logs, mut unmet) = (0.0, 1.0);
    for (n, (shared, runs)) in shared.iter().zip(runs).enumerate() {
        if *runs == 0.0 {
            return (logs, n);
        }
        if *shared == 0.0 {
            unmet *= 2.0;
        }
        let precision = if *shared == 0.0 { 100.0 / (unmet * runs) } else { 100.0 * shared / runs };
        logs += precision.ln();
    }
    (logs, ORDERS)
}

/// The tokenizer of mteval-v13a, tokens between spaces: symbols stand alone, a full stop or comma does unless between digits, and a
/// hyphen after a digit does. Four rules, each over what the one before left.
pub fn tokenized(text: &str) -> String {
    static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        [
            (r"([{-~\[-` -&(-+:-@/])", " $1 "),
            (r"([^0-9])([.,])", "$1 $2 "),
            (r"([.,])([^0-9])", " $1 $2"),
            (r"([0-9])(-)", "$1 $2 "),
        ]
        .map(|(rule, put)| (Regex::new(rule).expect("a constant"), put))
    });
    let text = text.trim_end_matches(is_space).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let entities = [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")];
    let text = entities.iter().fold(text, |text, (entity, sign)| text.replace(entity, sign));
    RULES.iter().fold(format!(" {text} "), |text, (rule, put)| rule.replace_all(&text, *put).into_owned())
}
