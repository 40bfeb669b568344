//! Which provider took which nodes, in a call of onnxruntime that `ort` has no safe form of.

#![allow(unsafe_code, reason = "calls into C that ort has no safe form of")]

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ptr;

use ort::session::Session as OrtSession;
use ort::{AsPointer, ortsys};

/// Nodes of a session by the provider that they were given to, those of fused ones counted singly.
///
/// The session was opened with `session.record_ep_graph_assignment_info`. Errors: onnxruntime's words.
pub(super) fn nodes(session: &OrtSession) -> Result<BTreeMap<String, usize>, String> {
    read(session).map_err(|error| error.to_string())
}

fn read(session: &OrtSession) -> ort::Result<BTreeMap<String, usize>> {
    let session = session.inner();
    let mut subgraphs = ptr::null();
    let mut count = 0;
    // SAFETY: the session is alive, and the list that comes back is its own and lives as long.
    ortsys![unsafe Session_GetEpGraphAssignmentInfo(session.ptr(), &mut subgraphs, &mut count)?];
    let mut found = BTreeMap::new();
    for i in 0..count {
        let (mut name, mut nodes, mut node_count) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `subgraphs` has `count` elements.
        let subgraph = unsafe { *subgraphs.add(i) };
        // SAFETY: what is asked is an element of the session's list.
        ortsys![unsafe EpAssignedSubgraph_GetEpName(subgraph, &mut name)?];
        // SAFETY: the same.
        ortsys![unsafe EpAssignedSubgraph_GetNodes(subgraph, &mut nodes, &mut node_count)?];
        // SAFETY: a C string of the session's.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        *found.entry(name).or_insert(0) += node_count;
    }
    Ok(found)
}
