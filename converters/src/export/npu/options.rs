//! What a recipe may say of the format.

use std::borrow::Cow;

use graph::passes::Widths;

use super::names::Names;
use super::profile::{Profile, profile};

/// The least profile: what all toolchains take.
const PORTABLE: &str = "npu-portable";

/// Options of the NPU export.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Npu {
    /// For which toolchains; `trefoil --list profiles` shows all.
    pub profile: Cow<'static, str>,
    /// Lengths of the encoder's input, each with an encoder and a decoder of its own: tokens. 128 when none is given; of no
    /// use for models whose input has one length.
    pub source: Vec<usize>,
    /// Target tokens that the decoder can hold.
    pub target: usize,
    /// Who writes a step's keys and values into the cache.
    pub update: CacheUpdate,
    /// What inputs and outputs are called.
    pub names: Names,
    /// What keys and values are between the graphs, where activations are quantized.
    pub caches: Caches,
    /// Bits of keys and values where activations have 16: 8, or 16 for twice the cache and less noise.
    pub key_bits: u8,
}

/// Who writes a step's keys and values into the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheUpdate {
    /// The host: a step returns those of its token alone.
    #[default]
    Host,
    /// The graph, by `Where` with an input that marks the place: the whole cache goes in and comes out.
    Where,
}

/// What keys and values are between the graphs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Caches {
    /// Codes: smaller, and nothing is converted between two steps.
    #[default]
    Codes,
    /// Floats.
    Floats,
}

impl Default for Npu {
    fn default() -> Npu {
        Npu::DEFAULT
    }
}

impl Npu {
    /// The options of a recipe that sets none.
    pub const DEFAULT: Npu = Npu {
        profile: Cow::Borrowed(PORTABLE),
        source: Vec::new(),
        target: 64,
        update: CacheUpdate::Host,
        names: Names::Optimum,
        caches: Caches::Codes,
        key_bits: 8,
    };

    /// The profile; `None` when no one knows its name.
    pub fn profile(&self) -> Option<&'static Profile> {
        profile(&self.profile)
    }

    /// Bits of activations and keys, where the profile has codes.
    pub fn widths(&self) -> Option<Widths> {
        let writes = self.profile()?.writes;
        let activations = writes.activations?;
        let keys = if activations == 8 { 8 } else { self.key_bits };
        Some(Widths { activations, keys, scores: writes.scores })
    }

    /// What the profile adds to the scores of hidden keys.
    pub fn hidden(&self) -> f32 {
        self.profile().map_or(f32::NEG_INFINITY, |profile| profile.writes.hidden)
    }
}
