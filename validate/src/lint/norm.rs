//! Which nodes spell a root mean square norm, and in which form.
//!
//! A compiler that takes the nodes for one operator computes it without the square of `x`, which is infinite in float16 from
//! 256 on; of a form that it does not know it computes each node.

use std::fmt;

use converters::export::npu::Norm;
use converters::export::onnx::Node;

use super::found::{Found, Founds};
use super::subject::Subject;

/// How a norm is spelled.
enum Spelling {
    /// As some toolchain takes it.
    Known(Norm),
    /// [`Norm::Reciprocal`], but its last `Mul` has the gain first.
    GainFirst,
    /// Multiplied with `1 / √mean`.
    DividedOne,
    /// Multiplied with `Pow(mean, -0.5)`.
    Power,
}

impl fmt::Display for Spelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spelling::Known(norm) => norm.fmt(f),
            Spelling::GainFirst => f.write_str("gain · (x · Reciprocal(√mean)), with the gain first"),
            Spelling::DividedOne => f.write_str("x · (1 / √mean)"),
            Spelling::Power => f.write_str("x · Pow(mean, -0.5)"),
        }
    }
}

/// R2
pub fn forms(subject: &Subject<'_>, founds: &mut Founds) {
    let expected = subject.profile.takes.norms;
    for node in subject.operators() {
        if is_squared(subject, node) {
            founds
                .push(Found::of("x · x overflows float16 where |x| > 256, with finite numbers and no error").at(node));
        } else if let Some((node, found)) = spelled(subject, node) {
            let is_taken = matches!(found, Spelling::Known(norm) if expected.contains(&norm));
            if !is_taken {
                let expected: Vec<String> = expected.iter().map(Norm::to_string).collect();
                founds.push(Found::of(format!("expected {}, found {found}", expected.join(" or "))).at(node));
            }
        }
    }
}

/// The nodes that read a node's result.
fn users<'a>(subject: &Subject<'a>, node: &Node) -> Vec<&'a Node> {
    node.outputs.iter().flat_map(|y| subject.users(y)).map(|(user, _)| user).collect()
}

/// `x · x`, of which a mean is taken.
fn is_squared(subject: &Subject<'_>, node: &Node) -> bool {
    node.is("Mul") && node.input(0) == node.input(1) && users(subject, node).iter().any(|user| user.is("ReduceMean"))
}

/// The norm that begins with a node, and the node in which its form shows.
fn spelled<'a>(subject: &Subject<'a>, node: &'a Node) -> Option<(&'a Node, Spelling)> {
    if node.is("LpNormalization") {
        return Some((node, Spelling::Known(Norm::LpNormalization)));
    }
    let is_number = |value: &str, expected: f32| subject.scalar(value) == Some(expected);
    let x = node.input(0).filter(|_| node.is("Pow") && node.input(1).is_some_and(|power| is_number(power, 2.0)))?;
    // The square of a difference belongs to a norm with a mean.
    if subject.producer(x).is_some_and(|made| made.is("Sub")) {
        return None;
    }
    let read_by =
        |node: &Node, ops: &[&str]| users(subject, node).into_iter().find(|user| ops.iter().any(|op| user.is(op)));
    let mut mean = read_by(node, &["ReduceMean"])?;
    if let Some(sum) = read_by(mean, &["Add"]) {
        mean = sum;
    }
    let root = read_by(mean, &["Sqrt", "Pow"])?;
    if root.is("Pow") {
        return root.input(1).is_some_and(|power| is_number(power, -0.5)).then_some((root, Spelling::Power));
    }
    let last = read_by(root, &["Div", "Reciprocal"])?;
    if last.is("Div") {
        return match last.input(0)? {
            above if above == x => Some((last, Spelling::Known(Norm::Division))),
            above => is_number(above, 1.0).then_some((last, Spelling::DividedOne)),
        };
    }
    let normed = read_by(last, &["Mul"])?;
    let gain_first = |user: &&Node| user.is("Mul") && user.input(0).is_some_and(|gain| subject.is_constant(gain));
    let reversed = users(subject, normed).into_iter().find(gain_first);
    Some(reversed.map_or((last, Spelling::Known(Norm::Reciprocal)), |product| (product, Spelling::GainFirst)))
}
