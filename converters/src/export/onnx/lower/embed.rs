//! `Embed`: rows gathered as they are stored, and made floats after.

use graph::ValueId;
use onnx::make::{int, text};
use onnx::proto::tensor_proto::DataType;
use onnx::tensors::Layout;

use super::block::Block;

impl Block<'_, '_> {
    pub(super) fn embed(&mut self, ids: ValueId, table: ValueId) -> Result<String, String> {
        let rank = self.shape(ids).len();
        let ids = self.name(ids)?;
        let Some((id, layout)) = self.layout(table) else {
            let table = self.name(table)?;
            return Ok(self.emit("Gather", &[&table, &ids]));
        };
        let weight = self.graph().weights.get(id);
        let (name, [_, width]) = (weight.name.clone(), weight.matrix());
        // Rows are gathered first and made floats after: a whole table of floats would be made at each call.
        match layout {
            Layout::Float(dtype) => {
                let rows = self.emit("Gather", &[&name, &ids]);
                Ok(if dtype == graph::FloatType::F16 { self.cast(&rows, DataType::Float) } else { rows })
            }
            Layout::Steps { .. } | Layout::Multiples | Layout::Nibbles => {
                Err(format!("{name}: stored as only the npu format has it"))
            }
            Layout::Rows { unsigned, zeros } => {
                let codes = self.emit("Gather", &[&format!("{name}_quantized"), &ids]);
                let codes = self.cast(&codes, DataType::Float);
                let zero = (zeros || unsigned).then(|| self.emit("Gather", &[&format!("{name}_zero_point"), &ids]));
                let scale = self.emit("Gather", &[&format!("{name}_scale"), &ids]);
                Ok(self.dequantize(&codes, &scale, zero.as_deref()))
            }
            Layout::Blocks { bits, block, zeros } => {
                let (parts, per_row) = (self.outer.part_names(id, layout), width.div_ceil(block));
                let is_node = self.outer.choices.consumer.has_block_gather() && !zeros;
                let rows = if is_node {
                    self.gathered_blocks(&parts, &ids, bits, block)
                } else {
                    self.spelled_blocks(&parts, &ids, rank, (bits, block, per_row))
                };
                let mut shape = vec![0; rank];
                shape.push((per_row * block) as i64);
                let shape = self.outer.ints(&shape);
                let rows = self.emit("Reshape", &[&rows, &shape]);
                Ok(self.first(&rows, width, per_row * block > width))
            }
        }
    }

    /// Rows of blocks without zeros as floats. `parts`: codes and scales.
    fn gathered_blocks(&mut self, parts: &[String], ids: &str, bits: u8, block: usize) -> String {
        let last = self.outer.index(2);
        // [n, blocks, 1], as many axes as the codes [n, blocks, bytes] have.
        let scale = self.outer.prepare("Unsqueeze", &[&parts[1], &last], "column", Vec::new());
        let attributes = vec![
            int("bits", i64::from(bits)),
            int("block_size", block as i64),
            int("gather_axis", 0),
            int("quantize_axis", 2),
        ];
        self.emit_with("GatherBlockQuantized", &[&parts[0], ids, &scale], attributes)
    }

    /// The same in plain operators, with zeros where there are some; `ids` have `rank` axes.
    fn spelled_blocks(
        &mut self,
        parts: &[String],
        ids: &str,
        rank: usize,
        (bits, block, per_row): (u8, usize, usize),
    ) -> String {
        let rows: Vec<String> = parts.iter().map(|part| self.emit("Gather", &[part, ids])).collect();
        // [.., blocks, bytes] -> [.., blocks, block]
        let codes = self.unpack(bits, &rows[0], rank + 1, block);
        let zero = rows.get(2).map(|zero| {
            let zero = self.unpack(bits, zero, rank, per_row.next_multiple_of(8 / usize::from(bits)));
            self.first(&zero, per_row, bits == 4 && per_row % 2 == 1)
        });
        let scale = self.unsqueeze(&rows[1], &[-1]);
        let zero = match zero {
            Some(zero) => self.unsqueeze(&zero, &[-1]),
            // What unsigned codes stand around.
            None => self.outer.float_scalar((1u8 << (bits - 1)).into()),
        };
        let shifted = self.emit("Sub", &[&codes, &zero]);
        self.emit("Mul", &[&shifted, &scale])
    }

    /// `(codes - zero) · scale`; `scale` and `zero` lack the last axis, `zero` holds integers.
    fn dequantize(&mut self, codes: &str, scale: &str, zero: Option<&str>) -> String {
        let zero = zero.map(|zero| self.cast(zero, DataType::Float));
        let scale = self.unsqueeze(scale, &[-1]);
        let shifted = zero.map(|zero| {
            let zero = self.unsqueeze(&zero, &[-1]);
            self.emit("Sub", &[codes, &zero])
        });
        self.emit("Mul", &[shifted.as_deref().unwrap_or(codes), &scale])
    }

    /// Packed uint8[.., bytes] -> f32[.., count], of rank `rank + 1`.
    fn unpack(&mut self, bits: u8, packed: &str, rank: usize, count: usize) -> String {
        if bits != 4 {
            return self.cast(packed, DataType::Float);
        }
        let (fifteen, four) = (self.outer.byte_scalar(15), self.outer.byte_scalar(4));
        let low = self.emit("BitwiseAnd", &[packed, &fifteen]);
        let high = self.emit_with("BitShift", &[packed, &four], vec![text("direction", "RIGHT")]);
        let [low, high] = [low, high].map(|half| self.unsqueeze(&half, &[-1]));
        let pairs = self.emit_with("Concat", &[&low, &high], vec![int("axis", -1)]);
        let mut shape = vec![0; rank];
        shape.push(count as i64);
        let shape = self.outer.ints(&shape);
        let codes = self.emit("Reshape", &[&pairs, &shape]);
        self.cast(&codes, DataType::Float)
    }

    /// The first `count` of the last axis, when there are more.
    fn first(&mut self, x: &str, count: usize, more: bool) -> String {
        if !more {
            return x.to_owned();
        }
        let [start, end, axis] = [0, count as i64, -1].map(|i| self.outer.ints(&[i]));
        self.emit("Slice", &[x, &start, &end, &axis])
    }
}
