//! What a model's encoder is fed, made of what people have: a text becomes token ids; a clip becomes features or samples; an
//! image becomes pixels of the size that the encoder takes.
//!
//! Which of them a model reads is asked here alone: everyone else has an [`Input`] of named tensors, batches of them by the
//! names of the graph's ports, and their lengths.

pub mod audio;
mod draw;
mod error;
mod front_end;
pub mod image;
mod images;
mod input;
mod keys;
mod kind;
mod noise;
mod sized;
mod speech;
mod tasks;
mod text;

pub use draw::Draw;
pub use error::FrontEndError;
pub use front_end::{Asked, FrontEnd, Original};
pub use images::{AskedImages, Images};
pub use input::{Fill, Input, tokens};
pub use kind::Kind;
pub use noise::Noise;
pub use sized::Draws;
pub use speech::Speech;
pub use tasks::Tasks;
pub use text::{Ids, Text, spoken};
