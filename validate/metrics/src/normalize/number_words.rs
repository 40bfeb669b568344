//! English words for numbers and for what stands beside them.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a word says within a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// A digit of a number that is said digit by digit: "oh".
    Zero,
    /// 1 to 19.
    One(u8),
    /// 20, 30, … 90.
    Ten(u8),
    /// Ten to this power.
    Multiplier(usize),
    /// 0 to 90 with the end of an ordinal or a plural, which ends the number.
    Suffixed(u8, &'static str),
    /// Ten to this power, so ended.
    MultiplierSuffixed(usize, &'static str),
    /// Before a number.
    Sign(char),
    /// After a number, and written before it.
    Unit(char),
    /// Together with "cent" it is a percent sign.
    Per,
    /// A percent sign after a number.
    Percent,
    /// Between hundreds and what is below them.
    And,
    /// The next digit so many times.
    Repeat(usize),
    /// A decimal point.
    Point,
}

const ONES: [&str; 19] = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const MULTIPLIERS: [(&str, usize); 12] = [
    ("hundred", 2),
    ("thousand", 3),
    ("million", 6),
    ("billion", 9),
    ("trillion", 12),
    ("quadrillion", 15),
    ("quintillion", 18),
    ("sextillion", 21),
    ("septillion", 24),
    ("octillion", 27),
    ("nonillion", 30),
    ("decillion", 33),
];
/// Those that are not the number with `th`.
const ORDINALS: [(&str, u8, &str); 6] = [
    ("zeroth", 0, "th"),
    ("first", 1, "st"),
    ("second", 2, "nd"),
    ("third", 3, "rd"),
    ("fifth", 5, "th"),
    ("twelfth", 12, "th"),
];
const OTHERS: [(&str, Word); 21] = [
    ("o", Word::Zero),
    ("oh", Word::Zero),
    ("zero", Word::Zero),
    ("minus", Word::Sign('-')),
    ("negative", Word::Sign('-')),
    ("plus", Word::Sign('+')),
    ("positive", Word::Sign('+')),
    ("pound", Word::Unit('£')),
    ("pounds", Word::Unit('£')),
    ("euro", Word::Unit('€')),
    ("euros", Word::Unit('€')),
    ("dollar", Word::Unit('$')),
    ("dollars", Word::Unit('$')),
    ("cent", Word::Unit('¢')),
    ("cents", Word::Unit('¢')),
    ("per", Word::Per),
    ("percent", Word::Percent),
    ("and", Word::And),
    ("double", Word::Repeat(2)),
    ("triple", Word::Repeat(3)),
    ("point", Word::Point),
];

/// What a word says within a number; `None` for one that is in none.
pub fn word(text: &str) -> Option<Word> {
    static WORDS: LazyLock<HashMap<String, Word>> = LazyLock::new(words);
    WORDS.get(text).copied()
}

fn words() -> HashMap<String, Word> {
    let mut words: HashMap<String, Word> = OTHERS.iter().map(|(text, word)| ((*text).to_owned(), *word)).collect();
    words.extend(ORDINALS.iter().map(|(text, number, end)| ((*text).to_owned(), Word::Suffixed(*number, end))));
    for (name, number) in ONES.into_iter().zip(1..) {
        let plural = if name == "six" { "sixes".to_owned() } else { format!("{name}s") };
        words.extend([(name.to_owned(), Word::One(number)), (plural, Word::Suffixed(number, "s"))]);
        // Of "nine" this makes "nineth", as transformers does, to which "ninth" is no number.
        if !matches!(number, 1 | 2 | 3 | 5 | 12) {
            let ordinal = format!("{}th", name.trim_end_matches('t'));
            words.insert(ordinal, Word::Suffixed(number, "th"));
        }
    }
    for (name, number) in TENS.into_iter().zip((20..).step_by(10)) {
        let stem = name.trim_end_matches('y');
        words.extend([
            (name.to_owned(), Word::Ten(number)),
            (format!("{stem}ies"), Word::Suffixed(number, "s")),
            (format!("{stem}ieth"), Word::Suffixed(number, "th")),
        ]);
    }
    for (name, zeros) in MULTIPLIERS {
        words.extend([
            (name.to_owned(), Word::Multiplier(zeros)),
            (format!("{name}s"), Word::MultiplierSuffixed(zeros, "s")),
            (format!("{name}th"), Word::MultiplierSuffixed(zeros, "th")),
        ]);
    }
    words
}
