//! Rules on shapes, names, operators and constants: what holds for float graphs too.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;

use converters::ExportError;
use converters::export::npu::{Form, MAX_DATA_BYTES};
use converters::export::onnx::{Attribute, Element, Node, STANDARD};

use super::found::{Found, Founds};
use super::subject::Subject;

/// S1
pub fn static_shapes(subject: &Subject<'_>, founds: &mut Founds) {
    let types = &subject.types;
    let mut follow = match types.following {
        0 => String::new(),
        n => format!("; {n} values that are computed from such ones have none either"),
    };
    for unknown in &types.unknown {
        let why = format!("no static shape: {}{follow}", unknown.why);
        founds.push(Found::of(why).maybe_at(unknown.node.map(|at| &subject.model.nodes[at])).tensor(&unknown.value));
        follow.clear();
    }
    for wrong in &types.wrong {
        let why = wrong.why.clone();
        founds.push(Found::of(why).maybe_at(wrong.node.map(|at| &subject.model.nodes[at])).tensor(&wrong.value));
    }
}

/// S1-batch
pub fn one_at_a_time(subject: &Subject<'_>, founds: &mut Founds) {
    for input in &subject.model.inputs {
        // Keys, values and masks of scores may begin with heads.
        let whole =
            input.element.is_some_and(|element| !element.is_float() && element.bits() != 8 && element.bits() != 16);
        let features = ["input_", "encoder_hidden"].iter().any(|prefix| input.name.starts_with(prefix));
        if let Some([batch @ (0 | 2..), _, ..]) = input.fixed().as_deref()
            && (whole || features)
        {
            let why = format!("expected a batch of 1, found {batch} in {:?}", input.fixed().unwrap_or_default());
            founds.push(Found::of(why).tensor(&input.name));
        }
    }
}

/// S2
pub fn no_control_flow(subject: &Subject<'_>, founds: &mut Founds) {
    for node in &subject.model.nodes {
        let branches = node.attributes.values().any(|value| matches!(value, Attribute::Graph));
        let other = node.op.starts_with("Sequence") || node.op.starts_with("Optional") || node.op.starts_with("String");
        if branches || other || ["If", "Loop", "Scan"].contains(&node.op.as_str()) {
            founds.push(Found::of(format!("{} chooses or repeats when it runs", node.op)).at(node));
        }
    }
    for function in &subject.model.functions {
        founds.push(Found::of(format!("the file defines a function, {function}")));
    }
}

/// S3
pub fn rank(subject: &Subject<'_>, founds: &mut Founds) {
    let takes = &subject.profile.takes;
    for input in &subject.model.inputs {
        let rank = input.shape.as_ref().map_or(0, Vec::len);
        if rank > takes.max_rank {
            let why = format!("expected at most {} axes, found {rank}", takes.max_rank);
            founds.push(Found::of(why).tensor(&input.name));
        }
    }
    for node in &subject.model.nodes {
        let own = subject.profile.operator(&qualified(node)).and_then(|operator| operator.max_rank);
        let limit = own.unwrap_or(takes.max_rank).min(takes.max_rank);
        let ranks = node.outputs.iter().filter_map(|name| Some((name, subject.types.shape(name)?.len())));
        if let Some((name, rank)) = ranks.max_by_key(|(_, rank)| *rank).filter(|(_, rank)| *rank > limit) {
            let why = format!("expected at most {limit} axes for {}, found {rank}", node.op);
            founds.push(Found::of(why).at(node).tensor(name));
        }
    }
}

/// S4
pub fn opset(subject: &Subject<'_>, founds: &mut Founds) {
    let (oldest, newest) = subject.profile.takes.opsets;
    match subject.model.opsets.get(STANDARD) {
        Some(found) if (oldest..=newest).contains(found) => {}
        Some(found) => founds.push(Found::of(format!("expected opset {oldest} to {newest}, found {found}"))),
        None => founds.push(Found::of(format!("expected opset {oldest} to {newest}, found none"))),
    }
}

/// S5
pub fn port_types(subject: &Subject<'_>, founds: &mut Founds) {
    let ports = subject.profile.takes.ports;
    let initialized: HashSet<&str> = subject.model.initializers.iter().map(|c| c.name.as_str()).collect();
    let inputs = subject.model.inputs.iter().filter(|input| !initialized.contains(input.name.as_str()));
    for port in inputs.chain(&subject.model.outputs) {
        let element = port.element.or_else(|| subject.types.element(&port.name));
        let found = element.map_or("no tensor".to_owned(), |element| element.to_string());
        if !ports.contains(&found.as_str()) {
            founds.push(Found::of(format!("expected one of {}, found {found}", ports.join(", "))).tensor(&port.name));
        }
    }
}

