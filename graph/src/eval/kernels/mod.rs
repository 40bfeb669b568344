//! One function an op, on dense f32. Shapes were inferred when the graph was built, and
//! those of arguments are compared with it in every call, so a misfit here is a bug and panics.

pub(super) mod attention;
pub(super) mod elementwise;
pub(super) mod layout;
pub(super) mod linear;
pub(super) mod mask;
pub(super) mod norm;
pub(super) mod quant;
pub(super) mod strided;
