//! GGUF: the container and its values, and a file of it that holds a whole checkpoint.

mod container;
pub mod keys;
mod value;
mod whole;

pub use container::{ALIGNMENT, GgufFile, MAGIC, MAX_DIMS, TensorEntry, TensorType};
pub use value::{Array, Value, encode_string};
pub use whole::{FILE, HeldFiles, Whole, files_in};

pub(crate) use whole::open;
