//! Weights: a name, a shape and a recipe for the rows. Quantizing replaces the recipe and touches no node.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use crate::blob::Blob;
use crate::ggml::GgmlType;
use crate::op::FakeQuant;

/// Index of a weight in [`Weights`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WeightId(pub usize);

/// Floats as a file stores them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FloatType {
    /// IEEE 754 single.
    F32,
    /// IEEE 754 half.
    F16,
    /// The upper half of a single.
    BF16,
}

impl FloatType {
    /// Bytes an element.
    pub fn bytes(self) -> usize {
        match self {
            FloatType::F32 => 4,
            FloatType::F16 | FloatType::BF16 => 2,
        }
    }

    /// `f32`, `f16`, `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            FloatType::F32 => "f32",
            FloatType::F16 => "f16",
            FloatType::BF16 => "bf16",
        }
    }

    /// Little-endian bytes to floats; exact. `bytes` holds `out.len()` elements.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(bytes.len(), out.len() * self.bytes(), "bytes of {} {}", out.len(), self.name());
        match self {
            FloatType::F32 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *x = f32::from_le_bytes(*b);
                }
            }
            FloatType::F16 => {
                // The slice conversion uses the processor's own instruction where it has one.
                let bits: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
                bits.reinterpret_cast::<f16>().convert_to_f32_slice(out);
            }
            FloatType::BF16 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *x = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                }
            }
        }
    }

    /// Floats to little-endian bytes, rounded to nearest even; `out` holds `values.len()` elements.
    pub fn encode(self, values: &[f32], out: &mut [u8]) {
        assert_eq!(out.len(), values.len() * self.bytes(), "bytes of {} {}", values.len(), self.name());
        match self {
            FloatType::F32 => {
                for (b, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                    *b = x.to_le_bytes();
                }
            }
            FloatType::F16 => {
                let mut halves = vec![f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                for (b, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(&halves) {
                    *b = x.to_le_bytes();
                }
            }
            FloatType::BF16 => {
                for (b, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                    *b = half::bf16::from_f32(*x).to_le_bytes();
                }
            }
        }
    }
}

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
    /// Integers and scales.
    Quantized(Quantized),
}

/// A computed weight. A few cases, no tensor algebra; each rounds once to f32. Columns and rows are those of
/// [`Weight::matrix`]: a vector (bias, gain of a norm) is one row, so that its elements are columns.
#[derive(Clone, PartialEq, Debug)]
pub enum Derive {
    /// `w · c`
    MulScalar(f32),
    /// `w[i, j] · c[j]`
    Columns(Arc<[f32]>),
    /// `w[i, j] · c[i]`
    Rows(Arc<[f32]>),
    /// Rounded to fixed steps, as the activations that it meets are.
    Steps(FakeQuant),
    /// `round_half_even(w[i, j] / c[j]) · c[j]`, the code within an i32: a bias in the unit of the sums that it is added to.
    Multiples(Arc<[f32]>),
}

impl Derive {
    /// Of its vector of factors.
    fn bytes(&self) -> usize {
        match self {
            Derive::MulScalar(_) | Derive::Steps(_) => 0,
            Derive::Columns(factors) | Derive::Rows(factors) | Derive::Multiples(factors) => 4 * factors.len(),
        }
    }

    /// On rows from `first` on, of `columns` each.
    fn apply(&self, first: usize, columns: usize, rows: &mut [f32]) {
        let each_row = rows.chunks_mut(columns.max(1));
        match self {
            Derive::MulScalar(c) => rows.iter_mut().for_each(|x| *x *= c),
            Derive::Columns(c) => each_row.for_each(|row| row.iter_mut().zip(&c[..]).for_each(|(x, c)| *x *= c)),
            Derive::Rows(c) => {
                each_row.zip(&c[first..]).for_each(|(row, c)| row.iter_mut().for_each(|x| *x *= c));
            }
            Derive::Steps(steps) => rows.iter_mut().for_each(|x| *x = steps.apply(*x)),
            Derive::Multiples(c) => {
                each_row.for_each(|row| row.iter_mut().zip(&c[..]).for_each(|(x, c)| *x = multiple(*x, *c) as f32 * c));
            }
        }
    }
}

/// The code of a number that is stored as a multiple of `unit`.
pub fn multiple(x: f32, unit: f32) -> i32 {
    (x / unit).round_ties_even() as i32
}

/// A table that follows from its shape.
///
/// Sinusoidal positions (Vaswani et al., arXiv 1706.03762) have sines in the first half of a row and cosines in the second;
/// place i of a half turns by `position · 10000^-e(i)`. Implementations differ in `e` and in their rounding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Computed {
    /// `e = 2i / columns`, in f64 and rounded once (`MarianSinusoidalPositionalEmbedding`, modeling_marian.py; Pegasus has
    /// the same). An odd number of columns has one sine more.
    Sinusoid,
    /// `e = i / (columns / 2 - 1)`, in f32 at each step (`M2M100SinusoidalPositionalEmbedding`, modeling_m2m_100.py).
    SinusoidBetweenEnds {
        /// The row of zeros, if it lies in the table.
        zero_row: Option<usize>,
    },
    /// Ones in one row and zeros elsewhere: looked up by id, it tells one token from all others.
    OneRow(usize),
}

