//! What NPU toolchains take, as data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One toolchain, or what several have in common.
#[derive(Debug)]
pub struct Profile {
    /// As recipes and the lint name it.
    pub name: &'static str,
    /// In a sentence, for lists.
    pub about: &'static str,
    /// What the writer chooses.
    pub writes: Writes,
    /// What the toolchain takes, for the lint.
    pub takes: Takes,
}

/// What a toolchain takes. Element types are spelled as ONNX spells them.
#[derive(Clone, Copy, Debug)]
pub struct Takes {
    /// Oldest and newest version of the standard operators.
    pub opsets: (i64, i64),
    /// Most axes of a tensor.
    pub max_rank: usize,
    /// The largest number of the type that floats are computed in.
    pub largest: f32,
    /// Types of inputs and outputs of the graph.
    pub ports: &'static [&'static str],
    /// Operators. The first entry of a name counts.
    pub operators: &'static [&'static [Operator]],
    /// What is quantized, and how; `None`: nothing.
    pub quantized: Option<Quantized>,
    /// Spelled forms of the root mean square norm whose squares do not overflow.
    pub norms: &'static [Norm],
    /// Rules of the lint that weigh more or less here than by default; `None`: the rule does not apply.
    pub levels: &'static [(&'static str, Option<Severity>)],
}

/// What a finding means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something could not be checked.
    Info,
    /// It runs, but slower or less exactly than it could, or on another processor.
    Warning,
    /// It is refused, its numbers are wrong, or it runs only because one of the tools in between repairs it.
    Error,
}

/// An operator that a toolchain takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operator {
    /// `MatMul`; of another domain than the standard one, `com.microsoft.Gelu`.
    pub name: &'static str,
    /// Most axes of its arguments and results, where fewer than the toolchain's.
    pub max_rank: Option<usize>,
    /// In which form it is taken.
    pub form: Form,
}

/// In which form an operator is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// In any.
    Any,
    /// Where it is not quantized.
    Float,
    /// Not quantized, and within `x · (erf(x / √2) + 1) / 2`, which the toolchain takes for one operator.
    GeluFormula,
    /// On the host's processor, with copies to and fro.
    Host,
}

/// How a toolchain takes quantized graphs.
#[derive(Clone, Copy, Debug)]
pub struct Quantized {
    /// Types of activations, one scale a tensor.
    pub activations: &'static [&'static str],
    /// Further ones, which are taken in some places.
    pub tolerated: &'static [&'static str],
    /// Types of the second factor of a product of two activations that are computed in their own width.
    pub second_factors: &'static [&'static str],
    /// Types of both factors of a product of two activations that are refused together.
    pub refused_factors: &'static [(&'static str, &'static str)],
    /// Types of weights of linear layers.
    pub weights: &'static [&'static str],
    /// Types of activations beside which weights of 4 bits may have a scale for each block of a row.
    pub blocks_beside: &'static [&'static str],
    /// Pairs of an activation's type and that of a norm's gain.
    pub gains: &'static [(&'static str, &'static str)],
    /// The least number of an attention mask, by bits of its type.
    pub hidden: &'static [(u64, f32)],
    /// Operators that are wrong or refused at these bits.
    pub never: &'static [(&'static str, &'static [u64])],
    /// Whether arithmetic of the attention mask may be quantized.
    pub masks: bool,
}

/// What an artifact for a profile is written with.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Writes {
    /// Version of the standard operators.
    pub opset: i64,
    /// Bits of activations, 8 or 16, with int8 weights; `None`: all is float.
    pub activations: Option<u8>,
    /// Bits of attention scores, where activations have bits.
    pub scores: u8,
    /// What is added to the score of a key that must not be seen; where activations have bits, more if the model's scores
    /// lie further apart.
    pub hidden: f32,
    /// How GELU is said.
    pub gelu: Gelu,
    /// How a root mean square norm is said.
    pub norm: Norm,
}

/// How a root mean square norm is said. Each compiler knows some forms and computes them without overflow; in the others, the
/// square of a number from 256 on is infinite in float16. Seen, for numbers of 300, in dB: HTP 69, 12, 68; RKNN 0, 69, 68.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Norm {
    /// `Pow`, `ReduceMean`, `Add`, `Sqrt`, `Reciprocal`, `Mul`, and `Mul` with the gain second: with the gain first, the HTP's
    /// compiler takes it for a norm and then fails (error 1002).
    Reciprocal,
    /// `Pow`, `ReduceMean`, `Add`, `Sqrt`, `Div`, `Mul`.
    Division,
    /// `LpNormalization` of the numbers and one more, `√(n·eps)`, which takes the place of `eps`; `Slice`, `Mul`.
    LpNormalization,
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Norm::Reciprocal => "x · Reciprocal(√mean) · gain",
            Norm::Division => "x / √mean · gain",
            Norm::LpNormalization => "LpNormalization(x) · gain",
        })
    }
}

