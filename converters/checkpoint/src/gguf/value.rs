//! Typed metadata values: an array keeps its element type, even when it is empty.

/// A metadata value, of GGUF's own types.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Unsigned, 8 bits.
    U8(u8),
    /// Signed, 8 bits.
    I8(i8),
    /// Unsigned, 16 bits.
    U16(u16),
    /// Signed, 16 bits.
    I16(i16),
    /// Unsigned, 32 bits; what llama.cpp asks for wherever it reads a count or a token id.
    U32(u32),
    /// Signed, 32 bits.
    I32(i32),
    /// Single precision.
    F32(f32),
    /// One byte, 0 or 1.
    Bool(bool),
    /// UTF-8.
    String(String),
    /// Elements of one type.
    Array(Array),
    /// Unsigned, 64 bits.
    U64(u64),
    /// Signed, 64 bits.
    I64(i64),
    /// Double precision.
    F64(f64),
}

/// Elements of one type; arrays of arrays have no consumer and are refused.
#[derive(Clone, PartialEq, Debug)]
pub enum Array {
    /// See [`Value::U8`].
    U8(Vec<u8>),
    /// See [`Value::I8`].
    I8(Vec<i8>),
    /// See [`Value::U16`].
    U16(Vec<u16>),
    /// See [`Value::I16`].
    I16(Vec<i16>),
    /// See [`Value::U32`].
    U32(Vec<u32>),
    /// See [`Value::I32`].
    I32(Vec<i32>),
    /// See [`Value::F32`].
    F32(Vec<f32>),
    /// See [`Value::Bool`].
    Bool(Vec<bool>),
    /// See [`Value::String`].
    String(Vec<String>),
    /// See [`Value::U64`].
    U64(Vec<u64>),
    /// See [`Value::I64`].
    I64(Vec<i64>),
    /// See [`Value::F64`].
    F64(Vec<f64>),
}

/// The number that stands for an array (`enum gguf_metadata_value_type` in gguf.h).
pub(super) const ARRAY_ID: u32 = 9;

impl Value {
    /// A string.
    pub fn string(text: impl Into<String>) -> Value {
        Value::String(text.into())
    }

    /// The number that stands for the type.
    pub fn id(&self) -> u32 {
        match self {
            Value::U8(_) => 0,
            Value::I8(_) => 1,
            Value::U16(_) => 2,
            Value::I16(_) => 3,
            Value::U32(_) => 4,
            Value::I32(_) => 5,
            Value::F32(_) => 6,
            Value::Bool(_) => 7,
            Value::String(_) => 8,
            Value::Array(_) => ARRAY_ID,
            Value::U64(_) => 10,
            Value::I64(_) => 11,
            Value::F64(_) => 12,
        }
    }

    /// Appends the value, without its type.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(x) => out.push(*x),
            Value::I8(x) => out.extend(x.to_le_bytes()),
            Value::U16(x) => out.extend(x.to_le_bytes()),
            Value::I16(x) => out.extend(x.to_le_bytes()),
            Value::U32(x) => out.extend(x.to_le_bytes()),
            Value::I32(x) => out.extend(x.to_le_bytes()),
            Value::F32(x) => out.extend(x.to_le_bytes()),
            Value::Bool(x) => out.push(u8::from(*x)),
            Value::String(x) => encode_string(x, out),
            Value::Array(x) => x.encode(out),
            Value::U64(x) => out.extend(x.to_le_bytes()),
            Value::I64(x) => out.extend(x.to_le_bytes()),
            Value::F64(x) => out.extend(x.to_le_bytes()),
        }
    }
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(x) => x.len(),
            Array::I8(x) => x.len(),
            Array::U16(x) => x.len(),
            Array::I16(x) => x.len(),
            Array::U32(x) => x.len(),
            Array::I32(x) => x.len(),
            Array::F32(x) => x.len(),
            Array::Bool(x) => x.len(),
            Array::String(x) => x.len(),
            Array::U64(x) => x.len(),
            Array::I64(x) => x.len(),
            Array::F64(x) => x.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let id: u32 = match self {
            Array::U8(_) => 0,
            Array::I8(_) => 1,
            Array::U16(_) => 2,
            Array::I16(_) => 3,
            Array::U32(_) => 4,
            Array::I32(_) => 5,
            Array::F32(_) => 6,
            Array::Bool(_) => 7,
            Array::String(_) => 8,
            Array::U64(_) => 10,
            Array::I64(_) => 11,
            Array::F64(_) => 12,
        };
        out.extend(id.to_le_bytes());
        out.extend((self.len() as u64).to_le_bytes());
        match self {
            Array::U8(x) => out.extend(x),
            Array::I8(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
            Array::U16(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
            Array::I16(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
            Array::U32(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
            Array::I32(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
            Array::F32(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
            Array::Bool(x) => out.extend(x.iter().map(|x| u8::from(*x))),
            Array::String(x) => x.iter().for_each(|x| encode_string(x, out)),
            Array::U64(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
            Array::I64(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
            Array::F64(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
        }
    }
}

/// Length in bytes, then UTF-8.
pub fn encode_string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
