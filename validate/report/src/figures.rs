//! Figures as people read them: short, and never flattering.

use metrics::Spread;

/// What stands where there is no figure.
pub const ABSENT: &str = "–";
const NOT_A_NUMBER: &str = "not a number";

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

/// A share as percent; what is not all is never shown as 100 %.
pub fn percent(share: f64) -> String {
    match fixed(share * 100.0, 1).as_str() {
        NOT_A_NUMBER => NOT_A_NUMBER.to_owned(),
        "100.0" if share < 1.0 => "> 99.9 %".to_owned(),
        "100.0" => "100 %".to_owned(),
        text => format!("{text} %"),
    }
}

/// Bytes in a unit of thousands.
pub fn size(bytes: f64) -> String {
    match bytes {
        b if !b.is_finite() => NOT_A_NUMBER.to_owned(),
        b if b.abs() < 1e3 => format!("{b:.0} B"),
        b if b.abs() < 1e6 => format!("{} kB", three(b / 1e3)),
        b if b.abs() < 1e9 => format!("{} MB", three(b / 1e6)),
        b => format!("{} GB", three(b / 1e9)),
    }
}

/// With commas between thousands.
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

/// A median; `~` before it where the quartiles are too far apart for it to be quoted.
pub fn median(spread: &Spread) -> String {
    let about = if spread.is_wide() { "~" } else { "" };
    format!("{about}{}", three(spread.median))
}

/// `low to high`.
pub fn between([low, high]: [f64; 2], decimals: usize) -> String {
    format!("{} to {}", fixed(low, decimals), fixed(high, decimals))
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
        assert_eq!([percent(1.0), percent(0.99999), percent(0.5541)].join(" "), "100 % > 99.9 % 55.4 %");
        assert_eq!([size(999.0), size(4_500_000.0), size(12_300.0)].join(" "), "999 B 4.50 MB 12.3 kB");
        assert_eq!([grouped(0), grouped(999), grouped(1_234_567)].join(" "), "0 999 1,234,567");
        assert_eq!([counted(1, "sample"), counted(2000, "sample")].join(", "), "1 sample, 2,000 samples");
        assert_eq!([fixed(-0.01, 1), fixed(-0.06, 1)].join(" "), "0.0 -0.1");
    }

    #[test]
    fn what_is_no_number_says_so() {
        let [nan, inf] = [f64::NAN, f64::INFINITY];
        for text in [three(nan), three(inf), fixed(nan, 1), percent(nan), size(inf), maybe(Some(nan))] {
            assert_eq!(text, "not a number");
        }
        assert_eq!(maybe(None), "–");
    }

    #[test]
    fn a_median_between_distant_quartiles_is_marked() {
        assert_eq!(median(&Spread { median: 10.0, low: 5.0, high: 15.0 }), "~10.0");
    }
}
