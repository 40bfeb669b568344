//! outline
/// .
pub struct Activations;
/// .
pub struct Plan;
/// .
pub struct Policy;
/// .
pub struct PolicyError;
/// .
pub struct Role;
/// .
pub struct Rule;
