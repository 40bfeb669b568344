//! Element types and shapes; a length may be a symbol.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Add;

/// A length known only when the model runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sym(pub &'static str);

/// Sequences decoded side by side.
pub const BATCH: Sym = Sym("batch");
/// Tokens (or frames) that the encoder sees.
pub const ENC: Sym = Sym("enc");
/// Target tokens of this call.
pub const DEC: Sym = Sym("dec");
/// Target tokens of earlier calls, whose keys and values are cached.
pub const PAST: Sym = Sym("past");

/// A dimension: `known` plus a sum of symbols, as `1500`, `enc`, `past + dec`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Dim {
    known: usize,
    syms: Vec<Sym>,
}

impl Dim {
    /// The literal length, when no symbol is left.
    pub fn literal(&self) -> Option<usize> {
        self.syms.is_empty().then_some(self.known)
    }

    /// The symbol, when this dimension is exactly one symbol.
    pub fn symbol(&self) -> Option<Sym> {
        match (self.known, self.syms.as_slice()) {
            (0, [sym]) => Some(*sym),
            _ => None,
        }
    }

    /// The symbols summed, sorted, with repetition.
    pub fn symbols(&self) -> &[Sym] {
        &self.syms
    }

    /// The part of the sum that is a plain number.
    pub fn known(&self) -> usize {
        self.known
    }

    /// The length under `lengths`; `None` when a symbol is missing there.
    pub fn resolve(&self, lengths: &BTreeMap<Sym, usize>) -> Option<usize> {
        self.syms.iter().try_fold(self.known, |sum, sym| Some(sum + lengths.get(sym)?))
    }

    /// The same dimension with the symbols of `lengths` replaced by numbers.
    pub fn fix(&self, lengths: &BTreeMap<Sym, usize>) -> Dim {
        let mut out = Dim::from(self.known);
        for sym in &self.syms {
            match lengths.get(sym) {
                Some(n) => out.known += n,
                None => out.syms.push(*sym),
            }
        }
        out
    }
}

impl From<usize> for Dim {
    fn from(known: usize) -> Dim {
        Dim { known, syms: Vec::new() }
    }
}

impl From<Sym> for Dim {
    fn from(sym: Sym) -> Dim {
        Dim { known: 0, syms: vec![sym] }
    }
}

impl Add for Dim {
    type Output = Dim;
    fn add(mut self, other: Dim) -> Dim {
        self.known += other.known;
        self.syms.extend(other.syms);
        self.syms.sort();
        self
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `past + dec` reads better than the sorted `dec + past`.
        let mut parts: Vec<String> = self.syms.iter().rev().map(|s| s.0.to_owned()).collect();
        if self.known > 0 || parts.is_empty() {
            parts.push(self.known.to_string());
        }
        f.write_str(&parts.join(" + "))
    }
}

/// What an element is, before any format or quantization.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DType {
    /// All arithmetic of the reference is in f32.
    F32,
    /// Token ids and masks.
    I64,
}

/// Element type and shape.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Outermost dimension first.
    pub shape: Vec<Dim>,
}

impl Type {
    /// An f32 tensor.
    pub fn f32(shape: impl IntoIterator<Item = impl Into<Dim>>) -> Type {
        Type { dtype: DType::F32, shape: shape.into_iter().map(Into::into).collect() }
    }

    /// An i64 tensor.
    pub fn i64(shape: impl IntoIterator<Item = impl Into<Dim>>) -> Type {
        Type { dtype: DType::I64, shape: shape.into_iter().map(Into::into).collect() }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtype = match self.dtype {
            DType::F32 => "f32",
            DType::I64 => "i64",
        };
        let dims: Vec<String> = self.shape.iter().map(Dim::to_string).collect();
        write!(f, "{dtype}[{}]", dims.join(", "))
    }
}
