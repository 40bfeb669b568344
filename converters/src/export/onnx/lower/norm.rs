//! Norms.

use graph::{Binary, Op, ValueId};

use super::super::Norms;
use super::super::proto::{float, int, node};
use super::Block;

/// Which norm of rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Norm {
    Layer,
    Rms,
}

impl Block<'_, '_> {
    /// `RmsNorm` and `LayerNorm`, of a sum together with it.
    pub(super) fn norm(&mut self, args: &[ValueId], kind: Norm, eps: f32) -> Result<String, String> {
        if self.outer.choices.norms == Norms::Fused
            && let Some(terms) = self.terms(args[0])
        {
            return self.skip_norm(args, terms, kind, eps);
        }
        let names = args.iter().map(|arg| self.name(*arg)).collect::<Result<Vec<String>, String>>()?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match (kind, &names[..]) {
            (Norm::Layer, names) => {
                Ok(self.emit_with("LayerNormalization", names, vec![int("axis", -1), float("epsilon", eps)]))
            }
            (Norm::Rms, names) => {
                // The order that onnxruntime's optimizer knows as SimplifiedLayerNormalization.
                let square = self.scaled("Pow", names[0], 2.0);
                let last = self.outer.ints(&[-1]);
                let mean = self.emit_with("ReduceMean", &[&square, &last], vec![int("keepdims", 1)]);
                let mean = self.scaled("Add", &mean, eps);
                let root = self.emit("Sqrt", &[&mean]);
                let normed = self.emit("Div", &[names[0], &root]);
                Ok(self.emit("Mul", &[&normed, names[1]]))
            }
        }
    }

    /// What is summed, `[b, n, e]` each, where the sum was made in these nodes.
    fn terms(&self, id: ValueId) -> Option<[ValueId; 2]> {
        let (Some(Op::Binary(Binary::Add)), &[a, b]) = (self.graph().op(id), self.graph().args(id)) else {
            return None;
        };
        let shape = self.shape(id);
        let is_made = self.names.get(&id).is_some_and(|name| self.nodes.iter().any(|node| node.output.contains(name)));
        (is_made && shape.len() == 3 && self.shape(a) == shape && self.shape(b) == shape).then_some([a, b])
    }

    fn skip_norm(&mut self, args: &[ValueId], terms: [ValueId; 2], kind: Norm, eps: f32) -> Result<String, String> {
        let [a, b] = [self.name(terms[0])?, self.name(terms[1])?];
        let gains = args[1..].iter().map(|arg| self.name(*arg)).collect::<Result<Vec<String>, String>>()?;
        let op = match kind {
            Norm::Layer => "SkipLayerNormalization",
            Norm::Rms => "SkipSimplifiedLayerNormalization",
        };
        let [normed, sum] = [self.fresh(op), self.fresh("sum")];
        let mut inputs = vec![a.as_str(), &b];
        inputs.extend(gains.iter().map(String::as_str));
        self.nodes.push(node(op, &inputs, &[&normed, "", "", &sum], vec![float("epsilon", eps)]));
        // What reads the sum from here on reads this one; an `Add` that nobody reads any more is dropped.
        self.names.insert(args[0], sum);
        Ok(normed)
    }

    /// Instance normalization of the groups as if each were a channel, then the weight and bias of each channel.
    pub(super) fn group_norm(
        &mut self,
        id: ValueId,
        args: &[ValueId],
        groups: usize,
        eps: f32,
    ) -> Result<String, String> {
        let [x, w, bias] = [self.name(args[0])?, self.name(args[1])?, self.name(args[2])?];
        let shape = self.shape(id);
        let channels = shape[1].literal().ok_or("the number of channels is not a number")? as i64;
        let grouped = self.outer.ints(&[0, groups as i64, -1]);
        let grouped = self.emit("Reshape", &[&x, &grouped]);
        let name = |word: &str| format!("{word}/{groups}");
        let [ones, zeros] = [
            self.outer.floats(&name("ones"), &vec![1.0; groups]),
            self.outer.floats(&name("zeros"), &vec![0.0; groups]),
        ];
        let inputs = [grouped.as_str(), &ones, &zeros];
        let normed = self.emit_with("InstanceNormalization", &inputs, vec![float("epsilon", eps)]);
        let apart = self.emit("Shape", &[&x]);
        let normed = self.emit("Reshape", &[&normed, &apart]);
        let column = self.outer.ints(&[&[channels][..], &vec![1; shape.len() - 2]].concat());
        let [w, bias] = [w, bias].map(|v| self.emit("Reshape", &[&v, &column]));
        let scaled = self.emit("Mul", &[&normed, &w]);
        Ok(self.emit("Add", &[&scaled, &bias]))
    }
}
