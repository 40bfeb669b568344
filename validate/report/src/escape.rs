//! Text from outside, made harmless in one place: for each kind of page its own way.

pub mod html;
pub mod markdown;
pub mod xml;
