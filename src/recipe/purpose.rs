//! What an artifact is for, in words, and which artifact that is.

use converters::export::npu::{PROFILES, Profile};
use converters::export::onnx::TRANSFORMERS_JS;

/// A format with its options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Options as a recipe has them.
    Onnx(&'static str),
    /// For a toolchain.
    Npu(&'static str),
    /// Named after the model alone, or in the dialect of an engine.
    Gguf(Option<&'static str>),
    Safetensors,
    CTranslate2,
    WhisperCpp,
}

/// What a user has in mind, and what it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Purpose {
    /// As `--for` spells it.
    pub word: &'static str,
    /// As the recipe says it.
    pub about: &'static str,
    pub shape: Shape,
}

const fn purpose(word: &'static str, about: &'static str, shape: Shape) -> Purpose {
    Purpose { word, about, shape }
}

/// Every purpose but those of one NPU toolchain, whose words are the names of profiles.
const GENERAL: [Purpose; 11] = [
    purpose("onnxruntime", "Opens in onnxruntime and Optimum.", Shape::Onnx("{}")),
    purpose("optimum", "Opens in onnxruntime and Optimum.", Shape::Onnx("{}")),
    purpose("transformers.js", "Opens as it is in transformers.js, in Node and in browsers.", Shape::TRANSFORMERS_JS),
    purpose("npu", "Static graphs in plain floats, for every NPU toolchain.", Shape::Npu("npu-portable")),
    purpose("llama.cpp", "Opens in llama.cpp.", Shape::Gguf(None)),
    purpose("ggml", "Opens in trefoil's engine on ggml, for applications.", Shape::Gguf(None)),
    purpose("transcribe.cpp", "Opens in transcribe.cpp.", Shape::Gguf(Some("transcribe.cpp"))),
    purpose("CrispASR", "Opens in CrispASR.", Shape::Gguf(Some("CrispASR"))),
    purpose("whisper.cpp", "Opens in whisper.cpp.", Shape::WhisperCpp),
    purpose("transformers", "Opens in transformers with compressed-tensors.", Shape::Safetensors),
    purpose("ctranslate2", "Opens in CTranslate2.", Shape::CTranslate2),
];

/// A program, the families that it was seen to run, and what to ask for with another one.
const RUNNERS: [(&str, &[&str], &str); 4] = [
    ("llama.cpp", &["t5", "mt5", "umt5"], "`--for ggml` makes the same file for trefoil's engine"),
    ("transformers.js", &TRANSFORMERS_JS, "`--for onnxruntime` makes files for other programs"),
    (
        "optimum",
        &[
            "t5",
            "mt5",
            "bart",
            "mbart",
            "blenderbot",
            "blenderbot-small",
            "marian",
            "m2m_100",
            "moonshine",
            "pegasus",
            "vision-encoder-decoder",
            "whisper",
        ],
        "`--for onnxruntime` makes the same files",
    ),
    (
        "transformers",
        &[
            "t5",
            "mt5",
            "umt5",
            "bart",
            "mbart",
            "blenderbot",
            "blenderbot-small",
            "florence2",
            "marian",
            "m2m_100",
            "moonshine",
            "pegasus",
            "plbart",
            "t5gemma",
            "t5gemma2",
            "vision-encoder-decoder",
            "whisper",
        ],
        "`--for onnxruntime` or `--for ggml` runs it",
    ),
];

/// What is made when nobody says what for: a leaf of each kind that runs on any machine.
pub fn usual() -> Vec<Purpose> {
    ["onnxruntime", "ggml", "transformers"].into_iter().filter_map(purpose_of).collect()
}

fn of_profile(profile: &'static Profile) -> Purpose {
    Purpose { word: profile.name, about: profile.about, shape: Shape::Npu(profile.name) }
}

/// Every word of `--for`.
pub fn words() -> Vec<&'static str> {
    GENERAL.iter().map(|purpose| purpose.word).chain(PROFILES.iter().map(|profile| profile.name)).collect()
}

/// The purpose of a word.
pub fn purpose_of(word: &str) -> Option<Purpose> {
    let general = GENERAL.iter().copied().find(|purpose| purpose.word == word);
    general.or_else(|| PROFILES.iter().find(|profile| profile.name == word).map(of_profile))
}

impl Purpose {
    /// Errors: the program that it is named after was not seen to run this family.
    pub fn runs(&self, model_type: &str) -> Result<(), String> {
        match RUNNERS.iter().find(|(word, ..)| *word == self.word) {
            Some((word, known, instead)) if !known.contains(&model_type) => {
                Err(format!("{word} is known to run {}, and not {model_type}; {instead}", known.join(", ")))
            }
            _ => Ok(()),
        }
    }
}

impl Shape {
    /// What Node and browsers open.
    pub const TRANSFORMERS_JS: Shape = Shape::Onnx("{ for: transformers.js }");

    /// The format's name.
    pub fn format(self) -> &'static str {
        match self {
            Shape::Onnx(_) => "onnx",
            Shape::Npu(_) => "npu",
            Shape::Gguf(_) => "gguf",
            Shape::Safetensors => "safetensors",
            Shape::CTranslate2 => "ctranslate2",
            Shape::WhisperCpp => "whisper.cpp",
        }
    }

    /// Bits of activations that are rounded to fixed steps.
    pub fn activation_bits(self) -> Option<u8> {
        match self {
            Shape::Npu(name) => PROFILES.iter().find(|profile| profile.name == name)?.writes.activations,
            _ => None,
        }
    }
}
