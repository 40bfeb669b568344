//! Rounding of activations.

use super::strided::f32s;
use crate::eval::tensor::Tensor;
use crate::ir::fake_quant::FakeQuant;
use crate::ir::op::Granularity;

pub(in crate::eval) fn dynamic_quant(granularity: Granularity, x: &Tensor) -> Tensor {
    let mut out = f32s(x).to_vec();
    match granularity {
        Granularity::Tensor => {
            let (low, high) = out.iter().fold((0.0f32, 0.0f32), |(low, high), x| (low.min(*x), high.max(*x)));
            let scale = if high == low { 1.0 } else { (high - low) / 255.0 };
            let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0);
            for x in &mut out {
                *x = (((*x / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero) * scale;
            }
        }
        Granularity::Token => {
            let width = x.shape().last().copied().unwrap_or(1).max(1);
            for row in out.chunks_mut(width) {
                let max = row.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                // compressed-tensors divides by half of the range -128..127.
                let scale = if max == 0.0 { f32::EPSILON } else { max / 127.5 };
                row.iter_mut().for_each(|x| *x = (*x / scale).round_ties_even().clamp(-128.0, 127.0) * scale);
            }
        }
        Granularity::Block(block) => {
            let width = x.shape().last().copied().unwrap_or(1).max(1);
            for block in out.chunks_mut(width).flat_map(|row| row.chunks_mut(block)) {
                let max = block.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                // MLAS multiplies by the inverse, which is rounded once more than a quotient (`QuantizeARow_CompInt8`).
                let (scale, inverse) = (max / 127.0, if max == 0.0 { 0.0 } else { 127.0 / max });
                block.iter_mut().for_each(|x| *x = (*x * inverse).round_ties_even().clamp(-128.0, 127.0) * scale);
            }
        }
    }
    Tensor::f32(x.shape(), out)
}

pub(in crate::eval) fn fake_quant(steps: &FakeQuant, x: &Tensor) -> Tensor {
    Tensor::f32(x.shape(), f32s(x).iter().map(|x| steps.apply(*x)).collect())
}
