//! What counts as broken: the recipe's limits, and the noise that each engine is known to add.

use super::noise::Noise;
use graph::{Def, FakeQuant, FloatType, Graph, Op, WeightData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Two f32 implementations of the same sums, relative L2. transformers 5 against 4 differ by up to 6e-7 of the largest
/// logit on the fixtures; a wrong formula shows at 1e-3 and above.
pub const F32_NOISE: f64 = 1e-5;

/// How far an artifact may be from the float model. A recipe sets what differs from the defaults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Mean KL divergence of next-token distributions of the quantized graph from the float model's, in nats.
    pub max_kl: f64,
    /// Share of target positions where both prefer the same token.
    pub min_top1: f64,
    /// Points (hundredths) of the first task metric that may be lost, in the quantized graph against the float model and in each
    /// engine against the quantized graph. Judged on pairs of answers: undecided where the samples are too few to tell.
    pub max_points_lost: f64,
    /// How many more outputs of a hundred may run to the limit of their length, judged in the same way.
    pub max_endless_rise: f64,
    /// Relative L2 of an engine's logits to the quantized graph's, in place of the engine's known noise.
    pub runtime_rel_l2: Option<f64>,
    /// Signal to noise of an engine's logits against the float model's, in decibels at least; for artifacts of the format
    /// `npu`, whose engines compute everything in few bits.
    pub npu_sqnr_db: Option<f64>,
    /// Tokens per second over those of the float model in the same format and engine, at least. Judged where all rounds of the
    /// measurement agree, else undecided: neither passed nor failed.
    pub min_speedup: Option<f64>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_kl: 0.01,
            min_top1: 0.98,
            max_points_lost: 1.0,
            max_endless_rise: 1.0,
            runtime_rel_l2: None,
            npu_sqnr_db: None,
            min_speedup: None,
        }
    }
}

/// What an engine has to compute with, coarsest last: it decides how much noise is expected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Arithmetic {
    /// Weights in f32.
    Floats,
    /// Matrices in f16 or bf16.
    Halves,
    /// Matrices in integers.
    Integers,
    /// Integer matrices, and their inputs rounded to fixed steps of 16 bits.
    StaticWords,
    /// Integer matrices, and their inputs rounded to fixed steps of 8 bits, or of 8 and 16.
    StaticBytes,
    /// Integer matrices, and their inputs rounded to steps that follow from the inputs.
    DynamicIntegers,
}

impl Arithmetic {
    /// The coarsest that a graph asks for.
    pub fn of(graph: &Graph) -> Arithmetic {
        let matrices = graph.weights.iter().filter(|(_, w)| w.shape.len() > 1);
        let weights = matrices.map(|(_, w)| stored(&w.data)).max().unwrap_or(Arithmetic::Floats);
        let activations = graph.values.iter().filter_map(|value| match value.def {
            Def::Op(Op::DynamicQuant(_), _) => Some(Arithmetic::DynamicIntegers),
            Def::Op(Op::FakeQuant(FakeQuant { bits: 16, .. }), _) => Some(Arithmetic::StaticWords),
            Def::Op(Op::FakeQuant(_), _) => Some(Arithmetic::StaticBytes),
            _ => None,
        });
        activations.max().unwrap_or(weights)
    }

    /// Whether the graph rounds activations, so that f32 noise moves some of them by a whole step.
    pub fn rounds(self) -> bool {
        match self {
            Arithmetic::Floats | Arithmetic::Halves | Arithmetic::Integers => false,
            Arithmetic::StaticWords | Arithmetic::StaticBytes | Arithmetic::DynamicIntegers => true,
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Arithmetic::Floats => "f32 weights",
            Arithmetic::Halves => "16-bit weights",
            Arithmetic::Integers => "integer weights",
            Arithmetic::StaticWords => "integer weights, activations in fixed steps of 16 bits",
            Arithmetic::StaticBytes => "integer weights, activations in fixed steps of 8 bits",
            Arithmetic::DynamicIntegers => "integer weights and activations",
        }
    }
}

