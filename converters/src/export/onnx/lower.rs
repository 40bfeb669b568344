//! Op -> ONNX nodes, one match arm an op.
//!
//! Masks are finite, [`MASKED`], because a softmax over a row of -inf is NaN in onnxruntime. A partly masked row comes
//! out the same: `exp` of it is 0. A wholly masked row would become the mean of the values instead of the interpreter's
//! zeros, so the result of an attention whose bias holds a padding mask is multiplied by 0 there.

mod attention;
mod block;
mod embed;
mod file;
mod joins;
mod linear;
mod norm;

use std::collections::{BTreeMap, HashSet};

use graph::eval::relative_bucket;
use graph::{Binary, Def, Entry, Granularity, Layout as Pairing, Op, Rope, Sym, Unary, ValueId};
use onnx::make::{conv2d, int, ints, node, prune};
use onnx::proto::NodeProto;
use onnx::proto::tensor_proto::DataType;

use self::block::{Block, MASKED};
pub use self::file::{Choices, Lowering};

impl Lowering<'_> {
    /// The nodes that compute `outputs` from `inputs`, both as (value, ONNX name); names made on the way start with
    /// `prefix`. `fixed` as in [`Entry::fixed`].
    pub(super) fn block(
        &mut self,
        inputs: &[(ValueId, String)],
        outputs: &[(ValueId, String)],
        fixed: &BTreeMap<Sym, usize>,
        prefix: &str,
    ) -> Result<Vec<NodeProto>, String> {
        let port = |(value, name): &(ValueId, String)| graph::Port { name: name.clone(), value: *value };
        let cut = Entry {
            name: String::new(),
            inputs: inputs.iter().map(port).collect(),
            outputs: outputs.iter().map(port).collect(),
            fixed: fixed.clone(),
        };
        let order = self.graph.order(&cut);
        let wanted = order.iter().copied().collect();
        let mut block = Block::new(self, inputs, &cut.fixed, wanted, prefix);
        for id in order {
            block.value(id)?;
        }
        let mut named = HashSet::new();
        for (id, name) in outputs {
            block.name_output(*id, name, &named)?;
            named.insert(name.as_str());
        }
        let mut nodes = block.nodes;
        prune(&mut nodes, outputs.iter().map(|(_, name)| name.as_str()));
        Ok(nodes)
    }
}

impl Block<'_, '_> {
    fn value(&mut self, id: ValueId) -> Result<(), String> {
        if self.names.contains_key(&id) {
            return Ok(());
        }
        let graph = self.outer.graph;
        let value = graph.value(id);
        let Def::Op(op, args) = &value.def else {
            return Ok(()); // named when read
        };
        self.place = value.name.clone();
        let name = self.op(id, op, args).map_err(|message| match message.contains(&value.name) {
            true => message,
            false => format!("{}: {message}", value.name),
        })?;
        self.names.insert(id, name);
        Ok(())
    }

