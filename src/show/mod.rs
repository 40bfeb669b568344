//! What a person sees while a command works: progress, the record, tables, text that a terminal does not obey.

mod left;
pub mod progress;
pub mod record;
pub mod table;
pub mod terminal;
