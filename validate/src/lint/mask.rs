//! Which values are an attention mask: what is added to scores that come from a product.

use std::collections::HashSet;

use converters::export::onnx::Node;

use super::subject::{MOVERS, Subject, is_dequantize, is_quantize};

/// What is added to the scores before a softmax, and the least width of codes between the two.
pub struct Mask<'a> {
    /// The value that is added.
    pub value: &'a str,
    /// 0: it stays float.
    pub bits: u64,
}

/// The masks of all softmaxes.
pub fn masks<'a>(subject: &Subject<'a>) -> Vec<Mask<'a>> {
    let mut found: Vec<Mask<'a>> = Vec::new();
    for node in subject.model.nodes.iter().filter(|node| node.is("Softmax")) {
        let mut seen = HashSet::new();
        node.input(0).into_iter().for_each(|scores| descend(subject, scores, 0, &mut seen, &mut found));
    }
    let mut seen = HashSet::new();
    found.retain(|mask| seen.insert((mask.value, mask.bits)));
    found
}

fn narrower(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, bits) | (bits, 0) => bits,
        (a, b) => a.min(b),
    }
}

fn descend<'a>(
    subject: &Subject<'a>,
    value: &'a str,
    bits: u64,
    seen: &mut HashSet<&'a str>,
    found: &mut Vec<Mask<'a>>,
) {
    let Some(node) = subject.producer(value).filter(|_| seen.insert(value)) else { return };
    let bits = subject.steps(node).map_or(bits, |steps| narrower(bits, steps.bits()));
    let arguments = data(node);
    let adds = ["Add", "Sub", "Where"].iter().any(|op| node.is(op));
    for argument in arguments {
        if has_product(subject, argument) {
            let is_product = subject.producer(argument).is_some_and(is_product);
            if !is_product {
                descend(subject, argument, bits, seen, found);
            }
        } else if adds {
            found.push(Mask { value: argument, bits });
        }
    }
}

/// The arguments that a result is computed from, without conditions, indices, scales and zeros.
fn data(node: &Node) -> Vec<&str> {
    let slots = match node.op.as_str() {
        "Where" => 1..3,
        _ if is_quantize(node) || is_dequantize(node) || MOVERS.contains(&node.op.as_str()) => 0..1,
        _ => 0..node.inputs.len(),
    };
    slots.filter_map(|slot| node.input(slot)).collect()
}

fn is_product(node: &Node) -> bool {
    ["MatMul", "Gemm", "Conv", "Einsum"].iter().any(|op| node.is(op))
}

fn has_product(subject: &Subject<'_>, value: &str) -> bool {
    behind(subject, value).iter().any(|value| subject.producer(value).is_some_and(is_product))
}

/// A value and all that it is computed from.
pub fn behind<'a>(subject: &Subject<'a>, value: &str) -> Vec<&'a str> {
    let (mut out, mut seen, mut open) = (Vec::new(), HashSet::new(), Vec::new());
    let own = subject.producer(value).and_then(|node| node.outputs.iter().find(|output| *output == value));
    let constant = || subject.model.initializers.iter().map(|constant| &constant.name).find(|name| *name == value);
    open.extend(own.or_else(constant).map(String::as_str));
    while let Some(value) = open.pop() {
        if seen.insert(value) {
            out.push(value);
            open.extend(subject.producer(value).map(data).unwrap_or_default());
        }
    }
    out
}
