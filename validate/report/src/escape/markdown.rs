//! Text from outside in Markdown: one line, no links, no HTML, nobody is called.

/// In a table cell or a line.
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' | '*' | '<' | '[' | ']' | '\\' => out.extend(['\\', c]),
            // Whoever is named after it in a comment on GitHub would be told; an invisible space keeps them out.
            '@' => out.push_str("@\u{200b}"),
            c if is_plain(c) => out.push(c),
            _ => out.push(' '),
        }
    }
    out
}

/// As code, in a table cell too; empty for a text of nothing but spaces.
pub fn code(text: &str) -> String {
    let inner: String = text.chars().map(|c| if matches!(c, '`' | '|') || !is_plain(c) { ' ' } else { c }).collect();
    if inner.trim().is_empty() { String::new() } else { format!("`{inner}`") }
}

/// What somebody or something said, as it was said, outside of tables. A fence is longer than what is inside.
pub fn quoted(text: &str) -> String {
    let inner: String = text.chars().map(|c| if is_plain(c) { c } else { ' ' }).collect();
    let longest = inner.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if longest > 0 { " " } else { "" };
    if inner.trim().is_empty() { "nothing".to_owned() } else { format!("{fence}{pad}{inner}{pad}{fence}") }
}

/// Neither a control character nor one that turns the direction of a line.
fn is_plain(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_break_a_table() {
        assert_eq!(escaped("a|b\n<c>*"), "a\\|b \\<c>\\*");
        assert_eq!(code("a`|\n"), "`a   `");
    }

    #[test]
    fn nobody_is_called_and_no_line_is_turned_around() {
        assert_eq!(escaped("@all \u{202e}x"), "@\u{200b}all  x");
    }

    #[test]
    fn a_quote_keeps_its_ticks_inside_of_a_longer_fence() {
        assert_eq!(quoted("a|<b>"), "`a|<b>`");
        assert_eq!(quoted("a``b`"), "``` a``b` ```");
        assert_eq!(quoted("\n"), "nothing");
    }
}
