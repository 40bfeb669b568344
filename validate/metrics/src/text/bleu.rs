//! Corpus BLEU as sacrebleu 2 computes it by default. Papineni et al., 2002; Post, 2018.
//!
//! `BP · exp(¼ Σ ln p_n)` over runs of one to four tokens, where `p_n` is the share of the outputs' runs that the targets have too, and
//! `BP = exp(1 - target / found)` where the outputs hold fewer tokens.

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
    let text = text.trim_end_matches(is_space).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let entities = [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")];
    let text = entities.iter().fold(text, |text, (entity, sign)| text.replace(entity, sign));
    let text = symbols_alone(&format!(" {text} "));
    let text = pairs_apart(&text, |a, b| !a.is_ascii_digit() && is_stop(b), ["", " ", " "]);
    let text = pairs_apart(&text, |a, b| is_stop(a) && !b.is_ascii_digit(), [" ", " ", ""]);
    pairs_apart(&text, |a, b| a.is_ascii_digit() && b == '-', ["", " ", " "])
}

fn is_stop(c: char) -> bool {
    matches!(c, '.' | ',')
}

/// Spaces around the symbols of ASCII but `'`, `,`, `-` and `.`, and around the space.
fn symbols_alone(text: &str) -> String {
    let mut out = String::with_capacity(2 * text.len());
    for c in text.chars() {
        match c {
            ' '..='&' | '('..='+' | '/' | ':'..='@' | '['..='`' | '{'..='~' => out.extend([' ', c, ' ']),
            _ => out.push(c),
        }
    }
    out
}

/// Puts `before`, `between` and `after` around two characters to which a rule applies, from left to right, no character in two pairs.
fn pairs_apart(text: &str, applies: impl Fn(char, char) -> bool, [before, between, after]: [&str; 3]) -> String {
    let mut out = String::with_capacity(2 * text.len());
    let mut rest = text.chars().peekable();
    while let Some(a) = rest.next() {
        match rest.next_if(|b| applies(a, *b)) {
            Some(b) => {
                out.push_str(before);
                out.push(a);
                out.push_str(between);
                out.push(b);
                out.push_str(after);
            }
            None => out.push(a),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Corpora with what sacrebleu says of them.
    fn recorded() -> Vec<Value> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/metrics/texts.json");
        let recorded = std::fs::read_to_string(path).expect("a fixture");
        let mut recorded: Value = serde_json::from_str(&recorded).expect("JSON");
        serde_json::from_value(recorded["corpora"].take()).expect("a list")
    }

    /// Pairs of an output and its target, each with what is recorded of it under a name.
    fn pairs_with<'a>(corpora: &'a [Value], name: &'a str) -> impl Iterator<Item = ([&'a str; 2], &'a Value)> {
        let list = |value: &'a Value| value.as_array().expect("a list").iter();
        let text = |value: &'a Value| value.as_str().expect("a text");
        corpora.iter().flat_map(move |corpus| {
            list(&corpus["pairs"]).map(move |pair| [text(&pair[0]), text(&pair[1])]).zip(list(&corpus[name]))
        })
    }

    #[test]
    fn tokens_are_those_of_sacrebleu() {
        let corpora = recorded();
        let mut compared = 0;
        for (pair, tokens) in pairs_with(&corpora, "tokens_13a") {
            for (text, tokens) in pair.iter().zip(tokens.as_array().expect("a list")) {
                let found = tokenized(text);
                assert_eq!(&serde_json::json!(words(&found).collect::<Vec<_>>()), tokens, "{text}");
                compared += 1;
            }
        }
        assert!(compared > 100, "{compared} texts");
    }

    #[test]
    fn one_text_is_judged_as_by_sacrebleu_s_sentence_bleu() {
        for ([found, target], expected) in pairs_with(&recorded(), "sentence_bleu") {
            let (points, expected) = (points_of_one(&sums(found, target)), expected.as_f64().expect("a number"));
            // The same formula in another order of sums.
            assert!((points - expected).abs() <= 1e-12 * expected, "{found:?}: {points}, expected {expected}");
        }
    }

    #[test]
    fn one_short_text_is_judged_by_the_runs_that_it_has() {
        let sums = sums("a b", "a b");
        assert_eq!((points(&sums), points_of_one(&sums)), (0.0, 100.0));
    }
}
