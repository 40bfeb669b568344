//! The intermediate representation: what an encoder-decoder model computes, and nothing about caches, formats or bits.
//!
//! A [`Graph`] is a list of [`Value`]s. A value is an input, a constant, a weight, or **one op applied to other values**
//! (an op has one result, so value and node are the same thing). An [`Entry`] is a cut through the graph: everything
//! reachable from its outputs without crossing its inputs. Encoder, decoder and decoder with past are three entries of
//! one graph, so they share values and weights.
//!
//! # Letters
//!
//! `b` batch, `q`/`k` query/key length, `h` heads, `g` key/value heads, `d` head width, `e` model width, `n` any;
//! `..` any leading dimensions. Symbols of a [`Dim`]: `batch`, `enc` (source length), `dec` (target length of this call),
//! `past` (target tokens of earlier calls). A symbol gets its length from the first value that has it as a whole dimension:
//! an input, or the result of a [`Op::Conv`].
//!
//! # Ops
//!
//! | op | arguments -> result |
//! | --- | --- |
//! | [`Op::MatMul`] | `[..,m,n] [..,n,p] -> [..,m,p]` |
//! | [`Op::Linear`] | `x[..,e] w[n,e] bias[n]? -> [..,n]`; where quantized weights act |
//! | [`Op::Embed`] | `ids[..] table[n,e] -> [..,e]` |
//! | [`Op::Binary`], [`Op::Unary`] | broadcasting, as numpy |
//! | [`Op::Softmax`] | last axis; a row of -inf gives zeros |
//! | [`Op::Mean`] | `[..,n,..] -> [..,1,..]`, over an axis |
//! | [`Op::RmsNorm`] | `x[..,e] w[e] -> [..,e]`: `x / sqrt(mean(x²) + eps) · w` |
//! | [`Op::LayerNorm`] | `x[..,e] w[e] bias[e]? -> [..,e]`: `(x - mean) / sqrt(var + eps) · w + bias` |
//! | [`Op::GroupNorm`] | `x[b,c,..] w[c] bias[c] -> [b,c,..]`, over the channels of a group and the axes after them |
//! | [`Op::Conv`] | `x[b,c,n] w[o,c,k] bias[o]? -> [b,o,(n + 2 pad - k) / stride + 1]` |
//! | [`Op::Conv2d`] | `x[b,c,n,m] w[o,c / groups,k,l] -> [b,o,(n + 2 pad - k) / stride + 1,(m + 2 pad - l) / stride + 1]` |
//! | [`Op::Reshape`], [`Op::Transpose`], [`Op::Broadcast`], [`Op::Concat`], [`Op::Slice`] | layout |
//! | [`Op::Select`] | `choice i64[..] a[..] b[..] -> [..]`, broadcasting: a where the choice is not 0, else b |
//! | [`Op::Positions`] | `-> i64[n]`: `start, start + 1, ..` |
//! | [`Op::Rope`] | `x[b,h,q,d] positions i64[q] -> [b,h,q,d]`, pairs of places turned by their position |
//! | [`Op::Mask`] | `-> [q,k]`, 0 where visible, `hidden` (-inf) elsewhere |
//! | [`Op::PaddingMask`] | `i64[b,k] -> [b,1,1,k]`, 0 where the mask is not 0, `hidden` (-inf) elsewhere |
//! | [`Op::RelativeBias`] | `table[buckets,h] -> [1,h,q,k]`, T5's bucketed distance |
//! | [`Op::DynamicQuant`] | `x -> x` rounded to 8 bits with a scale taken from x itself |
//! | [`Op::FakeQuant`] | `x -> (clamp(round_half_even(x / scale) + zero, 0, 2^bits - 1) - zero) · scale`, fixed steps |
//! | [`Op::Attention`] | `q[b,h,q,d] k[b,g,k,d] v[b,g,k,d] bias? -> [b,h,q,d]`: `softmax(cap(q·kᵀ·scale) + bias)·v` |
//!
//! Domain ops stay whole because each format lowers them its own way: ONNX spells `RelativeBias` in a dozen nodes,
//! llama.cpp has it built in.

pub mod arithmetic;
pub mod build;
pub mod eval;
pub mod ir;
pub mod passes;
pub mod progress;
pub mod rewrite;
pub mod weights;

pub use build::{Build, BuildError, Val};
pub use eval::tensor::{self, Feeds, Tensor, Tensors};
pub use eval::{EvalError, Interpreter, eval, relative_bucket};
pub use ir::fake_quant::FakeQuant;
pub use ir::graph::{Def, Entry, Graph, Port, Value, ValueId};
pub use ir::op::{Binary, Granularity, Layout, Op, Rope, Unary, Visible};
pub use ir::port::{Cache, PortRole, Side};
pub use ir::same::same_values;
pub use ir::ty::{BATCH, DEC, DType, Dim, ENC, PAST, Sym, Type};
pub use ir::{text, verify};
pub use progress::Progress;
pub use weights::blob::{self, Blob, Scratch, open_file};
pub use weights::ggml::{self, GgmlType};
pub use weights::{
    AffineTensor, Block, Computed, Derive, Float8Tensor, FloatType, Quantized, ScalePer, Weight, WeightData,
    WeightError, WeightId, Weights, transposed,
};
