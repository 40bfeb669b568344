//! Norms.

use graph::ValueId;
use onnx::make::{float, int};

use super::block::Block;

impl Block<'_, '_> {
    pub(super) fn layer_norm(&mut self, args: &[ValueId], eps: f32) -> Result<String, String> {
        let names = args.iter().map(|arg| self.name(*arg)).collect::<Result<Vec<String>, String>>()?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(self.emit_with("LayerNormalization", &names, vec![int("axis", -1), float("epsilon", eps)]))
    }

    /// In the order that onnxruntime's optimizer knows as SimplifiedLayerNormalization. `SkipSimplifiedLayerNormalization`, which
    /// makes the sum before it too, gains nothing that was measured.
    pub(super) fn rms_norm(&mut self, x: ValueId, w: ValueId, eps: f32) -> Result<String, String> {
        let [x, w] = [self.name(x)?, self.name(w)?];
        let square = self.scaled("Pow", &x, 2.0);
        let last = self.outer.ints(&[-1]);
        let mean = self.emit_with("ReduceMean", &[&square, &last], vec![int("keepdims", 1)]);
        let mean = self.scaled("Add", &mean, eps);
        let root = self.emit("Sqrt", &[&mean]);
        let normed = self.emit("Div", &[&x, &root]);
        Ok(self.emit("Mul", &[&normed, &w]))
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
