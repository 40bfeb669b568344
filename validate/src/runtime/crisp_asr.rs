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

/// Keys that its loader demands and no other engine knows, of T5 and of translators between two languages.
const LAYERS: [&str; 2] = ["t5.encoder.n_layers", "marian.encoder.n_layers"];
/// The same of translators between many languages.
const MANY: &str = "m2m100.encoder.n_layers";

/// T5 and mT5 with gated layers, and Marian, on the CPU. It reads its own tokenizer; its arithmetic is ggml's.
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
        if LAYERS.iter().any(|key| gguf::holds(artifact, key)) {
            return Fit::Runs;
        }
        match gguf::holds(artifact, MANY) {
            true => Fit::CannotRun("it is told languages with each text, which trefoil does not do yet".to_owned()),
            false => Fit::Foreign,
        }
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
