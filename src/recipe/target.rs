//! One artifact of a recipe.

use converters::Format;
use converters::export::ctranslate2::CTranslate2;
use converters::export::gguf::{Fallback, Gguf};
use converters::export::npu::Npu;
use converters::export::whisper_cpp::WhisperCpp;
use converters::export::{onnx::Onnx, safetensors::Safetensors};
use graph::{FloatType, GgmlType, Granularity};
use quant::{Policy, Scheme};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use validate::chain::Limits;

use crate::recipe::rescale::RescaleResidual;
use crate::recipe::samples::Validation;

/// One artifact: exactly one of `onnx`, `npu`, `gguf`, `safetensors`, `ctranslate2`, `whisper.cpp` with that format's options, `{}` for
/// its defaults.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its folder below `out`; the format's name when absent.
    name: Option<String>,
    /// How its weights are quantized, instead of the recipe's `quantize` as a whole.
    pub quantize: Option<Policy>,
    /// How far it may be from the float model, instead of `validate.limits` as a whole.
    pub limits: Option<Limits>,
    /// For engines that compute in f16: what the residual streams are multiplied with, exactly. Only onnx can say it.
    pub rescale_residual: Option<RescaleResidual>,
    onnx: Option<Onnx>,
    npu: Option<Npu>,
    gguf: Option<Gguf>,
    safetensors: Option<Safetensors>,
    ctranslate2: Option<CTranslate2>,
    #[serde(rename = "whisper.cpp")]
    whisper_cpp: Option<WhisperCpp>,
}

impl Target {
    /// As many as the recipe names; one in a recipe that was read.
    pub fn formats(&self) -> Vec<&dyn Format> {
        let formats: [Option<&dyn Format>; 6] = [
            self.onnx.as_ref().map(|f| f as &dyn Format),
            self.npu.as_ref().map(|f| f as &dyn Format),
            self.gguf.as_ref().map(|f| f as &dyn Format),
            self.safetensors.as_ref().map(|f| f as &dyn Format),
            self.ctranslate2.as_ref().map(|f| f as &dyn Format),
            self.whisper_cpp.as_ref().map(|f| f as &dyn Format),
        ];
        formats.into_iter().flatten().collect()
    }

    /// The format with its options.
    pub fn format(&self) -> &dyn Format {
        self.formats()[0] // exactly one: `Recipe::problems`
    }

    /// The format's name and options, as a recipe has them.
    pub fn format_options(&self) -> serde_json::Value {
        let Target { onnx, npu, gguf, safetensors, ctranslate2, whisper_cpp, .. } = self;
        let mut options = json!({ "onnx": onnx, "npu": npu, "gguf": gguf, "safetensors": safetensors });
        // The keys of caches are made of this, and those of other formats stay.
        if let Some(ctranslate2) = ctranslate2 {
            options["ctranslate2"] = json!(ctranslate2);
        }
        if let Some(whisper_cpp) = whisper_cpp {
            options["whisper.cpp"] = json!(whisper_cpp);
        }
        options
    }

    /// The same artifact with another policy.
    pub fn instead(&self, policy: &Policy) -> Target {
        Target { quantize: Some(policy.clone()), ..self.clone() }
    }

    /// The options of an ONNX artifact, if it is one.
    pub fn onnx(&self) -> Option<&Onnx> {
        self.onnx.as_ref()
    }

    /// The options of an NPU artifact, if it is one.
    pub fn npu(&self) -> Option<&Npu> {
        self.npu.as_ref()
    }

    /// The options of a CTranslate2 artifact, if it is one.
    pub fn ctranslate2(&self) -> Option<&CTranslate2> {
        self.ctranslate2.as_ref()
    }

    /// The options of a whisper.cpp artifact, if it is one.
    pub fn whisper_cpp(&self) -> Option<&WhisperCpp> {
        self.whisper_cpp.as_ref()
    }

    /// Its folder below `out`.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.format().name())
    }

    /// How its weights are quantized.
    pub fn policy(&self) -> &Policy {
        self.quantize.as_ref().expect("`read` put the recipe's own there")
    }

    /// How far it may be from the float model.
    pub fn limits<'a>(&'a self, validation: &'a Validation) -> &'a Limits {
        self.limits.as_ref().unwrap_or(&validation.limits)
    }

    /// Whether anything in it depends on activations.
    pub fn is_calibrated(&self) -> bool {
        let rescales = self.rescale_residual == Some(RescaleResidual::Auto);
        self.policy().is_calibrated() || self.writes_imatrix() || rescales
    }

    /// Whether it says something of the samples where its recipe is calibrated; what a float NPU artifact says of ranges does not
    /// depend on which others are made with it.
    pub fn is_watched(&self) -> bool {
        self.is_calibrated() || self.npu.is_some()
    }

    /// The options of a GGUF artifact, if it is one.
    pub fn gguf(&self) -> Option<&Gguf> {
        self.gguf.as_ref()
    }

    /// Whether an importance matrix is written beside it.
    pub fn writes_imatrix(&self) -> bool {
        self.gguf.as_ref().is_some_and(|gguf| gguf.imatrix)
    }

    /// What weights become whose rows fit no block of the policy's.
    pub fn fallback(&self) -> quant::Fallback {
        use quant::Fallback::{Nearest, Refuse, To};
        match self.gguf.as_ref().map(|gguf| gguf.fallback) {
            None | Some(Fallback::None) => Refuse,
            Some(Fallback::Nearest) => Nearest,
            Some(Fallback::F16) => To(Scheme::Float(FloatType::F16)),
            Some(Fallback::F32) => To(Scheme::Float(FloatType::F32)),
            Some(Fallback::Q8_0) => To(Scheme::Ggml(GgmlType::Q8_0)),
        }
    }

    /// What shares a scale when activations are rounded in the engines of this format; `None` when they cannot be told to.
    pub fn granularity(&self) -> Option<Granularity> {
        match (&self.onnx, &self.safetensors) {
            (Some(_), _) => Some(Granularity::Tensor), // DynamicQuantizeLinear
            (_, Some(_)) => Some(Granularity::Token),  // compressed-tensors, `strategy: token`
            (None, None) => None,                      // nor do NPUs take a scale from the activation itself
        }
    }
}
