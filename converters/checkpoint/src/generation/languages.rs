//! The languages that Whisper has tokens for, by name: `LANGUAGES` and `TO_LANGUAGE_CODE` of transformers'
//! tokenization_whisper.py.

/// The token of a language that is called by its name or its code, whether or not a model has it.
pub fn token_of(word: &str) -> Option<String> {
    let found = LANGUAGES.iter().chain(OTHER_NAMES).find(|(code, name)| *code == word || *name == word);
    found.map(|(code, _)| format!("<|{code}|>"))
}

#[rustfmt::skip]
const LANGUAGES: &[(&str, &str)] = &[
    ("af", "afrikaans"), ("am", "amharic"), ("ar", "arabic"), ("as", "assamese"), ("az", "azerbaijani"),
    ("ba", "bashkir"), ("be", "belarusian"), ("bg", "bulgarian"), ("bn", "bengali"), ("bo", "tibetan"),
    ("br", "breton"), ("bs", "bosnian"), ("ca", "catalan"), ("cs", "czech"), ("cy", "welsh"), ("da", "danish"),
    ("de", "german"), ("el", "greek"), ("en", "english"), ("es", "spanish"), ("et", "estonian"), ("eu", "basque"),
    ("fa", "persian"), ("fi", "finnish"), ("fo", "faroese"), ("fr", "french"), ("gl", "galician"), ("gu", "gujarati"),
    ("ha", "hausa"), ("haw", "hawaiian"), ("he", "hebrew"), ("hi", "hindi"), ("hr", "croatian"),
    ("ht", "haitian creole"), ("hu", "hungarian"), ("hy", "armenian"), ("id", "indonesian"), ("is", "icelandic"),
    ("it", "italian"), ("ja", "japanese"), ("jw", "javanese"), ("ka", "georgian"), ("kk", "kazakh"), ("km", "khmer"),
    ("kn", "kannada"), ("ko", "korean"), ("la", "latin"), ("lb", "luxembourgish"), ("ln", "lingala"), ("lo", "lao"),
    ("lt", "lithuanian"), ("lv", "latvian"), ("mg", "malagasy"), ("mi", "maori"), ("mk", "macedonian"),
    ("ml", "malayalam"), ("mn", "mongolian"), ("mr", "marathi"), ("ms", "malay"), ("mt", "maltese"),
    ("my", "myanmar"), ("ne", "nepali"), ("nl", "dutch"), ("nn", "nynorsk"), ("no", "norwegian"), ("oc", "occitan"),
    ("pa", "punjabi"), ("pl", "polish"), ("ps", "pashto"), ("pt", "portuguese"), ("ro", "romanian"),
    ("ru", "russian"), ("sa", "sanskrit"), ("sd", "sindhi"), ("si", "sinhala"), ("sk", "slovak"), ("sl", "slovenian"),
    ("sn", "shona"), ("so", "somali"), ("sq", "albanian"), ("sr", "serbian"), ("su", "sundanese"), ("sv", "swedish"),
    ("sw", "swahili"), ("ta", "tamil"), ("te", "telugu"), ("tg", "tajik"), ("th", "thai"), ("tk", "turkmen"),
    ("tl", "tagalog"), ("tr", "turkish"), ("tt", "tatar"), ("uk", "ukrainian"), ("ur", "urdu"), ("uz", "uzbek"),
    ("vi", "vietnamese"), ("yi", "yiddish"), ("yo", "yoruba"), ("yue", "cantonese"), ("zh", "chinese"),
];

/// Second names.
#[rustfmt::skip]
const OTHER_NAMES: &[(&str, &str)] = &[
    ("ca", "valencian"), ("es", "castilian"), ("ht", "haitian"), ("lb", "letzeburgesch"), ("my", "burmese"),
    ("nl", "flemish"), ("pa", "panjabi"), ("ps", "pushto"), ("ro", "moldavian"), ("ro", "moldovan"),
    ("si", "sinhalese"), ("zh", "mandarin"),
];
