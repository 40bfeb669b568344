//! A small encoder and decoder as NPU toolchains take them, for any profile.

use converters::export::npu::Profile;
use converters::export::npu::profile::{Gelu, Norm};

use crate::fixture::lcg;
use crate::onnx_file::{Attribute, FLOAT, File, INT8, INT32, INT64, Node, Port, Tensor, UINT8, UINT16};

/// Source tokens, width, heads, head width, inner width, vocabulary, cached tokens: no two are equal.
const S: i64 = 6;
const E: i64 = 10;
const H: i64 = 2;
const D: i64 = 5;
const F: i64 = 12;
const V: i64 = 20;
const C: i64 = 7;

/// Of the norms.
const EPS: f32 = 1e-6;

/// How the decoder puts keys and values of a token to those before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Update {
    Concat,
    Scatter,
}

/// Steps of an activation.
#[derive(Clone, Copy)]
struct Range {
    element: u64,
    scale: f32,
    zero: i64,
}

struct Writer {
    file: File,
    bits: Option<u8>,
    hidden: f32,
    gelu: Gelu,
    norm: Norm,
    seed: i64,
}

/// The encoder: `input_ids`, `attention_mask` -> `encoder_hidden`, `cross.0.k`, `cross.0.v`.
pub fn encoder(profile: &Profile) -> File {
    let mut w = Writer::new(profile, 1);
    w.input("input_ids", INT32, &[1, S]);
    w.input("attention_mask", INT32, &[1, S]);
    let x = w.embedding("tokens", "input_ids", S, V);
    let mask = w.padding("attention_mask");
    let attended = w.attention(&x, &mask);
    let x = w.add("attention/residual", &x, &attended);
    let fed = w.feed_forward(&x);
    let x = w.add("ffn/residual", &x, &fed);
    let memory = w.layer_norm(&x);
    w.file.outputs.push(Port { name: memory.clone(), element: FLOAT, dims: vec![S, E] });
    let k = w.linear("cross.0.k/linear", &memory, H * D, E, false);
    let k = w.heads("cross.0.k", &k, S, &[1, 2, 0]);
    w.give("cross.0.k", &k, &[H, D, S]);
    let v = w.linear("cross.0.v/linear", &memory, H * D, E, false);
    let v = w.heads("cross.0.v", &v, S, &[1, 0, 2]);
    assert_eq!(w.file.nodes.last().expect("just made").outputs, [v]);
    // Floats, whose codes are inside of the graphs.
    w.file.nodes.last_mut().expect("just made").outputs = vec!["cross.0.v".to_owned()];
    w.file.outputs.push(Port { name: "cross.0.v".to_owned(), element: FLOAT, dims: vec![H, S, D] });
    w.file
}

