//! Text from outside, made harmless in one place: for pages and for pictures.

use std::fmt::Write;

/// The text with what nobody would see written out: control characters, marks that turn the direction of what follows, spaces
/// without a width and tags as `\u{202e}`; ends of lines and tabs as `\n`, `\r` and `\t`.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a String cannot fail.
            c if is_hidden(c) => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// [`visible`] text for HTML and SVG, between tags or in an attribute with double quotes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// JSON for the inside of a `<script>`: no `<`, so that nothing in it ends the script or begins a comment.
pub fn json_in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

/// Joiners (U+200C, U+200D) are letters' business in several scripts and stay.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text_in_elements_and_in_attributes() {
        assert_eq!(escaped("<b a=\"1\" c='2'>&amp;"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;");
    }

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(visible("a\u{202e}b\u{0}c\n\t\u{feff}\u{e0041}"), "a\\u{202e}b\\u{0}c\\n\\t\\u{feff}\\u{e0041}");
        assert_eq!(visible("نمی\u{200c}خواهم"), "نمی\u{200c}خواهم");
    }

    #[test]
    fn json_cannot_end_its_script() {
        assert_eq!(json_in_script("[\"</script><!--\"]"), "[\"\\u003c/script>\\u003c!--\"]");
    }
}
