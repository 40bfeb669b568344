//! What the ports of an entry carry. Names are spelled and read here and nowhere else.

use std::fmt;

use super::graph::{Port, ValueId};

/// The target's ids.
pub const DECODER_IDS: &str = "decoder_input_ids";
/// The scores of the next token, before a softmax.
pub const LOGITS: &str = "logits";
/// What the encoder returns and cross-attention reads.
pub const ENCODER_HIDDEN: &str = "encoder_hidden";
/// The input of a static step that says where its token stands: i64\[1\].
pub const POSITION: &str = "position";
/// The input of a static step that marks the place of its token in the cache: i64\[1, 1, target, 1\].
pub const SLOT: &str = "slot";

const PAST: &str = "past";
const PRESENT: &str = "present";
const CROSS: &str = "cross";

/// A side of a pair of keys and values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// What queries are compared with.
    Key,
    /// What is mixed.
    Value,
}

/// A half of the KV cache of one attention.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Cache {
    /// The attention, in the order of the decoder.
    pub layer: usize,
    /// Its keys or its values.
    pub side: Side,
}

/// What a port carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PortRole<'n> {
    /// Keys or values of earlier steps: an input.
    Past(Cache),
    /// Those that the next step takes as [`PortRole::Past`]: an output.
    Present(Cache),
    /// Keys or values of the source, the same at every step.
    Cross(Cache),
    /// [`DECODER_IDS`].
    DecoderIds,
    /// [`LOGITS`].
    Logits,
    /// [`ENCODER_HIDDEN`].
    EncoderHidden,
    /// [`POSITION`].
    Position,
    /// [`SLOT`].
    Slot,
    /// What else an encoder reads, by its name: ids, a padding mask, features, samples.
    Input(&'n str),
}

impl<'n> PortRole<'n> {
    /// What a port of this name carries: the inverse of the role's `Display`.
    pub fn of(name: &'n str) -> PortRole<'n> {
        match name {
            DECODER_IDS => PortRole::DecoderIds,
            LOGITS => PortRole::Logits,
            ENCODER_HIDDEN => PortRole::EncoderHidden,
            POSITION => PortRole::Position,
            SLOT => PortRole::Slot,
            _ => PortRole::of_cache(name).unwrap_or(PortRole::Input(name)),
        }
    }

    fn of_cache(name: &str) -> Option<PortRole<'static>> {
        let (stem, rest) = name.split_once('.')?;
        let (layer, side) = rest.split_once('.')?;
        let side = match side {
            "k" => Side::Key,
            "v" => Side::Value,
            _ => return None,
        };
        let layer: usize = layer.parse().ok()?;
        let cache = Cache { layer, side };
        let role = match stem {
            PAST => PortRole::Past(cache),
            PRESENT => PortRole::Present(cache),
            CROSS => PortRole::Cross(cache),
            _ => return None,
        };
        // `past.+3.k` and `past.03.k` are other names.
        (role.to_string() == name).then_some(role)
    }

    /// The half of a KV cache that the port carries, if it carries one.
    pub fn cache(self) -> Option<Cache> {
        match self {
            PortRole::Past(cache) | PortRole::Present(cache) | PortRole::Cross(cache) => Some(cache),
            PortRole::DecoderIds
            | PortRole::Logits
            | PortRole::EncoderHidden
            | PortRole::Position
            | PortRole::Slot
            | PortRole::Input(_) => None,
        }
    }

    /// As what the next step takes a value that a step returns as this.
    pub fn next(self) -> PortRole<'n> {
        match self {
            PortRole::Present(cache) => PortRole::Past(cache),
            PortRole::Past(_)
            | PortRole::Cross(_)
            | PortRole::DecoderIds
            | PortRole::Logits
            | PortRole::EncoderHidden
            | PortRole::Position
            | PortRole::Slot
            | PortRole::Input(_) => self,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Key => "k",
            Side::Value => "v",
        })
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.layer, self.side)
    }
}

impl fmt::Display for PortRole<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortRole::Past(cache) => write!(f, "{PAST}.{cache}"),
            PortRole::Present(cache) => write!(f, "{PRESENT}.{cache}"),
            PortRole::Cross(cache) => write!(f, "{CROSS}.{cache}"),
            PortRole::DecoderIds => f.write_str(DECODER_IDS),
            PortRole::Logits => f.write_str(LOGITS),
            PortRole::EncoderHidden => f.write_str(ENCODER_HIDDEN),
            PortRole::Position => f.write_str(POSITION),
            PortRole::Slot => f.write_str(SLOT),
            PortRole::Input(name) => f.write_str(name),
        }
    }
}

impl Port {
    /// A port under the name of what it carries.
    pub fn new(role: PortRole<'_>, value: ValueId) -> Port {
        Port { name: role.to_string(), value }
    }

    /// What the port carries, by its name.
    pub fn role(&self) -> PortRole<'_> {
        PortRole::of(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_read_from_its_own_name() {
        let cache = |layer, side| Cache { layer, side };
        let roles = [
            (PortRole::Past(cache(3, Side::Key)), "past.3.k"),
            (PortRole::Present(cache(0, Side::Value)), "present.0.v"),
            (PortRole::Cross(cache(12, Side::Key)), "cross.12.k"),
            (PortRole::DecoderIds, "decoder_input_ids"),
            (PortRole::Logits, "logits"),
            (PortRole::EncoderHidden, "encoder_hidden"),
            (PortRole::Position, "position"),
            (PortRole::Slot, "slot"),
            (PortRole::Input("input_features"), "input_features"),
        ];
        for (role, name) in roles {
            assert_eq!(role.to_string(), name);
            assert_eq!(PortRole::of(name), role);
        }
    }

    #[test]
    fn what_is_nearly_a_cache_is_an_input_of_that_name() {
        for name in ["past", "past.k", "past.3.q", "past.x.k", "past.+3.k", "past.03.k", "past.3.k.v", "pasts.3.k", ""]
        {
            assert_eq!(PortRole::of(name), PortRole::Input(name));
        }
    }

    #[test]
    fn a_step_takes_what_the_one_before_returned() {
        assert_eq!(PortRole::of("present.2.v").next().to_string(), "past.2.v");
        assert_eq!(PortRole::of("cross.2.v").next().to_string(), "cross.2.v");
    }
}
