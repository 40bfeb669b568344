//! What a weight can be turned into.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use graph::{Block, FloatType, GgmlType};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codebook::affine::{self, Affine};
use crate::codebook::float8;
use crate::codebook::rows::Codebook;

/// A representation of a weight; recipes write its [`name`](Scheme::name).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Scheme {
    /// As the checkpoint stores it.
    #[default]
    Keep,
    /// Floats of a type, rounded to nearest even.
    Float(FloatType),
    /// Integer codes with scales.
    Affine {
        /// 4 or 8.
        bits: u8,
        /// What shares a scale.
        block: Block,
        /// Without zeros.
        symmetric: bool,
    },
    /// Blocks of llama.cpp.
    Ggml(GgmlType),
    /// Another codebook.
    Coded(&'static dyn Codebook),
}

const fn integers(bits: u8, group: usize, symmetric: bool) -> Scheme {
    let block = if group == 0 { Block::Row } else { Block::Group(group) };
    Scheme::Affine { bits, block, symmetric }
}

impl Scheme {
    /// `int8` for files that hold the inverse of a scale.
    pub const INVERTED: Scheme = Scheme::Coded(&affine::INVERTED);

    /// Every scheme, in the order in which lists show them.
    pub const ALL: &[Scheme] = &[
        Scheme::Keep,
        Scheme::Float(FloatType::F32),
        Scheme::Float(FloatType::F16),
        Scheme::Float(FloatType::BF16),
        integers(8, 0, true),
        integers(8, 32, true),
        integers(8, 64, true),
        integers(8, 128, true),
        integers(8, 0, false),
        integers(8, 32, false),
        integers(8, 64, false),
        integers(8, 128, false),
        integers(4, 0, true),
        integers(4, 32, true),
        integers(4, 64, true),
        integers(4, 128, true),
        integers(4, 0, false),
        integers(4, 32, false),
        integers(4, 64, false),
        integers(4, 128, false),
        Scheme::INVERTED,
        Scheme::Coded(&float8::PER_ROW),
        Scheme::Coded(&float8::PER_TENSOR),
        Scheme::Ggml(GgmlType::Mxfp4),
        Scheme::Ggml(GgmlType::Q8_0),
        Scheme::Ggml(GgmlType::Q4_0),
        Scheme::Ggml(GgmlType::Q4_1),
        Scheme::Ggml(GgmlType::Q5_0),
        Scheme::Ggml(GgmlType::Q5_1),
        Scheme::Ggml(GgmlType::Q4K),
        Scheme::Ggml(GgmlType::Q5K),
        Scheme::Ggml(GgmlType::Q6K),
    ];

    /// As recipes write it: `int4-g128-asym`, `q4_k`.
    pub fn name(self) -> String {
        match (self, self.codebook()) {
            (_, Some(codebook)) => codebook.name(),
            (Scheme::Float(dtype), None) => dtype.name().to_owned(),
            (_, None) => "keep".to_owned(),
        }
    }

    /// Which numbers the weight can then hold; `None` where those are plain floats.
    pub fn codebook(self) -> Option<Box<dyn Codebook>> {
        match self {
            Scheme::Keep | Scheme::Float(_) => None,
            Scheme::Affine { bits, block, symmetric } => {
                Some(Box::new(Affine { bits, block, symmetric, inverted: false }))
            }
            Scheme::Ggml(kind) => Some(Box::new(kind)),
            Scheme::Coded(codebook) => Some(Box::new(codebook)),
        }
    }

    /// Whether the weight becomes codes with scales rather than floats.
    pub fn is_quantized(self) -> bool {
        !matches!(self, Scheme::Keep | Scheme::Float(_))
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A word that names no scheme.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no scheme is named `{found}`; expected one of {}", names().join(", "))]
pub struct UnknownScheme {
    /// The word.
    pub found: String,
}

fn names() -> Vec<String> {
    Scheme::ALL.iter().map(|scheme| scheme.name()).collect()
}

/// The names in the form in which serde passes valid words on to whoever reports an unknown one.
fn words() -> &'static [&'static str] {
    static WORDS: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| names().into_iter().map(|name| &*name.leak()).collect());
    &WORDS
}

impl FromStr for Scheme {
    type Err = UnknownScheme;

    fn from_str(name: &str) -> Result<Scheme, UnknownScheme> {
        let known = Scheme::ALL.iter().copied().find(|scheme| scheme.name() == name);
        known.ok_or_else(|| UnknownScheme { found: name.to_owned() })
    }
}

impl Serialize for Scheme {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl<'de> Deserialize<'de> for Scheme {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scheme, D::Error> {
        let name = Cow::<'de, str>::deserialize(deserializer)?;
        name.parse().map_err(|_: UnknownScheme| D::Error::unknown_variant(&name, words()))
    }
}

impl JsonSchema for Scheme {
    fn schema_name() -> Cow<'static, str> {
        "Scheme".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A representation of a weight.", "enum": names() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_scheme() {
        for &scheme in Scheme::ALL {
            assert_eq!(scheme.name().parse(), Ok(scheme));
        }
        let distinct: std::collections::HashSet<String> = names().into_iter().collect();
        assert_eq!(distinct.len(), Scheme::ALL.len());
    }

    #[test]
    fn every_block_type_of_ggml_is_a_scheme() {
        for &kind in GgmlType::ALL {
            assert!(Scheme::ALL.contains(&Scheme::Ggml(kind)), "{kind}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "int3".parse::<Scheme>().expect_err("no such scheme").to_string();
        assert!(error.starts_with("no scheme is named `int3`; expected one of keep, f32, f16, bf16, int8,"), "{error}");
        assert!(error.ends_with("q6_k"), "{error}");
    }
}
