//! The engines that there are.

use super::answering::Answerer;
use super::crisp_asr::CrispAsr;
use super::ctranslate2::CTranslate2;
use super::ggml::Ggml;
use super::hf::Transformers;
use super::htp::Htp;
use super::interface::{Program, Runtime};
use super::interpreter::OwnInterpreter;
use super::llama::{LlamaCpp, LlamaEncoder};
use super::onnx::OnnxRuntime;
use super::openvino::OpenVino;
use super::rknn::Rknn;
use super::transcribe::TranscribeCpp;
use super::whisper_cpp::WhisperCpp;

/// Every engine that shows logits. [`super::reference`], which gives graphs their meaning, runs no artifacts and is not among them.
pub const RUNTIMES: &[&dyn Runtime] =
    &[&OnnxRuntime, &Htp, &OpenVino, &Rknn, &Transformers, &CTranslate2, &Ggml, &LlamaCpp, &OwnInterpreter];

/// Every engine that shows answers alone.
pub const ANSWERERS: &[&dyn Answerer] = &[&TranscribeCpp, &CrispAsr, &WhisperCpp];

/// Every engine that runs an encoder alone: it shows what the encoder makes, and no logits.
pub const ENCODERS: &[&dyn Runtime] = &[&LlamaEncoder];

/// All of them; those of [`ENCODERS`] are among the first.
pub fn programs() -> impl Iterator<Item = &'static dyn Program> {
    let runtimes = RUNTIMES.iter().map(|runtime| *runtime as &dyn Program);
    runtimes.chain(ANSWERERS.iter().map(|answerer| *answerer as &dyn Program))
}

#[cfg(test)]
mod tests {
    use super::RUNTIMES;
    use crate::runtime::names::HOSTED;

    #[test]
    fn what_may_fail_at_the_far_end_of_a_pipe_is_an_engine_that_the_far_end_finds() {
        let names: Vec<&str> = RUNTIMES.iter().map(|runtime| runtime.name()).collect();
        assert_eq!(HOSTED.iter().find(|name| !names.contains(name)), None, "of {names:?}");
    }
}
