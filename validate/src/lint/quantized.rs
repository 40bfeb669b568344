//! Rules on QuantizeLinear, DequantizeLinear and what stands between them.

use std::collections::HashSet;

use converters::ExportError;
use converters::export::onnx::{Element, Node, STANDARD};

use super::found::{Found, Founds};
use super::mask::{behind, masks};
use super::subject::{MOVERS, PRODUCTS, Steps, Subject, is_dequantize, is_quantize};

/// A bias's scale is a product of two floats, which rounds.
const BIAS_SCALE_REL: f64 = 1e-6;

/// Where a softmax's codes end, a step more or less than 1.
const PROBABILITY_SLACK: f64 = 0.01;

const NORMS: &[&str] =
    &["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "InstanceNormalization"];

/// Where the second argument's element count along the output axis lies.
fn output_axis(node: &Node, rank: usize) -> i64 {
    match node.op.as_str() {
        "MatMul" => rank as i64 - 1,
        "Gemm" if node.int("transB") != Some(1) => 1,
        _ => 0,
    }
}

fn quantizers<'a>(subject: &Subject<'a>) -> impl Iterator<Item = &'a Node> + use<'a> {
    subject.model.nodes.iter().filter(|node| is_quantize(node) || is_dequantize(node))
}

fn products<'a>(subject: &Subject<'a>) -> impl Iterator<Item = &'a Node> + use<'a> {
    subject.operators().filter(|node| PRODUCTS.iter().any(|op| node.is(op)))
}

/// The name of the codes of a quantizer.
fn codes(node: &Node) -> &str {
    match is_quantize(node) {
        true => node.outputs.first().map_or("", String::as_str),
        false => node.input(0).unwrap_or(""),
    }
}

/// Whether a quantizer holds an activation, not a weight.
fn of_activation(subject: &Subject<'_>, node: &Node) -> bool {
    node.input(0).is_some_and(|input| !subject.is_constant(input))
}

fn named(element: Option<Element>) -> String {
    element.map_or("no known type".to_owned(), |element| element.to_string())
}

/// Q0
pub fn some_quantized(subject: &Subject<'_>, founds: &mut Founds) {
    let Some(bits) = subject.profile.writes.activations else { return };
    let any = subject.model.nodes.iter().any(|node| is_quantize(node) && of_activation(subject, node));
    let products = products(subject).count();
    if !any && products > 0 {
        founds
            .push(Found::of(format!("expected activations of {bits} bits, found {products} products in float alone")));
    }
}

/// Q1
pub fn parameters(subject: &Subject<'_>, founds: &mut Founds) {
    for node in quantizers(subject) {
        let Some(steps) = subject.steps(node) else { continue };
        let why = if steps.scales.is_empty() {
            "expected a constant scale".to_owned()
        } else if let Some(scale) = steps.scales.iter().find(|scale| !scale.is_finite() || **scale <= 0.0) {
            format!("expected scales above 0, found {scale}")
        } else if steps.zeros.len() != steps.scales.len() {
            format!("expected {} constant zeros, found {}", steps.scales.len(), steps.zeros.len())
        } else if steps.zeros_element.is_some() && steps.zeros_element != steps.element {
            format!("expected zeros of {}, found {}", named(steps.element), named(steps.zeros_element))
        } else if let (Some((low, high)), Some(zero)) = (steps.codes(), steps.zeros.iter().find(|zero| **zero != 0))
            && low < 0.0
            && high > 0.0
        {
            format!("expected zeros of 0 for {}, which is symmetric, found {zero}", named(steps.element))
        } else {
            continue;
        };
        founds.push(Found::of(why).at(node).tensor(codes(node)));
    }
}