/// S6
pub fn names(subject: &Subject<'_>, founds: &mut Founds) {
    let model = subject.model;
    let inputs: HashSet<&str> = model.inputs.iter().map(|input| input.name.as_str()).collect();
    for name in model.initializers.iter().map(|constant| constant.name.as_str()).filter(|name| inputs.contains(name)) {
        founds.push(Found::of("an initializer that is also an input, which a caller could replace").tensor(name));
    }
    let mut nodes = HashMap::<&str, usize>::new();
    model.nodes.iter().for_each(|node| *nodes.entry(&node.name).or_default() += 1);
    nodes.remove("");
    for node in &model.nodes {
        if let Some(count @ 2..) = nodes.remove(node.name.as_str()) {
            founds.push(Found::of(format!("{count} nodes of one name")).at(node));
        }
    }
    let mut made: HashSet<&str> = inputs;
    made.extend(model.initializers.iter().map(|constant| constant.name.as_str()));
    made.extend(model.sparse_initializers.iter().map(String::as_str));
    for node in &model.nodes {
        for name in node.given().filter(|name| !made.contains(name)) {
            founds.push(Found::of("read before it is made").at(node).tensor(name));
        }
        for name in node.outputs.iter().filter(|name| !name.is_empty()) {
            if !made.insert(name) {
                founds.push(Found::of("made twice").at(node).tensor(name));
            }
        }
    }
    for output in model.outputs.iter().filter(|output| !made.contains(output.name.as_str())) {
        founds.push(Found::of("an output that no node makes").tensor(&output.name));
    }
    for name in &model.sparse_initializers {
        founds.push(Found::of("a sparse initializer").tensor(name));
    }
}

/// S6-unnamed
pub fn unnamed(subject: &Subject<'_>, founds: &mut Founds) {
    let mut unnamed = subject.model.nodes.iter().filter(|node| node.name.is_empty());
    if let Some(first) = unnamed.next() {
        let count = unnamed.count() + 1;
        founds.push(Found::of(format!("nodes without a name: {count}; the first is {}", first.op)).at(first));
    }
}

/// S7
pub fn element_types(subject: &Subject<'_>, founds: &mut Founds) {
    let refused = [Element::DOUBLE, Element::STRING];
    for constant in subject.model.initializers.iter().filter(|constant| refused.contains(&constant.element)) {
        founds.push(Found::of(format!("{} constants are not taken", constant.element)).tensor(&constant.name));
    }
    for node in &subject.model.nodes {
        for name in &node.outputs {
            match subject.types.element(name) {
                Some(element) if refused.contains(&element) => {
                    founds.push(Found::of(format!("computes in {element}")).at(node).tensor(name));
                }
                // What these make is a 64-bit number by ONNX's own words; of shapes it is S1 that speaks.
                Some(Element::INT64)
                    if !["Constant", "ArgMax", "ArgMin", "TopK", "Shape", "Size"].contains(&node.op.as_str()) =>
                {
                    founds.push(Found::of("computes in int64").at(node).tensor(name));
                }
                _ => {}
            }
        }
    }
}

/// S8
pub fn finite(subject: &Subject<'_>, founds: &mut Founds) -> Result<(), ExportError> {
    for constant in subject.constants.values() {
        let Some(floats) = constant.floats()? else { continue };
        if let Some((at, found)) = floats.iter().enumerate().find(|(_, x)| !x.is_finite()) {
            founds.push(
                Found::of(format!("expected finite numbers, found {found} at element {at}")).tensor(&constant.name),
            );
        }
    }
    Ok(())
}

/// S8-range
pub fn within_range(subject: &Subject<'_>, founds: &mut Founds) -> Result<(), ExportError> {
    let largest = subject.profile.takes.largest;
    for constant in subject.constants.values() {
        let Some(floats) = constant.floats()? else { continue };
        let beyond = floats.iter().filter(|x| x.is_finite()).find(|x| x.abs() > largest);
        if let Some(found) = beyond {
            let why = format!("expected at most {largest} in magnitude, which floats are computed in, found {found:e}");
            founds.push(Found::of(why).tensor(&constant.name));
        }
    }
    Ok(())
}

