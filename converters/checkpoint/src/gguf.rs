//! GGUF: the container and its values, and the files that it may hold.

pub(crate) mod container;
pub(crate) mod held;
pub mod keys;
pub(crate) mod value;

pub use container::{ALIGNMENT, GgufFile, MAGIC, MAX_DIMS, TensorEntry, TensorType};
pub use keys::FILE;
pub use value::{Array, Value, encode_string};
