//! `EnglishTextNormalizer`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::bounds::BoundRule;
use super::{asides, numbers, symbols};
use crate::spaces::{single_spaced, words};

/// What numbers are written with.
const KEPT: &str = ".%$¢€£";

/// Whole words, in the order in which they are replaced.
const WORDS: [(&str, &str); 35] = [
    ("won't", "will not"),
    ("can't", "can not"),
    ("let's", "let us"),
    ("ain't", "aint"),
    ("y'all", "you all"),
    ("wanna", "want to"),
    ("gotta", "got to"),
    ("gonna", "going to"),
    ("i'ma", "i am going to"),
    ("imma", "i am going to"),
    ("woulda", "would have"),
    ("coulda", "could have"),
    ("shoulda", "should have"),
    ("ma'am", "madam"),
    ("mr", "mister "),
    ("mrs", "missus "),
    ("st", "saint "),
    ("dr", "doctor "),
    ("prof", "professor "),
    ("capt", "captain "),
    ("gov", "governor "),
    ("ald", "alderman "),
    ("gen", "general "),
    ("sen", "senator "),
    ("rep", "representative "),
    ("pres", "president "),
    ("rev", "reverend "),
    ("hon", "honorable "),
    ("asst", "assistant "),
    ("assoc", "associate "),
    ("lt", "lieutenant "),
    ("col", "colonel "),
    ("jr", "junior "),
    ("sr", "senior "),
    ("esq", "esquire "),
];
/// Ends of words, thereafter.
const ENDS: [(&str, &str); 14] = [
    ("'d been", " had been"),
    ("'s been", " has been"),
    ("'d gone", " had gone"),
    ("'s gone", " has gone"),
    ("'d done", " had done"),
    ("'s got", " has got"),
    ("n't", " not"),
    ("'re", " are"),
    ("'s", " is"),
    ("'d", " would"),
    ("'ll", " will"),
    ("'t", " not"),
    ("'ve", " have"),
    ("'m", " am"),
];

/// Lower case; contractions, titles and numbers in one spelling; `spellings` for British words; symbols as spaces but beside numbers.
pub fn normalized(text: &str, spellings: &BTreeMap<String, String>) -> String {
    let text = without_contractions(asides::removed(&text.to_lowercase()));
    let text = symbols::spaced_without_diacritics(&points_within_numbers(&text), KEPT);
    let text = respelled(&numbers::normalized(&text), spellings);
    single_spaced(&signs_beside_numbers(&text))
}

fn without_contractions(text: String) -> String {
    static HESITATION: LazyLock<BoundRule> = LazyLock::new(|| BoundRule::whole("hmm|mmm|mhm|mm|uh|um"));
    static APOSTROPHE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\s\x1c-\x1f]+'").expect("a constant"));
    static REPLACED: LazyLock<Vec<(BoundRule, &str)>> = LazyLock::new(|| {
        let words = WORDS.iter().map(|(word, put)| (BoundRule::whole(word), *put));
        words.chain(ENDS.iter().map(|(end, put)| (BoundRule::ending(end), *put))).collect()
    });
    let text = HESITATION.replace(text, |_| String::new());
    let text = APOSTROPHE.replace_all(&text, "'").into_owned();
    REPLACED.iter().fold(text, |text, (rule, put)| rule.replace(text, |_| (*put).to_owned()))
}

/// Without commas between digits, and without full stops but before one.
fn points_within_numbers(text: &str) -> String {
    static COMMA: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\d),(\d)").expect("a constant"));
    static FULL_STOP: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\.([^0-9]|$)").expect("a constant"));
    FULL_STOP.replace_all(&COMMA.replace_all(text, "$1$2"), " $1").into_owned()
}

fn respelled(text: &str, spellings: &BTreeMap<String, String>) -> String {
    words(text).map(|word| spellings.get(word).map_or(word, String::as_str)).collect::<Vec<_>>().join(" ")
}

/// Without points and currencies but before a digit, and without percent signs but behind one.
fn signs_beside_numbers(text: &str) -> String {
    static BEFORE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[.$¢€£]([^0-9])").expect("a constant"));
    static BEHIND: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"([^0-9])%").expect("a constant"));
    BEHIND.replace_all(&BEFORE.replace_all(text, " $1"), "$1 ").into_owned()
}
