//! What counts as broken: the recipe's limits, and the noise that each engine is known to add.

use graph::{FloatType, Graph, Op, WeightData};
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
    /// Points (hundredths) of the task metric that may be lost, in the quantized graph and in each engine.
    pub max_points_lost: f64,
    /// Relative L2 of an engine's logits to the quantized graph's, in place of the engine's known noise.
    pub runtime_rel_l2: Option<f64>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_kl: 0.01, min_top1: 0.98, max_points_lost: 1.0, runtime_rel_l2: None }
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
    /// Integer matrices, and their inputs rounded to integers too.
    DynamicIntegers,
}

impl Arithmetic {
    /// The coarsest that a graph asks for.
    pub fn of(graph: &Graph) -> Arithmetic {
        let matrices = graph.weights.iter().filter(|(_, w)| w.shape.len() > 1);
        let weights = matrices.map(|(_, w)| stored(&w.data)).max().unwrap_or(Arithmetic::Floats);
        let dynamic = graph.values.iter().any(|v| matches!(v.def, graph::Def::Op(Op::DynamicQuant(_), _)));
        if dynamic { Arithmetic::DynamicIntegers } else { weights }
    }

    fn label(self) -> &'static str {
        match self {
            Arithmetic::Floats => "f32 weights",
            Arithmetic::Halves => "16-bit weights",
            Arithmetic::Integers => "integer weights",
            Arithmetic::DynamicIntegers => "integer weights and activations",
        }
    }
}

fn stored(data: &WeightData) -> Arithmetic {
    match data {
        WeightData::Stored { dtype: FloatType::F32, .. } => Arithmetic::Floats,
        WeightData::Stored { dtype: FloatType::F16 | FloatType::BF16, .. } => Arithmetic::Halves,
        WeightData::Derived(_, base) => stored(base),
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
    /// Relative L2 of logits, teacher-forced.
    pub rel_l2: f64,
    /// Mean share of equal greedy tokens.
    pub token_agreement: f64,
    /// Why so much, beside what was measured.
    pub reason: &'static str,
}

/// Measured on models/g2p-t5 with 500 words, and set a few times above: what is broken is off by far more.
pub const FLOORS: &[Floor] = &[
    Floor {
        runtime: "onnxruntime",
        arithmetic: Arithmetic::Floats,
        rel_l2: 1e-4,
        token_agreement: 0.999,
        reason: "f32 sums in another order",
    },
    Floor {
        runtime: "onnxruntime",
        arithmetic: Arithmetic::Halves,
        rel_l2: 1e-4,
        token_agreement: 0.999,
        reason: "weights are widened to f32, which is exact; then f32 sums in another order",
    },
    Floor {
        runtime: "onnxruntime",
        arithmetic: Arithmetic::Integers,
        rel_l2: 1e-4,
        token_agreement: 0.999,
        reason: "weights are dequantized to the same f32; then f32 sums in another order",
    },
    Floor {
        runtime: "onnxruntime",
        arithmetic: Arithmetic::DynamicIntegers,
        rel_l2: 2e-2,
        token_agreement: 0.98,
        reason: "f32 noise moves an activation across a rounding boundary now and then: one step of 255",
    },
    Floor {
        runtime: "llama.cpp",
        arithmetic: Arithmetic::Floats,
        rel_l2: 2e-3,
        token_agreement: 0.99,
        reason: "its GELU is a table in f16: 4e-3 on logits of standard deviation 8",
    },
    Floor {
        runtime: "llama.cpp",
        arithmetic: Arithmetic::Halves,
        rel_l2: 1e-2,
        token_agreement: 0.99,
        reason: "the inputs of 16-bit matrices are rounded to 16 bits",
    },
    Floor {
        runtime: "llama.cpp",
        arithmetic: Arithmetic::Integers,
        rel_l2: 5e-2,
        token_agreement: 0.95,
        reason: "the inputs of quantized matrices are rounded to 8 bits in blocks",
    },
    Floor {
        runtime: "transformers",
        arithmetic: Arithmetic::Floats,
        rel_l2: 1e-5,
        token_agreement: 0.999,
        reason: "f32 sums in another order",
    },
    Floor {
        runtime: "transformers",
        arithmetic: Arithmetic::Halves,
        rel_l2: 1e-5,
        token_agreement: 0.999,
        reason: "loaded as f32, which is exact; then f32 sums in another order",
    },
    Floor {
        runtime: "transformers",
        arithmetic: Arithmetic::Integers,
        rel_l2: 1e-5,
        token_agreement: 0.999,
        reason: "weights are dequantized to the same f32; then f32 sums in another order",
    },
    Floor {
        runtime: "transformers",
        arithmetic: Arithmetic::DynamicIntegers,
        rel_l2: 2e-2,
        token_agreement: 0.98,
        reason: "f32 noise moves an activation across a rounding boundary now and then: one step of 255",
    },
];

impl Floor {
    /// The floor of a runtime; `None` when nobody has measured it, so that nothing can be judged.
    pub fn of(runtime: &str, arithmetic: Arithmetic) -> Option<&'static Floor> {
        FLOORS.iter().find(|f| f.runtime == runtime && f.arithmetic == arithmetic)
    }

    /// For the report: `f32 sums in another order (onnxruntime, f32 weights)`.
    pub fn sentence(&self) -> String {
        format!("{} ({}, {})", self.reason, self.runtime, self.arithmetic.label())
    }
}