/// A step of the decoder: a token, its position, the mask of the source and keys and values -> `logits`, `present.0.k`,
/// `present.0.v`.
pub fn decoder(profile: &Profile, update: Update) -> File {
    let mut w = Writer::new(profile, 2);
    w.input("decoder_input_ids", INT32, &[1, 1]);
    w.input("position", INT32, &[1]);
    w.input("attention_mask", INT32, &[1, S]);
    let token = w.embedding("tokens", "decoder_input_ids", 1, V);
    let place = w.embedding("places", "position", 1, C + 1);
    let x = w.add("embedding", &token, &place);
    let seen = w.causal();

    let normed = w.norm("self/norm", &x, 1);
    let q = w.linear("self/q", &normed, H * D, E, false);
    let q = w.heads("self/q/heads", &q, 1, &[1, 0, 2]);
    let k = w.linear("self/k", &normed, H * D, E, false);
    let k = w.heads("present.0.k", &k, 1, &[1, 2, 0]);
    let v = w.linear("self/v", &normed, H * D, E, false);
    let v = w.heads("present.0.v", &v, 1, &[1, 0, 2]);
    let (past_k, past_v) = (w.take("past.0.k", &[H, D, C]), w.take("past.0.v", &[H, C, D]));
    let (k, v) = match update {
        Update::Concat => {
            let all_k = w.op("self/k/all", "Concat", &[&past_k, &k], &[("axis", Attribute::Int(2))]);
            let all_v = w.op("self/v/all", "Concat", &[&past_v, &v], &[("axis", Attribute::Int(1))]);
            w.give("present.0.k", &k, &[H, D, 1]);
            w.give("present.0.v", &v, &[H, 1, D]);
            (w.narrow("self/k/all", &all_k), w.narrow("self/v/all", &all_v))
        }
        Update::Scatter => {
            let all_k = w.scatter("self/k/all", &past_k, &k, 2, &[H, D, 1]);
            let all_v = w.scatter("self/v/all", &past_v, &v, 1, &[H, 1, D]);
            w.give("present.0.k", &all_k, &[H, D, C]);
            w.give("present.0.v", &all_v, &[H, C, D]);
            (all_k, all_v)
        }
    };
    let seen = match update {
        Update::Concat => seen,
        Update::Scatter => w.without_the_last(&seen),
    };
    let attended = w.attend("self", &q, &k, &v, &seen, 1);
    let attended = w.linear("self/o", &attended, E, H * D, false);
    let x = w.add("self/residual", &x, &attended);

    let normed = w.norm("cross/norm", &x, 1);
    let q = w.linear("cross/q", &normed, H * D, E, false);
    let q = w.heads("cross/q/heads", &q, 1, &[1, 0, 2]);
    let k = w.take("cross.0.k", &[H, D, S]);
    w.input("cross.0.v", FLOAT, &[H, S, D]);
    let v = w.narrow("cross.0.v", "cross.0.v");
    let mask = w.padding("attention_mask");
    let attended = w.attend("cross", &q, &k, &v, &mask, 1);
    let attended = w.linear("cross/o", &attended, E, H * D, false);
    let x = w.add("cross/residual", &x, &attended);
    let x = w.norm("final_norm", &x, 1);
    let logits = w.linear("logits", &x, V, E, false);
    w.file.outputs.push(Port { name: logits, element: FLOAT, dims: vec![1, V] });
    w.file
}

impl Writer {
    fn new(profile: &Profile, seed: i64) -> Writer {
        let writes = profile.writes;
        let file = File { opset: writes.opset as u64, ..File::default() };
        let (bits, hidden, gelu, norm) = (writes.activations, writes.hidden, writes.gelu, writes.norm);
        Writer { file, bits, hidden, gelu, norm, seed }
    }

    fn input(&mut self, name: &str, element: u64, dims: &[i64]) {
        self.file.inputs.push(Port { name: name.to_owned(), element, dims: dims.to_vec() });
    }

    /// A node whose only result has its name.
    fn op(&mut self, name: &str, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let name = format!("{name}/{op}");
        self.file.nodes.push(Node {
            op: op.to_owned(),
            name: name.clone(),
            inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
            outputs: vec![name.clone()],
            attributes: attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            ..Node::default()
        });
        name
    }

    fn tensor(&mut self, name: &str, element: u64, dims: &[i64], bytes: Vec<u8>) -> String {
        let known = self.file.tensors.iter().any(|tensor| tensor.name == name);
        if !known {
            let (name, dims) = (name.to_owned(), dims.to_vec());
            self.file.tensors.push(Tensor { name, element, dims, bytes, external: Vec::new() });
        }
        name.to_owned()
    }

    fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) -> String {
        self.tensor(name, FLOAT, dims, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn indices(&mut self, name: &str, values: &[i64]) -> String {
        self.tensor(name, INT64, &[values.len() as i64], values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn drawn(&mut self, count: i64, spread: f32) -> Vec<f32> {
        self.seed += 1;
        lcg(self.seed, count as usize).into_iter().map(|x| x * spread).collect()
    }

    /// Steps over numbers from `low` to `high` in the width of activations.
    fn range(&self, low: f32, high: f32) -> Range {
        let (element, most) = if self.bits == Some(16) { (UINT16, 65535.0) } else { (UINT8, 255.0) };
        let scale = (high - low) / most;
        Range { element, scale, zero: (-low / scale).round() as i64 }
    }

    /// Rounds to codes and back; without codes, the value itself.
    fn codes(&mut self, name: &str, x: &str, range: Range) -> String {
        if self.bits.is_none() {
            return x.to_owned();
        }
        let [scale, zero] = self.steps(name, range);
        let codes = self.op(name, "QuantizeLinear", &[x, &scale, &zero], &[]);
        self.op(name, "DequantizeLinear", &[&codes, &scale, &zero], &[])
    }

    fn steps(&mut self, name: &str, range: Range) -> [String; 2] {
        let scale = self.floats(&format!("{name}/scale"), &[], &[range.scale]);
        let zero = range.zero.to_le_bytes()[..if range.element == UINT8 { 1 } else { 2 }].to_vec();
        let zero = self.tensor(&format!("{name}/zero"), range.element, &[], zero);
        [scale, zero]
    }

    /// Rounded to what keys and values are kept in: uint8, symmetric.
    fn narrow(&mut self, name: &str, x: &str) -> String {
        self.codes(name, x, CACHE)
    }

    /// An input that holds codes of keys or values.
    fn take(&mut self, name: &str, dims: &[i64]) -> String {
        if self.bits.is_none() {
            self.input(name, FLOAT, dims);
            return name.to_owned();
        }
        self.input(name, UINT8, dims);
        let [scale, zero] = self.steps(name, CACHE);
        self.op(name, "DequantizeLinear", &[name, &scale, &zero], &[])
    }

    /// The codes of keys or values, or in float they themselves, as an output.
    fn give(&mut self, name: &str, x: &str, dims: &[i64]) {
        let element = if self.bits.is_none() { FLOAT } else { UINT8 };
        match self.bits {
            None => drop(self.op(&format!("{name}/given"), "Identity", &[x], &[])),
            Some(_) => {
                let [scale, zero] = self.steps(&format!("{name}/given"), CACHE);
                self.op(&format!("{name}/given"), "QuantizeLinear", &[x, &scale, &zero], &[]);
            }
        }
        self.file.nodes.last_mut().expect("just made").outputs = vec![name.to_owned()];
        self.file.outputs.push(Port { name: name.to_owned(), element, dims: dims.to_vec() });
    }

    fn reshape(&mut self, name: &str, x: &str, to: &[i64]) -> String {
        let shape = self.indices(&format!("{name}/shape"), to);
        self.op(name, "Reshape", &[x, &shape], &[])
    }

    /// Rows of a table with steps of its own, by ids of any shape -> [count, E].
    fn embedding(&mut self, name: &str, ids: &str, count: i64, rows: i64) -> String {
        let ids = self.reshape(&format!("{name}/ids"), ids, &[count]);
        let table = self.drawn(rows * E, 1.0);
        let range = self.range(-1.0, 1.0);
        if self.bits.is_none() {
            let table = self.floats(name, &[rows, E], &table);
            return self.op(name, "Gather", &[&table, &ids], &[]);
        }
        let width = if range.element == UINT8 { 1 } else { 2 };
        let most = if range.element == UINT8 { 255.0 } else { 65535.0 };
        let code = |x: &f32| ((x / range.scale).round() + range.zero as f32).clamp(0.0, most) as u16;
        let bytes = table.iter().flat_map(|x| code(x).to_le_bytes()[..width].to_vec()).collect();
        let table = self.tensor(name, range.element, &[rows, E], bytes);
        let [scale, zero] = self.steps(name, range);
        let table = self.op(&format!("{name}/table"), "DequantizeLinear", &[&table, &scale, &zero], &[]);
        let rows = self.op(name, "Gather", &[&table, &ids], &[]);
        self.codes(name, &rows, range)
    }

    /// 0 where a key may be seen, `hidden` where not -> [1, S].
    fn padding(&mut self, mask: &str) -> String {
        let (one, hidden) = (self.floats("one", &[], &[1.0]), self.floats("hidden", &[], &[-self.hidden]));
        let mask = self.op("mask", "Cast", &[mask], &[("to", Attribute::Int(FLOAT as i64))]);
        let mask = self.op("mask", "Sub", &[&mask, &one], &[]);
        let mask = self.op("mask", "Mul", &[&mask, &hidden], &[]);
        let range = self.range(self.hidden, 0.0);
        self.codes("mask", &mask, range)
    }

    /// Which of the cached tokens and the new one a position may see -> [1, C + 1].
    fn causal(&mut self) -> String {
        let row = |position: i64| (0..=C).map(move |key| if key < position || key == C { 0.0 } else { 1.0 });
        let table: Vec<f32> = (0..=C).flat_map(row).map(|x| x * self.hidden).collect();
        let table = self.floats("causal", &[C + 1, C + 1], &table);
        let seen = self.op("causal", "Gather", &[&table, "position"], &[]);
        let range = self.range(self.hidden, 0.0);
        self.codes("causal", &seen, range)
    }

    fn without_the_last(&mut self, seen: &str) -> String {
        let [start, end, axis] =
            [("slice/start", 0), ("slice/end", C), ("slice/axis", 1)].map(|(n, i)| self.indices(n, &[i]));
        let seen = self.op("causal/all", "Slice", &[seen, &start, &end, &axis], &[]);
        let range = self.range(self.hidden, 0.0);
        self.codes("causal/all", &seen, range)
    }

    /// Norm of `count` rows by the root of the mean square, in float.
    fn norm(&mut self, name: &str, x: &str, count: i64) -> String {
        let gain: Vec<f32> = self.drawn(E, 0.1).iter().map(|x| 1.0 + x).collect();
        let gain = self.floats(&format!("{name}/gain"), &[E], &gain);
        let normed = match self.norm {
            Norm::LpNormalization => self.lp_norm(name, x, count),
            Norm::Division => {
                let root = self.root_mean_square(name, x);
                self.op(name, "Div", &[x, &root], &[])
            }
            Norm::Reciprocal => {
                let root = self.root_mean_square(name, x);
                let inverse = self.op(name, "Reciprocal", &[&root], &[]);
                self.op(&format!("{name}/x"), "Mul", &[x, &inverse], &[])
            }
        };
        let normed = self.op(name, "Mul", &[&normed, &gain], &[]);
        let range = self.range(-3.5, 3.5);
        self.codes(name, &normed, range)
    }

    fn root_mean_square(&mut self, name: &str, x: &str) -> String {
        let (two, eps) = (self.floats("two", &[], &[2.0]), self.floats("eps", &[], &[EPS]));
        let squares = self.op(name, "Pow", &[x, &two], &[]);
        let axes = ("axes", Attribute::Ints(vec![-1]));
        let mean = if self.file.opset < 18 {
            self.op(name, "ReduceMean", &[&squares], &[axes])
        } else {
            let last = self.indices("last", &[-1]);
            self.op(name, "ReduceMean", &[&squares, &last], &[])
        };
        let mean = self.op(name, "Add", &[&mean, &eps], &[]);
        self.op(name, "Sqrt", &[&mean], &[])
    }

    /// `x / √(Σ x² + E·eps) · √E`, with `√(E·eps)` as one number more.
    fn lp_norm(&mut self, name: &str, x: &str, count: i64) -> String {
        let column = vec![(E as f32 * EPS).sqrt(); count as usize];
        let column = self.floats(&format!("eps/{count}"), &[count, 1], &column);
        let wider = self.op(name, "Concat", &[x, &column], &[("axis", Attribute::Int(1))]);
        let normed =
            self.op(name, "LpNormalization", &[&wider], &[("axis", Attribute::Int(-1)), ("p", Attribute::Int(2))]);
        let [start, end, axis] =
            [("norm/start", 0), ("norm/end", E), ("norm/axis", 1)].map(|(n, i)| self.indices(n, &[i]));
        let normed = self.op(name, "Slice", &[&normed, &start, &end, &axis], &[]);
        let width = self.floats("norm/width", &[], &[(E as f32).sqrt()]);
        self.op(&format!("{name}/scaled"), "Mul", &[&normed, &width], &[])
    }

    /// LayerNormalization, its gain in codes where all else is.
    fn layer_norm(&mut self, x: &str) -> String {
        let gain: Vec<f32> = self.drawn(E, 0.1).iter().map(|x| 1.0 + x).collect();
        let gain = match self.bits {
            None => self.floats("final_norm/gain", &[E], &gain),
            Some(_) => {
                let range = Range { element: UINT8, scale: 1.2 / 255.0, zero: 0 };
                let codes = gain.iter().map(|x| (x / range.scale).round() as u8).collect();
                let codes = self.tensor("final_norm/gain", UINT8, &[E], codes);
                let [scale, zero] = self.steps("final_norm/gain", range);
                self.op("final_norm/gain", "DequantizeLinear", &[&codes, &scale, &zero], &[])
            }
        };
        let normed = self.op("final_norm", "LayerNormalization", &[x, &gain], &[("axis", Attribute::Int(-1))]);
        let range = self.range(-3.5, 3.5);
        self.codes("final_norm", &normed, range)
    }

    /// `x[.., e] w[n, e]ᵀ`, rounded.
    fn linear(&mut self, name: &str, x: &str, n: i64, e: i64, biased: bool) -> String {
        let result = self.product(name, x, n, e, biased);
        let range = self.range(-4.0, 4.0);
        self.codes(name, &result, range)
    }

    fn product(&mut self, name: &str, x: &str, n: i64, e: i64, biased: bool) -> String {
        let weight = self.drawn(n * e, 0.5);
        let bias = biased.then(|| self.drawn(n, 0.5));
        let transposed = ("transB", Attribute::Int(1));
        let mut inputs = vec![x.to_owned()];
        if self.bits.is_none() {
            inputs.push(self.floats(&format!("{name}/weight"), &[n, e], &weight));
            inputs.extend(bias.map(|bias| self.floats(&format!("{name}/bias"), &[n], &bias)));
        } else {
            let rows: Vec<&[f32]> = weight.chunks(e as usize).collect();
            let largest = |row: &&[f32]| row.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 127.0;
            let scales: Vec<f32> = rows.iter().map(largest).collect();
            let codes = rows
                .iter()
                .zip(&scales)
                .flat_map(|(row, scale)| row.iter().map(move |x| (x / scale).round() as i8 as u8));
            let codes = codes.collect();
            let codes = self.tensor(&format!("{name}/weight"), INT8, &[n, e], codes);
            let scale = self.floats(&format!("{name}/weight/scale"), &[n], &scales);
            let along = [("axis", Attribute::Int(0))];
            inputs.push(self.op(&format!("{name}/weight"), "DequantizeLinear", &[&codes, &scale], &along));
            if let Some(bias) = bias {
                let of_x = self.scale_of(x);
                let scales: Vec<f32> = scales.iter().map(|scale| scale * of_x).collect();
                let codes = bias.iter().zip(&scales).flat_map(|(x, scale)| ((x / scale).round() as i32).to_le_bytes());
                let codes = codes.collect();
                let codes = self.tensor(&format!("{name}/bias"), INT32, &[n], codes);
                let scale = self.floats(&format!("{name}/bias/scale"), &[n], &scales);
                inputs.push(self.op(&format!("{name}/bias"), "DequantizeLinear", &[&codes, &scale], &along));
            }
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.op(name, "Gemm", &inputs, &[transposed])
    }

    /// The scale that a value was rounded with.
    fn scale_of(&self, x: &str) -> f32 {
        let node = self.file.nodes.iter().find(|node| node.outputs[0] == x).expect("made");
        let scale = self.file.tensors.iter().find(|tensor| tensor.name == node.inputs[1]).expect("a constant");
        f32::from_le_bytes(scale.bytes[..4].try_into().expect("a float"))
    }

    /// [count, H·D] -> [count, H, D], then in another order, as keys and values are kept.
    fn heads(&mut self, name: &str, x: &str, count: i64, order: &[i64]) -> String {
        let x = match name.ends_with("/heads") {
            true => x.to_owned(),
            false => self.narrow(&format!("{name}/narrow"), x),
        };
        let range = if name.ends_with("/heads") { self.range(-4.0, 4.0) } else { CACHE };
        let x = self.reshape(&format!("{name}/split"), &x, &[count, H, D]);
        let x = self.codes(&format!("{name}/split"), &x, range);
        let x = self.op(name, "Transpose", &[&x], &[("perm", Attribute::Ints(order.to_vec()))]);
        self.codes(name, &x, range)
    }

    fn attention(&mut self, x: &str, mask: &str) -> String {
        let normed = self.norm("attention/norm", x, S);
        let q = self.linear("attention/q", &normed, H * D, E, false);
        let q = self.heads("attention/q/heads", &q, S, &[1, 0, 2]);
        let k = self.linear("attention/k", &normed, H * D, E, false);
        let k = self.heads("attention/k/turned", &k, S, &[1, 2, 0]);
        let v = self.linear("attention/v", &normed, H * D, E, false);
        let v = self.heads("attention/v/turned", &v, S, &[1, 0, 2]);
        let attended = self.attend("attention", &q, &k, &v, mask, S);
        self.linear("attention/o", &attended, E, H * D, false)
    }

    /// `softmax(q k + mask) v` -> [count, H·D].
    fn attend(&mut self, name: &str, q: &str, k: &str, v: &str, mask: &str, count: i64) -> String {
        let scores = self.op(&format!("{name}/scores"), "MatMul", &[q, k], &[]);
        let range = self.range(-20.0, 20.0);
        let scores = self.codes(&format!("{name}/scores"), &scores, range);
        let scores = self.op(&format!("{name}/masked"), "Add", &[&scores, mask], &[]);
        let range = self.range(self.hidden - 20.0, 20.0);
        let scores = self.codes(&format!("{name}/masked"), &scores, range);
        let shares = self.op(name, "Softmax", &[&scores], &[("axis", Attribute::Int(-1))]);
        let range = self.range(0.0, 1.0);
        let shares = self.codes(&format!("{name}/shares"), &shares, range);
        let mixed = self.op(&format!("{name}/mixed"), "MatMul", &[&shares, v], &[]);
        let range = self.range(-4.0, 4.0);
        let mixed = self.codes(&format!("{name}/mixed"), &mixed, range);
        let mixed =
            self.op(&format!("{name}/mixed"), "Transpose", &[&mixed], &[("perm", Attribute::Ints(vec![1, 0, 2]))]);
        let mixed = self.codes(&format!("{name}/mixed/turned"), &mixed, range);
        let mixed = self.reshape(&format!("{name}/merged"), &mixed, &[count, H * D]);
        self.codes(&format!("{name}/merged"), &mixed, range)
    }

    /// `wo (gelu(wi_0 x) · relu(wi_1 x))`
    fn feed_forward(&mut self, x: &str) -> String {
        let normed = self.norm("ffn/norm", x, S);
        let gate = self.linear("ffn/wi_0", &normed, F, E, true);
        let gate = match self.gelu {
            Gelu::Operator => self.op("ffn/gate", "Gelu", &[&gate], &[]),
            Gelu::Formula => {
                let root = self.floats("root", &[], &[std::f32::consts::SQRT_2]);
                let (one, half) = (self.floats("one", &[], &[1.0]), self.floats("half", &[], &[0.5]));
                let inner = self.op("ffn/gate", "Div", &[&gate, &root], &[]);
                let inner = self.op("ffn/gate", "Erf", &[&inner], &[]);
                let inner = self.op("ffn/gate", "Add", &[&inner, &one], &[]);
                let inner = self.op("ffn/gate/x", "Mul", &[&gate, &inner], &[]);
                self.op("ffn/gate", "Mul", &[&inner, &half], &[])
            }
        };
        let range = self.range(-0.2, 4.0);
        let gate = self.codes("ffn/gate", &gate, range);
        let other = self.product("ffn/wi_1", &normed, F, E, false);
        let other = self.op("ffn/relu", "Relu", &[&other], &[]);
        let range = self.range(0.0, 4.0);
        let other = self.codes("ffn/relu", &other, range);
        let inner = self.op("ffn/inner", "Mul", &[&gate, &other], &[]);
        let range = self.range(-1.0, 8.0);
        let inner = self.codes("ffn/inner", &inner, range);
        self.linear("ffn/wo", &inner, E, F, false)
    }

    fn add(&mut self, name: &str, a: &str, b: &str) -> String {
        let sum = self.op(name, "Add", &[a, b], &[]);
        let range = self.range(-6.0, 6.0);
        self.codes(name, &sum, range)
    }

    /// Keys or values of a token written among those before, all with the steps of caches.
    fn scatter(&mut self, name: &str, past: &str, new: &str, axis: i64, dims: &[i64]) -> String {
        let at = self.reshape(&format!("{name}/position"), "position", &[1, 1, 1]);
        let shape = self.indices(&format!("{name}/to"), dims);
        let at = self.op(&format!("{name}/position"), "Expand", &[&at, &shape], &[]);
        let all = self.op(name, "ScatterElements", &[past, &at, new], &[("axis", Attribute::Int(axis))]);
        self.narrow(name, &all)
    }
}

/// Keys and values.
const CACHE: Range = Range { element: UINT8, scale: 4.0 / 127.0, zero: 128 };
