//! Which factors move at the places of [`crate::equalize`] before weights are quantized.
//!
//! | `equalize` | s of a channel | helps |
//! | --- | --- | --- |
//! | `smoothquant` | [`smoothquant`]: `max|x|^α / max|w|^(1-α)` | activations that are rounded |
//! | `weights` | [`equalized`]: `√(max|producer| / max|consumer|)` | weights, without calibration |
//! | `awq` | [`awq`]: `rms(x)^a`, a by trial | weights of few bits |
//!
//! Places none of whose Linears get codes are left alone.
//!
//! Any factors move logits by f32 noise, and a kept weight of f16 with such factors becomes f32. With `exact` they are
//! rounded to powers of two: the float model stays bit-equal, and the codes are somewhat worse. On `models/g2p-t5` with
//! static int8 activations SmoothQuant leaves 0.00053 of a KL of 0.00153 nats, with powers of two 0.00068; the factors of
//! `awq` there lie mostly between 1/√2 and √2, so that few of them are left.

use std::borrow::Cow;
use std::fmt;

use graph::{Graph, Progress};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use crate::awq;
use crate::calibrate::Calibration;
use crate::equalize::{Part, Place, equalized, places, power_of_two, smoothquant};
use crate::error::QuantError;
use crate::plan::{Plan, Planned};

/// How the factors are chosen.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Equalize {
    /// None move.
    #[default]
    None,
    /// Outliers of activations move into the weights that read them.
    Smoothquant(Smoothquant),
    /// Ranges of weights that follow each other meet in the middle.
    Weights(Factors),
    /// Columns that see large activations are rounded more finely.
    Awq(Factors),
}

/// Settings of SmoothQuant.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Smoothquant {
    /// 0 leaves the whole range to the weights, 1 to the activation.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub alpha: f32,
    /// Powers of two, so that the float model stays bit-equal.
    pub exact: bool,
}

impl Default for Smoothquant {
    fn default() -> Smoothquant {
        Smoothquant { alpha: 0.5, exact: false }
    }
}

/// Settings of the other methods.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Factors {
    /// Powers of two, so that the float model stays bit-equal.
    pub exact: bool,
}

const WORDS: &[&str] = &["none", "smoothquant", "weights", "awq"];

impl Equalize {
    /// Whether it depends on activations.
    pub fn is_calibrated(self) -> bool {
        matches!(self, Equalize::Smoothquant(_) | Equalize::Awq(_))
    }

    /// Whether the float model stays bit-equal.
    pub fn is_exact(self) -> bool {
        match self {
            Equalize::None => true,
            Equalize::Smoothquant(Smoothquant { exact, .. })
            | Equalize::Weights(Factors { exact })
            | Equalize::Awq(Factors { exact }) => exact,
        }
    }

    /// The factors that are applied where `s` are wanted.
    pub(crate) fn rounded(self, s: Vec<f32>) -> Vec<f32> {
        if self.is_exact() { power_of_two(&s) } else { s }
    }

    /// As a line of a recipe.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Equalize::None => "equalize: none",
            Equalize::Smoothquant(_) => "equalize: smoothquant",
            Equalize::Weights(_) => "equalize: weights",
            Equalize::Awq(_) => "equalize: awq",
        }
    }
}

impl<'de> Deserialize<'de> for Equalize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Equalize, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Settings {
            smoothquant: Option<Smoothquant>,
            weights: Option<Factors>,
            awq: Option<Factors>,
        }
        struct WordOrSettings;
        impl<'de> Visitor<'de> for WordOrSettings {
            type Value = Equalize;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "{}, or one of them with settings as {{ smoothquant: {{ alpha: 0.5 }} }}", WORDS.join(", "))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Equalize, E> {
                match word {
                    "none" => Ok(Equalize::None),
                    "smoothquant" => Ok(Equalize::Smoothquant(Smoothquant::default())),
                    "weights" => Ok(Equalize::Weights(Factors::default())),
                    "awq" => Ok(Equalize::Awq(Factors::default())),
                    _ => Err(E::unknown_variant(word, WORDS)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Equalize, A::Error> {
                match Settings::deserialize(MapAccessDeserializer::new(map))? {
                    Settings { smoothquant: Some(settings), weights: None, awq: None } => {
                        Ok(Equalize::Smoothquant(settings))
                    }
                    Settings { smoothquant: None, weights: Some(settings), awq: None } => {
                        Ok(Equalize::Weights(settings))
                    }
                    Settings { smoothquant: None, weights: None, awq: Some(settings) } => Ok(Equalize::Awq(settings)),
                    _ => Err(A::Error::custom("expected exactly one of smoothquant, weights, awq")),
                }
            }
        }
        deserializer.deserialize_any(WordOrSettings)
    }
}

