//! Weights by their place in a checkpoint.

use checkpoint::{Checkpoint, Size};
use graph::{Build, Val};

/// A place in the checkpoint's tree of modules, where weights are asked for by their last names.
pub(crate) struct Module<'b> {
    build: &'b Build,
    checkpoint: &'b Checkpoint,
    path: String,
}

impl<'b> Module<'b> {
    /// The module at a path of the checkpoint; the empty path is the whole.
    pub(crate) fn new(build: &'b Build, checkpoint: &'b Checkpoint, path: &str) -> Module<'b> {
        Module { build, checkpoint, path: path.to_owned() }
    }

    /// A module inside.
    pub(crate) fn at(&self, path: impl std::fmt::Display) -> Module<'b> {
        Module { path: self.inside(&path.to_string()), ..*self }
    }

    pub(super) fn inside(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The tensor `name` inside.
    pub(crate) fn tensor<const N: usize>(&self, name: &str, shape: [Size; N]) -> Val<'b> {
        self.build.weight(self.checkpoint.weight(&self.inside(name), &shape))
    }

    /// The tensor `name` inside of integers that follow from the config: `expected` is the one at each place, row by row.
    pub(crate) fn integers<const N: usize>(&self, name: &str, shape: [Size; N], expected: impl Fn(usize) -> i64) {
        self.checkpoint.known_integers(&self.inside(name), &shape, expected);
    }

    /// The weight of the module `name` inside.
    pub(crate) fn get<const N: usize>(&self, name: &str, shape: [Size; N]) -> Val<'b> {
        self.tensor(&format!("{name}.weight"), shape)
    }

    /// The bias of the module `name` inside.
    pub(crate) fn bias(&self, name: &str, size: Size) -> Val<'b> {
        self.tensor(&format!("{name}.bias"), [size])
    }

    /// `x · wᵀ + bias` with the weight `[n, e]` and the bias of the module `name` inside.
    pub(crate) fn linear(&self, x: Val<'b>, name: &str, shape: [Size; 2]) -> Val<'b> {
        x.linear(self.get(name, shape), Some(self.bias(name, shape[0])))
    }

    /// The same without a bias.
    pub(crate) fn linear_no_bias(&self, x: Val<'b>, name: &str, shape: [Size; 2]) -> Val<'b> {
        x.linear(self.get(name, shape), None)
    }

    /// The same where the checkpoint has the matrix as `[e, n]`; `shape` is `[n, e]`.
    pub(crate) fn conv1d(&self, x: Val<'b>, name: &str, shape: [Size; 2]) -> Val<'b> {
        let weight = self.checkpoint.transposed_weight(&self.inside(&format!("{name}.weight")), shape);
        x.linear(self.build.weight(weight), Some(self.bias(name, shape[0])))
    }

    /// A layer norm with the weight and the bias of the module `name` inside.
    pub(crate) fn layer_norm(&self, x: Val<'b>, name: &str, size: Size, eps: f32) -> Val<'b> {
        x.layer_norm(self.get(name, [size]), Some(self.bias(name, size)), eps)
    }
}
