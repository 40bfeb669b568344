//! Codes, scales and zeros as compressed-tensors lays them out.

use std::io;
use std::ops::Range;

use graph::{AffineTensor, Block, Weight};
use serde_json::{Value, json};

/// The numbers of `weights` in a config group, common to all its members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    /// 4 or 8, the widest of the members.
    pub bits: u8,
    /// Whether no member has zeros.
    pub symmetric: bool,
    /// Greatest common divisor of the groups; 0 when all have a scale a row.
    group: usize,
    /// Greatest common divisor of the columns.
    columns: usize,
}

impl Kind {
    /// Of one member.
    pub fn of(tensor: &AffineTensor) -> Kind {
        let columns = tensor.shape[1];
        let group = match tensor.block {
            Block::Group(n) if n < columns => n,
            Block::Group(_) | Block::Row => 0,
        };
        Kind { bits: tensor.bits, symmetric: tensor.zeros.is_none(), group, columns }
    }

    /// Of both.
    pub fn and(self, other: Kind) -> Kind {
        Kind {
            bits: self.bits.max(other.bits),
            symmetric: self.symmetric && other.symmetric,
            group: gcd(self.group, other.group),
            columns: gcd(self.columns, other.columns),
        }
    }

    /// Columns that share a scale; `None` for a whole row. Divides the columns of every member, as compressed-tensors
    /// demands, and every group of theirs.
    pub fn group_size(self) -> Option<usize> {
        (self.group > 0).then(|| gcd(self.group, self.columns))
    }

    /// `weights` in config.json.
    pub fn config(self) -> Value {
        let Kind { bits, symmetric, .. } = self;
        let mut config = json!({ "num_bits": bits, "type": "int", "symmetric": symmetric, "dynamic": false });
        match self.group_size() {
            Some(size) => {
                config["strategy"] = "group".into();
                config["group_size"] = size.into();
            }
            None => config["strategy"] = "channel".into(),
        }
        config
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A weight with codes and the kind of its config group.
#[derive(Clone, Copy)]
pub struct Codes<'a> {
    /// For its name.
    pub weight: &'a Weight,
    /// Its numbers.
    pub tensor: &'a AffineTensor,
    /// How they are stored.
    pub kind: Kind,
    /// `pack-quantized`, else `int-quantized`.
    pub packed: bool,
}

impl Codes<'_> {
    /// Scales a row has in the file.
    pub fn groups(&self) -> usize {
        self.kind.group_size().map_or(1, |size| self.tensor.shape[1] / size)
    }

    /// The codes of some rows as the file has them.
    pub fn rows(&self, rows: Range<usize>) -> io::Result<Vec<u8>> {
        let codes = self.tensor.codes(rows)?;
        Ok(match self.packed {
            true => pack(&codes, self.tensor.shape[1], self.kind.bits),
            false => codes.into_iter().map(i8::cast_unsigned).collect(),
        })
    }

    /// f32, each as often as the groups of the file are smaller than those of the weight.
    pub fn scales(&self) -> Vec<u8> {
        self.repeated(&self.tensor.scales).flat_map(|scale| scale.to_f32().to_le_bytes()).collect()
    }

    /// One a scale; 0 where the weight has none and another of its group has.
    pub fn zeros(&self) -> Vec<u8> {
        let none = vec![0; self.tensor.scales.len()];
        let zeros: Vec<i8> = self.repeated(self.tensor.zeros.as_ref().unwrap_or(&none)).collect();
        if !self.packed {
            return zeros.into_iter().map(i8::cast_unsigned).collect();
        }
        // Packed along the rows: each column of zeros is packed like a row of codes, and words stand in row order.
        let (rows, groups) = (self.tensor.shape[0], self.groups());
        let mut out = vec![0; packed_bytes(rows, self.kind.bits) * groups];
        for group in 0..groups {
            let column: Vec<i8> = (0..rows).map(|row| zeros[row * groups + group]).collect();
            for (word, bytes) in pack(&column, rows, self.kind.bits).chunks(4).enumerate() {
                let at = (word * groups + group) * 4;
                out[at..at + 4].copy_from_slice(bytes);
            }
        }
        out
    }

    /// One of `values`, which stand one a block of the weight, for each group of the file.
    fn repeated<T: Copy>(&self, values: &[T]) -> impl Iterator<Item = T> {
        let [rows, columns] = self.tensor.shape;
        let (len, per_row) = (self.tensor.block.len(columns), self.tensor.block.per_row(columns));
        let (groups, size) = (self.groups(), self.kind.group_size().unwrap_or(columns));
        (0..rows).flat_map(move |row| (0..groups).map(move |group| values[row * per_row + group * size / len]))
    }
}

/// Bytes of `count` packed codes: whole 32-bit words.
pub fn packed_bytes(count: usize, bits: u8) -> usize {
    (count * usize::from(bits)).div_ceil(32) * 4
}

