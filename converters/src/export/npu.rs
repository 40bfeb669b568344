//! ONNX as NPU toolchains take it: static shapes, a batch of one, one decoder step a call.

pub mod evidence;
pub mod host;
pub mod profile;

pub use evidence::{EVIDENCE_FILE, Evidence, Range};
pub use host::{Bucket, HOST_FILE, Host, Numbers, Place, Port};
pub use profile::{Form, Operator, PROFILES, Profile, Quantized, Severity, Takes, profile};