/// How GELU is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gelu {
    /// `x · (erf(x / √2) + 1) / 2`, and the formula with tanh: what toolchains recognise in old opsets.
    Formula,
    /// The operator `Gelu` of opset 20.
    Operator,
}

const fn any(name: &'static str) -> Operator {
    Operator { name, max_rank: None, form: Form::Any }
}

const fn up_to_4(name: &'static str) -> Operator {
    Operator { name, max_rank: Some(4), form: Form::Any }
}

const fn float(name: &'static str) -> Operator {
    Operator { name, max_rank: None, form: Form::Float }
}

const fn host(name: &'static str) -> Operator {
    Operator { name, max_rank: None, form: Form::Host }
}

/// What all of the toolchains compute on the NPU itself.
const COMMON: &[Operator] = &[
    any("MatMul"),
    any("Gemm"),
    any("Conv"),
    any("Add"),
    any("Sub"),
    any("Mul"),
    any("Div"),
    any("Pow"),
    any("Sqrt"),
    any("Neg"),
    any("Abs"),
    any("Clip"),
    any("Softmax"),
    any("LayerNormalization"),
    any("InstanceNormalization"),
    any("LpNormalization"),
    any("ReduceMean"),
    any("ReduceSum"),
    any("ReduceL2"),
    Operator { name: "Erf", max_rank: None, form: Form::GeluFormula },
    any("HardSwish"),
    any("PRelu"),
    any("Relu"),
    any("Sigmoid"),
    any("Softplus"),
    any("Tanh"),
    any("Cast"),
    any("Concat"),
    any("Constant"),
    any("Expand"),
    any("Gather"),
    any("GatherElements"),
    any("Identity"),
    any("Pad"),
    any("Reshape"),
    any("Slice"),
    any("Split"),
    any("Squeeze"),
    any("Tile"),
    any("Transpose"),
    any("Unsqueeze"),
    any("Where"),
];

/// What Rockchip's tools leave to the CPU; the others take it.
const NOT_AT_ROCKCHIP: &[Operator] = &[
    host("Cos"),
    host("Exp"),
    host("Floor"),
    host("Log"),
    host("LogSoftmax"),
    host("Max"),
    host("Min"),
    host("Mod"),
    host("Reciprocal"),
    host("ReduceMax"),
    host("Sign"),
    host("Sin"),
];

const QUANTIZERS: &[Operator] = &[
    any("QuantizeLinear"),
    any("DequantizeLinear"),
    any("com.microsoft.QuantizeLinear"),
    any("com.microsoft.DequantizeLinear"),
];

const QNN: &[Operator] = &[
    // Axes by Qualcomm's table of operators.
    up_to_4("ArgMax"),
    up_to_4("Gemm"),
    up_to_4("LayerNormalization"),
    up_to_4("LpNormalization"),
    up_to_4("RMSNormalization"),
    up_to_4("ScatterElements"),
    up_to_4("SimplifiedLayerNormalization"),
    up_to_4("Sqrt"),
    up_to_4("Tanh"),
    any("com.microsoft.Gelu"),
    any("com.microsoft.QuickGelu"),
    any("And"),
    any("Cos"),
    float("CumSum"),
    float("Einsum"),
    any("Equal"),
    any("Exp"),
    any("Flatten"),
    any("Floor"),
    any("GatherND"),
    any("Gelu"),
    any("Greater"),
    any("GreaterOrEqual"),
    any("Less"),
    any("LessOrEqual"),
    any("Log"),
    any("LogSoftmax"),
    any("Max"),
    any("Min"),
    any("Mod"),
    any("Not"),
    any("Or"),
    any("Reciprocal"),
    any("ReduceMax"),
    any("ReduceMin"),
    any("ReduceProd"),
    any("ScatterND"),
    any("Sign"),
    any("Sin"),
    any("TopK"),
];