fn stored(data: &WeightData) -> Arithmetic {
    match data {
        WeightData::Stored { dtype: FloatType::F32, .. } => Arithmetic::Floats,
        WeightData::Stored { dtype: FloatType::F16 | FloatType::BF16, .. } => Arithmetic::Halves,
        WeightData::Derived(_, base) => stored(base),
        WeightData::Computed(_) => Arithmetic::Floats,
        WeightData::Quantized(_) => Arithmetic::Integers,
    }
}

/// The noise that an engine is known to add to a graph's logits.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// [`crate::Runtime::name`].
    pub runtime: &'static str,
    /// What it computes with.
    pub arithmetic: Arithmetic,
    /// What was seen: relative L2 of logits, teacher-forced.
    pub measured_rel_l2: f64,
    /// A few times as much, because what is broken is off by far more; 0 where nothing was.
    pub rel_l2: f64,
    /// Mean share of greedy tokens equal to the quantized graph's, up to a tie.
    pub token_agreement: f64,
    /// Why so much.
    pub reason: &'static str,
    /// Whether it is what the model at hand makes of f32 noise: the engine's own arithmetic adds no more than that.
    pub carried: bool,
}

/// Which numbers cross an edge is chance, and an engine's may be those that weigh more than the ones seen. OpenAI's Whisper tiny.en
/// in onnxruntime is 1.1 times as far off as its noise with `activations: dynamic`, and 1.1 with blocks.
const CHANCE: f64 = 2.0;

/// Measured with 500 words on models/g2p-t5 (onnxruntime 1.32, transformers 5.23 with compressed-tensors 0.20), with
/// llama.cpp in `tests/it/llama.rs` and with onnxruntime-qnn 2.7 in `tests/it/npu_engines.rs`; the larger of the model's and
/// the fixtures' figures.
pub const FLOORS: &[Floor] = {
    use Arithmetic::{DynamicIntegers, Floats, Halves, Integers, StaticBytes, StaticWords};
    &[
        // On fixtures; on the model 3.8e-7, 3.8e-7 and 4.1e-7.
        floor("onnxruntime", Floats, 3.5e-6, 2e-5, 0.999, SUMS),
        floor("onnxruntime", Halves, 2.6e-6, 2e-5, 0.999, SUMS),
        floor("onnxruntime", Integers, 6.2e-6, 2e-5, 0.999, SUMS),
        // The worst of 40 batches of 3 on each of 28 fixtures; at 8 bits 1063 of these 1120 agree bit for bit.
        floor("onnxruntime", StaticBytes, 6.2e-6, 2e-5, 0.98, BOUNDARY).of_the_model(),
        floor("onnxruntime", StaticWords, 6.2e-6, 2e-5, 0.99, BOUNDARY_OF_WORDS).of_the_model(),
        floor("onnxruntime", DynamicIntegers, 6.2e-6, 2e-5, 0.98, BOUNDARY).of_the_model(),
        // The worst of 50 fixtures in `validate/engine/tests/families.rs`, with bf16 (f16: 2.6e-3) and with q4_1; on 40 words
        // of the model with q8_0 7.1e-3, bit for bit as llama.cpp.
        floor("ggml", Floats, 1.4e-3, 4e-3, 0.99, "its GELU with tanh is a table in f16"),
        floor("ggml", Halves, 2.7e-2, 6e-2, 0.95, "it rounds the inputs of 16-bit matrices to the same 16 bits"),
        floor("ggml", Integers, 5.3e-2, 1.2e-1, 0.95, BLOCKS_OF_BYTES),
        floor("llama.cpp", Floats, 8.1e-4, 2e-3, 0.99, "its GELU is a table in f16"),
        floor("llama.cpp", Halves, 3.1e-4, 3e-3, 0.99, "it rounds the inputs of 16-bit matrices to 16 bits"),
        floor("llama.cpp", Integers, 1.1e-2, 3e-2, 0.95, BLOCKS_OF_BYTES),
        // The worst of 46 fixtures; on 40 words of the model 1.7e-3.
        floor("htp-simulator", Floats, 1.4e-2, 4e-2, 0.98, HALVES),
        floor("htp-simulator", Halves, 1.4e-2, 4e-2, 0.98, HALVES),
        // On 40 words of the model.
        floor("htp-simulator", StaticBytes, 2.9e-2, 9e-2, 0.95, FIXED_STEPS),
        floor("htp-simulator", StaticWords, 1.4e-3, 5e-3, 0.98, FIXED_STEPS),
        // On fixtures. Its roundings to 16 bits are taken out, so what a graph with them computes has no floor.
        floor("openvino", Floats, 2.3e-6, 2e-5, 0.999, SUMS),
        floor("openvino", Halves, 2.3e-6, 2e-5, 0.999, SUMS),
        // The worst of 6 fixtures.
        floor("rknn-simulator", Floats, 9.9e-3, 3e-2, 0.98, HALVES),
        floor("rknn-simulator", Halves, 9.9e-3, 3e-2, 0.98, HALVES),
        floor("transformers", Floats, 4.9e-7, 1e-5, 0.999, SUMS),
        floor("transformers", Halves, 4.9e-7, 1e-5, 0.999, SUMS),
        floor("transformers", Integers, 5.1e-7, 1e-5, 0.999, SUMS),
        floor("transformers", DynamicIntegers, 6.5e-3, 2e-2, 0.98, HALF_A_STEP),
        // On fixtures; on 500 words of the model 4.2e-7, and 4.3e-3 with 8-bit activations, which carry its noise.
        floor("ctranslate2", Floats, 3.9e-6, 2e-5, 0.999, SUMS),
        floor("ctranslate2", Halves, 3.9e-6, 2e-5, 0.999, SUMS),
        floor("ctranslate2", DynamicIntegers, 3.9e-6, 2e-5, 0.98, BOUNDARY).of_the_model(),
        floor("interpreter", Floats, 0.0, 0.0, 1.0, READ_BACK),
        floor("interpreter", Halves, 0.0, 0.0, 1.0, READ_BACK),
        floor("interpreter", Integers, 0.0, 0.0, 1.0, READ_BACK),
    ]
};

