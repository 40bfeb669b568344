//! What a recipe sets beside schemes: methods, ranges, activations, factors that move between weights.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

/// How the codes of a weight are chosen. All but `nearest` need calibration, and a weight that no Linear applies to an
/// activation gets nearest codes under each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Rounded to nearest; every weight of a block counts the same.
    #[default]
    Nearest,
    /// Rounded to nearest; in the search for scales an error counts as much as the mean square of what it multiplies.
    Importance,
    /// Each code makes good for the errors of those before it; see [`crate::method::gptq`]. Blocks of ggml keep the scales that
    /// `importance` finds.
    Gptq,
}

impl Method {
    /// As recipes write it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Nearest => "nearest",
            Method::Importance => "importance",
            Method::Gptq => "gptq",
        }
    }

    /// As a line of a recipe.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Method::Nearest => "method: nearest",
            Method::Importance => "method: importance",
            Method::Gptq => "method: gptq",
        }
    }
}

/// How the range of a block of integer codes is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Clip {
    /// The largest magnitude: no weight is clipped.
    #[default]
    None,
    /// The range with the least squared error; see [`crate::codebook::clip`].
    Mse,
}

/// Settings of [`Method::Gptq`](crate::Method::Gptq).
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GptqSettings {
    /// Added to the diagonal of the Gram matrix, as a share of its mean; more is safer and compensates less.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub damping: f64,
    /// Whether channels with the largest activations come first, rather than in the order of the file.
    pub act_order: bool,
}

impl Default for GptqSettings {
    fn default() -> GptqSettings {
        GptqSettings { damping: 0.01, act_order: true }
    }
}

/// What happens to the input of a Linear whose weight is `int8`, that is with one symmetric scale per row.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// It stays float; only the weights are quantized.
    #[default]
    None,
    /// It is rounded to 8 bits with a scale taken from itself at each call.
    Dynamic,
    /// It is rounded with a scale that calibration found, the same at each call.
    Static(StaticActivations),
}

/// How activations are rounded to unsigned codes with one scale per tensor.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticActivations {
    /// 8 or 16.
    pub bits: u8,
    /// What the codes reach over.
    #[serde(default = "minmax")]
    pub range: RangeMethod,
}

fn minmax() -> RangeMethod {
    RangeMethod::Minmax
}

/// How the range of an activation is chosen. What lies outside is clipped, and all else gets finer steps.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RangeMethod {
    /// From the least to the greatest number: nothing is clipped.
    Minmax,
    /// At most `(100 - p) / 2` percent of the numbers are clipped at each end, as by `PercentileCalibrator` of
    /// onnxruntime's `quantization/calibrate.py`.
    Percentile(f64),
    /// The least expected squared error, `n·scale²/12` of the `n` numbers inside and `(x - end)²` of those clipped (Banner
    /// et al., arXiv 1810.05723, section 3), over all pairs of edges of bins as ends.
    Mse,
    /// The least Kullback-Leibler divergence of the rounded numbers from the numbers (Migacz, 8-bit inference with
    /// TensorRT, GTC 2017), over the thresholds `t` of ranges `[max(min, -t), min(max, t)]`. With 16 bits there are fewer
    /// bins than codes, rounding costs nothing that bins show, and this is `minmax`.
    Entropy,
}

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
