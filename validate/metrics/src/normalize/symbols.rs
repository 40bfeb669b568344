//! Marks, symbols and punctuation.

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// Each mark, symbol and punctuation as a space; letters keep their diacritics. In NFKC.
pub fn spaced(text: &str) -> String {
    text.nfkc().map(|c| if is_symbol(c) { ' ' } else { c }).collect()
}

/// Letters without diacritics, and each symbol that is not in `kept` as a space. In NFKD.
pub fn spaced_without_diacritics(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.nfkd() {
        match undecomposed(c) {
            _ if c.is_ascii_alphanumeric() || kept.contains(c) => out.push(c),
            Some(letters) => out.push_str(letters),
            None if c.general_category() == GeneralCategory::NonspacingMark => {}
            None => out.push(if is_symbol(c) { ' ' } else { c }),
        }
    }
    out
}

fn is_symbol(c: char) -> bool {
    use GeneralCategoryGroup::{Mark, Punctuation, Symbol};
    if c.is_ascii() {
        return c.is_ascii_punctuation();
    }
    matches!(c.general_category_group(), Mark | Symbol | Punctuation)
}

/// Letters with strokes or joined ones, that NFKD leaves as they are.
fn undecomposed(c: char) -> Option<&'static str> {
    Some(match c {
        'œ' => "oe",
        'Œ' => "OE",
        'ø' => "o",
        'Ø' => "O",
        'æ' => "ae",
        'Æ' => "AE",
        'ß' => "ss",
        'ẞ' => "SS",
        'đ' | 'ð' => "d",
        'Đ' | 'Ð' => "D",
        'þ' | 'Þ' => "th",
        'ł' => "l",
        'Ł' => "L",
        _ => return None,
    })
}
