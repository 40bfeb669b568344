//! Biases that take up what rounding the weights does to the mean of a Linear's output.
//!
//! `y = W·x + b` becomes `Ŵ·x + b`, whose mean over calibration is off by `(W - Ŵ)·mean(x)`; that is added to b (Nagel et al.,
//! Data-free quantization, arXiv 1906.04721, section 4.2, with the mean measured). A Linear without a bias keeps none: its
//! formats have no place for one.

use graph::{Blob, FloatType, Graph, Op, ValueId, Weight, WeightData, WeightError};

use crate::calibrate::statistics::Statistics;

/// Raised when the same input gives other results ([`crate::RESULTS`]).
pub const RESULTS: u32 = 1;

/// Corrects the bias of each Linear whose weight differs between the two graphs; returns the names of those biases.
///
/// `exact` and `quantized` differ in their weights only. A bias becomes f32. One that several Linears share is left alone, as
/// is one whose activation was not watched. Errors: rows that cannot be read.
pub fn correct(exact: &Graph, quantized: &mut Graph, statistics: &Statistics) -> Result<Vec<String>, WeightError> {
    let users = exact.users();
    let mut corrected = Vec::new();
    for index in 0..exact.values.len() {
        let (Some(Op::Linear), &[x, w, b]) = (exact.op(ValueId(index)), exact.args(ValueId(index))) else { continue };
        let (Some(weight), Some(bias)) = (exact.weight_of(w), exact.weight_of(b)) else { continue };
        let Some(channels) = statistics.inputs.get(&exact.value(x).name) else { continue };
        if users[b.0].len() != 1 || !matches!(quantized.weights.get(weight).data, WeightData::Quantized(_)) {
            continue;
        }
        let shift = shift(exact.weights.get(weight), quantized.weights.get(weight), &channels.means())?;
        let mut values = quantized.weights.get(bias).read()?;
        values.iter_mut().zip(shift).for_each(|(b, shift)| *b = (f64::from(*b) + shift) as f32);
        let mut bytes = vec![0; 4 * values.len()];
        FloatType::F32.encode(&values, &mut bytes);
        let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
        let weight = quantized.weights.get_mut(bias);
        weight.data = data;
        corrected.push(weight.name.clone());
    }
    Ok(corrected)
}

/// `(W - Ŵ)·mean` row by row.
fn shift(weight: &Weight, became: &Weight, means: &[f32]) -> Result<Vec<f64>, WeightError> {
    let (mut w, mut v) = (Vec::new(), Vec::new());
    let row = |row: usize| {
        weight.rows(row..row + 1, &mut w)?;
        became.rows(row..row + 1, &mut v)?;
        let products = w.iter().zip(&v).zip(means).map(|((w, v), m)| (f64::from(*w) - f64::from(*v)) * f64::from(*m));
        Ok(products.sum())
    };
    (0..weight.matrix()[0]).map(row).collect()
}

#[cfg(test)]
mod tests {
    use graph::progress::Quiet;
    use graph::{Build, DEC, Feeds, Scratch, Tensor, Type};

    use super::*;
    use crate::{Policy, Samples, calibrate, quantize};

    #[test]
    fn the_mean_of_the_outputs_is_that_of_the_float_linear_again() {
        let stored = |name: &str, shape: &[usize], values: &[f32]| {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
            Weight { name: name.into(), shape: shape.to_vec(), data }
        };
        let b = Build::new();
        let x = b.input("x", Type::f32([graph::Dim::from(DEC), 4.into()]));
        let w = b.weight(stored("w", &[2, 4], &[0.31, -0.73, 0.55, 1.0, -0.2, 0.13, 0.71, 1.0]));
        let bias = b.weight(stored("b", &[2], &[0.5, -0.25]));
        // A first Linear, exact in int4, so that the second reads a value that an op computes.
        let eye: Vec<f32> = (0..16).map(|i| 7.0 * f32::from(u8::from(i % 5 == 0))).collect();
        let y = x.linear(b.weight(stored("eye", &[4, 4], &eye)), None).linear(w, Some(bias));
        b.entry("full", &[("x", x)], &[("y", y)], Default::default());
        let exact = b.finish().expect("fits");

        let feeds = |sample: usize| -> Feeds {
            let values = (0..12).map(|i| ((sample * 12 + i) % 7) as f32 - 1.0).collect();
            [("x".to_owned(), Tensor::f32([3, 4], values))].into()
        };
        let samples = Samples { entry: "full", count: 5, feeds: &feeds };
        let statistics = calibrate::gather(&exact, &samples, &|_, _| {}, &Quiet).expect("runs");
        let mut quantized = exact.clone();
        let plan = Policy::of("int4".parse().expect("scheme")).plan(&quantized).expect("fits");
        let scratch = Scratch::new().expect("temporary folder");
        quantize(&mut quantized, &plan, &scratch, &Quiet).expect("finite");
        let mean = |graph: &Graph| {
            let mut sums = [0.0_f64; 2];
            for sample in 0..5 {
                let out = graph::eval(graph, "full", &feeds(sample), &mut |_, _| {}).expect("runs");
                out["y"].as_f32().expect("floats").chunks(2).for_each(|y| {
                    sums[0] += f64::from(y[0]) / 15.0;
                    sums[1] += f64::from(y[1]) / 15.0;
                });
            }
            sums
        };
        let (float, before) = (mean(&exact), mean(&quantized));
        assert!((float[0] - before[0]).abs() > 0.01, "{float:?} {before:?}");
        assert_eq!(correct(&exact, &mut quantized, &statistics).expect("readable"), ["b"]);
        let after = mean(&quantized);
        for (float, after) in float.iter().zip(after) {
            assert!((float - after).abs() < 1e-5 * float.abs().max(1.0), "{float} {after}");
        }
    }
}
