//! Copies of graphs that return more of what they compute.

use std::fs;
use std::path::Path;

use prost::Message;

use crate::error::OnnxError;
use crate::model::decode;
use crate::proto::tensor_proto::DataLocation;
use crate::proto::{NodeProto, TensorProto, ValueInfoProto};

/// Writes a copy of a graph into another folder, whose further outputs are those that `pick` names, and its external data beside
/// it: as a link where the two are on one disk. Types of the new outputs are left to whoever opens the file.
///
/// Errors: the file is no graph; the system refuses.
pub fn copy_with_outputs(
    file: &Path,
    folder: &Path,
    pick: impl FnOnce(&[NodeProto]) -> Vec<String>,
) -> Result<(), OnnxError> {
    let (mut model, _) = decode(file)?;
    let graph = model.graph.as_mut().ok_or_else(|| OnnxError::malformed(file, "a model without a graph"))?;
    let known: Vec<String> = graph.output.iter().filter_map(|output| output.name.clone()).collect();
    let picked = pick(&graph.node).into_iter().filter(|name| !known.contains(name));
    graph.output.extend(picked.map(|name| ValueInfoProto { name: Some(name), ..ValueInfoProto::default() }));
    let mut beside: Vec<String> = graph.initializer.iter().filter_map(location).collect();
    beside.sort();
    beside.dedup();
    let from = file.parent().unwrap_or(Path::new(""));
    for name in beside {
        // Checked when the file was written; a path out of the folder is no name.
        if Path::new(&name).components().count() != 1 {
            return Err(OnnxError::malformed(
                file,
                format!("external data: expected a file beside it, found {name:?}"),
            ));
        }
        let to = folder.join(&name);
        if !to.exists() && fs::hard_link(from.join(&name), &to).is_err() {
            fs::copy(from.join(&name), &to).map_err(OnnxError::io(&to))?;
        }
    }
    let to = folder.join(file.file_name().unwrap_or_default());
    fs::write(&to, model.encode_to_vec()).map_err(OnnxError::io(&to))
}

fn location(tensor: &TensorProto) -> Option<String> {
    let is_external = tensor.data_location == Some(DataLocation::External as i32);
    let entry = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some("location"));
    entry.filter(|_| is_external)?.value.clone()
}
