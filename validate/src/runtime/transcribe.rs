//! transcribe.cpp in a Python process of its own: GGUF of its keys, ours and those of its own converters.

use converters::Artifact;
use converters::checkpoint::Generation;
use serde_json::json;

use super::answering::asked::Asked;
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
