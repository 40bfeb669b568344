//! Attention, and the turning of its heads.

use super::linear::gemm;
use super::norm::softmax_row;
use super::strided::{Strided, f32s};
use crate::arithmetic;
use crate::eval::tensor::Tensor;
use crate::ir::op::Rope;

pub(in crate::eval) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    scale: f32,
    softcap: Option<f32>,
) -> Tensor {
    let [batch, heads, queries, width] = *q.shape() else { unreachable!("inference made q of rank 4") };
    let [_, groups, keys, value_width] = *v.shape() else { unreachable!("inference made v of rank 4") };
    let scores_shape = [batch, heads, queries, keys];
    let bias_at = bias.map(|bias| (f32s(bias), Strided::new(bias.shape(), &scores_shape)));
    let mut out = vec![0.0; batch * heads * queries * value_width];
    let mut scores = vec![0.0; queries * keys];
    for (i, out) in out.chunks_mut((queries * value_width).max(1)).enumerate() {
        let (b, h) = (i / heads, i % heads);
        // Neighbouring query heads share a key head.
        let group = b * groups + h * groups / heads;
        let q = &f32s(q)[i * queries * width..][..queries * width];
        let k = &f32s(k)[group * keys * width..][..keys * width];
        let v = &f32s(v)[group * keys * value_width..][..keys * value_width];
        gemm(q, k, true, [queries, width, keys], &mut scores);
        for (j, score) in scores.iter_mut().enumerate() {
            *score *= scale;
            if let Some(cap) = softcap {
                *score = arithmetic::tanh(*score / cap) * cap;
            }
            if let Some((bias, at)) = &bias_at {
                *score += bias[at.offset(i * queries * keys + j, &scores_shape)];
            }
        }
        scores.chunks_mut(keys.max(1)).for_each(softmax_row);
        gemm(&scores, v, false, [queries, keys, value_width], out);
    }
    Tensor::f32([batch, heads, queries, value_width], out)
}

pub(in crate::eval) fn rope(x: &Tensor, positions: &Tensor, rope: &Rope) -> Tensor {
    let width = x.shape()[3];
    let frequencies = rope.frequencies();
    let positions = positions.as_i64().expect("inference made it i64");
    // Angles are rounded to f32 before their sine is taken, as in the reference.
    let turns: Vec<Vec<(f32, f32)>> =
        positions.iter().map(|p| frequencies.iter().map(|f| arithmetic::sin_cos(*p as f32 * f)).collect()).collect();
    let mut out = f32s(x).to_vec();
    for (i, head) in out.chunks_mut(width.max(1)).enumerate() {
        for (pair, (sin, cos)) in turns[i % positions.len()].iter().enumerate() {
            let [a, b] = rope.pair(pair);
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
        }
    }
    Tensor::f32(x.shape(), out)
}