/// Q2
pub fn activations(subject: &Subject<'_>, founds: &mut Founds) {
    let Some(quantized) = subject.quantized() else { return };
    for (node, steps) in rounded_activations(subject) {
        let found = named(steps.element);
        if !steps.per_tensor && !steps.scales.is_empty() {
            let why = format!("expected one scale for all of an activation, found {}", steps.scales.len());
            founds.push(Found::of(why).at(node).tensor(codes(node)));
        } else if ![quantized.activations, quantized.tolerated].concat().contains(&found.as_str()) {
            let why = format!("expected activations of {}, found {found}", quantized.activations.join(" or "));
            founds.push(Found::of(why).at(node).tensor(codes(node)));
        }
    }
    for node in subject.operators().filter(|node| subject.is_dynamic_product(node)) {
        let (Some((_, x)), Some((_, y))) = (subject.dequantized(node, 0), subject.dequantized(node, 1)) else {
            continue;
        };
        let (x, y) = (named(x.element), named(y.element));
        if quantized.refused_factors.contains(&(x.as_str(), y.as_str())) {
            founds.push(Found::of(format!("a product of {x} and {y} is refused")).at(node));
        }
    }
}

/// Q2-signed
pub fn signed_activations(subject: &Subject<'_>, founds: &mut Founds) {
    let Some(quantized) = subject.quantized() else { return };
    for (node, steps) in rounded_activations(subject) {
        let found = named(steps.element);
        if !quantized.activations.contains(&found.as_str())
            && quantized.tolerated.contains(&found.as_str())
            && !(quantized.second_factors.contains(&found.as_str()) && is_second_factor(subject, node))
        {
            let why = format!("expected activations of {}, found {found}", quantized.activations.join(" or "));
            founds.push(Found::of(why).at(node).tensor(codes(node)));
        }
    }
}

/// The first quantizer of each activation's codes.
fn rounded_activations<'s, 'a>(subject: &'s Subject<'a>) -> Vec<(&'a Node, &'s Steps)> {
    let mut seen = HashSet::new();
    let of_activations = quantizers(subject).filter(|node| of_activation(subject, node) && seen.insert(codes(node)));
    of_activations.filter_map(|node| Some((node, subject.steps(node)?))).collect()
}

/// Whether codes are those of a second factor, or of keys and values, which are second factors elsewhere: behind moves and
/// other quantizers, they are in no other place.
fn is_second_factor(subject: &Subject<'_>, node: &Node) -> bool {
    let moves = |node: &Node| {
        is_quantize(node)
            || is_dequantize(node)
            || MOVERS.contains(&node.op.as_str())
            || ["Concat", "Where", "ScatterElements", "Mul"].contains(&node.op.as_str())
    };
    if returned(subject, node) {
        return true;
    }
    let (mut open, mut seen, mut found) = (vec![node], HashSet::new(), false);
    while let Some(node) = open.pop() {
        found |= node.outputs.iter().any(|output| subject.is_output(output));
        for (user, slot) in node.outputs.iter().flat_map(|output| subject.users(output)) {
            if slot == 1 && subject.is_dynamic_product(user) {
                found = true;
            } else if !moves(user) {
                return false;
            } else if seen.insert(user.outputs.first()) {
                open.push(user);
            }
        }
    }
    found
}

/// The floats that a QuantizeLinear's codes become again.
fn floats_of(subject: &Subject<'_>, node: &Node) -> Vec<String> {
    let users = node.outputs.iter().flat_map(|codes| subject.users(codes));
    users.filter(|(user, _)| is_dequantize(user)).flat_map(|(user, _)| user.outputs.clone()).collect()
}

/// Keys and values that the graph returns are second factors elsewhere.
fn returned(subject: &Subject<'_>, node: &Node) -> bool {
    let outputs = [node.outputs.clone(), floats_of(subject, node)].concat();
    outputs.iter().any(|name| subject.is_output(name))
}

/// Q3
pub fn one_width(subject: &Subject<'_>, founds: &mut Founds) {
    widths(subject, |node| !subject.is_dynamic_product(node), founds);
}

/// Q3-dynamic
pub fn one_width_of_activations(subject: &Subject<'_>, founds: &mut Founds) {
    widths(subject, |node| subject.is_dynamic_product(node), founds);
}

