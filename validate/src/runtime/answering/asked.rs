//! A decoding of speech as an engine that has a prompt of its own is told it.

use std::collections::BTreeMap;

use converters::checkpoint::generation::{Choice, Prompt};

/// What a prompt asks for, in words.
#[derive(PartialEq, Debug)]
pub(in crate::runtime) struct Asked {
    /// A code; absent where it is detected, or where the model has one alone.
    pub(in crate::runtime) language: Option<String>,
    /// `transcribe` or `translate`.
    pub(in crate::runtime) task: String,
}

impl Asked {
    pub(in crate::runtime) fn of(prompt: Option<&Prompt>) -> Asked {
        let fed: Vec<Choice> = prompt.map_or(Vec::new(), Prompt::choices);
        let is_fed = |id: &i64| fed.contains(&Choice::Token(*id));
        let word =
            |words: &BTreeMap<String, i64>| words.iter().find(|(_, id)| is_fed(id)).map(|(word, _)| word.clone());
        let language = prompt.and_then(|prompt| word(&prompt.lang_to_id));
        Asked {
            language: language.map(|token| token.trim_matches(['<', '|', '>']).to_owned()),
            task: prompt.and_then(|prompt| word(&prompt.task_to_id)).unwrap_or_else(|| "transcribe".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_told_in_words() {
        let words = |pairs: &[(&str, i64)]| pairs.iter().map(|(word, id)| ((*word).to_owned(), *id)).collect();
        let prompt = Prompt {
            lang_to_id: words(&[("<|en|>", 5), ("<|haw|>", 6)]),
            task_to_id: words(&[("transcribe", 8), ("translate", 9)]),
            ..Prompt::default()
        };
        let told = |prompt: Prompt| {
            let Asked { language, task } = Asked::of(Some(&prompt));
            (language, task)
        };
        let transcribe = || "transcribe".to_owned();
        assert_eq!(told(prompt.clone()), (None, transcribe()), "detected");
        assert_eq!(told(Prompt { language: Some(6), ..prompt.clone() }), (Some("haw".to_owned()), transcribe()));
        let forced = Prompt { forced_decoder_ids: vec![Some(5), Some(9)], ..prompt };
        assert_eq!(told(forced), (Some("en".to_owned()), "translate".to_owned()));
        assert_eq!(Asked::of(None), Asked { language: None, task: transcribe() });
    }
}
