//! The search for plans: what each weight costs at each scheme, and which plans are worth their bytes.

pub mod frontier;
pub mod sensitivity;

pub use frontier::{Point, frontier};
pub use sensitivity::{Judge, Measured, sensitivity, units};