    fn op(&mut self, id: ValueId, op: &Op, args: &[ValueId]) -> Result<String, String> {
        match op {
            Op::MatMul => {
                let [a, b] = [self.name(args[0])?, self.name(args[1])?];
                Ok(self.emit("MatMul", &[&a, &b]))
            }
            Op::Linear => self.linear(id, args),
            Op::Embed => self.embed(args[0], args[1]),
            Op::Binary(binary) => {
                let [a, b] = [self.name(args[0])?, self.name(args[1])?];
                let word = match binary {
                    Binary::Add => "Add",
                    Binary::Sub => "Sub",
                    Binary::Mul => "Mul",
                    Binary::Div => "Div",
                };
                Ok(self.emit(word, &[&a, &b]))
            }
            Op::Unary(unary) => {
                let x = self.name(args[0])?;
                Ok(self.unary(*unary, &x))
            }
            Op::Softmax => {
                let x = self.name(args[0])?;
                Ok(self.emit_with("Softmax", &[&x], vec![int("axis", -1)]))
            }
            Op::Mean { axis } => {
                let (x, axis) = (self.name(args[0])?, self.outer.ints(&[*axis as i64]));
                Ok(self.emit("ReduceMean", &[&x, &axis]))
            }
            Op::RmsNorm { eps } => self.rms_norm(args[0], args[1], *eps),
            Op::LayerNorm { eps } => self.layer_norm(args, *eps),
            Op::GroupNorm { groups, eps } => self.group_norm(id, args, *groups, *eps),
            Op::Conv { stride, pad, length } => {
                let names = args.iter().map(|arg| self.name(*arg)).collect::<Result<Vec<String>, String>>()?;
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let attributes = vec![ints("strides", [*stride]), ints("pads", [*pad, *pad])];
                let out = self.emit_with("Conv", &names, attributes);
                if let Some(length) = length {
                    self.lengths.insert(*length, (out.clone(), 2));
                }
                Ok(out)
            }
            Op::Conv2d { stride, pad, groups } => {
                let [x, w] = [self.name(args[0])?, self.name(args[1])?];
                Ok(self.emit_with("Conv", &[&x, &w], conv2d(*stride, *pad, *groups)))
            }
            Op::Broadcast(to) => {
                let x = self.name(args[0])?;
                let lengths = to.iter().map(|dim| self.length(dim)).collect::<Result<Vec<String>, String>>()?;
                let lengths: Vec<&str> = lengths.iter().map(String::as_str).collect();
                let shape = self.emit_with("Concat", &lengths, vec![int("axis", 0)]);
                Ok(self.emit("Expand", &[&x, &shape]))
            }
            Op::Slice { axis, start, step, len } => {
                let x = self.name(args[0])?;
                self.slice(&x, *axis as i64, *start, *step, len)
            }
            Op::Select => {
                let [choice, a, b] = [self.name(args[0])?, self.name(args[1])?, self.name(args[2])?];
                let choice = self.cast(&choice, DataType::Bool);
                Ok(self.emit("Where", &[&choice, &a, &b]))
            }
            Op::Positions { start, len } => self.positions(Some(start), len),
            Op::Rope(rope) => {
                let [x, positions] = [self.name(args[0])?, self.name(args[1])?];
                let width = self.shape(id)[3].literal().ok_or("the head width is not a number")?;
                self.rope(&x, &positions, rope, width)
            }
            Op::Reshape(_) => self.reshape(id, args[0]),
            Op::Transpose(perm) => {
                let x = self.name(args[0])?;
                Ok(self.emit_with("Transpose", &[&x], vec![ints("perm", perm.iter().copied())]))
            }
            Op::Concat { axis } => self.concat(args, *axis),
            Op::Mask { visible, start, q, k, .. } => self.once(format!("mask({visible}, {start}, {q}, {k})"), |b| {
                let distances = b.distances(start, q, k)?;
                let bounds = [("LessOrEqual", visible.after, 1), ("GreaterOrEqual", visible.before, -1)];
                let mut sees: Option<String> = None;
                for (op, bound, sign) in bounds {
                    let Some(bound) = bound else { continue };
                    let bound = b.outer.int_scalar(sign * bound as i64);
                    let one = b.emit(op, &[&distances, &bound]);
                    sees = Some(match sees {
                        None => one,
                        Some(other) => b.emit("And", &[&other, &one]),
                    });
                }
                let (seen, masked) = (b.outer.float_scalar(0.0), b.outer.float_scalar(MASKED));
                match sees {
                    Some(sees) => Ok(b.emit("Where", &[&sees, &seen, &masked])),
                    // Nothing is hidden, and the mask has its shape all the same.
                    None => {
                        let zeros = b.cast(&distances, DataType::Float);
                        Ok(b.emit("Mul", &[&zeros, &seen]))
                    }
                }
            }),
            Op::PaddingMask { .. } => {
                let mask = self.name(args[0])?;
                let real = self.cast(&mask, DataType::Bool);
                let (seen, masked) = (self.outer.float_scalar(0.0), self.outer.float_scalar(MASKED));
                let bias = self.emit("Where", &[&real, &seen, &masked]);
                Ok(self.unsqueeze(&bias, &[1, 2]))
            }
            Op::RelativeBias { buckets, max_distance, bidirectional, start, q, k } => {
                let table = self.name(args[0])?;
                // The bucket of every distance, from -max_distance to max_distance: beyond, it does not change. A table
                // rather than a formula, whose f32 logarithm would put an edge elsewhere in another engine.
                let far = *max_distance as i64;
                let bucket = |d| relative_bucket(d, *buckets, *max_distance, *bidirectional) as i64;
                let rows = self.outer.ints(&(-far..=far).map(bucket).collect::<Vec<i64>>());
                let by_distance = self.emit_with("Gather", &[&table, &rows], vec![int("axis", 0)]);
                let by_distance = self.emit_with("Transpose", &[&by_distance], vec![ints("perm", [1, 0])]);
                let index = self.once(format!("clipped({start}, {q}, {k}, {far})"), |b| {
                    let distances = b.distances(start, q, k)?;
                    let (low, high) = (b.outer.int_scalar(-far), b.outer.int_scalar(far));
                    let clipped = b.emit("Clip", &[&distances, &low, &high]);
                    Ok(b.emit("Add", &[&clipped, &high]))
                })?;
                let bias = self.emit_with("Gather", &[&by_distance, &index], vec![int("axis", 1)]);
                Ok(self.unsqueeze(&bias, &[0]))
            }
            Op::DynamicQuant(Granularity::Tensor) => {
                let x = self.name(args[0])?;
                let outputs = ["codes", "scale", "zero_point"].map(|word| self.fresh(word));
                let words = [0, 1, 2].map(|i| outputs[i].as_str());
                self.nodes.push(node("DynamicQuantizeLinear", &[&x], &words, Vec::new()));
                let [codes, scale, zero] = words;
                let rounded = self.emit("DequantizeLinear", &[codes, scale, zero]);
                self.quantized.insert(id, outputs);
                Ok(rounded)
            }
            // Inside of the product that reads it.
            Op::DynamicQuant(Granularity::Block(block)) => {
                let x = self.name(args[0])?;
                self.rounded_inside.insert(id, (x, *block));
                Ok(String::new())
            }
            Op::DynamicQuant(Granularity::Token) => Err("ONNX has no activations quantized per token".to_owned()),
            Op::FakeQuant(steps) => {
                let x = self.name(args[0])?;
                let scale = self.outer.float_scalar(steps.scale);
                steps.check()?;
                let zero = u16::try_from(steps.zero).expect("`check` passed");
                let zero = match u8::try_from(zero) {
                    Ok(zero) if steps.bits == 8 => self.outer.byte_scalar(zero),
                    _ => self.outer.word_scalar(zero),
                };
                let codes = self.emit("QuantizeLinear", &[&x, &scale, &zero]);
                Ok(self.emit("DequantizeLinear", &[&codes, &scale, &zero]))
            }
            Op::Attention { scale, softcap } => self.attention(id, args, *scale, *softcap),
        }
    }

