//! The interpreter: it gives every graph its meaning, in f32, with a tap on every value.

mod cache;
mod error;
mod interpreter;
mod kernels;
mod math;
mod noise;
mod prepared;
mod schedule;
pub mod tensor;

pub use self::error::EvalError;
pub use self::interpreter::{Interpreter, eval};
pub use self::kernels::mask::relative_bucket;
pub use self::prepared::kernel;
pub use self::schedule::{Course, Halted};
pub use self::tensor::{Feeds, Tensors};

#[cfg(test)]
mod tests;