/// S9
pub fn norms_over_the_last_axis(subject: &Subject<'_>, founds: &mut Founds) {
    let norms = ["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "LpNormalization"];
    last_axis(subject, &norms, founds);
}

/// S9-softmax
pub fn softmax_over_the_last_axis(subject: &Subject<'_>, founds: &mut Founds) {
    last_axis(subject, &["Softmax", "LogSoftmax"], founds);
}

fn last_axis(subject: &Subject<'_>, ops: &[&str], founds: &mut Founds) {
    for node in subject.operators().filter(|node| ops.contains(&node.op.as_str())) {
        let axis = node.int("axis").unwrap_or(-1);
        let rank = node.input(0).and_then(|x| subject.types.shape(x)).map(<[usize]>::len);
        if axis != -1 && rank.is_none_or(|rank| axis != rank as i64 - 1) {
            let of = rank.map_or(String::new(), |rank| format!(" of {rank}"));
            founds.push(Found::of(format!("{} over axis {axis}{of}, not the last", node.op)).at(node));
        }
    }
}

/// S10
pub fn two_operands(subject: &Subject<'_>, founds: &mut Founds) {
    for node in subject.model.nodes.iter().filter(|node| node.is("Min") || node.is("Max")) {
        if node.inputs.len() != 2 {
            founds.push(Found::of(format!("expected {} of 2 values, found {}", node.op, node.inputs.len())).at(node));
        }
    }
}

/// S10-indices
pub fn indices_inside(subject: &Subject<'_>, founds: &mut Founds) -> Result<(), ExportError> {
    for (node, extent, indices) in constant_indices(subject)? {
        let outside = |i: &&i64| **i >= extent as i64 || **i < -(extent as i64);
        if let Some(index) = indices.iter().find(outside) {
            let why = format!("expected indices below {extent}, found {index}");
            founds.push(Found::of(why).at(node).tensor(&node.inputs[1]));
        }
    }
    Ok(())
}

/// S10-negative
pub fn indices_from_the_start(subject: &Subject<'_>, founds: &mut Founds) -> Result<(), ExportError> {
    for (node, _, indices) in constant_indices(subject)? {
        if let Some(index) = indices.iter().find(|i| **i < 0) {
            founds.push(Found::of(format!("expected indices from 0, found {index}")).at(node).tensor(&node.inputs[1]));
        }
    }
    Ok(())
}

/// A Gather by constants, the extent that they index and the indices.
type Indexed<'a> = (&'a Node, usize, Vec<i64>);

fn constant_indices<'a>(subject: &Subject<'a>) -> Result<Vec<Indexed<'a>>, ExportError> {
    let mut found = Vec::new();
    for node in subject.operators().filter(|node| node.is("Gather")) {
        let (Some(table), Some(indices)) = (node.input(0), node.input(1)) else { continue };
        let Some(constant) = subject.constants.get(indices) else { continue };
        let axis = node.int("axis").unwrap_or(0);
        let extent = subject.types.shape(table).and_then(|shape| {
            let axis = if axis < 0 { axis + shape.len() as i64 } else { axis };
            shape.get(usize::try_from(axis).ok()?).copied()
        });
        found.extend(extent.zip(constant.ints()?).map(|(extent, indices)| (node, extent, indices)));
    }
    Ok(found)
}

/// S11
pub fn external_data(subject: &Subject<'_>, founds: &mut Founds) -> Result<(), ExportError> {
    let beside: BTreeSet<_> =
        subject.model.initializers.iter().filter_map(|constant| constant.beside.as_ref()).collect();
    for file in beside {
        let bytes = fs::metadata(file).map_err(|source| ExportError::Io { file: file.clone(), source })?.len();
        if bytes > MAX_DATA_BYTES {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            founds.push(Found::of(format!("expected at most {MAX_DATA_BYTES} bytes, found {bytes} in {name}")));
        }
    }
    Ok(())
}

/// `MatMul`, `com.microsoft.Gelu`.
fn qualified(node: &Node) -> String {
    if node.domain == STANDARD { node.op.clone() } else { format!("{}.{}", node.domain, node.op) }
}

/// O1
pub fn known_operators(subject: &Subject<'_>, founds: &mut Founds) {
    for node in &subject.model.nodes {
        let name = qualified(node);
        if subject.profile.operator(&name).is_none() {
            let version = subject.model.opsets.get(&node.domain).map_or(String::new(), |v| format!(" of opset {v}"));
            founds.push(Found::of(format!("{name}{version} is not taken")).at(node));
        }
    }
}

/// O2
pub fn forms(subject: &Subject<'_>, founds: &mut Founds) {
    for node in subject.operators() {
        let Some(operator) = subject.profile.operator(&qualified(node)) else { continue };
        let rounded = subject.dequantized(node, 0).is_some() || subject.result(node).is_some();
        let why = match operator.form {
            Form::Any | Form::Host => continue,
            Form::Float if rounded => "taken in float only, found quantized",
            Form::GeluFormula if rounded => "taken inside GELU's formula in float only, found quantized",
            Form::GeluFormula if !in_gelu(subject, node) => "taken inside x · (erf(x / √2) + 1) / 2 only, found alone",
            Form::Float | Form::GeluFormula => continue,
        };
        founds.push(Found::of(format!("{}: {why}", node.op)).at(node));
    }
}

