//! What Python takes for a space, since the reference implementations of the figures are written in it.

/// As `str.isspace` and `\s` of Python have it: Unicode's spaces, and the four separators of files, groups, records and units.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The words between spaces, as `str.split()`.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Each run of spaces as one.
pub fn single_spaced(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_space = false;
    for c in text.chars() {
        let space = is_space(c);
        if !(space && after_space) {
            out.push(if space { ' ' } else { c });
        }
        after_space = space;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_separators_of_records_are_spaces_and_a_joiner_is_none() {
        assert_eq!(words(" a\u{1c}b\u{a0}\u{3000}c\u{200b}d\n").collect::<Vec<_>>(), ["a", "b", "c\u{200b}d"]);
        assert_eq!(single_spaced("\t\na \u{1f} b"), " a b");
    }
}
