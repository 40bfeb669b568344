//! Which values are an attention mask: what is added to scores that come from a product.

use std::collections::HashSet;

use converters::ExportError;
use converters::export::onnx::Node;

use super::found::{Found, Founds};
use super::subject::{MOVERS, Steps, Subject, is_dequantize, is_quantize};

/// How far below the least score codes still tell probabilities apart: `e^-16` is 1e-7.
const DEPTH: f32 = 16.0;

/// The step that a range is rounded to.
const SLACK: f32 = 1.01;

/// What is added to the scores before a softmax.
pub struct Mask<'a> {
    /// The value that is added.
    pub value: &'a str,
    /// What it is added to.
    pub scores: &'a str,
    /// The quantizer that the sum passes next, on its way to the softmax. `None`: it stays float.
    pub rounded: Option<&'a Node>,
}

/// The masks of all softmaxes, and other summands.
pub fn masks<'a>(subject: &Subject<'a>) -> Vec<Mask<'a>> {
    let mut found: Vec<Mask<'a>> = Vec::new();
    for node in subject.model.nodes.iter().filter(|node| node.is("Softmax")) {
        let mut seen = HashSet::new();
        node.input(0).into_iter().for_each(|scores| descend(subject, scores, None, &mut seen, &mut found));
    }
    let mut seen = HashSet::new();
    found.retain(|mask| seen.insert((mask.value, mask.scores)));
    found
}

fn descend<'a>(
    subject: &Subject<'a>,
    value: &'a str,
    rounded: Option<&'a Node>,
    seen: &mut HashSet<&'a str>,
    found: &mut Vec<Mask<'a>>,
) {
    let Some(node) = subject.producer(value).filter(|_| seen.insert(value)) else { return };
    let rounded = subject.steps(node).map_or(rounded, |_| Some(node));
    let adds = ["Add", "Sub", "Where"].iter().any(|op| node.is(op));
    let (scores, others): (Vec<&str>, Vec<&str>) =
        data(node).into_iter().partition(|value| has_product(subject, value));
    for &scores in &scores {
        if !subject.producer(scores).is_some_and(is_product) {
            descend(subject, scores, rounded, seen, found);
        }
        found.extend(others.iter().filter(|_| adds).map(|value| Mask { value, scores, rounded }));
    }
}

/// S8-mask
pub fn magnitude(subject: &Subject<'_>, founds: &mut Founds) -> Result<(), ExportError> {
    let Some(quantized) = subject.quantized() else { return Ok(()) };
    let mut told = HashSet::new();
    for mask in masks(subject) {
        let Summand { reaches, least_seen, is_mixed } = summand(subject, mask.value)?;
        let needed = least_score(subject, mask.scores)? + least_seen - DEPTH;
        let mut rounded: Vec<(&Node, f32)> = mask.rounded.map(|node| (node, needed)).into_iter().collect();
        // A mask alone is 0 or hides, which two codes hold; with a bias in it, the codes between are of use.
        let own = behind(subject, mask.value).into_iter().filter(|_| is_mixed);
        rounded.extend(own.filter_map(|value| subject.producer(value)).map(|node| (node, least_seen)));
        for (node, needed) in rounded {
            let Some((bits, low)) = subject.steps(node).and_then(|steps| Some((steps.bits(), steps.range()?.0))) else {
                continue;
            };
            let Some((_, hidden)) = quantized.hidden.iter().find(|(width, _)| *width == bits) else { continue };
            let needed = hidden.min(needed);
            let is_widened = reaches < hidden * SLACK && (low as f32) < needed * SLACK;
            if is_widened && told.insert(node.outputs.first()) {
                let why = format!(
                    "a mask of {reaches} widens {bits} bits to {low:.1}, where {needed:.1} hides a key and leaves steps to the scores"
                );
                founds.push(Found::of(why).at(node).tensor(mask.value));
            }
        }
    }
    Ok(())
}

/// What is added to scores.
struct Summand {
    /// Its least number.
    reaches: f32,
    /// The least of those that a softmax is to see, at most 0.
    least_seen: f32,
    /// Whether it hides keys and shifts the scores of others.
    is_mixed: bool,
}

/// Numbers that hide keys lie further below the others than these are apart.
///
/// Errors: a constant cannot be read.
fn summand(subject: &Subject<'_>, value: &str) -> Result<Summand, ExportError> {
    let mut found = Summand { reaches: 0.0, least_seen: 0.0, is_mixed: false };
    for name in behind(subject, value) {
        let steps = subject.producer(name).and_then(|node| Some((node, subject.steps(node)?)));
        let constant = |name: &str| subject.constants.get(name);
        let numbers = match (constant(name), steps) {
            (Some(constant), _) => constant.floats()?,
            (None, Some((node, steps))) => {
                found.reaches = steps.range().map_or(0.0, |(low, _)| low as f32).min(found.reaches);
                match node.input(0).and_then(constant) {
                    Some(codes) => codes.ints()?.and_then(|codes| numbers(steps, &codes)),
                    None => None,
                }
            }
            (None, None) => None,
        };
        let mut numbers: Vec<f32> = numbers.unwrap_or_default().into_iter().filter(|x| x.is_finite()).collect();
        // A mask may be subtracted, or made of a 1 and a number.
        found.reaches = numbers.iter().fold(found.reaches, |least, x| least.min(-x.abs()));
        if numbers.len() > 1 {
            numbers.push(0.0);
            numbers.sort_by(f32::total_cmp);
            let extent = numbers[numbers.len() - 1] - numbers[0];
            let gap = numbers.windows(2).position(|pair| pair[1] - pair[0] > extent / 2.0);
            let seen = &numbers[gap.map_or(0, |at| at + 1)..];
            found.least_seen = seen[0].min(found.least_seen);
            found.is_mixed |= gap.is_some() && seen[0] != seen[seen.len() - 1];
        }
    }
    Ok(found)
}

/// What codes with one scale stand for.
fn numbers(steps: &Steps, codes: &[i64]) -> Option<Vec<f32>> {
    let (scale, zero) = (*steps.scales.first().filter(|_| steps.per_tensor)?, *steps.zeros.first()?);
    Some(codes.iter().map(|code| (*code as f32 - zero as f32) * scale).collect())
}

/// The least of the scores that a mask is added to, as far as it is known: where their codes begin, or what calibration saw.
/// 0 where nothing is known.
///
/// Errors: a constant cannot be read.
fn least_score<'a>(subject: &Subject<'a>, scores: &'a str) -> Result<f32, ExportError> {
    let (mut value, mut biases, mut passed) = (scores, 0.0, HashSet::new());
    while let Some(node) = subject.producer(value).filter(|_| passed.insert(value)) {
        if let Some((low, _)) = subject.steps(node).and_then(Steps::range) {
            return Ok(biases + low as f32);
        }
        let (scores, others): (Vec<&str>, Vec<&str>) =
            data(node).into_iter().partition(|value| has_product(subject, value));
        match scores.first() {
            Some(scores) if node.is("Add") || MOVERS.contains(&node.op.as_str()) => value = *scores,
            _ => break,
        }
        for other in others {
            biases += summand(subject, other)?.least_seen;
        }
    }
    let seen = subject.evidence.as_ref().and_then(|evidence| evidence.values.get(value));
    Ok(biases + seen.map_or(0.0, |range| range.min))
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
