//! Functions of many numbers at once, in the processor's own vectors.

use rten_simd::ops::{BitOps, FloatOps, NumOps};
use rten_simd::{Isa, SimdUnaryOp};
use rten_vecmath::{Exp, Tanh};

/// Sums and maxima are kept for so many places of a row, so that they need no order among themselves.
const LANES: usize = 16;

/// The largest number of a row; a NaN is passed over.
pub(super) fn max(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(max, x)| *max = x.max(*max));
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The sum of a row, in an order that depends on its length alone.
pub(super) fn sum(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
    }
    lanes.iter().chain(rest).sum()
}

/// `x · (1 + erf(x / √2)) / 2`.
pub(super) struct Gelu;

impl SimdUnaryOp<f32> for Gelu {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        let erf = erf(isa, ops.mul(x, ops.splat(std::f32::consts::FRAC_1_SQRT_2)));
        ops.mul(ops.mul(ops.splat(0.5), x), ops.add(ops.one(), erf))
    }
}

/// The error function to about one unit in the last place, by two polynomials that meet at 475/512 (N. Juffa's coefficients,
/// stackoverflow.com/a/35148199): a Taylor-like one within, and `1 - exp(p(|x|))` beyond.
#[inline(always)]
fn erf<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    const WITHIN: [f32; 6] =
        [-5.967_617e-4, 4.991_194_2e-3, -2.676_813_5e-2, 1.128_199_25e-1, -3.761_253_4e-1, 1.283_791_7e-1];
    const BEYOND: [f32; 7] = [
        -1.728_534_7e-5,
        3.831_971_3e-4,
        -3.883_964_4e-3,
        2.425_462_2e-2,
        -1.067_778_8e-1,
        -6.348_467e-1,
        -1.287_175_1e-1,
    ];
    let ops = isa.f32();
    let (t, s) = (ops.abs(x), ops.mul(x, x));
    let mut within = ops.splat(WITHIN[0]);
    for c in &WITHIN[1..] {
        within = ops.mul_add(within, s, ops.splat(*c));
    }
    let within = ops.mul_add(within, x, x);
    let mut beyond = ops.splat(BEYOND[0]);
    for c in &BEYOND[1..] {
        beyond = ops.mul_add(beyond, t, ops.splat(*c));
    }
    let beyond = ops.mul_add(beyond, t, ops.neg(t));
    let beyond = ops.sub(ops.one(), Exp::apply(isa, beyond));
    // From 4 on it is 1 in f32, and the polynomial is not made for more.
    let beyond = ops.select(ops.one(), beyond, ops.ge(t, ops.splat(4.0)));
    let beyond = ops.select(ops.neg(beyond), beyond, ops.lt(x, ops.zero()));
    ops.select(beyond, within, ops.gt(t, ops.splat(475.0 / 512.0)))
}

/// `x · (1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2`.
pub(super) struct GeluTanh;

impl SimdUnaryOp<f32> for GeluTanh {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        const SQRT_2_OVER_PI: f32 = 0.797_884_6;
        let ops = isa.f32();
        let cubed = ops.mul(ops.mul(ops.mul(ops.splat(0.044715), x), x), x);
        let tanh = Tanh::apply(isa, ops.mul(ops.splat(SQRT_2_OVER_PI), ops.add(x, cubed)));
        ops.mul(ops.mul(ops.splat(0.5), x), ops.add(ops.one(), tanh))
    }
}

/// `1 / (1 + exp(-steep · x))`, or that times x.
pub(super) struct Logistic {
    pub(super) steep: f32,
    pub(super) times_x: bool,
}

impl SimdUnaryOp<f32> for Logistic {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        let denominator = ops.add(ops.one(), Exp::apply(isa, ops.mul(ops.splat(-self.steep), x)));
        ops.div(if self.times_x { x } else { ops.one() }, denominator)
    }
}
