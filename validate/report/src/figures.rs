//! Figures as people read them: two or three digits, never better than what was measured.

use metrics::{Figure, Mean, Score, Spread, TaskMetric};

use crate::check::Metric;

/// What stands where there is no figure.
pub const ABSENT: &str = "–";
const NOT_A_NUMBER: &str = "not a number";

/// A figure of a check, in the words of its metric; `not a number` where there is none.
pub fn figure(metric: Metric, value: Option<f64>) -> String {
    match (metric, value) {
        (Metric::Works, _) => String::new(),
        (_, None) => NOT_A_NUMBER.to_owned(),
        (Metric::Top1 | Metric::TokenAgreement | Metric::SameAnswers | Metric::DifferingWords, Some(share)) => {
            percent(share)
        }
        (Metric::Sqnr, Some(db)) => format!("{db:.1}"),
        (Metric::MetricDrop | Metric::EndlessRise, Some(points)) => fixed(points, 1),
        (Metric::DifferingWeights, Some(count)) => format!("{count:.0}"),
        (Metric::Speedup, Some(ratio)) => format!("{ratio:.2}"),
        (Metric::RelL2 | Metric::Kl | Metric::ScoreLost, Some(value)) => three(value),
    }
}

/// A share as percent; what is not all is never shown as 100 %.
pub fn percent(share: f64) -> String {
    match fixed(share * 100.0, 1).as_str() {
        NOT_A_NUMBER => NOT_A_NUMBER.to_owned(),
        "100.0" if share < 1.0 => "> 99.9 %".to_owned(),
        "100.0" => "100 %".to_owned(),
        text => format!("{text} %"),
    }
}

/// Three significant digits.
pub fn three(value: f64) -> String {
    if !value.is_finite() {
        return NOT_A_NUMBER.to_owned();
    }
    match value.abs() {
        0.0 => "0".to_owned(),
        x if !(1e-3..1e4).contains(&x) => format!("{value:.1e}"),
        x => {
            let decimals = (2 - x.log10().floor() as i32).max(0) as usize;
            format!("{value:.decimals$}")
        }
    }
}

/// `4.50 MB`, in powers of 1000.
pub fn size(count: u64) -> String {
    bytes(count as f64)
}

/// Bytes that are no whole number, an axis's or a mean's.
pub fn bytes(bytes: f64) -> String {
    match bytes {
        b if !b.is_finite() => NOT_A_NUMBER.to_owned(),
        b if b.abs() < 1e3 => format!("{b:.0} B"),
        b if b.abs() < 1e6 => format!("{} kB", three(b / 1e3)),
        b if b.abs() < 1e9 => format!("{} MB", three(b / 1e6)),
        b => format!("{} GB", three(b / 1e9)),
    }
}

/// [`three`], or the mark of what is absent.
pub fn maybe(value: Option<f64>) -> String {
    value.map_or(ABSENT.to_owned(), three)
}

/// With so many decimals; -0 is 0.
pub fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return NOT_A_NUMBER.to_owned();
    }
    let text = format!("{value:.decimals$}");
    let is_zero = text.bytes().all(|b| matches!(b, b'-' | b'0' | b'.'));
    if is_zero { text.trim_start_matches('-').to_owned() } else { text }
}

/// `low to high`.
pub fn between([low, high]: [f64; 2], decimals: usize) -> String {
    format!("{} to {}", fixed(low, decimals), fixed(high, decimals))
}

/// `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 sample`, `2,000 samples`.
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// `37.1 (36.8 to 37.5)`: a median with its quartiles, and a `~` before one that they are too far apart to quote.
pub fn spread(spread: Option<Spread>) -> String {
    spread.map_or(String::new(), |spread| {
        let [low, high] = [three(spread.low), three(spread.high)];
        format!("{} ({low} to {high})", median(&spread))
    })
}

/// A median; `~` before it where the quartiles are too far apart for it to be quoted.
pub fn median(spread: &Spread) -> String {
    let about = if spread.is_wide() { "~" } else { "" };
    format!("{about}{}", three(spread.median))
}

/// `55.4 (53.0 to 57.7)`: points of a task metric with their interval, where there is one.
pub fn points(figure: &Figure) -> String {
    match figure.interval {
        Some([low, high]) => format!("{:.1} ({low:.1} to {high:.1})", figure.points),
        None => format!("{:.1}", figure.points),
    }
}

/// `0.854 (0.846 to 0.862)`: the mean of another judge's scores with its interval, where there is one.
pub fn mean(mean: &Mean) -> String {
    match mean.interval {
        Some([low, high]) => format!("{} ({} to {})", three(mean.mean), three(low), three(high)),
        None => three(mean.mean),
    }
}

/// The figure of one task metric, if it was asked for.
pub fn of_metric(score: Option<&Score>, metric: TaskMetric) -> Option<&Figure> {
    score.and_then(|score| score.figures.iter().find(|figure| figure.metric == metric))
}

/// The first digits of a digest.
pub fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// With a capital letter in front.
pub fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}

/// At most `most` characters, the last of them `…` where some are left out.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_never_flatter() {
        assert_eq!(
            [three(0.0), three(1.23456e-7), three(0.0123456), three(12.3456), three(1234.5)].join(" "),
            "0 1.2e-7 0.0123 12.3 1234"
        );
        assert_eq!(
            [percent(1.0), percent(0.99999), percent(0.5541), percent(0.0)].join(" "),
            "100 % > 99.9 % 55.4 % 0.0 %"
        );
        assert_eq!([size(999), size(4_500_000), size(12_300)].join(" "), "999 B 4.50 MB 12.3 kB");
        assert_eq!([grouped(0), grouped(999), grouped(1_234_567)].join(" "), "0 999 1,234,567");
    }

    #[test]
    fn a_text_is_cut_between_characters_and_only_when_it_is_longer() {
        assert_eq!(
            [shortened("é", 1), shortened("éa", 1), shortened("abc", 3), shortened("abcd", 3)].join(" "),
            "é … abc ab…"
        );
    }

    #[test]
    fn what_is_no_number_says_so() {
        let [nan, inf] = [f64::NAN, f64::INFINITY];
        for text in [three(nan), three(inf), fixed(nan, 1), percent(nan), bytes(inf), maybe(Some(nan))] {
            assert_eq!(text, "not a number");
        }
        assert_eq!(maybe(None), "–");
    }

    #[test]
    fn a_median_between_distant_quartiles_is_marked() {
        assert_eq!(median(&Spread { median: 10.0, low: 5.0, high: 15.0 }), "~10.0");
    }
}
