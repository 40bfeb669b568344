//! outline
/// .
pub struct Check;
/// .
pub struct Note;
/// .
pub struct Report;
