//! CrispASR in a Python process of its own: GGUF of its keys that translates texts.

use std::collections::BTreeMap;

use converters::Artifact;
use converters::checkpoint::Generation;
use converters::export::gguf::{Array, GgufFile, Value};
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

/// Keys that its loader demands and no other engine knows: of T5, of translators between two languages and between many.
const LAYERS: [&str; 3] = ["t5.encoder.n_layers", "marian.encoder.n_layers", "m2m100.encoder.n_layers"];
/// How many tokens its decoder may be fed, where positions are rows of a table.
const PLACES: [&str; 2] = ["marian.max_position_embeddings", "m2m100.max_position_embeddings"];
/// Of many: the languages, and the tokens that stand for them.
const LANGUAGES: [&str; 2] = ["m2m100.lang_codes", "m2m100.lang_token_ids"];

/// T5 and mT5 with gated layers, Marian, M2M100 and NLLB, on the CPU. It reads its own tokenizer; its arithmetic is ggml's. The language
/// of a text is that of its first token, and the language of answers the token that the decoding forces.
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
        let is_its_own = LAYERS.iter().any(|key| gguf::holds(artifact, key));
        if is_its_own { Fit::Runs } else { Fit::Foreign }
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
        let file = gguf::path(artifact);
        let failed = |message| RuntimeError::Failed { runtime: ENGINE.name, message };
        let opened = GgufFile::open(&file).map_err(|error| failed(error.to_string()))?;
        let languages = languages(&opened).map_err(failed)?;
        let target = target(&languages, decoding).map_err(failed)?;
        // The language is the first token of ours and none of its. It feeds the last token too, and aborts where there is no place.
        let of_prompt = 1 + usize::from(!languages.is_empty());
        let tokens = (decoding.new_tokens() + 1).min(places(&opened)).saturating_sub(of_prompt);
        let known: &[&str] = if languages.is_empty() { &[] } else { &["forced_bos_token_id"] };
        let settings = json!({ "tokens": tokens, "languages": languages, "target": target });
        ENGINE.open(&file, options, &settings, &described(decoding, known))
    }
}

/// Tokens for which its decoder has positions.
fn places(file: &GgufFile) -> usize {
    let found = PLACES.iter().find_map(|key| match file.get(key) {
        Some(Value::U32(places)) => Some(*places as usize),
        _ => None,
    });
    found.unwrap_or(usize::MAX)
}

/// The languages of a file by the tokens that stand for them; none where it is told none. Errors: in words.
fn languages(file: &GgufFile) -> Result<BTreeMap<u32, String>, String> {
    match LANGUAGES.map(|key| file.get(key)) {
        [None, None] => Ok(BTreeMap::new()),
        [Some(Value::Array(Array::String(codes))), Some(Value::Array(Array::U32(ids)))] if codes.len() == ids.len() => {
            Ok(ids.iter().copied().zip(codes.iter().cloned()).collect())
        }
        _ => Err(format!("{}: expected as many codes as tokens", LANGUAGES.join(", "))),
    }
}

/// The language of answers. Errors: the decoding forces none, and there are several.
fn target<'l>(languages: &'l BTreeMap<u32, String>, decoding: &Generation) -> Result<&'l str, String> {
    if languages.is_empty() {
        return Ok("");
    }
    let forced = decoding.forced_bos_token_id.and_then(|id| languages.get(&u32::try_from(id).ok()?));
    forced.map(String::as_str).ok_or_else(|| {
        "the decoding names no language of answers, and the engine answers in one of many; set `validate: languages: { \
         target_lang: … }`"
            .to_owned()
    })
}
