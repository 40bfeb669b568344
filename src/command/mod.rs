//! Commands, a file each.

pub mod convert;
pub mod validate;
