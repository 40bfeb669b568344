//! Commands, a file each.

pub mod bench;
pub mod convert;
pub mod validate;