fn widths(subject: &Subject<'_>, applies: impl Fn(&Node) -> bool, founds: &mut Founds) {
    for node in products(subject).filter(|node| applies(node)) {
        let (Some((_, input)), Some((_, output))) = (subject.dequantized(node, 0), subject.result(node)) else {
            continue;
        };
        if input.bits() != output.bits() {
            let why = format!("a first factor of {} bits, but a result of {}", input.bits(), output.bits());
            founds.push(Found::of(why).at(node));
        }
    }
}

/// Q3-w16
pub fn wide_weights(subject: &Subject<'_>, founds: &mut Founds) {
    for node in products(subject) {
        if let Some((source, steps)) = weight(subject, node).filter(|(_, steps)| steps.bits() == 16) {
            let why = format!("weights of {} need a v73 or newer", named(steps.element));
            founds.push(Found::of(why).at(node).tensor(codes(source)));
        }
    }
}

/// The DequantizeLinear of a linear layer's weight.
fn weight<'s, 'a>(subject: &'s Subject<'a>, node: &Node) -> Option<(&'a Node, &'s Steps)> {
    subject.dequantized(node, 1).filter(|(source, _)| !of_activation(subject, source))
}

/// Q4
pub fn weights(subject: &Subject<'_>, founds: &mut Founds) {
    let Some(quantized) = subject.quantized() else { return };
    for node in products(subject) {
        let Some((source, steps)) = weight(subject, node) else { continue };
        let found = named(steps.element);
        let rank = source.outputs.first().and_then(|w| subject.types.shape(w)).map_or(2, <[usize]>::len);
        let axis = if steps.axis < 0 { steps.axis + rank as i64 } else { steps.axis };
        let beside = subject.dequantized(node, 0).map(|(_, steps)| named(steps.element));
        let allowed = quantized.weights.contains(&found.as_str()) || steps.bits() == 16;
        let why = if !allowed {
            format!("expected weights of {}, found {found}", quantized.weights.join(" or "))
        } else if steps.block > 0
            && beside.as_ref().is_none_or(|found| !quantized.blocks_beside.contains(&found.as_str()))
        {
            let expected = match quantized.blocks_beside {
                [] => "no scales for blocks".to_owned(),
                types => format!("scales for blocks beside activations of {}", types.join(" or ")),
            };
            format!("expected {expected}, found them beside {}", beside.as_deref().unwrap_or("float"))
        } else if !steps.per_tensor && steps.block == 0 && axis != output_axis(node, rank) {
            format!("expected scales along axis {} of the weight, found axis {axis}", output_axis(node, rank))
        } else {
            continue;
        };
        founds.push(Found::of(why).at(node).tensor(codes(source)));
    }
}

/// Q4-nibbles
pub fn nibbles_with_zeros(subject: &Subject<'_>, founds: &mut Founds) {
    for node in quantizers(subject).filter(|node| is_dequantize(node) && node.input(2).is_none()) {
        if subject.steps(node).is_some_and(|steps| steps.element == Some(Element::INT4)) {
            founds.push(Found::of("int4 without zeros, which is read as uint4").at(node).tensor(codes(node)));
        }
    }
}

/// Q4-channels
pub fn per_channel(subject: &Subject<'_>, founds: &mut Founds) {
    for node in products(subject) {
        let Some((source, steps)) = weight(subject, node) else { continue };
        if steps.per_tensor {
            founds.push(Found::of("one scale for all channels of a weight").at(node).tensor(codes(source)));
        }
    }
}

/// Q5
pub fn bias(subject: &Subject<'_>, founds: &mut Founds) {
    for node in subject.operators().filter(|node| node.is("Gemm") || node.is("Conv")) {
        let (Some((source, bias)), Some((_, x)), Some((_, w))) =
            (subject.dequantized(node, 2), subject.dequantized(node, 0), subject.dequantized(node, 1))
        else {
            continue;
        };
        let at = |scales: &[f32], i: usize| f64::from(if scales.len() == 1 { scales[0] } else { scales[i] });
        let count = w.scales.len().max(1);
        let why = if bias.element != Some(Element::INT32) {
            format!("expected a bias of int32, found {}", named(bias.element))
        } else if bias.zeros.iter().any(|zero| *zero != 0) {
            "expected a bias with zeros of 0".to_owned()
        } else if x.scales.len() != 1 || w.scales.is_empty() || ![1, count].contains(&bias.scales.len()) {
            format!("expected {count} scales of the bias, found {}", bias.scales.len())
        } else if let Some(i) = (0..count).find(|i| {
            let (found, expected) = (at(&bias.scales, *i), f64::from(x.scales[0]) * at(&w.scales, *i));
            (found - expected).abs() > BIAS_SCALE_REL * expected
        }) {
            let expected = f64::from(x.scales[0]) * at(&w.scales, i);
            let found = at(&bias.scales, i);
            format!(
                "expected a bias scale of {expected:e}, the input's times the weight's, found {found:e} in channel {i}"
            )
        } else {
            continue;
        };
        founds.push(Found::of(why).at(node).tensor(codes(source)));
    }
}

