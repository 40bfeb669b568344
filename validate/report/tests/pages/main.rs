//! What each page makes of a report, also of one that nobody would want to have.

mod diff;
mod made;
mod markdown;
mod xml;
