//! One text against another: what was left out and what was put in, by words, and by letters where a word only changed a little.

use crate::escape::html::visible;
use crate::figures::grouped;

/// Letters of a text that are shown.
const SHOWN: usize = 500;
/// In front of what is not in the other text, of what is only in the other, of the end of either, and of a remark. [`visible`] text
/// holds no such letters.
pub const PUT_IN: char = '\u{1}';
/// See [`PUT_IN`].
pub const LEFT_OUT: char = '\u{2}';
/// See [`PUT_IN`].
pub const END: char = '\u{3}';
/// See [`PUT_IN`].
pub const REMARK: char = '\u{4}';

/// A text as it is shown, with a remark when it is cut.
pub fn shown(text: &str) -> String {
    let (head, remark) = cut(text);
    visible(head) + &remark
}

/// `found` with marks where it is not `expected`.
pub fn marked(expected: &str, found: &str) -> String {
    let ((old, _), (new, remark)) = (cut(expected), cut(found));
    let (old, new) = (visible(old), visible(new));
    let (a, b) = (pieces(&old), pieces(&new));
    let mut out = String::new();
    for step in steps(&a, &b) {
        match step {
            Step::Same(text) => out.push_str(text),
            Step::Other(old, new) => change(&mut out, &old, &new),
        }
    }
    let is_beyond = expected != found && old == new;
    let beyond = if is_beyond { format!("{REMARK}differs further on") } else { String::new() };
    out + &remark + &beyond
}

/// The beginning of a text, and how much more there is.
fn cut(text: &str) -> (&str, String) {
    match text.char_indices().nth(SHOWN) {
        None => (text, String::new()),
        Some((at, _)) => {
            let letters = grouped(text.chars().count() as u64);
            (&text[..at], format!("{REMARK}… the first {SHOWN} of {letters} characters"))
        }
    }
}

enum Step<'a> {
    Same(&'a str),
    /// What is only in the first, and what is only in the second.
    Other(String, String),
}

/// Words and what is between them; letters that are written without spaces are a piece each.
fn pieces(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let mut from = 0;
    let mut before: Option<char> = None;
    for (at, c) in text.char_indices() {
        let joins = before.is_some_and(|b| class(b) == class(c) && class(c) < 2);
        if !joins && at > from {
            all.push(&text[from..at]);
            from = at;
        }
        before = Some(c);
    }
    if from < text.len() {
        all.push(&text[from..]);
    }
    all
}

/// 0: part of a word, 1: space, 2: a piece of its own.
fn class(c: char) -> u8 {
    match c {
        c if c.is_whitespace() => 1,
        '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}' => 2,
        c if c.is_alphanumeric() || matches!(c, '\'' | '’' | '\u{300}'..='\u{36f}' | '\u{200c}' | '\u{200d}') => 0,
        _ => 2,
    }
}

/// The longest common subsequence of pieces, and what is between.
fn steps<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<Step<'a>> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (mid_a, mid_b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let (n, m) = (mid_a.len(), mid_b.len());
    // lengths[i][j]: of the longest common subsequence of what is left from i and j on.
    let mut lengths = vec![0u16; (n + 1) * (m + 1)];
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            lengths[i * (m + 1) + j] = match mid_a[i] == mid_b[j] {
                true => lengths[(i + 1) * (m + 1) + j + 1] + 1,
                false => lengths[(i + 1) * (m + 1) + j].max(lengths[i * (m + 1) + j + 1]),
            };
        }
    }
    let mut out: Vec<Step> = a[..head].iter().map(|piece| Step::Same(piece)).collect();
    let (mut i, mut j) = (0, 0);
    let (mut old, mut new) = (String::new(), String::new());
    while i < n || j < m {
        if i < n && j < m && mid_a[i] == mid_b[j] {
            flush(&mut out, &mut old, &mut new);
            out.push(Step::Same(mid_b[j]));
            (i, j) = (i + 1, j + 1);
        } else if j == m || i < n && lengths[(i + 1) * (m + 1) + j] >= lengths[i * (m + 1) + j + 1] {
            old.push_str(mid_a[i]);
            i += 1;
        } else {
            new.push_str(mid_b[j]);
            j += 1;
        }
    }
    flush(&mut out, &mut old, &mut new);
    out.extend(b[b.len() - tail..].iter().map(|piece| Step::Same(piece)));
    out
}

fn flush(out: &mut Vec<Step>, old: &mut String, new: &mut String) {
    if !old.is_empty() || !new.is_empty() {
        out.push(Step::Other(std::mem::take(old), std::mem::take(new)));
    }
}

/// Two words that share most of their letters are marked only where they do not.
fn change(out: &mut String, old: &str, new: &str) {
    let (a, b): (Vec<char>, Vec<char>) = (old.chars().collect(), new.chars().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let is_near = !old.contains(char::is_whitespace) && 3 * (head + tail) >= 2 * a.len().max(b.len());
    let (head, tail) = if is_near { (head, tail) } else { (0, 0) };
    let (a, b_middle) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    out.extend(&b[..head]);
    for (mark, letters) in [(LEFT_OUT, a), (PUT_IN, b_middle)] {
        if !letters.is_empty() {
            out.push(mark);
            out.extend(letters);
            out.push(END);
        }
    }
    out.extend(&b[b.len() - tail..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks as brackets: `[-old-]`, `{+new+}`.
    fn told(expected: &str, found: &str) -> String {
        let mut is_old = false;
        marked(expected, found)
            .chars()
            .map(|c| match c {
                LEFT_OUT => {
                    is_old = true;
                    "[-".to_owned()
                }
                PUT_IN => {
                    is_old = false;
                    "{+".to_owned()
                }
                END => if is_old { "-]" } else { "+}" }.to_owned(),
                REMARK => " | ".to_owned(),
                c => c.to_string(),
            })
            .collect()
    }

    #[test]
    fn words_are_marked_and_letters_inside_words_that_are_nearly_the_same() {
        assert_eq!(told("the cat sat", "the cat sat"), "the cat sat");
        assert_eq!(told("the cat sat", "the dog sat"), "the [-cat-]{+dog+} sat");
        assert_eq!(told("the cat sat", "the sat"), "the [-cat -]sat");
        assert_eq!(told("the sat", "the cat sat"), "the {+cat +}sat");
        assert_eq!(told("conversions", "conversion"), "conversion[-s-]");
        assert_eq!(told("", "a b"), "{+a b+}");
        assert_eq!(told("a b", ""), "[-a b-]");
        assert_eq!(told("猫が座る", "犬が座る"), "[-猫-]{+犬+}が座る");
    }

    #[test]
    fn a_megabyte_is_shown_shortened_with_its_length() {
        let long = "loop ".repeat(200_000);
        let text = told("loop", &long);
        assert!(text.len() < 1000 && text.ends_with(" | … the first 500 of 1,000,000 characters"), "{text}");
        assert!(told(&long, &format!("{long}!")).ends_with("1,000,001 characters | differs further on"));
    }

    #[test]
    fn marks_from_outside_are_text() {
        assert_eq!(told("a", "a\u{1}b\u{3}"), "a{+\\u{1}b\\u{3}+}");
    }
}