/// O3
pub fn on_the_host(subject: &Subject<'_>, founds: &mut Founds) {
    for node in subject.operators() {
        if subject.profile.operator(&qualified(node)).is_some_and(|operator| operator.form == Form::Host) {
            founds.push(
                Found::of(format!("{} is left to the host's processor by some of these tools", node.op)).at(node),
            );
        }
    }
}

/// Whether an Erf is that of `x · (erf(x / √2) + 1) / 2`.
fn in_gelu(subject: &Subject<'_>, erf: &Node) -> bool {
    let near = |value: Option<&str>, expected: f32| {
        value.and_then(|value| subject.scalar(value)).is_some_and(|x| (x - expected).abs() < 1e-3)
    };
    let either = |node: &Node, expected| near(node.input(0), expected) || near(node.input(1), expected);
    let scaled = erf.input(0).and_then(|x| subject.producer(x)).is_some_and(|scale| {
        scale.is("Div") && near(scale.input(1), std::f32::consts::SQRT_2)
            || scale.is("Mul") && either(scale, std::f32::consts::FRAC_1_SQRT_2)
    });
    let one = |node: &Node| node.is("Add") && either(node, 1.0);
    let multiplied = |sum: &Node| sum.outputs.first().is_some_and(|y| subject.users(y).all(|(user, _)| user.is("Mul")));
    scaled && erf.outputs.first().is_some_and(|y| subject.users(y).all(|(sum, _)| one(sum) && multiplied(sum)))
}

/// Whether a result may grow with the residual stream. What a number is added to does not.
fn is_sum(subject: &Subject<'_>, node: &Node) -> bool {
    let adds_number = || node.given().any(|term| subject.scalar(term).is_some());
    ["MatMul", "Gemm", "Conv"].iter().any(|op| node.is(op)) || node.is("Add") && !adds_number()
}

/// Whether a result grows faster than its argument. The square that a mean is taken of belongs to a norm, which toolchains
/// compute as one operator.
fn grows_fast(subject: &Subject<'_>, node: &Node) -> bool {
    let squares = || node.outputs.iter().flat_map(|y| subject.users(y)).any(|(user, _)| user.is("ReduceMean"));
    node.is("Exp") || node.is("ReduceSum") || node.is("Pow") && !squares()
}

/// R0
pub fn seen(subject: &Subject<'_>, founds: &mut Founds) {
    let Some(evidence) = &subject.evidence else {
        founds.push(Found::of("no calibration.json beside the file: R1, R3 and Q15 are not checked"));
        return;
    };
    let grows = |node: &&Node| is_sum(subject, node) || grows_fast(subject, node);
    let all: Vec<&String> = subject.operators().filter(grows).filter_map(|node| node.outputs.first()).collect();
    let missing: Vec<&&String> = all.iter().filter(|name| !evidence.values.contains_key(**name)).collect();
    if let Some(first) = missing.first() {
        let (missing, all) = (missing.len(), all.len());
        let why =
            format!("{missing} of {all} sums and products are not in calibration.json: R1 and R3 do not check them");
        founds.push(Found::of(why).tensor(first));
    }
}

/// R1
pub fn sums_seen(subject: &Subject<'_>, founds: &mut Founds) {
    within_half(subject, |node| is_sum(subject, node), founds);
}

/// R3
pub fn powers_seen(subject: &Subject<'_>, founds: &mut Founds) {
    within_half(subject, |node| grows_fast(subject, node), founds);
}

fn within_half(subject: &Subject<'_>, applies: impl Fn(&Node) -> bool, founds: &mut Founds) {
    let Some(evidence) = &subject.evidence else { return };
    let largest = subject.profile.takes.largest;
    for node in subject.operators().filter(|node| applies(node)) {
        let in_codes = subject.dequantized(node, 0).is_some() && subject.result(node).is_some();
        // Half: what calibration has not seen must fit too. Codes end where calibration did.
        let (limit, share) = if in_codes { (largest, "") } else { (0.5 * largest, "half of ") };
        let Some(name) = node.outputs.first() else { continue };
        if let Some(range) = evidence.values.get(name).filter(|range| range.magnitude() > limit) {
            let why = format!("{:e} was seen, above {limit}, {share}what floats can hold here", range.magnitude());
            founds.push(Found::of(why).at(node).tensor(name));
        }
    }
}
