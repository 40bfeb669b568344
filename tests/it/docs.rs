//! The pages of docs/: those that are written from the program, and what the others say of it.

mod commands;
mod recipe_reference;
mod said;
