//! How far off a value may be because of how its weights are stored.

use std::collections::HashMap;

use graph::ir::properties::Reads;
use graph::{Graph, ValueId, Weight, WeightError, WeightId};
use rayon::prelude::*;

use super::apart::norm;
use super::limits::F32_NOISE;
use super::pair::Step;

/// Elements of a weight that are read at a time.
const PIECE: usize = 1 << 20;
/// Sums of squares in another order, relative.
const SUMS: f64 = 1e-3;

/// The weights of a graph, parted into those that are as far from the checkpoint as whoever stored them says, and the others: moved by
/// an exact edit, or wrong.
pub(super) struct Explained {
    /// The graph with the checkpoint's numbers in place of the first kind, so that what is left has another cause than rounding.
    pub(super) graph: Graph,
    weights: HashMap<WeightId, Size>,
    /// Weights of the first kind that are not exact.
    spread: usize,
    /// The one of these with the largest relative error, and that.
    largest: Option<(String, f64)>,
}

/// A weight.
#[derive(Clone, Copy)]
struct Size {
    /// Relative error, as whoever stored it says.
    told: f64,
    /// Whether it is so.
    is_so: bool,
    /// Frobenius norms in the exact graph and in this one.
    norms: [f64; 2],
    columns: usize,
}

impl Explained {
    /// `told`: the error of each weight by name; those that it lacks are exact.
    ///
    /// Errors: a weight cannot be read.
    pub(super) fn new(exact: &Graph, graph: &Graph, told: &HashMap<&str, f64>) -> Result<Explained, WeightError> {
        let ids: Vec<WeightId> = graph.weights.iter().map(|(id, _)| id).collect();
        let size = |id: &WeightId| {
            let weight = graph.weights.get(*id);
            let told = told.get(weight.name.as_str()).copied().unwrap_or(0.0);
            let known = exact.weights.find(&weight.name).map(|id| exact.weights.get(id));
            Ok((*id, Size::of(weight, known.filter(|known| known.shape == weight.shape), told)?))
        };
        let weights = ids.par_iter().map(size).collect::<Result<HashMap<WeightId, Size>, WeightError>>()?;
        let mut explained = Explained { graph: graph.clone(), weights, spread: 0, largest: None };
        for id in ids {
            let Size { is_so: true, told, .. } = explained.weights[&id] else { continue };
            let weight = explained.graph.weights.get_mut(id);
            let known = exact.weights.find(&weight.name).expect("compared with it");
            weight.data = exact.weights.get(known).data.clone();
            if told > 0.0 {
                explained.spread += 1;
                if explained.largest.as_ref().is_none_or(|(_, largest)| *largest < told) {
                    explained.largest = Some((weight.name.clone(), told));
                }
            }
        }
        Ok(explained)
    }

    /// For the report, where nothing else than rounding is found.
    pub(super) fn sentence(&self) -> String {
        match &self.largest {
            None => "no tensor is off".to_owned(),
            Some((weight, rel_l2)) => format!(
                "every tensor is as its rounding explains: the error is spread over {} tensors; largest: {weight}, \
                 {:.2} %",
                self.spread,
                100.0 * rel_l2
            ),
        }
    }

    /// Relative L2 that a value may be off when what it reads is not.
    ///
    /// Errors `E` of a weight or of rounded inputs are as good as independent of what they are multiplied with, so that `‖x Eᵀ‖ ≈
    /// ‖x‖ ‖E‖ / √columns`: more than their relative error where the terms of a product cancel. `is_moved`: what it reads is another
    /// value than in the exact graph, as where a factor moved into its weight, which then has its own rounding. `rounded`: relative
    /// errors of values that are others, rounded.
    pub(super) fn of(&self, step: &Step, is_moved: bool, rounded: &HashMap<ValueId, f64>) -> f64 {
        let size = step.expected.map_or(0.0, norm);
        let args = self.graph.args(step.id);
        let x = step.args.first().and_then(Option::as_ref).map_or(0.0, norm);
        let rows = step.found.len() / step.found.shape().last().copied().unwrap_or(1).max(1);
        let of_value = |arg: &ValueId| rounded.get(arg).copied().unwrap_or(0.0);
        let of_input = args.first().map_or(0.0, of_value);
        let part = |(place, arg): (usize, &ValueId)| {
            let Some(weight) = self.graph.weight_of(*arg).map(|id| self.weights[&id]) else {
                return F32_NOISE.max(of_value(arg)) * size;
            };
            let rel_l2 = if is_moved && !weight.is_so { weight.told.max(F32_NOISE) } else { F32_NOISE };
            match step.op.reads(place) {
                Reads::Matrix => {
                    rel_l2.hypot(of_input) * weight.norms[usize::from(is_moved)] * x / (weight.columns as f64).sqrt()
                }
                Reads::Bias => rel_l2 * weight.norms[0] * (rows as f64).sqrt(),
                _ => rel_l2 * size,
            }
        };
        let square: f64 = args.iter().enumerate().map(part).map(|part| part * part).sum();
        square.sqrt() / size
    }
}

impl Size {
    fn of(weight: &Weight, exact: Option<&Weight>, told: f64) -> Result<Size, WeightError> {
        let [rows, columns] = weight.matrix();
        let step = (PIECE / columns.max(1)).max(1);
        let square = |x: f64| x * x;
        let (mut found, mut expected, mut apart) = (0.0, 0.0, 0.0);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for from in (0..rows).step_by(step) {
            let piece = from..rows.min(from + step);
            weight.rows(piece.clone(), &mut b)?;
            found += b.iter().map(|b| square(f64::from(*b))).sum::<f64>();
            if let Some(exact) = exact {
                exact.rows(piece, &mut a)?;
                expected += a.iter().map(|a| square(f64::from(*a))).sum::<f64>();
                apart += a.iter().zip(&b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum::<f64>();
            }
        }
        let [apart, expected, found] = [apart, expected, found].map(f64::sqrt);
        let is_so = exact.is_some() && apart <= told * (1.0 + SUMS) * expected;
        let norms = [if exact.is_some() { expected } else { found }, found];
        Ok(Size { told, is_so, norms, columns })
    }
}
