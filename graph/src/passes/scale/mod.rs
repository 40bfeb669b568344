//! Factors, put where an engine can hold them.

pub(super) mod absorb_scales;
pub(super) mod drop_logit_scale;
pub(super) mod fold_logit_scale;
pub(super) mod rescale_residual;
