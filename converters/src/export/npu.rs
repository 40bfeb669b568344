//! ONNX as NPU toolchains take it: static shapes, a batch of one, one decoder step a call.

pub mod host;
pub mod profile;

pub use host::{Bucket, HOST_FILE, Host, Numbers, Place, Port};
pub use profile::{PROFILES, Profile, profile};