const BLOCKS_OF_BYTES: &str = "it rounds the inputs of quantized matrices to 8 bits in blocks";
const HALVES: &str = "it computes in floats of 16 bits";
const FIXED_STEPS: &str = "between two roundings it computes in integers, and norms and GELU in floats of 16 bits";
const SUMS: &str = "weights become the same f32, and sums are in another order";
const BOUNDARY: &str = "f32 noise moves an activation across a rounding boundary now and then: one step of 255";
// Steps are 257 times finer than those of 8 bits and their edges 257 times as many.
const BOUNDARY_OF_WORDS: &str = "f32 noise moves activations across a rounding boundary often: one step of 65535 each";
// compressed-tensors divides by max / 127.5, so -max lies between -127 and -128.
const HALF_A_STEP: &str = "the largest activation of a token, when negative, lies on a rounding boundary, and f32 noise \
                           decides its code";

const READ_BACK: &str = "the same arithmetic on the weights read back, so not a bit may differ";

const fn floor(
    runtime: &'static str,
    arithmetic: Arithmetic,
    measured_rel_l2: f64,
    rel_l2: f64,
    token_agreement: f64,
    reason: &'static str,
) -> Floor {
    Floor { runtime, arithmetic, measured_rel_l2, rel_l2, token_agreement, reason, carried: false }
}

impl Floor {
    /// That of graphs without a number at an edge between two steps: with such numbers the model decides.
    const fn of_the_model(self) -> Floor {
        Floor { carried: true, ..self }
    }

    /// The floor of a runtime; `None` when nobody has measured it, so that nothing can be judged.
    pub fn of(runtime: &str, arithmetic: Arithmetic) -> Option<&'static Floor> {
        FLOORS.iter().find(|f| f.runtime == runtime && f.arithmetic == arithmetic)
    }

    /// With what f32 noise does to the model at hand.
    pub fn carried(&self, noise: Noise) -> Floor {
        if !self.carried {
            return *self;
        }
        Floor { measured_rel_l2: noise.0, rel_l2: self.rel_l2.max(CHANCE * noise.0), ..*self }
    }

    /// For the report: `f32 sums in another order (onnxruntime, f32 weights)`.
    pub fn sentence(&self) -> String {
        format!("{} ({}, {})", self.reason, self.runtime, self.arithmetic.label())
    }
}
