//! What becomes of every weight, and who decides.

pub mod caution;
pub mod decide;
pub mod fallback;
pub mod fault;
pub mod plan;
pub mod role;
pub mod rule;
