//! `EnglishNumberNormalizer`: numbers in words as digits, with their units and signs before them.
//!
//! Words are read from left to right and the number said so far is kept: as a number while further words may add to it ("two hundred" and
//! then "five"), as a text once digits are only strung together ("nineteen" and then "eighty").

use std::sync::LazyLock;

use regex::Regex;

use super::bounds::BoundRule;
use super::natural::Natural;
use super::number_words::{Word, word};
use crate::spaces::words;

const SIGNS: &str = "-+£€$¢";

/// Numbers of the text as digits. Other words stay, with one space between.
pub fn normalized(text: &str) -> String {
    let text = prepared(text);
    let words: Vec<&str> = words(&text).collect();
    finished(Reader::default().read(&words).join(" "))
}

/// "and a half" after a number as "point five"; numbers and letters apart, but for the ends of ordinals.
fn prepared(text: &str) -> String {
    static HALF: LazyLock<BoundRule> = LazyLock::new(|| BoundRule::whole(r"and[\s\x1c-\x1f]+a[\s\x1c-\x1f]+half"));
    static APART: LazyLock<[Regex; 2]> =
        LazyLock::new(|| [r"([a-z])([0-9])", r"([0-9])([a-z])"].map(|rule| Regex::new(rule).expect("a constant")));
    static ORDINAL: LazyLock<BoundRule> = LazyLock::new(|| BoundRule::ending(r"([0-9])[\s\x1c-\x1f]+(st|nd|rd|th|s)"));
    let parts = HALF.split(text);
    let last = parts.len() - 1;
    let mut said = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        let Some(before) = words(part).last() else { continue };
        said.push(part);
        if index < last {
            said.push(if may_have_a_half(before) { "point five" } else { "and a half" });
        }
    }
    let apart = APART.iter().fold(said.join(" "), |text, rule| rule.replace_all(&text, "$1 $2").into_owned());
    ORDINAL.replace(apart, |found| format!("{}{}", &found[1], &found[2]))
}

fn may_have_a_half(before: &str) -> bool {
    matches!(word(before), Some(Word::Zero | Word::One(_) | Word::Ten(_) | Word::Multiplier(_)))
}

/// Cents with their currency, and a lone 1 as "one".
fn finished(text: String) -> String {
    static WITH_CENTS: LazyLock<BoundRule> =
        LazyLock::new(|| BoundRule::ending(r"([€£$])([0-9]+) (?:and )?¢([0-9]{1,2})"));
    static ONLY_CENTS: LazyLock<BoundRule> = LazyLock::new(|| BoundRule::ending(r"[€£$]0.([0-9]{1,2})"));
    static ONE: LazyLock<BoundRule> = LazyLock::new(|| BoundRule::whole(r"1(s?)"));
    let text = WITH_CENTS.replace(text, |found| format!("{}{}.{:0>2}", &found[1], &found[2], &found[3]));
    let text = ONLY_CENTS.replace(text, |found| {
        let cents = found[1].trim_start_matches('0');
        format!("¢{}", if cents.is_empty() { "0" } else { cents })
    });
    ONE.replace(text, |found| format!("one{}", &found[1]))
}

/// The number said so far.
enum Value {
    Whole(Natural),
    Digits(String),
}

impl Value {
    fn text(self) -> String {
        match self {
            Value::Whole(number) => number.to_string(),
            Value::Digits(digits) => digits,
        }
    }
}

/// Words read, and what was made of them.
#[derive(Default)]
struct Reader {
    said: Vec<String>,
    sign: Option<char>,
    value: Option<Value>,
}

/// The words beside the one that is read.
struct Beside {
    before: Option<Word>,
    after: Option<Word>,
    /// The next word is of digits.
    digits_follow: bool,
    /// The next word is "cent", of which alone "per" makes a percent sign.
    cent_follows: bool,
}

impl Reader {
    fn read(mut self, words: &[&str]) -> Vec<String> {
        let mut rest = 0..words.len();
        while let Some(at) = rest.next() {
            let after = words.get(at + 1).copied();
            let beside = Beside {
                before: at.checked_sub(1).and_then(|before| word(words[before])),
                after: after.and_then(word),
                digits_follow: after.is_some_and(is_number),
                cent_follows: after == Some("cent"),
            };
            let unsigned = words[at].strip_prefix(|first| SIGNS.contains(first)).unwrap_or(words[at]);
            let takes_next = match word(words[at]) {
                _ if is_number(unsigned) => self.digits(words[at], unsigned),
                Some(number) => self.word(number, words[at], &beside),
                None => self.other(words[at]),
            };
            if takes_next {
                rest.next();
            }
        }
        self.end_number();
        self.said
    }

    /// Says what is not added to any more, behind the sign that waits for it.
    fn say(&mut self, text: &str) {
        let sign = self.sign.take();
        self.said.push(sign.into_iter().collect::<String>() + text);
        self.value = None;
    }

    fn end_number(&mut self) {
        if let Some(value) = self.value.take() {
            self.say(&value.text());
        }
    }

    /// A word that is in no number.
    fn other(&mut self, text: &str) -> bool {
        self.end_number();
        self.say(text);
        false
    }

