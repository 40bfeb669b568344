//! `Linear`, by the way its weight is stored.

use graph::{Op, ValueId, WeightId};
use onnx::make::{int, ints, node};
use onnx::proto::tensor_proto::DataType;
use onnx::tensors::Layout;

use super::block::Block;
use crate::export::onnx::options::{Compute, Products};

/// What divides the input of a linear layer computed in f16 and multiplies its output.
const HEADROOM: f32 = 64.0;

impl Block<'_, '_> {
    pub(super) fn layout(&mut self, id: ValueId) -> Option<(WeightId, Layout)> {
        let weight = self.graph().weight_of(id)?;
        let layout = *self.outer.layouts.get(&weight)?;
        self.outer.weights.insert(weight);
        Some((weight, layout))
    }

    pub(super) fn linear(&mut self, id: ValueId, args: &[ValueId]) -> Result<String, String> {
        let outer = &self.outer;
        if let Some(group) = outer.joins.group(id).filter(|group| group.iter().all(|id| self.wanted.contains(id))) {
            return self.joined(id, group.to_vec());
        }
        let bias = args.get(2).copied();
        let y = match self.layout(args[1]) {
            None => {
                let [x, w] = [self.name(args[0])?, self.name(args[1])?];
                let w = self.emit_with("Transpose", &[&w], vec![ints("perm", [1, 0])]);
                self.emit("MatMul", &[&x, &w])
            }
            Some((weight, layout @ Layout::Blocks { bits, block, .. })) => {
                let x = self.input_of_blocks(args[0], weight, block)?;
                let parts = self.outer.part_names(weight, layout);
                let shape = self.graph().weights.get(weight).matrix();
                if self.outer.choices.products == Products::Joined {
                    let bias = bias.map(|bias| self.name(bias)).transpose()?;
                    return Ok(self.block_product(&x, &parts, bias.as_deref(), shape, [bits.into(), block]));
                }
                self.block_product(&x, &parts, None, shape, [bits.into(), block])
            }
            Some((weight, layout)) => self.linear_by_weight(args[0], weight, layout)?,
        };
        match bias {
            None => Ok(y),
            Some(bias) => {
                let bias = self.name(bias)?;
                Ok(self.emit("Add", &[&y, &bias]))
            }
        }
    }

    /// The products of one input as one, made with the first of them: the result of `id`.
    fn joined(&mut self, id: ValueId, group: Vec<ValueId>) -> Result<String, String> {
        if let Some(name) = self.split.remove(&id) {
            return Ok(name);
        }
        let graph = self.outer.graph;
        let (mut parts, mut rows, mut biases) = (Vec::new(), Vec::new(), Vec::new());
        let mut alike = None;
        for member in &group {
            let args = graph.args(*member);
            let Some((weight, layout @ Layout::Blocks { bits, block, .. })) = self.layout(args[1]) else {
                return Err("only weights in blocks are joined".to_owned());
            };
            parts.push(self.outer.part_names(weight, layout));
            biases.extend(args.get(2).map(|bias| self.name(*bias)).transpose()?);
            let [n, e] = graph.weights.get(weight).matrix();
            rows.push(n);
            if alike.is_none() {
                alike = Some((self.input_of_blocks(args[0], weight, block)?, e, [bits.into(), block]));
            }
        }
        let (x, e, blocks) = alike.ok_or("a group of products has members")?;
        let mut join = |of: Vec<&str>| self.outer.prepare("Concat", &of, "joined", vec![int("axis", 0)]);
        let of_part = |i: usize| parts.iter().map(|parts| parts[i].as_str()).collect();
        let joined: Vec<String> = (0..parts[0].len()).map(|i| join(of_part(i))).collect();
        let all_have_one = biases.len() == group.len();
        let bias = all_have_one.then(|| join(biases.iter().map(String::as_str).collect()));
        let whole = self.block_product(&x, &joined, bias.as_deref(), [rows.iter().sum(), e], blocks);
        let sizes = self.outer.ints(&rows.iter().map(|n| *n as i64).collect::<Vec<i64>>());
        let outputs: Vec<String> = group.iter().map(|_| self.fresh("Split")).collect();
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        self.nodes.push(node("Split", &[&whole, &sizes], &names, vec![int("axis", -1)]));
        for (member, output) in group.iter().zip(outputs) {
            let name = match graph.args(*member).get(2).filter(|_| !all_have_one) {
                None => output,
                Some(bias) => {
                    let bias = self.name(*bias)?;
                    self.emit("Add", &[&output, &bias])
                }
            };
            self.split.insert(*member, name);
        }
        self.split.remove(&id).ok_or_else(|| "a product is a member of its group".to_owned())
    }

