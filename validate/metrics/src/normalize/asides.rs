//! What is written about the speech and is not spoken.

use std::sync::LazyLock;

use regex::Regex;

/// Without `<…>`, `[…]` and `(…)`, up to the first bracket that closes.
pub fn removed(text: &str) -> String {
    static BRACKETS: LazyLock<[Regex; 2]> =
        LazyLock::new(|| [r"[<\[][^>\]]*[>\]]", r"\([^)]+?\)"].map(|aside| Regex::new(aside).expect("a constant")));
    BRACKETS.iter().fold(text.to_owned(), |text, aside| aside.replace_all(&text, "").into_owned())
}
