//! The page that people send around: one file, with everything in it, that asks no network for anything.

mod checks;
mod diff;
mod figure;
mod head;
mod layers;
mod made;
mod markup;
mod outcome;
mod page;
mod partings;
mod samples;
mod split;
mod table;
mod tensors;

pub use page::page;
