//! `Attention` as `com.microsoft.MultiHeadAttention` or as MatMul and Softmax.

use graph::{Def, Op, ValueId};
use onnx::make::{float, int, ints, node};
use onnx::proto::tensor_proto::DataType;

use super::block::{Block, MASKED};
use crate::export::onnx::options::Attention;

impl Block<'_, '_> {
    pub(super) fn attention(
        &mut self,
        id: ValueId,
        args: &[ValueId],
        scale: f32,
        softcap: Option<f32>,
    ) -> Result<String, String> {
        let (q_shape, k_shape, v_shape) = (self.shape(args[0]), self.shape(args[1]), self.shape(args[2]));
        let (Some(heads), Some(groups)) = (q_shape[1].literal(), k_shape[1].literal()) else {
            return Err("the number of heads is not a number".to_owned());
        };
        let one_width = q_shape[3] == v_shape[3];
        let fused = self.outer.choices.attention != Attention::Standard;
        match fused && softcap.is_none() && heads == groups && one_width {
            true => self.fused(id, args, heads, scale),
            false => self.standard(args, heads / groups.max(1), scale, softcap),
        }
    }

    fn standard(&mut self, args: &[ValueId], share: usize, scale: f32, softcap: Option<f32>) -> Result<String, String> {
        let q = self.name(args[0])?;
        let k = self.shared_heads(args[1], share)?;
        let v = self.shared_heads(args[2], share)?;
        let k = self.emit_with("Transpose", &[&k], vec![ints("perm", [0, 1, 3, 2])]);
        let mut scores = self.emit("MatMul", &[&q, &k]);
        if scale != 1.0 {
            scores = self.scaled("Mul", &scores, scale);
        }
        if let Some(cap) = softcap {
            scores = self.scaled("Div", &scores, cap);
            scores = self.emit("Tanh", &[&scores]);
            scores = self.scaled("Mul", &scores, cap);
        }
        if let Some(bias) = args.get(3) {
            let bias = self.name(*bias)?;
            scores = self.emit("Add", &[&scores, &bias]);
        }
        let shares = self.emit_with("Softmax", &[&scores], vec![int("axis", -1)]);
        let out = self.emit("MatMul", &[&shares, &v]);
        match args.get(3) {
            Some(bias) if self.may_mask_all(*bias) => {
                let visible = self.visible(*bias)?;
                Ok(self.emit("Mul", &[&out, &visible]))
            }
            _ => Ok(out),
        }
    }

    /// `[b,g,k,d] -> [b,h,k,d]`: each head of k or v is read by `share` heads of q.
    fn shared_heads(&mut self, id: ValueId, share: usize) -> Result<String, String> {
        let x = self.name(id)?;
        if share == 1 {
            return Ok(x);
        }
        let shape = self.shape(id);
        let (Some(groups), Some(width)) = (shape[1].literal(), shape[3].literal()) else {
            return Err("heads and head width are not numbers".to_owned());
        };
        let x = self.unsqueeze(&x, &[2]);
        let times = self.outer.ints(&[1, 1, share as i64, 1, 1]);
        let x = self.emit("Expand", &[&x, &times]);
        let merged = self.outer.ints(&[0, (groups * share) as i64, -1, width as i64]);
        Ok(self.emit("Reshape", &[&x, &merged]))
    }

    /// Queries and the result are [b, q, h·d], keys and values [b, h, k, d].
    fn fused(&mut self, id: ValueId, args: &[ValueId], heads: usize, scale: f32) -> Result<String, String> {
        let q = self.merged_heads(args[0])?;
        let appended = match [self.appended(args[1]), self.appended(args[2])] {
            [Some(k), Some(v)] => Some([k, v]),
            _ => None,
        };
        let (k, v) = match appended {
            Some([(_, k), (_, v)]) => (self.name(k)?, self.name(v)?),
            None => (self.name(args[1])?, self.name(args[2])?),
        };
        // Neither a bias of the projections nor a key padding mask: inputs 3 and 4.
        let mut inputs = vec![q, k, v, String::new(), String::new()];
        inputs.push(args.get(3).map(|bias| self.full_bias(*bias, args[0])).transpose()?.unwrap_or_default());
        let mut out = self.fresh("MultiHeadAttention");
        let mut outputs = vec![out.clone()];
        if let Some([(past_k, _), (past_v, _)]) = appended {
            inputs.extend([self.name(past_k)?, self.name(past_v)?]);
            // What is read from here on is what the node appended to; a `Concat` that nobody reads any more is dropped.
            for id in &args[1..3] {
                let present = self.fresh("present");
                self.names.insert(*id, present.clone());
                outputs.push(present);
            }
        }
        let given = inputs.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
        let inputs: Vec<&str> = inputs[..given].iter().map(String::as_str).collect();
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let attributes = vec![int("num_heads", heads as i64), float("scale", scale)];
        self.nodes.push(node("MultiHeadAttention", &inputs, &outputs, attributes));
        if let Some(bias) = args.get(3).filter(|bias| self.may_mask_all(**bias)) {
            let visible = self.visible(*bias)?; // [b, 1, q, 1]
            let axis = self.outer.ints(&[1]);
            let visible = self.emit("Squeeze", &[&visible, &axis]);
            out = self.emit("Mul", &[&out, &visible]);
        }
        self.merged.insert(id, out.clone());
        // For a reader that does not merge the heads; dropped when nobody reads it.
        let shape = self.shape(id);
        let width = shape[3].literal().ok_or("the head width is not a number")?;
        let split = self.outer.ints(&[0, 0, heads as i64, width as i64]);
        let split = self.emit("Reshape", &[&out, &split]);
        Ok(self.emit_with("Transpose", &[&split], vec![ints("perm", [0, 2, 1, 3])]))
    }

