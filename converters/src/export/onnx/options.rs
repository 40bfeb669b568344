//! What a recipe may say of the format.

use graph::{AffineTensor, DEC, Type};
use onnx::tensors::block_of;

// From here on the products cost more than reading the weights.
const FEW_ROWS: usize = 8;

/// Options of the ONNX export.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Onnx {
    /// Who opens the folder as it is.
    #[serde(rename = "for", skip_serializing_if = "Consumer::is_optimum")]
    pub consumer: Consumer,
    /// How attention is written.
    pub attention: Attention,
    /// For which engines.
    pub profile: Profile,
    /// Where the weights are.
    pub weights: Placement,
    /// What linear layers are computed in.
    pub compute: Compute,
    /// How linear layers are written whose weights are blocks.
    pub products: Products,
}

/// Who opens the folder as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
pub enum Consumer {
    /// Optimum and onnxruntime: graphs beside config.json, a decoder as a pair and merged, one file of weights for all.
    #[default]
    #[serde(rename = "optimum")]
    Optimum,
    /// transformers.js in Node and in browsers: the encoder and the merged decoder in `onnx/`, named after what their weights
    /// are stored in, each with weights of its own, and config.json that says so.
    #[serde(rename = "transformers.js")]
    TransformersJs,
}

impl Consumer {
    fn is_optimum(&self) -> bool {
        *self == Consumer::Optimum
    }

    /// Whether its engines have `GatherBlockQuantized`. onnxruntime-web 1.31 has it in the WebAssembly that stands alone, and
    /// not in the one with WebGPU, which transformers.js 4.3 loads.
    pub(super) fn has_block_gather(self) -> bool {
        match self {
            Consumer::Optimum => true,
            Consumer::TransformersJs => false,
        }
    }
}

/// How attention is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Attention {
    /// `com.microsoft.MultiHeadAttention`, where it can say it: no soft cap, no shared key heads. It appends new keys and values to
    /// those it is given, where they are not turned by their positions first.
    #[default]
    Cached,
    /// The same with keys and values that are appended outside of it, for engines whose node has no past.
    Fused,
    /// `MatMul` and `Softmax`.
    Standard,
}

/// How linear layers are written whose weights are blocks (`com.microsoft.MatMulNBits`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Products {
    /// Two or three of one input, such as queries, keys and values, are one product over weights that are joined when the file is
    /// opened; a bias is added inside.
    #[default]
    Joined,
    /// One node each, and an `Add`.
    Apart,
}

/// For which engines the file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// onnxruntime and its relatives, with lengths known only when the model runs, on any processor.
    #[default]
    Portable,
    /// The same for processors with dot products of 8-bit integers (x86 with VNNI, ARM with SDOT). Products of many rows, those
    /// of the encoder, round their input with one scale and read signed codes, for which onnxruntime has its fastest kernel;
    /// on x86 without VNNI that kernel saturates at 16 bits, and results are wrong.
    #[serde(rename = "int8-dot")]
    Int8Dot,
}

/// Where the weights are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// In one file for all graphs, `model.onnx_data`; for transformers.js in one a graph, `GRAPH.onnx_data`.
    #[default]
    External,
    /// In each graph's file; at most 2 GB a file, and each has its own copy.
    Embedded,
}

/// What linear layers are computed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// Integers, where a matrix is one: products read its codes as they are stored, and their input is rounded to 8 bits in
    /// blocks. All else is f32.
    #[default]
    Int8,
    /// Single precision, whatever the weights are stored in; matrices of 8 bits become f32 when the file is opened.
    F32,
    /// Half precision, for GPUs; all else stays f32, and so do inputs and outputs. Every float weight of a linear layer
    /// must be f16.
    F16,
}

impl Onnx {
    /// The options of a recipe that sets none.
    pub const DEFAULT: Onnx = Onnx {
        consumer: Consumer::Optimum,
        attention: Attention::Cached,
        profile: Profile::Portable,
        weights: Placement::External,
        compute: Compute::Int8,
        products: Products::Joined,
    };

    /// How many neighbours of its input share a scale when a Linear with this weight rounds it to 8 bits inside the engine;
    /// `None` where it computes in floats.
    pub fn rounds_blocks_of(&self, weight: &AffineTensor) -> Option<usize> {
        match self.compute {
            Compute::Int8 => block_of(weight).ok(),
            Compute::F32 | Compute::F16 => None,
        }
    }

    /// Whether a Linear with 8-bit codes and such an input rounds it with one scale, because a product of integers is fastest for
    /// it. Rows are few where there is one a target token.
    pub fn rounds_whole(&self, input: &Type) -> bool {
        let rows = input.shape.len().checked_sub(2).map(|axis| &input.shape[axis]);
        let many =
            rows.is_some_and(|rows| !rows.symbols().contains(&DEC) && rows.literal().is_none_or(|n| n > FEW_ROWS));
        many && (self.profile, self.compute) == (Profile::Int8Dot, Compute::Int8)
    }
}
