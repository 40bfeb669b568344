//! Weights: a name, a shape and a recipe for the rows. Quantizing replaces the recipe and touches no node.

pub mod affine;
pub mod blob;
pub mod derived;
pub mod float;
pub mod float8;
pub mod ggml;

use std::io;
use std::ops::Range;

pub use self::affine::{AffineTensor, Block, dequantize, inverse};
use self::blob::Blob;
pub use self::derived::{Computed, Derive, multiple};
pub use self::float::{FloatType, transposed};
pub use self::float8::{E4M3_MAX, Float8Tensor, ScalePer, from_e4m3, to_e4m3};
use self::ggml::GgmlType;

/// Index of a weight in [`Weights`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WeightId(pub usize);

/// A tensor of the checkpoint under the checkpoint's own name.
#[derive(Clone, Debug)]
pub struct Weight {
    /// As in the checkpoint, for example `encoder.block.0.layer.0.SelfAttention.q.weight`.
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Where the rows come from.
    pub data: WeightData,
}

impl Weight {
    /// A weight of floats in memory.
    pub fn stored(name: String, shape: Vec<usize>, floats: &[f32]) -> Weight {
        let mut bytes = vec![0; 4 * floats.len()];
        FloatType::F32.encode(floats, &mut bytes);
        Weight { name, shape, data: WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 } }
    }

    /// `[rows, columns]`: the first dimension against all others; a vector is one row.
    pub fn matrix(&self) -> [usize; 2] {
        match self.shape.as_slice() {
            [] => [1, 1],
            [n] => [1, *n],
            [rows, rest @ ..] => [*rows, rest.iter().product()],
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with the rows `rows` of [`Weight::matrix`], as f32, exact for every recipe.
    ///
    /// `out` is resized to `rows.len() * columns`. Errors: the file cannot be read there. Panics when `rows` lies outside.
    pub fn rows(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), WeightError> {
        let [count, columns] = self.matrix();
        assert!(rows.start <= rows.end && rows.end <= count, "rows {rows:?} of {count} in {}", self.name);
        out.resize(rows.len() * columns, 0.0);
        self.data.rows(rows, columns, out).map_err(|source| WeightError { weight: self.name.clone(), source })
    }

    /// Puts a factor on what the recipe gives. Panics when a vector of factors does not have one for each column or row of
    /// [`Weight::matrix`].
    pub fn derive(&mut self, derive: Derive) {
        let [rows, columns] = self.matrix();
        let fits = match &derive {
            Derive::MulScalar(_) | Derive::Steps(_) => true,
            Derive::Columns(factors) | Derive::Multiples(factors) => factors.len() == columns,
            Derive::Rows(factors) => factors.len() == rows,
        };
        assert!(fits, "{}: {derive:?} on {rows} rows of {columns}", self.name);
        self.data = WeightData::Derived(derive, Box::new(self.data.clone()));
    }

    /// The same weight with its bytes in memory, as they are stored. Errors: the file cannot be read.
    pub fn resident(&self) -> Result<Weight, WeightError> {
        let data = self.data.resident().map_err(|source| WeightError { weight: self.name.clone(), source })?;
        Ok(Weight { data, ..self.clone() })
    }

    /// The whole weight, as f32.
    pub fn read(&self) -> Result<Vec<f32>, WeightError> {
        let mut out = Vec::new();
        self.rows(0..self.matrix()[0], &mut out)?;
        Ok(out)
    }
}

/// Where the rows of a weight come from.
#[derive(Clone, Debug)]
pub enum WeightData {
    /// Floats in a file.
    Stored {
        /// Row-major little-endian elements.
        blob: Blob,
        /// Their type.
        dtype: FloatType,
    },
    /// Computed from other rows when asked.
    Derived(Derive, Box<WeightData>),
    /// Computed from nothing but its shape: a table that checkpoints leave out.
    Computed(Computed),
    /// Codes and scales.
    Quantized(Quantized),
}

impl WeightData {
    /// Whether these are the same numbers because they come in the same way from the same stored bytes.
    pub fn is_same(&self, other: &WeightData) -> bool {
        match (self, other) {
            (WeightData::Stored { blob, dtype }, WeightData::Stored { blob: of, dtype: ty }) => {
                dtype == ty && blob.is_same(of)
            }
            (WeightData::Derived(derive, base), WeightData::Derived(by, of)) => derive == by && base.is_same(of),
            (WeightData::Computed(a), WeightData::Computed(b)) => a == b,
            // Every quantization writes its own.
            (WeightData::Quantized(_), WeightData::Quantized(_)) => false,
            (
                WeightData::Stored { .. }
                | WeightData::Derived(..)
                | WeightData::Computed(_)
                | WeightData::Quantized(_),
                _,
            ) => false,
        }
    }

    /// Short name of the type, for reports: `f16`, `int8 per row`, `Q4_K`.
    pub fn type_name(&self) -> String {
        match self {
            WeightData::Stored { dtype, .. } => dtype.name().to_owned(),
            WeightData::Derived(Derive::MulScalar(c), base) => format!("{} x {c}", base.type_name()),
            WeightData::Derived(Derive::Columns(_), base) => format!("{} x columns", base.type_name()),
            WeightData::Derived(Derive::Rows(_), base) => format!("{} x rows", base.type_name()),
            WeightData::Derived(Derive::Steps(steps), _) => format!("uint{} per tensor", steps.bits),
            WeightData::Derived(Derive::Multiples(_), _) => "int32 per element".to_owned(),
            WeightData::Computed(Computed::Sinusoid | Computed::SinusoidBetweenEnds { .. }) => "sinusoid".to_owned(),
            WeightData::Computed(Computed::OneRow(row)) => format!("row {row} of ones"),
            WeightData::Quantized(Quantized::Ggml { kind, .. }) => kind.name().to_owned(),
            WeightData::Quantized(Quantized::Float8(t)) => match t.per {
                ScalePer::Row => "fp8 per row".to_owned(),
                ScalePer::Tensor => "fp8 per tensor".to_owned(),
            },
            WeightData::Quantized(Quantized::Affine(t)) => {
                let block = match t.block {
                    Block::Row => "per row".to_owned(),
                    Block::Group(n) => format!("per {n}"),
                };
                let symmetry = if t.zeros.is_some() { " asymmetric" } else { "" };
                format!("int{} {block}{symmetry}", t.bits)
            }
        }
    }

    /// The recipe below all factors.
    pub fn base(&self) -> &WeightData {
        match self {
            WeightData::Derived(_, base) => base.base(),
            WeightData::Stored { .. } | WeightData::Computed(_) | WeightData::Quantized(_) => self,
        }
    }

    /// Bytes of memory that [`Weight::resident`] takes.
    pub fn resident_bytes(&self) -> usize {
        match self {
            WeightData::Stored { blob, .. } => blob.len() as usize,
            WeightData::Derived(derive, base) => derive.bytes() + base.resident_bytes(),
            WeightData::Computed(_) => 0,
            WeightData::Quantized(Quantized::Affine(t)) => {
                t.codes.len() as usize + 2 * t.scales.len() + t.zeros.as_ref().map_or(0, Vec::len)
            }
            WeightData::Quantized(Quantized::Float8(t)) => t.codes.len() as usize + 4 * t.scales.len(),
            WeightData::Quantized(Quantized::Ggml { blocks, .. }) => blocks.len() as usize,
        }
    }

    fn resident(&self) -> io::Result<WeightData> {
        Ok(match self {
            WeightData::Stored { blob, dtype } => WeightData::Stored { blob: blob.resident()?, dtype: *dtype },
            WeightData::Derived(derive, base) => WeightData::Derived(derive.clone(), Box::new(base.resident()?)),
            WeightData::Computed(computed) => WeightData::Computed(*computed),
            WeightData::Quantized(Quantized::Affine(tensor)) => {
                WeightData::Quantized(Quantized::Affine(AffineTensor {
                    codes: tensor.codes.resident()?,
                    ..tensor.clone()
                }))
            }
            WeightData::Quantized(Quantized::Float8(tensor)) => {
                WeightData::Quantized(Quantized::Float8(Float8Tensor {
                    codes: tensor.codes.resident()?,
                    ..tensor.clone()
                }))
            }
            WeightData::Quantized(Quantized::Ggml { kind, blocks }) => {
                WeightData::Quantized(Quantized::Ggml { kind: *kind, blocks: blocks.resident()? })
            }
        })
    }

    fn rows(&self, rows: Range<usize>, columns: usize, out: &mut [f32]) -> io::Result<()> {
        match self {
            WeightData::Stored { blob, dtype } => {
                let row_bytes = columns * dtype.bytes();
                let mut bytes = vec![0; rows.len() * row_bytes];
                blob.read_at((rows.start * row_bytes) as u64, &mut bytes)?;
                dtype.decode(&bytes, out);
            }
            WeightData::Derived(derive, base) => {
                base.rows(rows.clone(), columns, out)?;
                derive.apply(rows.start, columns, out);
            }
            WeightData::Computed(computed) => {
                for (i, x) in out.iter_mut().enumerate() {
                    *x = computed.element(rows.start + i / columns, i % columns, columns);
                }
            }
            WeightData::Quantized(Quantized::Affine(tensor)) => tensor.rows(rows, out)?,
            WeightData::Quantized(Quantized::Float8(tensor)) => tensor.rows(rows, out)?,
            WeightData::Quantized(Quantized::Ggml { kind, blocks }) => {
                let row_bytes = columns / kind.block_len() * kind.block_bytes();
                let mut bytes = vec![0; rows.len() * row_bytes];
                blocks.read_at((rows.start * row_bytes) as u64, &mut bytes)?;
                kind.dequantize(&bytes, out);
            }
        }
        Ok(())
    }
}

/// A quantized weight: what passes from quantizers to exporters.
#[derive(Clone, Debug)]
pub enum Quantized {
    /// Codes, scales and zeros.
    Affine(AffineTensor),
    /// 8-bit floats with scales.
    Float8(Float8Tensor),
    /// Blocks of llama.cpp, row after row; columns are a multiple of the block length.
    Ggml {
        /// Which block.
        kind: GgmlType,
        /// `rows · columns / block_len` blocks.
        blocks: Blob,
    },
}

/// Every weight of a graph.
#[derive(Clone, Debug, Default)]
pub struct Weights(Vec<Weight>);

impl Weights {
    /// Adds a weight.
    pub fn push(&mut self, weight: Weight) -> WeightId {
        self.0.push(weight);
        WeightId(self.0.len() - 1)
    }

    /// The weight behind an id.
    pub fn get(&self, id: WeightId) -> &Weight {
        &self.0[id.0]
    }

    /// The weight behind an id, to replace its recipe.
    pub fn get_mut(&mut self, id: WeightId) -> &mut Weight {
        &mut self.0[id.0]
    }

    /// The weight named `name`.
    pub fn find(&self, name: &str) -> Option<WeightId> {
        self.0.iter().position(|w| w.name == name).map(WeightId)
    }

    /// Ids and weights, in the order of the graph.
    pub fn iter(&self) -> impl Iterator<Item = (WeightId, &Weight)> {
        self.0.iter().enumerate().map(|(i, w)| (WeightId(i), w))
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The rows of a weight cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{weight}: cannot read its rows: {source}")]
pub struct WeightError {
    /// Its name.
    pub weight: String,
    /// What the system said.
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn computed_tables_equal_those_of_transformers() {
        let rows = |computed, shape: [usize; 2], row: usize| {
            let mut out = Vec::new();
            let data = WeightData::Computed(computed);
            let weight = Weight { name: "positions".into(), shape: shape.to_vec(), data };
            weight.rows(row..row + 1, &mut out).expect("computed");
            out
        };
        // MarianSinusoidalPositionalEmbedding(8, 6).create_weight() of transformers 5.23, and (8, 5), row 3.
        let even = [0.141_12, 0.138_798_1, 0.006_463_259, -0.989_992_5, 0.990_320_7, 0.999_979_14];
        let odd = [0.141_12, 0.075_285_29, 0.001_892_870_9, -0.989_992_5, 0.997_162_04];
        assert_eq!(rows(Computed::Sinusoid, [8, 6], 3)[..], even);
        assert_eq!(rows(Computed::Sinusoid, [8, 5], 3)[..], odd);
        // M2M100SinusoidalPositionalEmbedding.get_embedding(8, 6, padding_idx=1), row 3.
        let between = Computed::SinusoidBetweenEnds { zero_row: Some(1) };
        let expected = [0.141_12, 0.029_995_5, 0.000_299_999_96, -0.989_992_5, 0.999_550_04, 0.999_999_94];
        for (found, expected) in rows(between, [8, 6], 3).iter().zip(expected) {
            assert!((found - expected).abs() <= 6e-8, "{found} {expected}");
        }
        assert_eq!(rows(between, [8, 6], 1), [0.0; 6]);
    }

    #[test]
    fn a_row_of_ones_marks_its_token_only() {
        let data = WeightData::Computed(Computed::OneRow(2));
        let weight = Weight { name: "marker".into(), shape: vec![4, 2], data };
        assert_eq!(weight.read().expect("computed"), [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_short_last_group_has_its_own_scale() {
        let tensor = AffineTensor {
            shape: [2, 5],
            bits: 8,
            block: Block::Group(3),
            codes: Blob::memory([1, 2, 3, 4, 5, 255, 254, 253, 252, 251]), // the second row is -1..-5
            scales: [1.0, 10.0, 100.0, 1000.0].map(f16::from_f32).to_vec(),
            zeros: Some(vec![0, 1, 0, -1]),
        };
        let weight =
            Weight { name: "w".into(), shape: vec![2, 5], data: WeightData::Quantized(Quantized::Affine(tensor)) };
        assert_eq!(
            weight.read().expect("memory"),
            [1.0, 2.0, 3.0, 30.0, 40.0, -100.0, -200.0, -300.0, -3000.0, -4000.0]
        );
        let mut second = Vec::new();
        weight.rows(1..2, &mut second).expect("memory");
        assert_eq!(second, [-100.0, -200.0, -300.0, -3000.0, -4000.0]);
    }

    fn counting(shape: &[usize]) -> Weight {
        let mut bytes = vec![0; 4 * shape.iter().product::<usize>()];
        let values: Vec<f32> = (1..=shape.iter().product()).map(|i: usize| i as f32).collect();
        FloatType::F32.encode(&values, &mut bytes);
        let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
        Weight { name: "w".into(), shape: shape.to_vec(), data }
    }

    #[test]
    fn factors_of_columns_and_rows_reach_any_range_of_rows() {
        let mut weight = counting(&[3, 2]);
        weight.derive(Derive::Columns([1.0, 10.0].into()));
        weight.derive(Derive::Rows([1.0, 2.0, 0.5].into()));
        let whole = [1.0, 20.0, 6.0, 80.0, 2.5, 30.0];
        assert_eq!(weight.read().expect("memory"), whole);
        let mut out = Vec::new();
        for (start, end) in [(0, 1), (1, 3), (2, 3), (3, 3)] {
            weight.rows(start..end, &mut out).expect("memory");
            assert_eq!(out, whole[2 * start..2 * end]);
        }
        assert_eq!(weight.data.type_name(), "f32 x columns x rows");
        assert_eq!(weight.data.base().type_name(), "f32");
    }

    #[test]
    fn elements_of_a_vector_are_columns_and_those_of_a_kernel_go_with_its_rows() {
        let mut bias = counting(&[3]);
        bias.derive(Derive::Columns([2.0, 3.0, 4.0].into()));
        assert_eq!(bias.read().expect("memory"), [2.0, 6.0, 12.0]);
        let mut kernel = counting(&[2, 1, 2]);
        kernel.derive(Derive::Rows([2.0, 3.0].into()));
        assert_eq!(kernel.read().expect("memory"), [2.0, 4.0, 9.0, 12.0]);
    }

    #[test]
    #[should_panic(expected = "w: Rows([2.0]) on 3 rows of 2")]
    fn factors_that_do_not_fit_are_refused_when_they_are_given() {
        counting(&[3, 2]).derive(Derive::Rows([2.0].into()));
    }

    #[test]
    fn a_truncated_file_is_an_error_that_names_the_weight() {
        let data = WeightData::Stored { blob: Blob::memory([0; 12]), dtype: FloatType::F32 };
        let error =
            Weight { name: "shared.weight".into(), shape: vec![2, 2], data }.read().expect_err("4 bytes are missing");
        assert!(error.to_string().starts_with("shared.weight: cannot read its rows"), "{error}");
    }
}
