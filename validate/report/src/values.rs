//! What happens inside: errors of values by layer and role, ranges of activations, histograms of weights, costs of layers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A value between input and logits: how large it is in the float model, and how far off in the quantized graph.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueError {
    /// Its name in the graph.
    pub value: String,
    /// The weight whose product it is, by the checkpoint's name.
    pub weight: String,
    /// `encoder` or `decoder`, as the weight's name says; empty for what belongs to neither.
    pub stack: String,
    /// From 0; absent for what stands outside of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u64>,
    /// What its weight does in the model.
    pub role: String,
    /// The smallest and the largest number in the float model.
    pub range: [f32; 2],
    /// `‖a - b‖₂ / ‖a‖₂`, all samples together.
    pub rel_l2: f64,
}

/// How often numbers of a weight lie where, before and after quantization.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// The left edge of the first bin and the right edge of the last; bins are equally wide.
    pub range: [f64; 2],
    /// Of the checkpoint's numbers.
    pub exact: Vec<u64>,
    /// Of what is stored.
    pub stored: Vec<u64>,
    /// How often each code is used, from the smallest; empty for types without one set of codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<(i64, u64)>,
}

/// What a layer costs, as `trefoil tune` measured it: each of its weights alone in a scheme, the others exact.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerCost {
    /// `encoder.block.3`, or a weight outside of layers.
    pub layer: String,
    /// The scheme.
    pub scheme: String,
    /// Its KL divergences, added, in nats.
    pub kl: f64,
    /// Its bytes in the scheme.
    pub bytes: u64,
}

/// The machine and the call that made a report.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// As it was called, the program first.
    pub command: Vec<String>,
    /// As the system calls its processor.
    pub processor: String,
    /// Processors that this program may use.
    pub threads: u64,
    /// `linux x86_64`.
    pub system: String,
    /// The set of kernels that computed, where results depend on it.
    pub kernel: String,
}
