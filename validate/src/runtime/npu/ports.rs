//! Whether a description of graphs can be run by, and whether the graphs are as it says.

use graph::ir::port::{DECODER_IDS, LOGITS, POSITION, SLOT};
use graph::{Cache, PortRole};
use std::collections::BTreeSet;
use std::path::{Component, Path};

use converters::export::npu::{Bucket, Host, Numbers, Place, Port};

use super::value::type_name;

/// An input or output of a graph that an engine opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::runtime) struct Found {
    pub(in crate::runtime) name: String,
    /// As `int32[1, 8]`; a length that is not fixed is a question mark.
    pub(in crate::runtime) ty: String,
}

/// What a graph that an engine opened takes and returns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::runtime) struct Signature {
    pub(in crate::runtime) inputs: Vec<Found>,
    pub(in crate::runtime) outputs: Vec<Found>,
}

/// As `int32[1, 8]`.
pub(super) fn ty(port: &Port) -> String {
    format!("{}{:?}", type_name(port.numbers), port.shape)
}

fn elements(port: &Port) -> usize {
    port.shape.iter().fold(1, |product: usize, n| product.saturating_mul(*n))
}

fn find<'p>(ports: &'p [Port], name: &str) -> Option<&'p Port> {
    ports.iter().find(|port| port.port == name)
}

/// Whether a decoder returns the keys and values of its token alone, which the host writes into those of earlier ones;
/// otherwise it returns all of them.
pub(super) fn appends(decoder: &Place) -> bool {
    let one = |port: &Port| port.token_axis.is_some_and(|axis| port.shape.get(axis) == Some(&1));
    find(&decoder.inputs, SLOT).is_none() && decoder.outputs.iter().filter(|p| p.port != LOGITS).all(one)
}

/// Everything in a description that a host could not run by; a sentence each.
pub(super) fn check(host: &Host) -> Vec<String> {
    let mut wrong = Vec::new();
    if host.buckets.is_empty() {
        wrong.push("buckets: expected at least one, found none".to_owned());
    }
    if host.target == 0 {
        wrong.push("target: expected at least 1, found 0".to_owned());
    }
    if i32::try_from(host.pad_token_id).is_err() {
        wrong.push(format!("pad_token_id: expected an int32, found {}", host.pad_token_id));
    }
    if let Some(pair) = host.buckets.windows(2).find(|pair| pair[0].source >= pair[1].source) {
        wrong.push(format!("buckets: expected the shortest first, found {} before {}", pair[0].source, pair[1].source));
    }
    for bucket in &host.buckets {
        for place in [&bucket.encoder, &bucket.decoder] {
            wrong.extend(check_place(place));
        }
        let mut say = |place: &Place, message: String| wrong.push(format!("{}: {message}", place.file));
        check_encoder(bucket, &mut say);
        check_decoder(bucket, host.target, &mut say);
    }
    wrong
}

/// What is wrong with a place, whatever its graph does.
fn check_place(place: &Place) -> Vec<String> {
    let mut wrong = Vec::new();
    let inside = Path::new(&place.file).components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || place.file.is_empty() {
        wrong.push(format!("{:?}: expected a file in the artifact's folder", place.file));
    }
    for port in place.inputs.iter().chain(&place.outputs) {
        let problem = match port.numbers {
            Numbers::Uint8 { scale, .. } | Numbers::Uint16 { scale, .. } | Numbers::Int16 { scale }
                if !(scale.is_finite() && scale > 0.0) =>
            {
                format!("expected a scale above 0, found {scale}")
            }
            Numbers::Uint8 { zero, .. } if u8::try_from(zero).is_err() => {
                format!("expected a zero of 0 to 255, found {zero}")
            }
            Numbers::Uint16 { zero, .. } if u16::try_from(zero).is_err() => {
                format!("expected a zero of 0 to 65535, found {zero}")
            }
            _ => continue,
        };
        wrong.push(format!("{}: {}: {problem}", place.file, port.port));
    }
    for ports in [&place.inputs, &place.outputs] {
        for (i, port) in ports.iter().enumerate() {
            if ports[..i].iter().any(|earlier| earlier.port == port.port || earlier.name == port.name) {
                wrong.push(format!("{}: {}: listed twice", place.file, port.port));
            }
        }
    }
    wrong
}

/// An input of as many int32 as a host has for it.
fn integers(place: &Place, name: &str, count: usize, say: &mut impl FnMut(&Place, String)) {
    match find(&place.inputs, name) {
        Some(port) if port.numbers == Numbers::Int32 && elements(port) == count => {}
        Some(port) => say(place, format!("{name}: expected {count} int32, found {}", ty(port))),
        None => say(place, format!("expected an input {name}, found none")),
    }
}

/// Inputs of encoders that are one tensor of floats, and the axes of each.
const FEATURES: [(&str, &[&str]); 2] =
    [("input_features", &["1", "n_mels", "frames"]), ("pixel_values", &["1", "channels", "height", "width"])];

/// The one that an encoder has.
fn features(place: &Place) -> Option<(&Port, &'static [&'static str])> {
    FEATURES.into_iter().find_map(|(name, axes)| Some((find(&place.inputs, name)?, axes)))
}

/// Whether an encoder reads tokens, alone or beside an image.
fn reads(place: &Place) -> bool {
    find(&place.inputs, "input_ids").is_some()
}