    /// The name of what a product over blocks reads, which rounds it itself where the graph does before it.
    fn input_of_blocks(&mut self, x: ValueId, weight: WeightId, block: usize) -> Result<(String, bool), String> {
        match self.rounded_inside.get(&x) {
            Some((x, rounds)) if *rounds == block => Ok((x.clone(), true)),
            Some((_, rounds)) => {
                let name = &self.graph().weights.get(weight).name;
                Err(format!("{name}: its product does not round in blocks of {rounds}"))
            }
            None => Ok((self.name(x)?, false)),
        }
    }

    /// `MatMulNBits` over a matrix `[n, e]`. `parts`: codes, scales and, where there are some, zeros.
    fn block_product(
        &mut self,
        (x, rounds): &(String, bool),
        parts: &[String],
        bias: Option<&str>,
        [n, e]: [usize; 2],
        [bits, block]: [usize; 2],
    ) -> String {
        let mut inputs = vec![x.as_str()];
        inputs.extend(parts.iter().map(String::as_str));
        if let Some(bias) = bias {
            // Zeros, and an order of groups.
            inputs.resize(5, "");
            inputs.push(bias);
        }
        let attributes = vec![
            int("K", e as i64),
            int("N", n as i64),
            int("bits", bits as i64),
            int("block_size", block as i64),
            // 4: the input is rounded to 8 bits, symmetric, per row and block; 1: it stays f32. What stands here is a
            // bound, and by default an engine may round or not.
            int("accuracy_level", if *rounds { 4 } else { 1 }),
        ];
        self.emit_with("MatMulNBits", &inputs, attributes)
    }

    fn linear_by_weight(&mut self, x_id: ValueId, id: WeightId, layout: Layout) -> Result<String, String> {
        let weight = self.graph().weights.get(id);
        let name = weight.name.clone();
        if self.rounded_inside.contains_key(&x_id) {
            return Err(format!("{name}: its product does not round in blocks"));
        }
        let x = self.name(x_id)?;
        match layout {
            Layout::Float(graph::FloatType::F16) if self.outer.choices.compute == Compute::F16 => {
                let w = self.outer.transposed(&name);
                // Products of a T5 pass 65504, the largest f16. A power of two moves x and back again exactly.
                let x = self.scaled("Mul", &x, 1.0 / HEADROOM);
                let x = self.cast(&x, DataType::Float16);
                let y = self.emit("MatMul", &[&x, &w]);
                let y = self.cast(&y, DataType::Float);
                Ok(self.scaled("Mul", &y, HEADROOM))
            }
            Layout::Float(_) => {
                let w = self.weight(id)?;
                let w = self.outer.transposed(&w);
                Ok(self.emit("MatMul", &[&x, &w]))
            }
            Layout::Steps { .. } | Layout::Multiples | Layout::Nibbles => {
                Err(format!("{name}: stored as only the npu format has it"))
            }
            Layout::Rows { unsigned, zeros } => {
                let codes = self.outer.transposed(&format!("{name}_quantized"));
                let (scale, zero) = (format!("{name}_scale"), format!("{name}_zero_point"));
                let zero: Option<&str> = (zeros || unsigned).then_some(&zero);
                if let Some([x, x_scale, x_zero]) = self.quantized.get(&x_id).cloned() {
                    let mut inputs = vec![x.as_str(), &codes, &x_zero];
                    inputs.extend(zero);
                    let sums = self.emit("MatMulInteger", &inputs);
                    let sums = self.cast(&sums, DataType::Float);
                    let scale = self.emit("Mul", &[&x_scale, &scale]);
                    return Ok(self.emit("Mul", &[&sums, &scale]));
                }
                if !matches!(self.graph().op(x_id), Some(Op::FakeQuant(_))) {
                    // An engine folds these once, and would unpack a DequantizeLinear at every call.
                    let w = self.outer.unpacked(&name, zeros || unsigned);
                    let w = self.outer.transposed(&w);
                    return Ok(self.emit("MatMul", &[&x, &w]));
                }
                let mut inputs = vec![codes.as_str(), &scale];
                inputs.extend(zero);
                let w = self.emit_with("DequantizeLinear", &inputs, vec![int("axis", 1)]);
                Ok(self.emit("MatMul", &[&x, &w]))
            }
            Layout::Blocks { .. } => unreachable!("products over blocks are written by `linear`"),
        }
    }
}
