//! Commands, a file each.

pub mod arguments;
pub mod bench;
pub mod build;
pub mod cache;
pub mod compare;
pub mod convert;
mod engines;
pub mod inspect;
pub mod lint;
pub mod list;
pub mod recipe;
pub mod report;
pub mod run;
mod shard;
mod summary;
pub mod tune;
pub mod validate;
pub mod verify;
