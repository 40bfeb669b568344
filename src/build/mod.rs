//! What stands around a conversion: the folder that takes its artifacts, the digests of what it reads, the manifest.

pub mod beside;
pub mod disk;
pub mod folder;
pub mod growth;
pub mod inputs;
pub mod journal;
pub mod manifest;
pub mod places;
pub mod twin;
pub mod unfinished;
pub mod whole;
