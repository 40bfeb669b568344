//! What NPU toolchains take, as data.

/// One toolchain, or what several have in common.
#[derive(Debug)]
pub struct Profile {
    /// As recipes and the lint name it.
    pub name: &'static str,
    /// In a sentence, for lists.
    pub about: &'static str,
    /// What the writer chooses.
    pub writes: Writes,
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
    /// `Pow`, `ReduceMean`, `Add`, `Sqrt`, `Reciprocal`, `Mul`, and `Mul` with the gain second.
    Reciprocal,
    /// `Pow`, `ReduceMean`, `Add`, `Sqrt`, `Div`, `Mul`.
    Division,
    /// `LpNormalization` of the numbers and one more, `√(n·eps)`, which takes the place of `eps`; `Slice`, `Mul`.
    LpNormalization,
}

/// How GELU is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gelu {
    /// `x · (erf(x / √2) + 1) / 2`, and the formula with tanh: what toolchains recognise in old opsets.
    Formula,
    /// The operator `Gelu` of opset 20.
    Operator,
}

/// Every profile.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "npu-portable",
        about: "float32, opset 17: what all of these toolchains take",
        writes: Writes {
            opset: 17,
            activations: None,
            scores: 16,
            hidden: -1e4,
            gelu: Gelu::Formula,
            norm: Norm::LpNormalization,
        },
    },
    Profile {
        name: "qnn-htp-fp16",
        about: "Qualcomm HTP, computed in float16",
        writes: Writes {
            opset: 20,
            activations: None,
            scores: 16,
            hidden: -1e4,
            gelu: Gelu::Operator,
            norm: Norm::Reciprocal,
        },
    },
    Profile {
        name: "qnn-htp-a16w8",
        about: "Qualcomm HTP, activations uint16, weights int8",
        writes: Writes {
            opset: 21,
            activations: Some(16),
            scores: 16,
            hidden: -100.0,
            gelu: Gelu::Operator,
            norm: Norm::Reciprocal,
        },
    },
    Profile {
        name: "qnn-htp-a8w8",
        about: "Qualcomm HTP, activations uint8, attention scores uint16, weights int8",
        writes: Writes {
            opset: 21,
            activations: Some(8),
            scores: 16,
            hidden: -50.0,
            gelu: Gelu::Operator,
            norm: Norm::Reciprocal,
        },
    },
    Profile {
        name: "openvino-npu",
        about: "Intel NPU through OpenVINO, float16 or uint8",
        writes: Writes {
            opset: 17,
            activations: None,
            scores: 16,
            hidden: -1e4,
            gelu: Gelu::Formula,
            norm: Norm::Division,
        },
    },
    Profile {
        name: "ryzenai-bf16",
        about: "AMD Ryzen AI, float32 that its compiler turns into bfloat16",
        writes: Writes {
            opset: 17,
            activations: None,
            scores: 16,
            hidden: -1e4,
            gelu: Gelu::Formula,
            norm: Norm::Division,
        },
    },
    Profile {
        name: "rknn-fp16",
        about: "Rockchip, float16",
        writes: Writes {
            opset: 17,
            activations: None,
            scores: 16,
            hidden: -1e4,
            gelu: Gelu::Formula,
            norm: Norm::Division,
        },
    },
    Profile {
        name: "rknn-w8a8",
        about: "Rockchip, activations uint8, weights int8",
        writes: Writes {
            opset: 17,
            activations: Some(8),
            scores: 8,
            hidden: -50.0,
            gelu: Gelu::Formula,
            norm: Norm::Division,
        },
    },
];

/// The profile of this name.
pub fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}