fn check_encoder(bucket: &Bucket, say: &mut impl FnMut(&Place, String)) {
    let place = &bucket.encoder;
    let seen = features(place);
    if let Some((port, axes)) = seen
        && (port.numbers != Numbers::Float32 || port.shape.len() != axes.len() || port.shape[0] != 1)
    {
        let expected = axes.join(", ");
        say(place, format!("{}: expected float32[{expected}], found {}", port.port, ty(port)));
    }
    if seen.is_none() || reads(place) {
        for name in ["input_ids", "attention_mask"] {
            integers(place, name, bucket.source, say);
        }
    }
    for port in &place.inputs {
        let is_features = FEATURES.iter().any(|(name, _)| *name == port.port);
        if !is_features && !matches!(PortRole::of(&port.port), PortRole::Input("input_ids" | "attention_mask")) {
            say(place, format!("{}: not an input of an encoder", port.port));
        }
    }
    for port in &place.outputs {
        match PortRole::of(&port.port) {
            PortRole::Cross(_) if find(&bucket.decoder.inputs, &port.port).is_none() => {
                say(place, format!("{}: no input of {} takes it", port.port, bucket.decoder.file));
            }
            PortRole::Cross(_) => {}
            _ => say(place, format!("{}: not an output of an encoder", port.port)),
        }
    }
}

fn check_decoder(bucket: &Bucket, target: usize, say: &mut impl FnMut(&Place, String)) {
    let place = &bucket.decoder;
    integers(place, DECODER_IDS, 1, say);
    integers(place, POSITION, 1, say);
    if find(&place.inputs, "attention_mask").is_some() {
        integers(place, "attention_mask", bucket.source, say);
    }
    let are_alone = features(&bucket.encoder).is_some() && !reads(&bucket.encoder);
    if are_alone && find(&place.inputs, "attention_mask").is_some() {
        say(place, "attention_mask: features have none".to_owned());
    }
    match find(&place.outputs, LOGITS) {
        Some(port) if port.numbers != Numbers::Int32 && elements(port) > 0 => {}
        Some(port) => say(place, format!("logits: expected floats or their codes, found {}", ty(port))),
        None => say(place, "expected an output logits, found none".to_owned()),
    }
    let appends = appends(place);
    let past_tokens = if appends { target.saturating_sub(1) } else { target };
    if find(&place.inputs, SLOT).is_some() {
        integers(place, SLOT, past_tokens, say);
    }
    for port in &place.inputs {
        let name = &port.port;
        match PortRole::of(name) {
            PortRole::Cross(_) => match find(&bucket.encoder.outputs, name) {
                Some(made) if made.shape == port.shape && made.numbers == port.numbers => {}
                Some(made) => say(
                    place,
                    format!(
                        "{name}: expected {}{:?} as {} makes it, found {}{:?}",
                        ty(made),
                        made.numbers,
                        bucket.encoder.file,
                        ty(port),
                        port.numbers
                    ),
                ),
                None => say(place, format!("{name}: no output of {} makes it", bucket.encoder.file)),
            },
            PortRole::Past(cache) => {
                if let Err(problem) = check_past(place, port, cache, past_tokens, appends) {
                    say(place, format!("{name}: {problem}"));
                }
            }
            PortRole::DecoderIds | PortRole::Position | PortRole::Slot | PortRole::Input("attention_mask") => {}
            _ => say(place, format!("{name}: not an input of a decoder")),
        }
    }
    for port in place.outputs.iter().filter(|port| port.port != LOGITS) {
        match PortRole::of(&port.port) {
            PortRole::Present(cache) if find(&place.inputs, &PortRole::Past(cache).to_string()).is_some() => {}
            PortRole::Present(_) => say(place, format!("{}: no input takes it at the next step", port.port)),
            _ => say(place, format!("{}: not an output of a decoder", port.port)),
        }
    }
}

/// One cache, and what comes back for it.
fn check_past(place: &Place, past: &Port, cache: Cache, tokens: usize, appends: bool) -> Result<(), String> {
    if past.numbers == Numbers::Int32 {
        return Err("expected floats or their codes, found int32".to_owned());
    }
    let axis = past.token_axis.filter(|axis| *axis < past.shape.len());
    let axis = axis.ok_or_else(|| format!("expected a token_axis below {}, found none", past.shape.len()))?;
    if past.shape[axis] != tokens {
        let why = if appends { "target - 1, for the decoder returns one token" } else { "target" };
        return Err(format!("expected {tokens} tokens ({why}), found {}", ty(past)));
    }
    let name = PortRole::Present(cache).to_string();
    let present = find(&place.outputs, &name).ok_or_else(|| format!("no output {name} replaces it"))?;
    let mut expected = past.shape.clone();
    expected[axis] = if appends { 1 } else { tokens };
    match present.shape == expected && present.numbers == past.numbers && present.token_axis == Some(axis) {
        true => Ok(()),
        false => Err(format!(
            "expected {name} {}{expected:?} with its numbers {:?} and token_axis {axis}, found {} with {:?} and {:?}",
            type_name(past.numbers),
            past.numbers,
            ty(present),
            present.numbers,
            present.token_axis
        )),
    }
}

/// Where an opened graph is not as its place says; a sentence each.
pub(super) fn compare(place: &Place, found: &Signature) -> Vec<String> {
    let mut wrong = Vec::new();
    for (what, ports, found) in [("input", &place.inputs, &found.inputs), ("output", &place.outputs, &found.outputs)] {
        for port in ports {
            let expected = ty(port);
            match found.iter().find(|f| f.name == port.name) {
                Some(f) if f.ty == expected => {}
                Some(f) => {
                    wrong.push(format!("{}: {what} {}: expected {expected}, found {}", place.file, f.name, f.ty))
                }
                None => wrong.push(format!("{}: expected an {what} {} {expected}, found none", place.file, port.name)),
            }
        }
        let named: BTreeSet<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        for f in found.iter().filter(|f| !named.contains(f.name.as_str())) {
            wrong.push(format!("{}: {what} {} {}: not described", place.file, f.name, f.ty));
        }
    }
    wrong
}