impl Computed {
    /// The element at a row and a column of a table of `columns`.
    fn element(self, row: usize, column: usize, columns: usize) -> f32 {
        match self {
            Computed::Sinusoid => {
                let sines = columns.div_ceil(2);
                let turn = |i: usize| row as f64 / 10000f64.powf(2.0 * i as f64 / columns as f64);
                match column.checked_sub(sines) {
                    None => turn(column).sin() as f32,
                    Some(i) => turn(i).cos() as f32,
                }
            }
            Computed::SinusoidBetweenEnds { zero_row } => {
                let half = columns / 2;
                let step = (10000f64.ln() / (half as f64 - 1.0)) as f32;
                let turn = |i: usize| row as f32 * (i as f32 * -step).exp();
                match column {
                    _ if zero_row == Some(row) || column >= 2 * half => 0.0,
                    _ if column < half => turn(column).sin(),
                    _ => turn(column - half).cos(),
                }
            }
            Computed::OneRow(one) => f32::from(u8::from(row == one)),
        }
    }
}

impl WeightData {
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
    /// Blocks of llama.cpp, row after row; columns are a multiple of the block length.
    Ggml {
        /// Which block.
        kind: GgmlType,
        /// `rows · columns / block_len` blocks.
        blocks: Blob,
    },
}

/// Weights that share a scale.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Block {
    /// A whole row, that is an output channel.
    Row,
    /// This many neighbours in a row; the last group of a row may be shorter.
    Group(usize),
}

impl Block {
    /// Weights a scale in rows of `columns`.
    pub fn len(self, columns: usize) -> usize {
        match self {
            Block::Row => columns.max(1),
            Block::Group(n) => n,
        }
    }

    /// Scales a row of `columns` has.
    pub fn per_row(self, columns: usize) -> usize {
        columns.div_ceil(self.len(columns))
    }
}

/// `w = (code - zero) · scale`, in f32.
#[derive(Clone, Debug)]
pub struct AffineTensor {
    /// `[rows, columns]`.
    pub shape: [usize; 2],
    /// 4 or 8.
    pub bits: u8,
    /// What shares a scale.
    pub block: Block,
    /// One `i8` a weight, row-major, unpacked at any width because every format packs in its own order.
    pub codes: Blob,
    /// `rows · block.per_row(columns)`, finite and above 0.
    pub scales: Vec<f16>,
    /// As many as scales; absent when symmetric.
    pub zeros: Option<Vec<i8>>,
}

impl AffineTensor {
    /// The codes of some rows.
    pub fn codes(&self, rows: Range<usize>) -> io::Result<Vec<i8>> {
        let mut bytes = vec![0; rows.len() * self.shape[1]];
        self.codes.read_at((rows.start * self.shape[1]) as u64, &mut bytes)?;
        Ok(bytes.into_iter().map(u8::cast_signed).collect())
    }

    fn rows(&self, rows: Range<usize>, out: &mut [f32]) -> io::Result<()> {
        let columns = self.shape[1];
        let codes = self.codes(rows.clone())?;
        let (len, per_row) = (self.block.len(columns), self.block.per_row(columns));
        for (row, (out, codes)) in rows.zip(out.chunks_mut(columns.max(1)).zip(codes.chunks(columns.max(1)))) {
            for (block, (out, codes)) in out.chunks_mut(len).zip(codes.chunks(len)).enumerate() {
                let at = row * per_row + block;
                let zero = self.zeros.as_ref().map_or(0, |zeros| zeros[at]);
                dequantize(codes, self.scales[at], zero, out);
            }
        }
        Ok(())
    }
}

/// The meaning of affine codes, in one place: `(code - zero) · scale`, in f32.
pub fn dequantize(codes: &[i8], scale: f16, zero: i8, out: &mut [f32]) {
    let (scale, zero) = (scale.to_f32(), i32::from(zero));
    for (x, code) in out.iter_mut().zip(codes) {
        *x = (i32::from(*code) - zero) as f32 * scale;
    }
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
    use super::*;

    #[test]
    fn every_float_type_reads_back_what_it_stores() {
        let values = [0.0, -0.0, 1.0, -1.5, 65504.0, 6.103_515_6e-5, 3.0, -2.0];
        for dtype in [FloatType::F32, FloatType::F16, FloatType::BF16] {
            let mut bytes = vec![0; values.len() * dtype.bytes()];
            let mut back = [0.0; 8];
            dtype.encode(&values, &mut bytes);
            dtype.decode(&bytes, &mut back);
            for (a, b) in values.iter().zip(back) {
                let exact = dtype != FloatType::BF16 || half::bf16::from_f32(*a).to_f32() == *a;
                assert!(!exact || a.to_bits() == b.to_bits(), "{}: {a} became {b}", dtype.name());
            }
        }
    }

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
