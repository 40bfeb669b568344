//! What the files call their ports.

use graph::{Cache, PortRole, Side};

use crate::export::onnx::cache_name;

/// What inputs and outputs are called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Names {
    /// `past_key_values.0.decoder.key`, as Optimum's decoders.
    #[default]
    Optimum,
    /// `block_0_past_self_key_states`, as Opus-MT of Qualcomm AI Hub.
    AiHub,
}

impl Names {
    /// What a file calls a port.
    pub(super) fn of(self, entry: &str, port: &str, is_input: bool) -> String {
        let role = PortRole::of(port);
        let Some(Cache { layer, side }) = role.cache() else {
            return match (entry, role) {
                (_, PortRole::DecoderIds) => "input_ids".to_owned(),
                ("decoder", PortRole::Input("attention_mask")) => "encoder_attention_mask".to_owned(),
                _ => port.to_owned(),
            };
        };
        let word = match side {
            Side::Key => "key",
            Side::Value => "value",
        };
        let is_cross = matches!(role, PortRole::Cross(_));
        match self {
            Names::Optimum => cache_name(layer, is_cross, word, is_input),
            Names::AiHub if is_cross => format!("block_{layer}_cross_{word}_states"),
            Names::AiHub => {
                let cache = if matches!(role, PortRole::Past(_)) { "past" } else { "present" };
                format!("block_{layer}_{cache}_self_{word}_states")
            }
        }
    }
}