    /// A number in digits, with or without a sign.
    fn digits(&mut self, text: &str, unsigned: &str) -> bool {
        match self.value.take() {
            Some(Value::Digits(open)) if open.ends_with('.') => {
                self.value = Some(Value::Digits(open + text));
                return false;
            }
            Some(value) => self.say(&value.text()),
            None => {}
        }
        if unsigned != text {
            self.sign = text.chars().next();
        }
        let whole = Natural::scaled(unsigned, 0).map(Value::Whole);
        self.value = Some(whole.unwrap_or_else(|| Value::Digits(unsigned.to_owned())));
        false
    }

    /// A word of numbers. Whether it takes the next word with it.
    fn word(&mut self, word: Word, text: &str, beside: &Beside) -> bool {
        match word {
            Word::Zero => self.string("0"),
            Word::One(number) | Word::Ten(number) => self.value = Some(self.joined(number, beside)),
            Word::Suffixed(number, end) => {
                let number = self.joined(number, beside).text();
                self.say(&(number + end));
            }
            Word::Multiplier(zeros) => self.value = Some(Value::Whole(self.multiplied(zeros))),
            Word::MultiplierSuffixed(zeros, end) => {
                let number = self.multiplied(zeros);
                self.say(&format!("{number}{end}"));
            }
            Word::Sign(sign) => self.sign(sign, text, beside),
            Word::Unit(_) | Word::Per | Word::Percent => return self.after_number(word, text, beside),
            Word::And | Word::Repeat(_) | Word::Point if beside.after.is_none() && !beside.digits_follow => {
                return self.other(text);
            }
            Word::And => {
                if !matches!(beside.before, Some(Word::Multiplier(_))) {
                    return self.other(text);
                }
            }
            Word::Repeat(times) => return self.repeat(times, text, beside),
            Word::Point => {
                let is_digit = matches!(beside.after, Some(Word::Zero | Word::One(_) | Word::Ten(_)));
                if is_digit || beside.digits_follow {
                    self.string(".");
                }
            }
        }
        false
    }

    /// Strings a character to what was said. A number that is 0 goes.
    fn string(&mut self, character: &str) {
        let before = match self.value.take() {
            Some(Value::Whole(number)) if number.is_zero() => String::new(),
            before => before.map_or(String::new(), Value::text),
        };
        self.value = Some(Value::Digits(before + character));
    }

    /// What was said with a number below a hundred: added where the places for it are free, else strung to it.
    fn joined(&mut self, number: u8, beside: &Beside) -> Value {
        let places = if number < 10 { 1 } else { 2 };
        match self.value.take() {
            None => Value::Whole(Natural::from(number)),
            Some(Value::Digits(mut digits)) => {
                // "twenty" was strung to it, and its 0 is where "one" goes.
                if number < 10 && matches!(beside.before, Some(Word::Ten(_))) {
                    digits.pop();
                }
                digits.push_str(&number.to_string());
                Value::Digits(digits)
            }
            Some(Value::Whole(before)) => {
                let follows_one = matches!(beside.before, Some(Word::One(_)));
                let filled = before.filled(number, places).filter(|_| !follows_one);
                filled.map_or_else(|| Value::Digits(format!("{before}{number}")), Value::Whole)
            }
        }
    }

    /// What was said, times a power of ten. Digits that this leaves no whole number are said, and the power stands alone.
    fn multiplied(&mut self, zeros: usize) -> Natural {
        match self.value.take() {
            None => Natural::power_of_ten(zeros),
            Some(Value::Whole(number)) => number.with_hundreds_times(zeros),
            Some(Value::Digits(digits)) => Natural::scaled(&digits, zeros).unwrap_or_else(|| {
                self.say(&digits);
                Natural::power_of_ten(zeros)
            }),
        }
    }

    fn sign(&mut self, sign: char, text: &str, beside: &Beside) {
        self.end_number();
        if beside.after.is_some() || beside.digits_follow {
            self.sign = Some(sign);
        } else {
            self.say(text);
        }
    }

    /// A unit or a percent sign, which is a word where there is no number before it.
    fn after_number(&mut self, word: Word, text: &str, beside: &Beside) -> bool {
        let Some(value) = self.value.take() else { return self.other(text) };
        match word {
            Word::Unit(unit) => {
                self.sign = Some(unit);
                self.say(&value.text());
                false
            }
            Word::Per if !beside.cent_follows => {
                self.say(&value.text());
                self.other(text)
            }
            _ => {
                self.say(&(value.text() + "%"));
                word == Word::Per
            }
        }
    }

    fn repeat(&mut self, times: usize, text: &str, beside: &Beside) -> bool {
        let number = match beside.after {
            Some(Word::Zero) => 0,
            Some(Word::One(number)) => number,
            _ => return self.other(text),
        };
        self.string(&number.to_string().repeat(times));
        true
    }
}

/// `\d+(\.\d+)?`, digits of any script.
fn is_number(text: &str) -> bool {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |text: &str| !text.is_empty() && Natural::scaled(text, 0).is_some() && !text.contains('.');
    is_digits(whole) && is_digits(part)
}
