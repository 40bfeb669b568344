//! Commands, a file each.

pub mod arguments;
pub mod bench;
pub mod build;
pub mod cache;
pub mod compare;
pub mod completions;
pub mod convert;
pub mod doctor;
mod drafting;
mod engines;
pub mod failure;
pub mod inspect;
pub mod lint;
pub mod list;
pub mod man;
pub mod recipe;
pub mod report;
pub mod run;
mod shard;
mod summary;
pub mod tune;
pub mod validate;
pub mod verify;
