//! Where the numbers of the worst weights lie, before and after quantization.

use std::collections::BTreeMap;

use graph::{Graph, Quantized, Weight, WeightData, WeightError};
use rayon::prelude::*;
use report::{Histogram, TensorRow};

/// Weights that get one.
const WORST: usize = 8;
/// Equally wide.
const BINS: usize = 40;
/// Elements of a weight that are read at a time.
const PIECE: usize = 1 << 20;

/// Gives the worst rows their histograms.
///
/// Errors: a weight cannot be read.
pub(super) fn fill(rows: &mut [TensorRow], exact: &Graph, quantized: &Graph) -> Result<(), WeightError> {
    let names: Vec<String> = report::worst(rows, WORST).into_iter().map(|row| row.name.clone()).collect();
    let histogram = |name: &String| {
        let of = |graph: &Graph| graph.weights.find(name).map(|id| graph.weights.get(id).clone());
        match (of(exact), of(quantized)) {
            (Some(exact), Some(stored)) => Ok(Some((name.clone(), of_weights(&exact, &stored)?))),
            _ => Ok(None),
        }
    };
    let found = names.par_iter().map(histogram).collect::<Result<Vec<Option<(String, Histogram)>>, WeightError>>()?;
    for (name, histogram) in found.into_iter().flatten() {
        rows.iter_mut().filter(|row| row.name == name).for_each(|row| row.histogram = Some(histogram.clone()));
    }
    Ok(())
}

fn of_weights(exact: &Weight, stored: &Weight) -> Result<Histogram, WeightError> {
    let mut range = [f64::INFINITY, f64::NEG_INFINITY];
    for weight in [exact, stored] {
        each(weight, &mut |x| range = [range[0].min(x), range[1].max(x)])?;
    }
    let [low, high] = range;
    let bin = |x: f64| ((x - low) / (high - low) * BINS as f64) as usize;
    let counts = |weight: &Weight| {
        let mut counts = vec![0; BINS];
        // The right edge belongs to the last bin, and the only number of a weight of one number to the first.
        each(weight, &mut |x| counts[bin(x).min(BINS - 1)] += 1)?;
        Ok(counts)
    };
    Ok(Histogram { range, exact: counts(exact)?, stored: counts(stored)?, codes: codes(stored)? })
}

/// Shows every finite element.
fn each(weight: &Weight, see: &mut dyn FnMut(f64)) -> Result<(), WeightError> {
    let [rows, columns] = weight.matrix();
    let step = (PIECE / columns.max(1)).max(1);
    let mut piece = Vec::new();
    for from in (0..rows).step_by(step) {
        weight.rows(from..rows.min(from + step), &mut piece)?;
        piece.iter().filter(|x| x.is_finite()).for_each(|x| see(f64::from(*x)));
    }
    Ok(())
}

/// How often each code is used; nothing for weights without integer codes of one set.
fn codes(weight: &Weight) -> Result<Vec<(i64, u64)>, WeightError> {
    let WeightData::Quantized(Quantized::Affine(tensor)) = weight.data.base() else { return Ok(Vec::new()) };
    let [rows, columns] = tensor.shape;
    let step = (PIECE / columns.max(1)).max(1);
    let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
    for from in (0..rows).step_by(step) {
        let codes = tensor.codes(from..rows.min(from + step));
        let codes = codes.map_err(|source| WeightError { weight: weight.name.clone(), source })?;
        codes.into_iter().for_each(|code| *counts.entry(code.into()).or_default() += 1);
    }
    Ok(counts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use graph::Weights;

    use super::*;

    fn row(name: &str, rel_l2: f64) -> TensorRow {
        TensorRow {
            name: name.to_owned(),
            role: String::new(),
            type_name: String::new(),
            shape: vec![1, 4],
            bytes: 0,
            bits_per_weight: 0.0,
            sqnr_db: None,
            rel_l2,
            max_abs_error: 0.0,
            method: String::new(),
            output_sqnr_db: None,
            nearest_output_sqnr_db: None,
            histogram: None,
            notes: Vec::new(),
        }
    }

    fn graph(floats: [f32; 4]) -> Graph {
        let mut weights = Weights::default();
        weights.push(Weight::stored("w".to_owned(), vec![1, 4], &floats));
        Graph { weights, ..Graph::default() }
    }

    #[test]
    fn bins_span_both_and_hold_every_number_once() {
        let mut rows = [row("w", 0.1), row("exact", 0.0)];
        fill(&mut rows, &graph([0.0, 1.0, 9.9, 39.0]), &graph([0.0, 0.9, 10.0, 40.0])).expect("memory");
        let found = rows[0].histogram.as_ref().expect("lossy");
        let at = |counts: &[u64]| -> Vec<usize> { (0..BINS).filter(|bin| counts[*bin] > 0).collect() };
        assert_eq!(
            (found.range, at(&found.exact), at(&found.stored)),
            ([0.0, 40.0], vec![0, 1, 9, 39], vec![0, 10, 39])
        );
        assert_eq!([&found.exact, &found.stored].map(|counts| counts.iter().sum::<u64>()), [4, 4]);
        assert!(found.codes.is_empty() && rows[1].histogram.is_none());
    }

    #[test]
    fn a_weight_of_one_number_lies_in_one_bin() {
        let mut rows = [row("w", 0.1)];
        fill(&mut rows, &graph([2.0; 4]), &graph([2.0; 4])).expect("memory");
        assert_eq!(rows[0].histogram.as_ref().map(|found| found.exact[0]), Some(4));
    }
}