impl JsonSchema for Equalize {
    fn schema_name() -> Cow<'static, str> {
        "Equalize".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let settings = |method: &str, settings: Schema| {
            json_schema!({
                "type": "object",
                "properties": { method: settings },
                "required": [method],
                "additionalProperties": false
            })
        };
        let smoothquant = settings("smoothquant", generator.subschema_for::<Smoothquant>());
        let [weights, awq] = ["weights", "awq"].map(|method| settings(method, generator.subschema_for::<Factors>()));
        json_schema!({
            "description": "Factors that move from activations and weights into the weights after them, and leave the float model as it is.",
            "oneOf": [{ "type": "string", "enum": WORDS }, smoothquant, weights, awq]
        })
    }
}

/// Factors for one place.
#[derive(Clone, PartialEq, Debug)]
pub struct Chosen {
    /// Where they move.
    pub place: Place,
    /// One a channel; all 1 where none is better.
    pub factors: Vec<f32>,
    /// Error of the outputs of the quantized Linears that read the place, without the factors and with them; `awq` alone
    /// measures it.
    pub errors: Option<[f64; 2]>,
}

impl Chosen {
    /// Whether a factor is not 1.
    pub fn moves(&self) -> bool {
        self.factors.iter().any(|s| *s != 1.0)
    }
}

/// The multiplied parts of a place that the plan gives codes, and their plans.
pub(crate) fn coded<'a>(place: &'a Place, plan: &'a Plan) -> Vec<(&'a Part, &'a Planned)> {
    let planned = |part: &'a Part| Some((part, plan.weights.iter().find(|planned| planned.id == part.weight)?));
    place.multiplied.iter().filter_map(planned).filter(|(_, planned)| planned.scheme.is_quantized()).collect()
}

/// Factors for each place of a graph that is not quantized yet.
///
/// `plan`: of this graph. `progress` counts the samples of `awq`. Errors: no calibration where the method needs it; samples
/// or weights that cannot be read.
pub fn choose(
    graph: &Graph,
    how: Equalize,
    plan: &Plan,
    calibration: Option<&Calibration>,
    progress: &dyn Progress,
) -> Result<Vec<Chosen>, QuantError> {
    let mut places = if how == Equalize::None { Vec::new() } else { places(graph) };
    places.retain(|place| !coded(place, plan).is_empty());
    let calibration = || calibration.ok_or(QuantError::UncalibratedFactors { setting: how.setting() });
    let chosen = |place: Place, s: Vec<f32>| Chosen { place, factors: how.rounded(s), errors: None };
    match how {
        Equalize::None => Ok(Vec::new()),
        Equalize::Smoothquant(Smoothquant { alpha, .. }) => {
            let statistics = calibration()?.statistics;
            let one = |place: Place| {
                let seen = statistics.inputs.get(&graph.value(place.input).name);
                let max = seen.map_or(vec![0.0; place.width], |seen| place.per_channel(&seen.max_abs));
                let s = smoothquant(&max, &place.consumer_max(graph)?, alpha);
                Ok(chosen(place, s))
            };
            places.into_iter().map(one).collect()
        }
        Equalize::Weights(_) => {
            let one = |place: Place| {
                let s = equalized(&place.producer_max(graph)?, &place.consumer_max(graph)?);
                Ok(chosen(place, s))
            };
            places.into_iter().map(one).collect()
        }
        Equalize::Awq(_) => awq::choose(graph, how, places, plan, calibration()?, progress),
    }
}
