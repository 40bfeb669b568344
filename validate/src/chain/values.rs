//! Values between input and logits: how large they are in the float model, and how far off in the quantized graph.

use std::collections::{HashMap, HashSet};

use graph::eval::{EvalError, Feeds};
use graph::{Graph, Op, Tensor};
use rayon::prelude::*;
use report::{TensorRow, ValueError};

use super::pair::{Carry, Pair, Step};

/// Samples that are looked into: every value of each counts, so that few give steady figures.
pub(super) const SAMPLES: usize = 4;

/// Sums over one product.
#[derive(Clone)]
struct Sums {
    value: String,
    weight: String,
    range: [f32; 2],
    apart: f64,
    size: f64,
}

/// The products of weights on some inputs, in the order of the computation with the encoder first, each graph on values of its own.
///
/// Errors: those of a call.
pub(super) fn errors(pair: &Pair, inputs: &[Feeds], tensors: &[TensorRow]) -> Result<Vec<ValueError>, EvalError> {
    let of_input = |feeds: &Feeds| {
        let mut sums = Vec::new();
        pair.walk(feeds, &mut |step| {
            sums.extend(Sums::of(pair.graph(), step));
            Carry::Found
        })?;
        Ok(sums)
    };
    let found = inputs.par_iter().with_max_len(1).map(of_input).collect::<Result<Vec<Vec<Sums>>, EvalError>>()?;
    let roles: HashMap<&str, &str> = tensors.iter().map(|row| (row.name.as_str(), row.role.as_str())).collect();
    let mut found = found.into_iter();
    // Every input goes through the same values.
    let first = found.next().unwrap_or_default();
    let all = found.fold(first, |mut all, more| {
        all.iter_mut().zip(more).for_each(|(sums, more)| sums.add(&more));
        all
    });
    let mut rows: Vec<ValueError> = all.into_iter().map(|sums| sums.row(&roles)).collect();
    // The encoder needs nothing of the decoder, and is what a reader looks for first.
    let encoder = encoder(pair.graph());
    rows.sort_by_key(|row| !encoder.contains(row.value.as_str()));
    Ok(rows)
}

/// The names of the values that the encoder computes.
fn encoder(graph: &Graph) -> HashSet<&str> {
    let encoder = graph.entry("encoder");
    let before = encoder.map(|entry| graph.before(entry)).unwrap_or_default();
    let order = before.into_iter().chain(encoder).flat_map(|entry| graph.order(entry));
    order.map(|id| graph.value(id).name.as_str()).collect()
}

impl Sums {
    fn of(graph: &Graph, step: &Step) -> Option<Sums> {
        let (Op::Linear | Op::Embed | Op::Conv { .. } | Op::Conv2d { .. }, [_, weight, ..]) =
            (step.op, graph.args(step.id))
        else {
            return None;
        };
        let weight = graph.weights.get(graph.weight_of(*weight)?).name.clone();
        let (a, b) = (step.expected.and_then(Tensor::as_f32)?, step.found.as_f32()?);
        let square = |x: f64| x * x;
        Some(Sums {
            value: graph.value(step.id).name.clone(),
            weight,
            range: a.iter().fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], x| [low.min(*x), high.max(*x)]),
            apart: a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum(),
            size: a.iter().map(|a| square(f64::from(*a))).sum(),
        })
    }

    fn add(&mut self, more: &Sums) {
        self.range = [self.range[0].min(more.range[0]), self.range[1].max(more.range[1])];
        self.apart += more.apart;
        self.size += more.size;
    }

    fn row(self, roles: &HashMap<&str, &str>) -> ValueError {
        let (stack, layer) = place(&self.weight);
        ValueError {
            role: roles.get(self.weight.as_str()).map(|role| (*role).to_owned()).unwrap_or_default(),
            stack: stack.to_owned(),
            layer,
            range: self.range,
            rel_l2: if self.apart == 0.0 { 0.0 } else { (self.apart / self.size).sqrt() },
            value: self.value,
            weight: self.weight,
        }
    }
}

/// The stack of a weight, and the number of its layer, as its name says.
fn place(weight: &str) -> (&'static str, Option<u64>) {
    let mut words = weight.split('.');
    let stack = words.find_map(|word| ["encoder", "decoder"].into_iter().find(|stack| *stack == word));
    // Numbers of a weight outside of stacks are no layers of one.
    (stack.unwrap_or(""), stack.and_then(|_| words.find_map(|word| word.parse().ok())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_behind_the_stack_is_the_layer() {
        let found = [
            "encoder.block.3.layer.1.DenseReluDense.wi.weight",
            "model.decoder.layers.0.fc1.weight",
            "model.encoder.embed_positions.weight",
            "shared.weight",
            "conv.2.weight",
        ]
        .map(place);
        assert_eq!(
            found,
            [("encoder", Some(3)), ("decoder", Some(0)), ("encoder", None), ("", None), ("", None)] //
        );
    }
}