const INTEL: &[Operator] = &[
    any("com.microsoft.Gelu"),
    any("com.microsoft.FastGelu"),
    any("com.microsoft.QuickGelu"),
    any("And"),
    any("ArgMax"),
    any("Cos"),
    any("CumSum"),
    float("Einsum"),
    any("Equal"),
    any("Erf"),
    any("Exp"),
    any("Floor"),
    any("GatherND"),
    any("Gelu"),
    any("Less"),
    any("LessOrEqual"),
    any("Log"),
    any("LogSoftmax"),
    any("Max"),
    any("Min"),
    any("Mod"),
    any("Not"),
    any("RMSNormalization"),
    any("Reciprocal"),
    any("ReduceMax"),
    any("ReduceSumSquare"),
    any("ScatterElements"),
    any("ScatterND"),
    any("Sign"),
    any("SimplifiedLayerNormalization"),
    any("Sin"),
    any("TopK"),
];

const RKNN: &[Operator] = &[
    host("And"),
    host("ArgMax"),
    host("Cos"),
    host("Equal"),
    host("Exp"),
    host("Floor"),
    host("Gather"),
    host("Less"),
    host("LessOrEqual"),
    host("Log"),
    host("LogSoftmax"),
    host("Max"),
    host("Min"),
    host("Mod"),
    host("Not"),
    host("Reciprocal"),
    host("ReduceMax"),
    host("ScatterElements"),
    host("Sign"),
    host("SimplifiedLayerNormalization"),
    host("Sin"),
    host("TopK"),
    any("CumSum"),
    any("Einsum"),
    any("ScatterND"),
];

const FLOAT_PORTS: &[&str] = &["int32", "float", "float16"];
const PORTS: &[&str] = &["int32", "float", "float16", "uint8", "uint16", "int16"];

// The largest numbers of float16 and bfloat16.
const F16_LARGEST: f32 = 65504.0;
const BF16_LARGEST: f32 = 3.389_531_4e38;

/// Above these, a mask costs the scores their resolution.
const HIDDEN: &[(u64, f32)] = &[(8, -50.0), (16, -100.0)];

const PORTABLE: Takes = Takes {
    opsets: (13, 17),
    max_rank: 4,
    largest: F16_LARGEST,
    ports: FLOAT_PORTS,
    operators: &[COMMON, NOT_AT_ROCKCHIP],
    quantized: None,
    norms: &[Norm::LpNormalization],
    levels: &[],
};

const QNN_HTP: Takes = Takes {
    opsets: (13, 23),
    max_rank: 5,
    largest: F16_LARGEST,
    ports: PORTS,
    operators: &[QNN, COMMON, QUANTIZERS],
    quantized: Some(Quantized {
        activations: &["uint8", "uint16"],
        tolerated: &["int8", "int16"],
        second_factors: &["uint8", "int8", "int16"],
        refused_factors: &[("int16", "uint8")],
        weights: &["int8", "uint8", "int4"],
        blocks_beside: &["uint16"],
        gains: &[("uint8", "uint8"), ("uint16", "uint8"), ("uint16", "int16"), ("int8", "int8")],
        hidden: HIDDEN,
        never: &[("Log", &[16]), ("Softplus", &[16]), ("Einsum", &[16])],
        masks: true,
    }),
    norms: &[Norm::Reciprocal, Norm::LpNormalization],
    levels: &[],
};

const OPENVINO: Takes = Takes {
    opsets: (13, 23),
    max_rank: 4,
    largest: F16_LARGEST,
    ports: PORTS,
    operators: &[INTEL, COMMON, QUANTIZERS],
    quantized: Some(Quantized {
        activations: &["uint8"],
        tolerated: &["int8"],
        second_factors: &["uint8", "int8"],
        refused_factors: &[],
        weights: &["int8", "uint8", "int4"],
        blocks_beside: &["uint8", "uint16"],
        gains: &[("uint8", "uint8"), ("uint8", "int8")],
        hidden: HIDDEN,
        never: &[("Einsum", &[8, 16])],
        masks: false,
    }),
    norms: &[Norm::Division, Norm::LpNormalization],
    levels: &[
        ("S3", Some(Severity::Warning)),
        ("Q3", Some(Severity::Warning)),
        ("Q4-nibbles", None),
        ("Q7", Some(Severity::Warning)),
        ("Q9", Some(Severity::Warning)),
        ("Q10", Some(Severity::Error)),
        ("Q11-relu", Some(Severity::Error)),
        ("R2", Some(Severity::Warning)),
    ],
};

