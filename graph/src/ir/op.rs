//! The ops.

use std::fmt;

use super::fake_quant::FakeQuant;
use super::ty::{Dim, Sym};

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
        (0..self.dims / 2).map(|i| 1.0 / crate::arithmetic::powf(self.theta, exponent(i)) / self.factor).collect()
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
    /// Of the places of an axis, which stays with length 1.
    Mean {
        /// Which.
        axis: usize,
    },
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
    /// Cross-correlation along the last two axes, zeros beyond their ends. Channels come in groups: those of a group of the result
    /// are sums over the channels of the same group of the argument, of which the weight has no others.
    Conv2d {
        /// Places between two windows, along each axis.
        stride: [usize; 2],
        /// Zeros before the first and after the last place of each axis.
        pad: [usize; 2],
        /// Groups of neighbouring channels.
        groups: usize,
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
            Op::Conv2d { stride, pad, groups } => {
                write!(f, "Conv2d(stride={stride:?}, pad={pad:?}, groups={groups})")
            }
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
            Op::Mean { axis } => write!(f, "Mean(axis={axis})"),
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

/// The hidden keys' number, where it is one; masks of -inf are the rule and say nothing.
fn finite(hidden: f32) -> String {
    if hidden.is_finite() { format!(", hidden={hidden}") } else { String::new() }
}
