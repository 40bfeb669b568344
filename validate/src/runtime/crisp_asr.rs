//! CrispASR in a Python process of its own: GGUF of its keys that translates texts.

use converters::Artifact;
use converters::checkpoint::Generation;
use serde_json::json;

use super::answering::decoding::described;
use super::answering::python::PythonAnswerer;
use super::answering::{Answerer, Answers, Form};
use super::error::RuntimeError;
use super::gguf;
use super::interface::{Fit, Options, Present, Program};

static ENGINE: PythonAnswerer = PythonAnswerer {
    name: "CrispASR",
    package: "crispasr",
    variable: "TREFOIL_CRISPASR_PYTHON",
    install: "python3 -I -m venv .venv && .venv/bin/pip install crispasr==0.8.45 && export \
              TREFOIL_CRISPASR_PYTHON=\"$PWD/.venv/bin/python\"",
    form: Form::Text,
    script: concat!(
        include_str!("far_side.py"),
        include_str!("answering/crisp_asr.py"),
        include_str!("answering/main.py")
    ),
};

/// A key of a T5 that its loader demands and llama.cpp does not know.
const LAYERS: &str = "t5.encoder.n_layers";

/// T5 and mT5 with gated layers, on the CPU. It reads its own tokenizer; its arithmetic is ggml's.
#[derive(Clone, Copy, Debug)]
pub struct CrispAsr;

impl Program for CrispAsr {
    fn name(&self) -> &'static str {
        ENGINE.name
    }

    fn runs(&self, format: &str) -> bool {
        format == gguf::FORMAT
    }

    fn fit(&self, artifact: &Artifact) -> Fit {
        if gguf::holds(artifact, LAYERS) { Fit::Runs } else { Fit::Foreign }
    }

    fn probe(&self, options: &Options) -> Result<Present, RuntimeError> {
        ENGINE.probe(options)
    }
}

impl Answerer for CrispAsr {
    fn open(
        &self,
        artifact: &Artifact,
        options: &Options,
        decoding: &Generation,
    ) -> Result<Box<dyn Answers>, RuntimeError> {
        let settings = json!({ "tokens": decoding.new_tokens() });
        ENGINE.open(&gguf::path(artifact), options, &settings, &described(decoding, &[]))
    }
}