    fn unary(&mut self, unary: Unary, x: &str) -> String {
        match unary {
            Unary::Relu => self.emit("Relu", &[x]),
            Unary::Tanh => self.emit("Tanh", &[x]),
            Unary::Gelu => {
                let erf = self.scaled("Div", x, std::f32::consts::SQRT_2);
                let erf = self.emit("Erf", &[&erf]);
                let gate = self.scaled("Add", &erf, 1.0);
                let half = self.scaled("Mul", x, 0.5);
                self.emit("Mul", &[&half, &gate])
            }
            Unary::GeluTanh => {
                let cube = self.scaled("Pow", x, 3.0);
                let cube = self.scaled("Mul", &cube, 0.044_715);
                let inner = self.emit("Add", &[x, &cube]);
                let inner = self.scaled("Mul", &inner, (2.0 / std::f64::consts::PI).sqrt() as f32);
                let tanh = self.emit("Tanh", &[&inner]);
                let gate = self.scaled("Add", &tanh, 1.0);
                let half = self.scaled("Mul", x, 0.5);
                self.emit("Mul", &[&half, &gate])
            }
            Unary::Silu => {
                let gate = self.emit("Sigmoid", &[x]);
                self.emit("Mul", &[x, &gate])
            }
            Unary::Sigmoid => self.emit("Sigmoid", &[x]),
            Unary::QuickGelu => {
                let gate = self.scaled("Mul", x, 1.702);
                let gate = self.emit("Sigmoid", &[&gate]);
                self.emit("Mul", &[x, &gate])
            }
        }
    }

