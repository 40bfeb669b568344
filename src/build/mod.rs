//! From a checkpoint and a recipe to artifacts in their places.
//!
//! [`source`] imports, [`observed`] watches the model decode, [`growth`] makes what an artifact computes, [`validated`] holds it
//! against engines, [`folder`] puts all of it into place at once.

pub mod beside;
pub mod cache;
pub mod card;
pub mod conversion;
pub mod costs;
pub mod ctranslate2;
pub mod disk;
pub mod draft;
pub mod edits;
pub mod error;
pub mod fetch;
pub mod folder;
pub mod given;
pub mod growth;
pub mod inputs;
pub mod installed;
pub mod intact;
pub mod journal;
pub mod keys;
pub mod lock;
pub mod made;
pub mod manifest;
pub mod npu;
pub mod observed;
pub mod paged;
pub mod part;
pub mod parts;
pub mod places;
pub mod provenance;
pub mod reread;
pub mod room;
pub mod shelf;
pub mod source;
pub mod there;
pub mod twin;
pub mod unfinished;
pub mod validated;
pub mod whisper_cpp;
pub mod whole;
pub mod work;
pub mod workplace;
