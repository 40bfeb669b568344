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