    fn rope(&mut self, x: &str, positions: &str, rope: &Rope, width: usize) -> Result<String, String> {
        let half = rope.dims / 2;
        let Rope { theta, factor, dims, layout } = *rope;
        let mut sine_of = |op: &str| {
            self.once(format!("{op}({positions}, {theta}, {factor}, {dims})"), |b| {
                let turns = b.once(format!("turns({positions}, {theta}, {factor}, {dims})"), |b| {
                    let frequencies = b.outer.floats(&format!("rope/{theta}/{factor}/{dims}"), &rope.frequencies());
                    let column = b.unsqueeze(positions, &[1]);
                    let column = b.cast(&column, DataType::Float);
                    Ok(b.emit("Mul", &[&column, &frequencies]))
                })?;
                Ok(b.emit(op, &[&turns]))
            })
        };
        let [cos, sin] = [sine_of("Cos")?, sine_of("Sin")?]; // [q, half]
        let (second, step) = match layout {
            Pairing::Half => (half, 1),
            Pairing::Pairs => (1, 2),
        };
        let a = self.slice(x, 3, 0, step, &half.into())?;
        let b = self.slice(x, 3, second, step, &half.into())?;
        let product = |block: &mut Self, x: &str, y: &str| block.emit("Mul", &[x, y]);
        let (a_cos, a_sin, b_cos, b_sin) =
            (product(self, &a, &cos), product(self, &a, &sin), product(self, &b, &cos), product(self, &b, &sin));
        let turned_a = self.emit("Sub", &[&a_cos, &b_sin]);
        let turned_b = self.emit("Add", &[&b_cos, &a_sin]);
        let mut parts = match layout {
            Pairing::Half => vec![turned_a, turned_b],
            Pairing::Pairs => {
                let [a, b] = [turned_a, turned_b].map(|part| self.unsqueeze(&part, &[-1]));
                let pairs = self.emit_with("Concat", &[&a, &b], vec![int("axis", -1)]);
                let flat = self.outer.ints(&[0, 0, 0, dims as i64]);
                vec![self.emit("Reshape", &[&pairs, &flat])]
            }
        };
        if dims < width {
            parts.push(self.slice(x, 3, dims, 1, &(width - dims).into())?);
        }
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            many => {
                let many: Vec<&str> = many.iter().map(String::as_str).collect();
                Ok(self.emit_with("Concat", &many, vec![int("axis", 3)]))
            }
        }
    }

    fn reshape(&mut self, id: ValueId, arg: ValueId) -> Result<String, String> {
        let (from, to) = (self.shape(arg), self.shape(id));
        // The heads of a fused attention, merged again: that is how it leaves them.
        if let (Some(Op::Transpose(perm)), [source]) = (self.graph().op(arg), self.graph().args(arg))
            && perm == &[0, 2, 1, 3]
            && to.len() == 3
            && to[..2] == from[..2]
            && let Some(merged) = self.merged.get(source)
        {
            return Ok(merged.clone());
        }
        let x = self.name(arg)?;
        let kept = |i: usize| from.get(i) == to.get(i);
        // 0 keeps the length at that place, one -1 takes what is left; neither needs a length at run time.
        let mut unknown = 0;
        let sizes: Vec<Option<i64>> = (0..to.len())
            .map(|i| match to[i].literal() {
                // Also where it is a number: the merged decoder runs this on no rows when it does not need them.
                _ if kept(i) => Some(0),
                Some(n) if n > 0 => Some(n as i64),
                _ => {
                    unknown += 1;
                    (unknown == 1).then_some(-1)
                }
            })
            .collect();
        let shape = match sizes.iter().copied().collect::<Option<Vec<i64>>>() {
            Some(sizes) => self.outer.ints(&sizes),
            None => {
                let lengths = to.iter().map(|dim| self.length(dim)).collect::<Result<Vec<String>, String>>()?;
                let lengths: Vec<&str> = lengths.iter().map(String::as_str).collect();
                self.emit_with("Concat", &lengths, vec![int("axis", 0)])
            }
        };
        Ok(self.emit("Reshape", &[&x, &shape]))
    }

    /// Leaves out operands that are empty in this entry, as the past of the first decoding step.
    fn concat(&mut self, args: &[ValueId], axis: usize) -> Result<String, String> {
        let mut names = Vec::new();
        for arg in args {
            if self.shape(*arg)[axis].literal() != Some(0) {
                names.push(self.name(*arg)?);
            }
        }
        match names.as_slice() {
            [] => Err("every part is empty".to_owned()),
            [one] => Ok(one.clone()),
            many => {
                let many: Vec<&str> = many.iter().map(String::as_str).collect();
                Ok(self.emit_with("Concat", &many, vec![int("axis", axis as i64)]))
            }
        }
    }
}
