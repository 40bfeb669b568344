//! Where words begin and end, as `\b` of Python has it: marks and joiners are no part of a word, as they are for the crate `regex`.

use std::ops::Range;

use regex::{Captures, Regex};
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// A rule for whole words, or for the ends of words.
pub struct BoundRule {
    rule: Regex,
    begins: bool,
}

impl BoundRule {
    /// `\b…\b`. Where alternatives begin alike, the longest comes first.
    pub fn whole(rule: &str) -> BoundRule {
        BoundRule { rule: Regex::new(rule).expect("a constant"), begins: true }
    }

    /// `…\b`.
    pub fn ending(rule: &str) -> BoundRule {
        BoundRule { begins: false, ..BoundRule::whole(rule) }
    }

    /// The text with what `put` says in the place of each match, from left to right.
    pub fn replace(&self, text: String, put: impl Fn(&Captures) -> String) -> String {
        let matches = self.matches(&text);
        if matches.is_empty() {
            return text;
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = 0;
        for found in matches {
            out.push_str(&text[rest..found.start]);
            out.push_str(&put(&self.rule.captures_at(&text, found.start).expect("it matches here")));
            rest = found.end;
        }
        out.push_str(&text[rest..]);
        out
    }

    /// What stands between the matches.
    pub fn split<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut parts = Vec::new();
        let mut rest = 0;
        for found in self.matches(text) {
            parts.push(&text[rest..found.start]);
            rest = found.end;
        }
        parts.push(&text[rest..]);
        parts
    }

    /// Bytes of the matches that end where a word does, none within another. A rule's matches are not empty.
    fn matches(&self, text: &str) -> Vec<Range<usize>> {
        let mut matches = Vec::new();
        let mut from = 0;
        while let Some(found) = self.rule.find_at(text, from) {
            let is_whole = !self.begins || is_bound(text, found.start());
            if is_whole && is_bound(text, found.end()) {
                from = found.end();
                matches.push(found.range());
            } else {
                from = found.start() + found.as_str().chars().next().map_or(1, char::len_utf8);
            }
        }
        matches
    }
}

/// Whether a word begins or ends at this byte.
fn is_bound(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back().is_some_and(is_word);
    let after = text[at..].chars().next().is_some_and(is_word);
    before != after
}

/// Whether `\w` of Python matches.
fn is_word(c: char) -> bool {
    let group = c.general_category_group();
    c == '_' || matches!(group, GeneralCategoryGroup::Letter | GeneralCategoryGroup::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_at_marks_and_joiners_and_not_within_letters() {
        let rule = BoundRule::whole("mr");
        assert_eq!(
            rule.replace("mr mrs mr\u{301} xmr _mr mr\u{200d} mr.mr".to_owned(), |_| "X".to_owned()),
            "X mrs X\u{301} xmr _mr X\u{200d} X.X"
        );
        assert_eq!(BoundRule::ending("n't").replace("don't n'ts".to_owned(), |_| " not".to_owned()), "do not n'ts");
        assert_eq!(BoundRule::whole(r"and\s+a").split("x and a y and ab"), ["x ", " y and ab"]);
    }
}