/// Q6
pub fn gains(subject: &Subject<'_>, founds: &mut Founds) {
    let Some(quantized) = subject.quantized() else { return };
    for node in subject.operators().filter(|node| NORMS.contains(&node.op.as_str())) {
        let (Some((_, x)), Some((source, gain))) = (subject.dequantized(node, 0), subject.dequantized(node, 1)) else {
            continue;
        };
        let (x, gain) = (named(x.element), named(gain.element));
        if !quantized.gains.contains(&(x.as_str(), gain.as_str())) {
            let beside = quantized.gains.iter().filter(|(activation, _)| *activation == x).map(|(_, gain)| *gain);
            let expected = beside.collect::<Vec<_>>().join(" or ");
            founds.push(
                Found::of(format!("expected a gain of {expected} beside {x}, found {gain}"))
                    .at(node)
                    .tensor(codes(source)),
            );
        }
    }
}

/// Q7
pub fn complete(subject: &Subject<'_>, founds: &mut Founds) {
    // One scale for all is undone when the graph is compiled.
    half_quantized(subject, |steps| !steps.per_tensor, founds);
}

/// Q7-partial
pub fn partial(subject: &Subject<'_>, founds: &mut Founds) {
    half_quantized(subject, |steps| steps.per_tensor, founds);
    for node in subject.operators().filter(|node| subject.is_dynamic_product(node)) {
        let quantized = [0, 1].map(|slot| subject.dequantized(node, slot).is_some());
        let all = [quantized[0], quantized[1], subject.result(node).is_some()];
        if all.contains(&false) && quantized.contains(&true) {
            let parts = ["the first factor", "the second factor", "the result"];
            let float = parts.iter().zip(all).filter(|(_, rounded)| !rounded).map(|(part, _)| *part);
            let why = format!("partly quantized: {} float, so all of it is computed in float", are(float.collect()));
            founds.push(Found::of(why).at(node));
        }
    }
}

/// Nodes with a constant in codes and an argument or a result in floats.
fn half_quantized(subject: &Subject<'_>, applies: impl Fn(&Steps) -> bool, founds: &mut Founds) {
    let is_float = |name: &str| subject.types.element(name).is_none_or(Element::is_float);
    for node in subject.operators() {
        let slots = 0..node.inputs.len();
        let constant = slots.clone().find_map(|slot| {
            subject.dequantized(node, slot).filter(|(source, steps)| !of_activation(subject, source) && applies(steps))
        });
        let Some((source, steps)) = constant else { continue };
        let open = slots.clone().find(|slot| {
            node.input(*slot).is_some_and(|name| is_float(name) && !subject.is_constant(name))
                && subject.dequantized(node, *slot).is_none()
        });
        let why = match open.and_then(|slot| node.input(slot)) {
            Some(open) => format!("its constant is {}, but {open} is float", steps.shown()),
            // What is made of constants alone is computed in advance.
            None if subject.result(node).is_none() && !node.given().all(|name| subject.is_constant(name)) => {
                format!("its constant is {}, but its result is float", steps.shown())
            }
            None => continue,
        };
        founds.push(Found::of(why).at(node).tensor(codes(source)));
    }
}

fn are(parts: Vec<&str>) -> String {
    let verb = if parts.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", parts.join(" and "))
}

