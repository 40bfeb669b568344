//! What goes into a graph of fixed shapes and comes out of it: floats, or codes as they are.

use converters::export::npu::{Numbers, Port};

/// A tensor in the type of its port.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::runtime) struct Value {
    /// Outermost first.
    pub(in crate::runtime) shape: Vec<usize>,
    /// As many as the shape says.
    pub(in crate::runtime) codes: Codes,
}

/// Elements of one type.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::runtime) enum Codes {
    Int32(Vec<i32>),
    Float32(Vec<f32>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Int16(Vec<i16>),
}

impl Value {
    /// Whether shape and every bit are equal.
    pub(in crate::runtime) fn same_bits(&self, other: &Value) -> bool {
        let bits = |list: &[f32]| list.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        self.shape == other.shape
            && match (&self.codes, &other.codes) {
                (Codes::Float32(a), Codes::Float32(b)) => bits(a) == bits(b),
                (a, b) => a == b,
            }
    }
}

/// The same expression for the elements of every type.
macro_rules! with_codes {
    ($codes:expr, $list:ident => $result:expr) => {
        match $codes {
            Codes::Int32($list) => $result,
            Codes::Float32($list) => $result,
            Codes::Uint8($list) => $result,
            Codes::Uint16($list) => $result,
            Codes::Int16($list) => $result,
        }
    };
}
pub(in crate::runtime) use with_codes;

impl Codes {
    /// How many.
    pub(in crate::runtime) fn len(&self) -> usize {
        with_codes!(self, list => list.len())
    }

    /// `int32`, `uint8`.
    pub(in crate::runtime) fn type_name(&self) -> &'static str {
        match self {
            Codes::Int32(_) => "int32",
            Codes::Float32(_) => "float32",
            Codes::Uint8(_) => "uint8",
            Codes::Uint16(_) => "uint16",
            Codes::Int16(_) => "int16",
        }
    }
}

/// `int32`, `uint8`.
pub(super) fn type_name(numbers: Numbers) -> &'static str {
    match numbers {
        Numbers::Int32 => "int32",
        Numbers::Float32 => "float32",
        Numbers::Uint8 { .. } => "uint8",
        Numbers::Uint16 { .. } => "uint16",
        Numbers::Int16 { .. } => "int16",
    }
}

/// Every element 0, in codes where the port has them. Zero points were checked to be codes.
pub(super) fn zeros(port: &Port) -> Value {
    let count = port.shape.iter().product();
    let codes = match port.numbers {
        Numbers::Int32 => Codes::Int32(vec![0; count]),
        Numbers::Float32 => Codes::Float32(vec![0.0; count]),
        Numbers::Uint8 { zero, .. } => Codes::Uint8(vec![u8::try_from(zero).expect("checked"); count]),
        Numbers::Uint16 { zero, .. } => Codes::Uint16(vec![u16::try_from(zero).expect("checked"); count]),
        Numbers::Int16 { .. } => Codes::Int16(vec![0; count]),
    };
    Value { shape: port.shape.clone(), codes }
}

/// What the elements of a port mean: floats as they are, codes as `(code - zero) · scale`.
pub(super) fn floats(codes: &Codes, numbers: Numbers) -> Vec<f32> {
    let (scale, zero) = match numbers {
        Numbers::Int32 | Numbers::Float32 => (1.0, 0),
        Numbers::Uint8 { scale, zero } | Numbers::Uint16 { scale, zero } => (scale, zero),
        Numbers::Int16 { scale } => (scale, 0),
    };
    let of = |code: i32| (code - zero) as f32 * scale;
    match codes {
        Codes::Float32(list) => list.clone(),
        Codes::Int32(list) => list.iter().map(|code| *code as f32).collect(),
        Codes::Uint8(list) => list.iter().map(|code| of(i32::from(*code))).collect(),
        Codes::Uint16(list) => list.iter().map(|code| of(i32::from(*code))).collect(),
        Codes::Int16(list) => list.iter().map(|code| of(i32::from(*code))).collect(),
    }
}

/// Writes the keys or values of one token at a position of the token axis. Both are of ports that were checked to differ
/// there only.
pub(super) fn write_token(past: &mut Value, token: &Value, axis: usize, position: usize) {
    let (tokens, inner) = (past.shape[axis], past.shape[axis + 1..].iter().product::<usize>());
    fn copy<T: Copy>(into: &mut [T], from: &[T], tokens: usize, inner: usize, position: usize) {
        for (line, token) in into.chunks_mut(tokens * inner).zip(from.chunks(inner)) {
            line[position * inner..][..inner].copy_from_slice(token);
        }
    }
    match (&mut past.codes, &token.codes) {
        (Codes::Float32(into), Codes::Float32(from)) => copy(into, from, tokens, inner, position),
        (Codes::Uint8(into), Codes::Uint8(from)) => copy(into, from, tokens, inner, position),
        (Codes::Uint16(into), Codes::Uint16(from)) => copy(into, from, tokens, inner, position),
        (Codes::Int16(into), Codes::Int16(from)) => copy(into, from, tokens, inner, position),
        _ => unreachable!("a cache of int32, or of two types, is refused when it is opened"),
    }
}