    /// A cache `[b,h,n,d]` and what is appended to it, `[b, n, h·d]`: keys or values that the node can join itself.
    fn appended(&self, id: ValueId) -> Option<(ValueId, ValueId)> {
        let (Some(Op::Concat { axis: 2 }), &[past, new]) = (self.graph().op(id), self.graph().args(id)) else {
            return None;
        };
        let is_wanted = self.outer.choices.attention == Attention::Cached;
        (is_wanted && self.is_input(past)).then_some(())?;
        Some((past, self.before_the_heads(new)?))
    }

    /// `[b, n, h·d]`, of which `[b,h,n,d]` was made by splitting it.
    fn before_the_heads(&self, id: ValueId) -> Option<ValueId> {
        let graph = self.outer.graph;
        let shape = self.shape(id);
        if let (Def::Op(Op::Transpose(perm), split), false) = (&graph.value(id).def, self.is_input(id))
            && perm == &[0, 2, 1, 3]
            && let (Def::Op(Op::Reshape(_), whole), false) = (&graph.value(split[0]).def, self.is_input(split[0]))
            && let whole_shape = self.shape(whole[0])
            && whole_shape.len() == 3
            && whole_shape[..2] == [shape[0].clone(), shape[2].clone()]
        {
            return Some(whole[0]);
        }
        None
    }

    /// `[b,h,q,d]` as `[b, q, h·d]`, taken from before the heads were split where that can be seen.
    fn merged_heads(&mut self, id: ValueId) -> Result<String, String> {
        let shape = self.shape(id);
        let (Some(heads), Some(width)) = (shape[1].literal(), shape[3].literal()) else {
            return Err("heads and head width are not numbers".to_owned());
        };
        if let Some(whole) = self.before_the_heads(id) {
            return self.name(whole);
        }
        let x = self.name(id)?;
        let x = self.emit_with("Transpose", &[&x], vec![ints("perm", [0, 2, 1, 3])]);
        let merged = self.outer.ints(&[0, 0, (heads * width) as i64]);
        Ok(self.emit("Reshape", &[&x, &merged]))
    }

    fn is_input(&self, id: ValueId) -> bool {
        self.inputs.iter().any(|(input, _)| *input == id)
    }

    /// The bias with as many rows as there are queries, as MultiHeadAttention wants it.
    fn full_bias(&mut self, bias: ValueId, q: ValueId) -> Result<String, String> {
        let (have, queries) = (self.shape(bias), self.shape(q)[2].clone());
        let name = self.name(bias)?;
        if have.len() == 4 && have[2] == queries {
            return Ok(name);
        }
        self.once(format!("{}/rows", self.graph().value(bias).name), |b| {
            let rows = b.length(&queries)?;
            let one = b.outer.ints(&[1]);
            let shape = b.emit_with("Concat", &[&one, &one, &rows, &one], vec![int("axis", 0)]);
            Ok(b.emit("Expand", &[&name, &shape]))
        })
    }

    /// Whether a row of this bias can be masked as a whole: a causal mask always leaves the query itself.
    fn may_mask_all(&self, bias: ValueId) -> bool {
        let mut open = vec![bias];
        while let Some(id) = open.pop() {
            match self.graph().op(id) {
                Some(Op::PaddingMask { .. }) => return true,
                Some(Op::Binary(_)) => open.extend(self.graph().args(id)),
                _ => {}
            }
        }
        false
    }

    /// `f32[b,1,q,1]`: 1 where a query sees a key, 0 where all are masked. Masks are alike for all heads.
    fn visible(&mut self, bias: ValueId) -> Result<String, String> {
        let name = self.name(bias)?;
        self.once(format!("{}/visible", self.graph().value(bias).name), |b| {
            let axes = b.outer.ints(&[1, 3]);
            let most = b.emit_with("ReduceMax", &[&name, &axes], vec![int("keepdims", 1)]);
            let limit = b.outer.float_scalar(MASKED / 2.0);
            let visible = b.emit("Greater", &[&most, &limit]);
            Ok(b.cast(&visible, DataType::Float))
        })
    }
}