/// Rows of codes, each as `code + 2^(bits-1)` in `bits` bits, filled up with zero bits to whole words.
pub fn pack(codes: &[i8], columns: usize, bits: u8) -> Vec<u8> {
    let row_bytes = packed_bytes(columns, bits);
    let mut out = vec![0; codes.len() / columns.max(1) * row_bytes];
    for (row, out) in codes.chunks(columns.max(1)).zip(out.chunks_mut(row_bytes.max(1))) {
        match bits {
            8 => out.iter_mut().zip(row).for_each(|(byte, code)| *byte = code.cast_unsigned() ^ 0x80),
            _ => {
                for (byte, pair) in out.iter_mut().zip(row.chunks(2)) {
                    let nibble = |i: usize| pair.get(i).map_or(0, |code| (code.cast_unsigned() & 15) ^ 8);
                    *byte = nibble(0) | nibble(1) << 4;
                }
            }
        }
    }
    out
}

/// What [`pack`] packed.
pub fn unpack(bytes: &[u8], columns: usize, bits: u8) -> Vec<i8> {
    let row_bytes = packed_bytes(columns, bits).max(1);
    let rows = bytes.chunks(row_bytes);
    match bits {
        8 => rows.flat_map(|row| row[..columns].iter().map(|byte| (byte ^ 0x80).cast_signed())).collect(),
        _ => {
            let code = |row: &[u8], i: usize| (row[i / 2] >> (i % 2 * 4) & 15).cast_signed() - 8;
            rows.flat_map(|row| (0..columns).map(move |i| code(row, i))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use graph::{Blob, Quantized, WeightData};
    use half::f16;

    use super::*;

    #[test]
    fn codes_are_packed_from_the_lowest_bits_and_rows_end_at_words() {
        // Σ (q + 8) << 4i by hand, and the second row starts a new word.
        let packed = pack(&[-8, -7, 0, 7, 1, 2, 3, 4, 5, -1, -2, -3, -4, -5, -6, 7, 6, 5], 9, 4);
        assert_eq!(packed, [0x10, 0xf8, 0xa9, 0xcb, 0x0d, 0, 0, 0, 0x67, 0x45, 0x23, 0xef, 0x0d, 0, 0, 0][..]);
        assert_eq!(pack(&[-128, 0, 127], 3, 8), [0, 0x80, 0xff, 0]);
    }

    #[test]
    fn zeros_are_packed_along_the_rows() {
        let zeros = [[-8, 7], [0, 1], [3, -4], [5, 5], [1, 2], [-1, -2], [6, -7], [2, 3], [4, -5]];
        // pack_to_int32(zeros, num_bits, packed_dim=0) of compressed-tensors 0.20.0, row-major.
        let golden: [(u8, &[u32]); 2] = [
            (4, &[0xae79db80, 0xb16ad49f, 0xc, 0x3]),
            (8, &[0x85838078, 0x857c8187, 0x82867f81, 0x83797e82, 0x84, 0x7b]),
        ];
        for (bits, words) in golden {
            let tensor = AffineTensor {
                shape: [9, 6],
                bits,
                block: Block::Group(3),
                codes: Blob::memory([0; 54]),
                scales: vec![f16::ONE; 18],
                zeros: Some(zeros.concat()),
            };
            let data = WeightData::Quantized(Quantized::Affine(tensor.clone()));
            let weight = Weight { name: "w.weight".into(), shape: vec![9, 6], data };
            let codes = Codes { weight: &weight, tensor: &tensor, kind: Kind::of(&tensor), packed: true };
            assert_eq!(codes.zeros(), words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn scales_are_repeated_for_smaller_groups() {
        let tensor = |columns, block, scales: &[f32]| AffineTensor {
            shape: [2, columns],
            bits: 4,
            block,
            codes: Blob::memory(vec![0; 2 * columns]),
            scales: scales.iter().map(|s| f16::from_f32(*s)).collect(),
            zeros: None,
        };
        // Groups of 4 in rows of 6 are 4 and 2 columns; with a scale a row of 9 columns, all are groups of gcd(4, 6, 9).
        let (groups, row) = (tensor(6, Block::Group(4), &[1.0, 2.0, 3.0, 4.0]), tensor(9, Block::Row, &[5.0, 6.0]));
        let alone = Kind::of(&groups);
        assert_eq!((alone.group_size(), alone.and(Kind::of(&row)).group_size()), (Some(2), Some(1)));
        assert_eq!(Kind::of(&row).group_size(), None);
        let data = WeightData::Quantized(Quantized::Affine(groups.clone()));
        let weight = Weight { name: "w.weight".into(), shape: vec![2, 6], data };
        let codes = Codes { weight: &weight, tensor: &groups, kind: alone, packed: true };
        let scales: Vec<f32> = codes.scales().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(scales, [1.0, 1.0, 2.0, 3.0, 3.0, 4.0]);
    }

    #[test]
    fn unpacking_gives_what_was_packed() {
        for (bits, range) in [(4, -8..=7), (8, -128..=127_i16)] {
            let codes: Vec<i8> = range.map(|code| code as i8).collect();
            for columns in [1, 2, codes.len() / 2, codes.len()] {
                assert_eq!(
                    unpack(&pack(&codes, columns, bits), columns, bits),
                    codes,
                    "{bits} bits, {columns} columns"
                );
            }
        }
    }
}
