//! From a checkpoint and a recipe to artifacts in their places.
//!
//! [`source`] imports, [`observed`] watches the model decode, [`growth`] makes what an artifact computes, [`validated`] holds it
//! against engines, [`folder`] puts all of it into place at once.

pub mod beside;
pub mod cache;
pub mod card;
pub mod costs;
pub mod ctranslate2;
pub mod disk;
pub mod edits;
pub mod error;
pub mod folder;
pub mod growth;
pub mod inputs;
pub mod journal;
pub mod made;
pub mod manifest;
pub mod npu;
pub mod observed;
pub mod places;
pub mod room;
pub mod source;
pub mod twin;
pub mod unfinished;
pub mod validated;
pub mod whole;
pub mod work;
