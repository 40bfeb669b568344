//! Several sessions of one engine, each of which runs a part of a plan.

use crate::runtime::Session;

/// Calls for which a session is worth its start.
const CALLS: usize = 8;
/// Bytes of an artifact of which there may be several copies in memory.
const LIGHT: u64 = 64 << 20;

/// Sessions of an engine beside the first.
pub struct Beside<'a> {
    /// How many.
    pub count: usize,
    /// Opens one; without it the others do its part.
    pub open: &'a (dyn Fn() -> Option<Box<dyn Session>> + Sync),
}

/// How many sessions of one thread make `calls` sooner than one session of all `threads`: the products of a small model are too small for
/// threads to share.
pub fn sessions(calls: usize, artifact_bytes: u64, threads: usize) -> usize {
    if artifact_bytes > LIGHT { 1 } else { threads.min(calls / CALLS).max(1) }
}
