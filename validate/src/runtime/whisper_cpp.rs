//! whisper.cpp in a Python process of its own: the file of its own format.

use converters::Artifact;
use converters::checkpoint::Generation;
use converters::export::whisper_cpp::FILE;
use serde_json::json;

use super::answering::asked::Asked;
use super::answering::decoding::described;
use super::answering::python::PythonAnswerer;
use super::answering::{Answerer, Answers, Form};
use super::error::RuntimeError;
use super::interface::{Options, Present, Program};

static ENGINE: PythonAnswerer = PythonAnswerer {
    name: "whisper.cpp",
    package: "pywhispercpp",
    variable: "TREFOIL_WHISPER_CPP_PYTHON",
    install: "python3 -I -m venv .venv && .venv/bin/pip install pywhispercpp==1.5.1 && export \
              TREFOIL_WHISPER_CPP_PYTHON=\"$PWD/.venv/bin/python\"",
    form: Form::Sound,
    script: concat!(
        include_str!("far_side.py"),
        include_str!("answering/whisper_cpp.py"),
        include_str!("answering/main.py")
    ),
};

/// Of an [`Artifact`].
const FORMAT: &str = "whisper.cpp";

/// Whisper on the CPU. It makes features of its own and reads its own vocabulary; its arithmetic is ggml's.
#[derive(Clone, Copy, Debug)]
pub struct WhisperCpp;

impl Program for WhisperCpp {
    fn name(&self) -> &'static str {
        ENGINE.name
    }

    fn runs(&self, format: &str) -> bool {
        format == FORMAT
    }

    fn probe(&self, options: &Options) -> Result<Present, RuntimeError> {
        ENGINE.probe(options)
    }
}

impl Answerer for WhisperCpp {
    fn open(
        &self,
        artifact: &Artifact,
        options: &Options,
        decoding: &Generation,
    ) -> Result<Box<dyn Answers>, RuntimeError> {
        let asked = Asked::of(decoding.prompt.as_ref());
        let settings = json!({ "language": asked.language, "task": asked.task });
        // It has one list of what is never chosen, of its own, and one of what never comes first.
        let said = described(decoding, &["begin_suppress_tokens"]);
        ENGINE.open(&artifact.dir.join(FILE), options, &settings, &said)
    }
}