const RYZENAI: Takes = Takes {
    opsets: (13, 17),
    max_rank: 4,
    largest: BF16_LARGEST,
    ports: FLOAT_PORTS,
    operators: &[COMMON, NOT_AT_ROCKCHIP],
    quantized: None,
    norms: &[Norm::Reciprocal, Norm::Division, Norm::LpNormalization],
    levels: &[
        // What it does not take, it leaves to the CPU.
        ("O1", Some(Severity::Warning)),
        ("S3", Some(Severity::Warning)),
        ("S4", Some(Severity::Warning)),
        ("R2", None),
    ],
};

const ROCKCHIP: Takes = Takes {
    opsets: (13, 19),
    max_rank: 4,
    largest: F16_LARGEST,
    ports: &["int32", "float", "float16", "uint8"],
    operators: &[RKNN, COMMON, &[any("QuantizeLinear"), any("DequantizeLinear")]],
    quantized: Some(Quantized {
        activations: &["uint8"],
        tolerated: &["int8"],
        second_factors: &["uint8", "int8"],
        refused_factors: &[],
        weights: &["int8", "uint8"],
        blocks_beside: &[],
        gains: &[("uint8", "uint8"), ("uint8", "int8")],
        hidden: HIDDEN,
        never: &[],
        masks: true,
    }),
    norms: &[Norm::Division, Norm::LpNormalization],
    levels: &[
        ("S3", Some(Severity::Warning)),
        ("Q3", Some(Severity::Warning)),
        ("Q4-nibbles", None),
        ("Q7", Some(Severity::Warning)),
        ("Q9", Some(Severity::Warning)),
    ],
};

/// Floats and the operators of an old opset.
const FLOATS: Writes =
    Writes { opset: 17, activations: None, scores: 16, hidden: -1e4, gelu: Gelu::Formula, norm: Norm::Division };

/// Activations of 16 bits for Qualcomm.
const QNN_WORDS: Writes = Writes {
    opset: 21,
    activations: Some(16),
    scores: 16,
    hidden: -100.0,
    gelu: Gelu::Operator,
    norm: Norm::Reciprocal,
};

/// Every profile.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "npu-portable",
        about: "float32, opset 17: what all of these toolchains take",
        writes: Writes { norm: Norm::LpNormalization, ..FLOATS },
        takes: PORTABLE,
    },
    Profile {
        name: "qnn-htp-fp16",
        about: "Qualcomm HTP, computed in float16",
        writes: Writes { opset: 20, gelu: Gelu::Operator, norm: Norm::Reciprocal, ..FLOATS },
        takes: Takes { quantized: None, operators: &[QNN, COMMON], ..QNN_HTP },
    },
    Profile {
        name: "qnn-htp-a16w8",
        about: "Qualcomm HTP, activations uint16, weights int8",
        writes: QNN_WORDS,
        takes: QNN_HTP,
    },
    Profile {
        name: "qnn-htp-a8w8",
        about: "Qualcomm HTP, activations uint8, attention scores uint16, weights int8",
        writes: Writes { activations: Some(8), hidden: -50.0, ..QNN_WORDS },
        takes: QNN_HTP,
    },
    Profile {
        name: "openvino-npu",
        about: "Intel NPU through OpenVINO, float16 or uint8",
        writes: FLOATS,
        takes: OPENVINO,
    },
    Profile {
        name: "ryzenai-bf16",
        about: "AMD Ryzen AI, float32 that its compiler turns into bfloat16",
        writes: FLOATS,
        takes: RYZENAI,
    },
    Profile {
        name: "rknn-fp16",
        about: "Rockchip, float16",
        writes: FLOATS,
        takes: Takes { quantized: None, operators: &[RKNN, COMMON], ..ROCKCHIP },
    },
    Profile {
        name: "rknn-w8a8",
        about: "Rockchip, activations uint8, weights int8",
        writes: Writes { activations: Some(8), scores: 8, hidden: -50.0, ..FLOATS },
        takes: ROCKCHIP,
    },
];

/// The profile of this name.
pub fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

impl Profile {
    /// How the lint weighs a rule here, whose severity elsewhere is `default`. `None`: the rule does not apply.
    pub fn level(&self, rule: &str, default: Severity) -> Option<Severity> {
        self.takes.levels.iter().find(|(name, _)| *name == rule).map_or(Some(default), |(_, level)| *level)
    }

    /// What the toolchain takes of an operator, named as in [`Operator::name`].
    pub fn operator(&self, name: &str) -> Option<&'static Operator> {
        self.takes.operators.iter().copied().flatten().find(|operator| operator.name == name)
    }
}
