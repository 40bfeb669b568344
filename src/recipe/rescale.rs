//! `rescale_residual`: a word, or two factors.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

/// What the residual streams are multiplied with, for engines that compute in f16.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub enum RescaleResidual {
    /// As much as calibration asks for.
    Auto,
    /// These factors.
    By(Factors),
}

/// Powers of two up to 1.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Factors {
    /// Of the encoder.
    pub encoder: f32,
    /// Of the decoder.
    pub decoder: f32,
}

impl Default for Factors {
    fn default() -> Factors {
        Factors { encoder: 1.0, decoder: 1.0 }
    }
}

impl<'de> Deserialize<'de> for RescaleResidual {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RescaleResidual, D::Error> {
        struct WordOrFactors;
        impl<'de> Visitor<'de> for WordOrFactors {
            type Value = RescaleResidual;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("auto, or { encoder: 0.125, decoder: 0.25 }")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<RescaleResidual, E> {
                if word == "auto" { Ok(RescaleResidual::Auto) } else { Err(E::unknown_variant(word, &["auto"])) }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RescaleResidual, A::Error> {
                Factors::deserialize(MapAccessDeserializer::new(map)).map(RescaleResidual::By)
            }
        }
        deserializer.deserialize_any(WordOrFactors)
    }
}

impl JsonSchema for RescaleResidual {
    fn schema_name() -> Cow<'static, str> {
        "RescaleResidual".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let factors = generator.subschema_for::<Factors>();
        json_schema!({
            "description": "What the residual streams are multiplied with, so that an engine that computes in f16 can hold them.",
            "oneOf": [{ "type": "string", "enum": ["auto"] }, factors]
        })
    }
}
