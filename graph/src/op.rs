//! The ops and their shapes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ir::{DType, Dim, Sym, Type};

/// Arithmetic on two values, broadcasting as numpy does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a · b`
    Mul,
    /// `a / b`
    Div,
}

/// A function of each element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unary {
    /// `max(x, 0)`
    Relu,
    /// `tanh(x)`
    Tanh,
    /// `x · (1 + erf(x / √2)) / 2`
    Gelu,
    /// `x · (1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2`, `gelu_new` of transformers
    GeluTanh,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x / (1 + exp(-1.702 x))`
    QuickGelu,
}

/// Which keys a query sees: those at most `before` places before it and at most `after` places behind it; `None` is no
/// bound. Query `i` stands at position `start + i`, key `j` at position `j`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visible {
    /// Places before the query.
    pub before: Option<usize>,
    /// Places after the query.
    pub after: Option<usize>,
}

impl Visible {
    /// The query itself and all keys before it.
    pub const CAUSAL: Visible = Visible { before: None, after: Some(0) };

    /// Whether a query at position `query` sees the key at position `key`.
    pub fn sees(self, query: usize, key: usize) -> bool {
        self.before.is_none_or(|n| key + n >= query) && self.after.is_none_or(|n| key <= query + n)
    }
}

impl fmt::Display for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.before, self.after) {
            (None, Some(0)) => f.write_str("Causal"),
            (None, None) => f.write_str("All"),
            (before, after) => {
                let bound = |n: Option<usize>| n.map_or("all".to_owned(), |n| n.to_string());
                write!(f, "{} before, {} after", bound(before), bound(after))
            }
        }
    }
}

/// Which places of a head turn together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// `i` and `i + dims / 2`, as GPT-NeoX.
    Half,
    /// `2i` and `2i + 1`, as in the paper.
    Pairs,
}

/// Rotary positions (Su et al., arXiv 2104.09864): at position p, the i-th of `dims / 2` pairs of places turns by
/// `p / (theta^(2i / dims) · factor)`; places from `dims` on stay.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rope {
    /// Base of the wavelengths.
    pub theta: f32,
    /// Stretches positions (`rope_type: linear`).
    pub factor: f32,
    /// Places of a head that turn; even.
    pub dims: usize,
    /// How they pair up.
    pub layout: Layout,
}

impl Rope {
    /// Radians a position, for each pair; rounded to f32 at every step, as torch does.
    pub fn frequencies(&self) -> Vec<f32> {
        let exponent = |i: usize| (2 * i) as f32 / self.dims as f32;
        (0..self.dims / 2).map(|i| 1.0 / self.theta.powf(exponent(i)) / self.factor).collect()
    }

    /// The two places of the i-th pair.
    pub fn pair(&self, i: usize) -> [usize; 2] {
        match self.layout {
            Layout::Half => [i, i + self.dims / 2],
            Layout::Pairs => [2 * i, 2 * i + 1],
        }
    }
}

/// What shares the scale of a dynamically quantized activation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Granularity {
    /// The whole tensor: `uint8`, asymmetric, the range widened to hold 0, as ONNX `DynamicQuantizeLinear`.
    Tensor,
    /// Each row of the last axis: `int8`, symmetric, as compressed-tensors' `strategy: token`.
    Token,
    /// So many neighbours of the last axis, of a row's end the rest: `int8`, symmetric, `scale = amax / 127`, as
    /// `com.microsoft.MatMulNBits` of `accuracy_level` 4 rounds its input inside onnxruntime.
    Block(usize),
}

/// The fixed steps an activation is rounded to: unsigned codes, `code = round_half_even(x / scale) + zero`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeQuant {
    /// The width of a step; finite and above 0.
    pub scale: f32,
    /// The code of 0: from 0 to [`FakeQuant::last`].
    pub zero: i32,
    /// 8 or 16.
    pub bits: u8,
}

impl FakeQuant {
    /// The steps of codes of 8 or 16 bits from `low` to `high`: `scale = (high - low) / (2^bits - 1)`,
    /// `zero = round(-low / scale)`.
    ///
    /// `low` and `high` are finite; the range is widened to hold 0, which is exact. Every number of it is rounded by at most
    /// half a step. A range of 0 alone gets scale 1; one too narrow for a normal f32 the least of those.
    pub fn over(low: f32, high: f32, bits: u8) -> FakeQuant {
        let last = f64::from((1u32 << bits) - 1);
        let (low, high) = (f64::from(low).min(0.0), f64::from(high).max(0.0));
        let scale = if low == high { 1.0 } else { (((high - low) / last) as f32).max(f32::MIN_POSITIVE) };
        let zero = (-low / f64::from(scale)).round_ties_even().clamp(0.0, last);
        FakeQuant { scale, zero: zero as i32, bits }
    }

    /// The last code, `2^bits - 1`; the first is 0. `None` for a width that is neither 8 nor 16.
    pub fn last(&self) -> Option<i32> {
        matches!(self.bits, 8 | 16).then(|| (1 << self.bits) - 1)
    }

    /// `clamp(round_half_even(x / scale) + zero, 0, 2^bits - 1)`; that of a NaN is 0.
    pub fn code(&self, x: f32) -> i32 {
        let (zero, last) = (self.zero as f32, self.last().expect("`check` passed") as f32);
        ((x / self.scale).round_ties_even() + zero).clamp(0.0, last) as i32
    }

    /// `(clamp(round_half_even(x / scale) + zero, 0, 2^bits - 1) - zero) · scale`, each operation rounded to f32; a NaN
    /// stays. What ONNX `QuantizeLinear` and `DequantizeLinear` compute, which find some code for a NaN.
    pub fn apply(&self, x: f32) -> f32 {
        let (zero, last) = (self.zero as f32, self.last().expect("`check` passed") as f32);
        (((x / self.scale).round_ties_even() + zero).clamp(0.0, last) - zero) * self.scale
    }

    /// Errors: one line that says what an engine would not take.
    pub fn check(&self) -> Result<(), String> {
        let Some(last) = self.last() else { return Err(format!("expected 8 or 16 bits, found {}", self.bits)) };
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            return Err(format!("expected a scale that is finite and above 0, found {}", self.scale));
        }
        match (0..=last).contains(&self.zero) {
            true => Ok(()),
            false => Err(format!("expected a zero from 0 to {last}, found {}", self.zero)),
        }
    }
}

/// An operation with one result. Shapes: the table in the crate's documentation.
#[derive(Clone, PartialEq, Debug)]
pub enum Op {
    /// Matrix product over the last two axes; leading axes broadcast.
    MatMul,
    /// `x · wᵀ + bias`.
    Linear,
    /// Rows of a table by id.
    Embed,
    /// Arithmetic.
    Binary(Binary),
    /// A function of each element.
    Unary(Unary),
    /// Over the last axis.
    Softmax,
    /// `x / sqrt(mean(x²) + eps) · w` over the last axis (Zhang and Sennrich, arXiv 1910.07467).
    RmsNorm {
        /// Added to the mean square.
        eps: f32,
    },
    /// `(x - mean) / sqrt(var + eps) · w + bias` over the last axis (Ba et al., arXiv 1607.06450); `var` divides by n.
    LayerNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// The same over the channels of a group and all that follows them (Wu and He, arXiv 1803.08494).
    GroupNorm {
        /// Groups of neighbouring channels.
        groups: usize,
        /// Added to the variance.
        eps: f32,
    },
    /// Cross-correlation along the last axis, zeros beyond its ends.
    Conv {
        /// Places between two windows.
        stride: usize,
        /// Zeros before the first and after the last place.
        pad: usize,
        /// What the length of the result is called when that of the argument is a symbol.
        length: Option<Sym>,
    },
    /// The same elements under another shape.
    Reshape(Vec<Dim>),
    /// Repeated along axes of length 1, aligned at the end.
    Broadcast(Vec<Dim>),
    /// Every `step`-th place of an axis, `len` of them.
    Slice {
        /// Which.
        axis: usize,
        /// The first place.
        start: usize,
        /// From one place to the next.
        step: usize,
        /// Places kept.
        len: Dim,
    },
    /// `result.shape[i] = x.shape[perm[i]]`.
    Transpose(Vec<usize>),
    /// Joined along an axis.
    Concat {
        /// Which.
        axis: usize,
    },
    /// `a` where the choice is not 0, `b` elsewhere, broadcasting.
    Select,
    /// `start, start + 1, ...`
    Positions {
        /// The first.
        start: Dim,
        /// How many.
        len: Dim,
    },
    /// Turns each head by its position.
    Rope(Rope),
    /// Additive attention mask from positions.
    Mask {
        /// The rule.
        visible: Visible,
        /// Position of the first query.
        start: Dim,
        /// Queries.
        q: Dim,
        /// Keys.
        k: Dim,
        /// What a hidden key gets: -inf, or a number where an engine needs one.
        hidden: f32,
    },
    /// Additive attention mask from a 0/1 padding mask.
    PaddingMask {
        /// What a hidden key gets.
        hidden: f32,
    },
    /// T5's bias by bucketed distance (Raffel et al., arXiv 1910.10683; `_relative_position_bucket` in modeling_t5.py).
    RelativeBias {
        /// Rows of the table.
        buckets: usize,
        /// Distances from here on share the last bucket.
        max_distance: usize,
        /// Whether half of the buckets are for keys after the query.
        bidirectional: bool,
        /// Position of the first query.
        start: Dim,
        /// Queries.
        q: Dim,
        /// Keys.
        k: Dim,
    },
    /// Rounds to 8 bits with a scale taken from the argument itself, and back: what an engine with dynamic
    /// quantization does to the input of a Linear.
    DynamicQuant(Granularity),
    /// Rounds to fixed steps, and back: what an engine with static quantization does to the input of a Linear.
    FakeQuant(FakeQuant),
    /// `softmax(cap(q·kᵀ·scale) + bias)·v` with `cap(s) = tanh(s / softcap)·softcap`; `h / g` query heads share a key head.
    Attention {
        /// Multiplies the scores.
        scale: f32,
        /// Bounds the scores, if given (Gemma 2, arXiv 2408.00118).
        softcap: Option<f32>,
    },
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Binary(op) => write!(f, "{op:?}"),
            Op::Unary(op) => write!(f, "{op:?}"),
            Op::RmsNorm { eps } => write!(f, "RmsNorm(eps={eps:e})"),
            Op::Reshape(dims) => {
                let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
                write!(f, "Reshape[{}]", dims.join(", "))
            }
            Op::Transpose(perm) => write!(f, "Transpose{perm:?}"),
            Op::LayerNorm { eps } => write!(f, "LayerNorm(eps={eps:e})"),
            Op::GroupNorm { groups, eps } => write!(f, "GroupNorm(groups={groups}, eps={eps:e})"),
            Op::Conv { stride, pad, .. } => write!(f, "Conv(stride={stride}, pad={pad})"),
            Op::Broadcast(dims) => {
                let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
                write!(f, "Broadcast[{}]", dims.join(", "))
            }
            Op::Slice { axis, start, step, len } => {
                write!(f, "Slice(axis={axis}, start={start}, step={step}, len={len})")
            }
            Op::Positions { start, len } => write!(f, "Positions(start={start}, len={len})"),
            Op::Rope(Rope { theta, factor, dims, layout }) => {
                let layout = format!("{layout:?}").to_lowercase();
                write!(f, "Rope(theta={theta}, factor={factor}, dims={dims}, {layout})")
            }
            Op::Concat { axis } => write!(f, "Concat(axis={axis})"),
            Op::Mask { visible, start, q, k, hidden } => {
                write!(f, "Mask({visible}, start={start}, q={q}, k={k}{})", finite(*hidden))
            }
            Op::PaddingMask { hidden } if hidden.is_finite() => write!(f, "PaddingMask(hidden={hidden})"),
            Op::PaddingMask { .. } => f.write_str("PaddingMask"),
            Op::RelativeBias { buckets, max_distance, bidirectional, start, q, k } => {
                let way = if *bidirectional { "both ways" } else { "backwards" };
                write!(
                    f,
                    "RelativeBias(buckets={buckets}, max_distance={max_distance}, {way}, start={start}, q={q}, k={k})"
                )
            }
            Op::DynamicQuant(Granularity::Block(block)) => write!(f, "DynamicQuant(per block of {block})"),
            Op::DynamicQuant(granularity) => {
                write!(f, "DynamicQuant(per {})", format!("{granularity:?}").to_lowercase())
            }
            Op::FakeQuant(FakeQuant { scale, zero, bits }) => {
                write!(f, "FakeQuant(scale={scale:e}, zero={zero}, bits={bits})")
            }
            Op::Attention { scale, softcap: None } => write!(f, "Attention(scale={scale})"),
            Op::Attention { scale, softcap: Some(cap) } => write!(f, "Attention(scale={scale}, softcap={cap})"),
            Op::MatMul | Op::Linear | Op::Embed | Op::Softmax | Op::Select => write!(f, "{self:?}"),
        }
    }
}

impl Op {
    /// The type of the result. Errors: one line that says what does not fit; the caller adds the place and the arguments.
    pub fn infer(&self, args: &[&Type]) -> Result<Type, String> {
        let arity = |counts: &[usize]| match counts.contains(&args.len()) {
            true => Ok(()),
            false => Err(format!("takes {counts:?} arguments, found {}", args.len())),
        };
        let float = |types: &[&Type]| match types.iter().all(|t| t.dtype == DType::F32) {
            true => Ok(()),
            false => Err("takes floats, found integers".to_owned()),
        };
        match self {
            Op::MatMul => {
                arity(&[2])?;
                float(args)?;
                let ([a_lead @ .., m, n], [b_lead @ .., n2, p]) = (&args[0].shape[..], &args[1].shape[..]) else {
                    return Err("takes two arguments of rank 2 or more".into());
                };
                if n != n2 {
                    return Err(format!("inner dimensions differ: {n} and {n2}"));
                }
                let mut shape = broadcast(a_lead, b_lead)?;
                shape.extend([m.clone(), p.clone()]);
                Ok(Type::f32(shape))
            }
            Op::Linear => {
                arity(&[2, 3])?;
                float(args)?;
                let ([lead @ .., e], [n, e2]) = (&args[0].shape[..], &args[1].shape[..]) else {
                    return Err("takes x[.., e] and w[n, e]".into());
                };
                if e != e2 {
                    return Err("input width differs from weight".into());
                }
                if args.get(2).is_some_and(|bias| bias.shape != [n.clone()]) {
                    return Err("bias is not [n]".into());
                }
                Ok(Type::f32(lead.iter().chain([n]).cloned()))
            }
            Op::Embed => {
                arity(&[2])?;
                float(&args[1..])?;
                let (DType::I64, [_, e]) = (args[0].dtype, &args[1].shape[..]) else {
                    return Err("takes ids i64[..] and table f32[n, e]".into());
                };
                Ok(Type::f32(args[0].shape.iter().chain([e]).cloned()))
            }
            Op::Binary(_) => {
                arity(&[2])?;
                float(args)?;
                Ok(Type::f32(broadcast(&args[0].shape, &args[1].shape)?))
            }
            Op::Unary(_) | Op::Softmax | Op::DynamicQuant(_) => {
                arity(&[1])?;
                float(args)?;
                if let Op::DynamicQuant(Granularity::Block(0)) = self {
                    return Err("blocks of 0".into());
                }
                match (self, args[0].shape.is_empty()) {
                    (Op::Unary(_), _) | (_, false) => Ok(args[0].clone()),
                    (_, true) => Err("takes rank 1 or more".into()),
                }
            }
            Op::FakeQuant(steps) => {
                arity(&[1])?;
                float(args)?;
                steps.check()?;
                Ok(args[0].clone())
            }
            Op::RmsNorm { .. } => {
                arity(&[2])?;
                float(args)?;
                match (args[0].shape.last(), &args[1].shape[..]) {
                    (Some(e), [e2]) if e == e2 => Ok(args[0].clone()),
                    _ => Err("takes x[.., e] and w[e]".into()),
                }
            }
            Op::LayerNorm { .. } => {
                arity(&[2, 3])?;
                float(args)?;
                match args[0].shape.last() {
                    Some(e) if args[1..].iter().all(|w| w.shape == [e.clone()]) => Ok(args[0].clone()),
                    _ => Err("takes x[.., e], w[e] and bias[e]".into()),
                }
            }
            Op::GroupNorm { groups, .. } => {
                arity(&[3])?;
                float(args)?;
                let [_, c, _, ..] = &args[0].shape[..] else { return Err("takes x[b, c, ..]".into()) };
                let divides = c.literal().is_some_and(|c| *groups > 0 && c % groups == 0);
                match divides && args[1..].iter().all(|w| w.shape == [c.clone()]) {
                    true => Ok(args[0].clone()),
                    false => Err(format!("takes x[b, c, ..], w[c] and bias[c], c a multiple of {groups}")),
                }
            }
            Op::Conv { stride, pad, length } => {
                arity(&[2, 3])?;
                float(args)?;
                let ([b, c, n], [out, c2, k]) = (&args[0].shape[..], &args[1].shape[..]) else {
                    return Err("takes x[b, c, n] and w[o, c, k]".into());
                };
                if c != c2 {
                    return Err("channels differ from those of the weight".into());
                }
                if args.get(2).is_some_and(|bias| bias.shape != [out.clone()]) {
                    return Err("bias is not [o]".into());
                }
                let windows = |n: usize| {
                    let last = (n + 2 * pad).checked_sub(k.literal()?)?;
                    last.checked_div(*stride).map(|n| n + 1)
                };
                let n = match (n.literal(), length) {
                    (Some(n), _) => windows(n).ok_or("is longer than its input, or its stride is 0")?.into(),
                    (None, Some(length)) if *stride > 0 => Dim::from(*length),
                    (None, _) => return Err("needs a name for the length of its result, and a stride".into()),
                };
                Ok(Type::f32([b.clone(), out.clone(), n]))
            }
            Op::Broadcast(to) => {
                arity(&[1])?;
                match broadcast(&args[0].shape, to)? == *to {
                    true => Ok(Type { dtype: args[0].dtype, shape: to.clone() }),
                    false => Err("would lose an axis".into()),
                }
            }
            Op::Slice { axis, start, step, len } => {
                arity(&[1])?;
                let mut shape = args[0].shape.clone();
                let Some(n) = shape.get_mut(*axis).filter(|_| *step > 0) else {
                    return Err("has no such axis, or a step of 0".into());
                };
                if let (Some(n), Some(len)) = (n.literal(), len.literal())
                    && len > 0
                    && start + (len - 1) * step >= n
                {
                    return Err("reaches past the end".into());
                }
                *n = len.clone();
                Ok(Type { dtype: args[0].dtype, shape })
            }
            Op::Select => {
                arity(&[3])?;
                float(&args[1..])?;
                let shape = broadcast(&broadcast(&args[0].shape, &args[1].shape)?, &args[2].shape)?;
                match args[0].dtype {
                    DType::I64 => Ok(Type::f32(shape)),
                    DType::F32 => Err("takes a choice of integers".to_owned()),
                }
            }
            Op::Positions { len, .. } => {
                arity(&[0])?;
                Ok(Type::i64([len.clone()]))
            }
            Op::Rope(Rope { dims, .. }) => {
                arity(&[2])?;
                float(&args[..1])?;
                let ([_, _, q, d], DType::I64, [q2]) = (&args[0].shape[..], args[1].dtype, &args[1].shape[..]) else {
                    return Err("takes x[b,h,q,d] and positions i64[q]".into());
                };
                match q == q2 && dims % 2 == 0 && *dims > 0 && d.literal().is_some_and(|d| *dims <= d) {
                    true => Ok(args[0].clone()),
                    false => Err("positions or width do not fit".into()),
                }
            }
            Op::Reshape(to) => {
                arity(&[1])?;
                if elements(&args[0].shape) != elements(to) {
                    return Err("element counts differ".into());
                }
                Ok(Type { dtype: args[0].dtype, shape: to.clone() })
            }
            Op::Transpose(perm) => {
                arity(&[1])?;
                let mut sorted = perm.clone();
                sorted.sort_unstable();
                if !sorted.into_iter().eq(0..args[0].shape.len()) {
                    return Err("the permutation does not name every axis once".into());
                }
                Ok(Type { dtype: args[0].dtype, shape: perm.iter().map(|&i| args[0].shape[i].clone()).collect() })
            }
            Op::Concat { axis } => {
                let Some((first, rest)) = args.split_first() else {
                    return Err("takes at least one argument".into());
                };
                let mut out = (*first).clone();
                for other in rest {
                    let same_elsewhere = other.dtype == first.dtype
                        && other.shape.len() == first.shape.len()
                        && (0..first.shape.len()).all(|i| i == *axis || other.shape[i] == first.shape[i]);
                    if !same_elsewhere || *axis >= first.shape.len() {
                        return Err("shapes differ outside the axis".into());
                    }
                    out.shape[*axis] = out.shape[*axis].clone() + other.shape[*axis].clone();
                }
                Ok(out)
            }
            Op::Mask { q, k, .. } => {
                arity(&[0])?;
                Ok(Type::f32([q.clone(), k.clone()]))
            }
            Op::PaddingMask { .. } => {
                arity(&[1])?;
                match (args[0].dtype, &args[0].shape[..]) {
                    (DType::I64, [b, k]) => Ok(Type::f32([b.clone(), 1.into(), 1.into(), k.clone()])),
                    _ => Err("takes i64[b, k]".into()),
                }
            }
            Op::RelativeBias { buckets, q, k, .. } => {
                arity(&[1])?;
                match &args[0].shape[..] {
                    [n, h] if n.literal() == Some(*buckets) => {
                        Ok(Type::f32([1.into(), h.clone(), q.clone(), k.clone()]))
                    }
                    _ => Err(format!("takes table[{buckets}, h]")),
                }
            }
            Op::Attention { .. } => {
                arity(&[3, 4])?;
                float(args)?;
                let ([b, h, q, d], [kb, kg, kk, kd], [vb, vg, vk, vd]) =
                    (&args[0].shape[..], &args[1].shape[..], &args[2].shape[..])
                else {
                    return Err("takes q[b,h,q,d] k[b,g,k,d] v[b,g,k,d]".into());
                };
                let divides = match (h.literal(), kg.literal()) {
                    (Some(h), Some(g)) => g > 0 && h % g == 0,
                    _ => h == kg,
                };
                if !(b == kb && b == vb && kg == vg && kk == vk && d == kd && divides) {
                    return Err("q, k and v do not fit each other".into());
                }
                if let Some(bias) = args.get(3) {
                    let scores = [b.clone(), h.clone(), q.clone(), kk.clone()];
                    if broadcast(&bias.shape, &scores)? != scores {
                        return Err("bias does not broadcast to [b,h,q,k]".into());
                    }
                }
                Ok(Type::f32([b.clone(), h.clone(), q.clone(), vd.clone()]))
            }
        }
    }
}

/// The hidden keys' number, where it is one; masks of -inf are the rule and say nothing.
fn finite(hidden: f32) -> String {
    if hidden.is_finite() { format!(", hidden={hidden}") } else { String::new() }
}

/// The shape of an elementwise result: axes aligned at the end, 1 stretches.
fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, String> {
    let rank = a.len().max(b.len());
    let one = Dim::from(1);
    let axis = |shape: &[Dim], i: usize| (i + shape.len()).checked_sub(rank).map_or(one.clone(), |i| shape[i].clone());
    (0..rank)
        .map(|i| match (axis(a, i), axis(b, i)) {
            (x, y) if x == y || y == one => Ok(x),
            (x, y) if x == one => Ok(y),
            (x, y) => Err(format!("axis {i}: {x} and {y} do not broadcast")),
        })
        .collect()
}

/// The element count as a product: the known factor, and the symbolic ones sorted.
fn elements(shape: &[Dim]) -> (usize, Vec<Dim>) {
    let known = shape.iter().filter_map(Dim::literal).product();
    let mut symbolic: Vec<Dim> = shape.iter().filter(|d| d.literal().is_none()).cloned().collect();
    symbolic.sort();
    (known, symbolic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{BATCH, DEC, ENC, PAST};

    #[test]
    fn dimensions_that_only_happen_to_be_equal_do_not_fit() {
        let x = Type::f32([Dim::from(BATCH), ENC.into(), 8.into()]);
        let y = Type::f32([Dim::from(BATCH), DEC.into(), 8.into()]);
        assert!(Op::Binary(Binary::Add).infer(&[&x, &y]).is_err());
        assert_eq!(Op::Concat { axis: 1 }.infer(&[&x, &y]).expect("joined").to_string(), "f32[batch, enc + dec, 8]");
    }

    #[test]
    fn reshape_moves_literal_factors_only() {
        let x = Type::f32([Dim::from(BATCH), DEC.into(), 12.into()]);
        assert!(Op::Reshape(vec![BATCH.into(), DEC.into(), 3.into(), 4.into()]).infer(&[&x]).is_ok());
        assert!(Op::Reshape(vec![BATCH.into(), 12.into()]).infer(&[&x]).is_err());
    }

    #[test]
    fn steps_that_no_engine_takes_are_refused() {
        let infer = |scale, zero, bits| {
            Op::FakeQuant(FakeQuant { scale, zero, bits })
                .infer(&[&Type::f32([Dim::from(DEC)])])
                .map(|ty| ty.to_string())
        };
        for (zero, bits) in [(0, 8), (255, 8), (0, 16), (65535, 16)] {
            assert_eq!(infer(f32::MIN_POSITIVE, zero, bits), Ok("f32[dec]".to_owned()));
        }
        for (scale, text) in [(0.0, "0"), (-1.0, "-1"), (f32::INFINITY, "inf"), (f32::NAN, "NaN")] {
            let message = format!("expected a scale that is finite and above 0, found {text}");
            assert_eq!(infer(scale, 0, 8), Err(message));
        }
        for bits in [0, 4, 7, 32, 255] {
            assert_eq!(infer(1.0, 0, bits), Err(format!("expected 8 or 16 bits, found {bits}")));
        }
        for (zero, bits, last) in [(-1, 8, 255), (256, 8, 255), (-1, 16, 65535), (65536, 16, 65535)] {
            assert_eq!(infer(1.0, zero, bits), Err(format!("expected a zero from 0 to {last}, found {zero}")));
        }
        let ids = Type::i64([Dim::from(DEC)]);
        let message = Op::FakeQuant(FakeQuant { scale: 1.0, zero: 0, bits: 8 }).infer(&[&ids]);
        assert_eq!(message, Err("takes floats, found integers".to_owned()));
    }

    #[test]
    fn grouped_heads_must_divide() {
        let t = |h: usize| Type::f32([Dim::from(BATCH), h.into(), DEC.into(), 4.into()]);
        let op = Op::Attention { scale: 1.0, softcap: None };
        assert!(op.infer(&[&t(6), &t(3), &t(3)]).is_ok());
        assert!(op.infer(&[&t(6), &t(4), &t(4)]).is_err());
        assert_eq!(Dim::from(PAST) + Dim::from(DEC), Dim::from(DEC) + Dim::from(PAST));
    }
}