/// Q8
pub fn moves(subject: &Subject<'_>, founds: &mut Founds) {
    for node in subject.operators().filter(|node| MOVERS.iter().any(|op| node.is(op))) {
        let Some((_, input)) = subject.dequantized(node, 0) else { continue };
        for output in &node.outputs {
            let Some((_, found)) = subject.requantized(output).filter(|(_, found)| !found.same_as(input)) else {
                continue;
            };
            let why = format!("moves {} into {}", input.shown(), found.shown());
            founds.push(Found::of(why).at(node).tensor(output));
        }
    }
}

/// Q9
pub fn scatters(subject: &Subject<'_>, founds: &mut Founds) {
    for node in subject.operators().filter(|node| node.is("ScatterElements")) {
        let parts = [
            ("data", subject.dequantized(node, 0).map(|(_, steps)| steps)),
            ("updates", subject.dequantized(node, 2).map(|(_, steps)| steps)),
            ("result", node.outputs.first().and_then(|y| subject.requantized(y)).map(|(_, steps)| steps)),
        ];
        let known: Vec<_> = parts.iter().filter_map(|(part, steps)| Some((part, (*steps)?))).collect();
        let Some(((first, steps), others)) = known.split_first() else { continue };
        if let Some((part, other)) = others.iter().find(|(_, other)| !other.same_as(steps)) {
            let why = format!("its {first} is {}, but its {part} {}", steps.shown(), other.shown());
            founds.push(Found::of(why).at(node));
        }
    }
}

/// Q10
pub fn joins(subject: &Subject<'_>, founds: &mut Founds) {
    for node in subject.operators().filter(|node| node.is("Concat")) {
        let inputs = (0..node.inputs.len()).filter_map(|slot| Some(subject.dequantized(node, slot)?.1));
        let output = node.outputs.first().and_then(|y| subject.requantized(y)).map(|(_, steps)| steps);
        let all: Vec<&Steps> = inputs.chain(output).collect();
        if let Some(other) = all.iter().find(|steps| !steps.same_as(all[0])) {
            founds.push(Found::of(format!("joins {} and {}", all[0].shown(), other.shown())).at(node));
        }
    }
}

/// Q11
pub fn probabilities(subject: &Subject<'_>, founds: &mut Founds) {
    for node in subject.operators().filter(|node| node.is("Softmax")) {
        let Some((_, steps)) = subject.result(node) else { continue };
        let Some((low, high)) = steps.range() else { continue };
        if low < 0.0 || (high - 1.0).abs() > PROBABILITY_SLACK {
            founds.push(Found::of(format!("expected codes for 0 to 1, found {low} to {high:.4}")).at(node));
        }
    }
}

/// Q11-fixed
pub fn fixed(subject: &Subject<'_>, founds: &mut Founds) {
    let known = [("Sigmoid", 1.0 / 65536.0, 0), ("Tanh", 1.0 / 32768.0, 32768)];
    for node in subject.operators() {
        let Some((_, scale, zero)) = known.iter().find(|(op, ..)| node.is(op)) else { continue };
        let Some((_, steps)) = subject.result(node).filter(|(_, steps)| steps.element == Some(Element::UINT16)) else {
            continue;
        };
        if (steps.scales.as_slice(), steps.zeros.as_slice()) != (&[*scale], &[*zero]) {
            let why = format!("expected scale {scale:e} and zero {zero} for {}, found {}", node.op, steps.shown());
            founds.push(Found::of(why).at(node));
        }
    }
}

/// Q11-relu
pub fn relus(subject: &Subject<'_>, founds: &mut Founds) {
    let signed = |node: &Node| PRODUCTS.iter().any(|op| node.is(op)) || node.is("Add");
    // Codes below 0 that become codes without: a Relu between two quantizers is gone.
    let below = |node: &Node| is_dequantize(node) && lowest(subject, node).is_some_and(|low| low < 0.0);
    for node in subject.model.nodes.iter().filter(|node| signed(node) || below(node)) {
        let Some((quantize, steps)) = node.outputs.first().and_then(|y| subject.requantized(y)) else { continue };
        if lowest(subject, quantize) == Some(0.0) {
            let why = format!("rounded to {}, which has no number below 0, without a Relu", steps.shown());
            founds.push(Found::of(why).at(node).tensor(codes(quantize)));
        }
    }
}

