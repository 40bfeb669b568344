//! transcribe.cpp in a Python process of its own: GGUF of its keys, ours and those of its own converters.

use std::collections::BTreeMap;

use converters::Artifact;
use converters::checkpoint::Generation;
use converters::checkpoint::generation::{Choice, Prompt};
use serde_json::json;

use super::answering::decoding::described;
use super::answering::python::PythonAnswerer;
use super::answering::{Answerer, Answers, Form};
use super::error::RuntimeError;
use super::gguf;
use super::interface::{Fit, Options, Present, Program};

static ENGINE: PythonAnswerer = PythonAnswerer {
    name: "transcribe.cpp",
    package: "transcribe_cpp",
    variable: "TREFOIL_TRANSCRIBE_PYTHON",
    install: "python3 -I -m venv .venv && .venv/bin/pip install transcribe-cpp==0.4.1 transcribe-cpp-native==0.4.1 && export \
              TREFOIL_TRANSCRIBE_PYTHON=\"$PWD/.venv/bin/python\"",
    form: Form::Sound,
    script: concat!(
        include_str!("far_side.py"),
        include_str!("answering/transcribe.py"),
        include_str!("answering/main.py")
    ),
};

/// A key that its loader demands of every file.
const VARIANT: &str = "stt.variant";

/// Whisper and Moonshine on the CPU. It makes features of its own and reads its own tokenizer; its arithmetic is ggml's.
#[derive(Clone, Copy, Debug)]
pub struct TranscribeCpp;

impl Program for TranscribeCpp {
    fn name(&self) -> &'static str {
        ENGINE.name
    }

    fn runs(&self, format: &str) -> bool {
        format == gguf::FORMAT
    }

    fn fit(&self, artifact: &Artifact) -> Fit {
        if gguf::holds(artifact, VARIANT) { Fit::Runs } else { Fit::Foreign }
    }

    fn probe(&self, options: &Options) -> Result<Present, RuntimeError> {
        ENGINE.probe(options)
    }
}

impl Answerer for TranscribeCpp {
    fn open(
        &self,
        artifact: &Artifact,
        options: &Options,
        decoding: &Generation,
    ) -> Result<Box<dyn Answers>, RuntimeError> {
        let asked = Asked::of(decoding.prompt.as_ref());
        let settings = json!({ "language": asked.language, "task": asked.task });
        // The file itself holds what is never chosen.
        let said = described(decoding, &["suppress_tokens", "begin_suppress_tokens"]);
        ENGINE.open(&gguf::path(artifact), options, &settings, &said)
    }
}

/// What a prompt asks for, in words.
#[derive(PartialEq, Debug)]
struct Asked {
    /// A code; absent where it is detected, or where the model has one alone.
    language: Option<String>,
    task: String,
}

impl Asked {
    fn of(prompt: Option<&Prompt>) -> Asked {
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
