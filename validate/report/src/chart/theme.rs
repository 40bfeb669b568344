//! Colours, of pages and of pictures that stand alone.

/// `:root` variables in light and dark; text on paper has a contrast of at least 4.5, series of at least 3 (WCAG 2.2 AA).
pub const THEME: &str = include_str!("theme.css");
/// What the classes of pictures look like, in variables of [`THEME`].
pub const STYLE: &str = include_str!("style.css");

/// [`STYLE`] with the values of [`THEME`] in their places, since not every viewer of pictures knows variables.
pub fn standing_alone() -> String {
    let [light, dark] = [0, 1].map(|at| {
        values(at).iter().fold(STYLE.to_owned(), |style, (name, value)| style.replace(&format!("var({name})"), value))
    });
    format!("{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n")
}

/// Names and values of a block of [`THEME`]: 0 is light, 1 is dark.
fn values(block: usize) -> Vec<(&'static str, &'static str)> {
    let block = THEME.split(":root {").nth(block + 1).and_then(|rest| rest.split('}').next()).unwrap_or_default();
    let pair = |line: &'static str| line.trim().strip_suffix(';')?.split_once(": ");
    block.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG's relative luminance of `#rrggbb`.
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let c = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).expect("two digits")) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn colours_can_be_read_in_light_and_dark() {
        for block in [0, 1] {
            let values = values(block);
            let of = |wanted: &str| values.iter().find(|(name, _)| *name == wanted).expect("defined").1;
            for (name, value) in &values {
                let grounds: &[&str] = match *name {
                    "--paper" | "--grid" | "--raised" | "--good-ground" | "--bad-ground" | "--odd-ground" => continue,
                    "--good" => &["--paper", "--raised", "--good-ground"],
                    "--bad" => &["--paper", "--raised", "--bad-ground"],
                    "--odd" => &["--paper", "--raised", "--odd-ground"],
                    "--ink" => &["--paper", "--raised", "--good-ground", "--bad-ground", "--odd-ground"],
                    _ => &["--paper", "--raised"],
                };
                for ground in grounds {
                    let found = contrast(value, of(ground));
                    assert!(found >= 4.5, "{name} on {ground} in block {block}: {found:.2}");
                }
            }
        }
    }

    #[test]
    fn a_picture_that_stands_alone_has_no_variable_left() {
        let style = standing_alone();
        assert!(!style.contains("var("), "{style}");
        assert_eq!(style.matches("prefers-color-scheme").count(), 1);
    }
}