/// The least number that codes of a quantizer stand for.
fn lowest(subject: &Subject<'_>, node: &Node) -> Option<f64> {
    Some(subject.steps(node)?.range()?.0)
}

/// Q12
pub fn never(subject: &Subject<'_>, founds: &mut Founds) {
    let Some(quantized) = subject.quantized() else { return };
    for node in subject.operators() {
        let Some((_, refused)) = quantized.never.iter().find(|(op, _)| node.is(op)) else { continue };
        let both = [subject.dequantized(node, 0).map(|(_, steps)| steps), subject.result(node).map(|(_, steps)| steps)];
        if let Some(steps) = both.into_iter().flatten().find(|steps| refused.contains(&steps.bits())) {
            founds.push(Found::of(format!("{} in {}", node.op, steps.shown())).at(node));
        }
    }
}

/// Q12-mask
pub fn mask_arithmetic(subject: &Subject<'_>, founds: &mut Founds) {
    if subject.quantized().is_none_or(|quantized| quantized.masks) {
        return;
    }
    let mut seen = HashSet::new();
    for mask in masks(subject) {
        for value in behind(subject, mask.value) {
            let Some(node) = subject.producer(value).filter(|node| ["Sub", "Mul"].iter().any(|op| node.is(op))) else {
                continue;
            };
            let rounded =
                (0..2).any(|slot| subject.dequantized(node, slot).is_some()) && subject.result(node).is_some();
            if rounded && seen.insert(value) {
                founds.push(Found::of(format!("{} of an attention mask, quantized", node.op)).at(node));
            }
        }
    }
}

/// Q13
pub fn second_factors(subject: &Subject<'_>, founds: &mut Founds) {
    let Some(quantized) = subject.quantized() else { return };
    for node in subject.operators().filter(|node| subject.is_dynamic_product(node)) {
        let Some((source, steps)) = subject.dequantized(node, 1) else { continue };
        if !quantized.second_factors.contains(&named(steps.element).as_str()) {
            let expected = quantized.second_factors.join(" or ");
            let why = format!("expected a second factor of {expected}, found {}", steps.shown());
            founds.push(Found::of(why).at(node).tensor(codes(source)));
        }
    }
}

/// Q14
pub fn versions(subject: &Subject<'_>, founds: &mut Founds) {
    let opset = subject.model.opsets.get(STANDARD).copied().unwrap_or(0);
    for node in quantizers(subject).filter(|node| node.domain == STANDARD && opset < 21) {
        let bits = subject.steps(node).map_or(8, Steps::bits);
        if bits == 4 || bits == 16 {
            let why = format!("{} of {bits} bits needs opset 21, found {opset}", node.op);
            founds.push(Found::of(why).at(node).tensor(codes(node)));
        }
    }
}

/// Q14-domain
pub fn domains(subject: &Subject<'_>, founds: &mut Founds) {
    let opset = subject.model.opsets.get(STANDARD).copied().unwrap_or(0);
    for node in quantizers(subject).filter(|node| node.domain != STANDARD && opset >= 21) {
        let why = format!("{}.{}, although opset {opset} has it", node.domain, node.op);
        founds.push(Found::of(why).at(node).tensor(codes(node)));
    }
}

/// Q15
pub fn touched(subject: &Subject<'_>, founds: &mut Founds) -> Result<(), ExportError> {
    let Some(evidence) = &subject.evidence else { return Ok(()) };
    let steps = subject.model.nodes.iter().filter(|node| is_quantize(node) && of_activation(subject, node));
    for node in steps {
        let Some(name) = node.input(0) else { continue };
        if evidence.samples == 0 || !evidence.values.contains_key(name) {
            let why = format!("rounded to fixed steps, but none of {} samples touched it", evidence.samples);
            founds.push(Found::of(why).at(node).tensor(name));
        }
    }
    Ok(())
}
