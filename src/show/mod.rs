//! What a person sees while a command works: progress, tables, text that a terminal does not obey.

pub mod progress;
pub mod table;
pub mod terminal;
