//! What a graph computes between its inputs and outputs, under the names that values have.

use std::collections::BTreeMap;
use std::path::Path;

use onnx::proto::NodeProto;
use onnx::shown::copy_with_outputs;

use crate::error::ExportError;

/// Writes a copy of an exported graph into another folder that returns its values too. Gives each new output with the name of
/// its value.
///
/// Nodes are named after the value that they compute and their op, and the last one of a value makes its result. Values that a
/// graph computes in another way than one after another have none.
///
/// Errors: the file is no graph; the system refuses.
pub fn show_values(file: &Path, folder: &Path) -> Result<BTreeMap<String, String>, ExportError> {
    let mut shown = BTreeMap::new();
    copy_with_outputs(file, folder, |nodes| {
        shown = results(nodes);
        shown.keys().cloned().collect()
    })?;
    Ok(shown)
}

fn results(nodes: &[NodeProto]) -> BTreeMap<String, String> {
    let mut last: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    let mut is_shared: BTreeMap<&str, bool> = BTreeMap::new();
    for node in nodes {
        let Some((output, (value, _))) = node.output.first().and_then(|name| Some((name, name.rsplit_once('/')?)))
        else {
            continue;
        };
        // Behind a product that is several values' come results of all of them.
        let shared = is_shared.entry(value).or_default();
        last.insert(value, (!*shared).then_some(output));
        *shared |= node.op_type.as_deref() == Some("Split");
    }
    last.into_iter().filter_map(|(value, output)| Some((output?.to_owned(), value.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use onnx::make::node;

    use super::*;

    #[test]
    fn the_last_node_of_a_value_makes_it_and_joined_products_make_one() {
        let nodes = [
            node("Transpose", &["w"], &["w/transposed"], Vec::new()),
            node("MatMul", &["x", "w/transposed"], &["a.linear/MatMul"], Vec::new()),
            node("Add", &["a.linear/MatMul", "b"], &["a.linear/Add"], Vec::new()),
            node("Split", &["y"], &["q.linear/Split", "q.linear/Split_2"], Vec::new()),
            node("Split", &["y"], &["k.linear/Split", "k.linear/Split_2"], Vec::new()),
            node("Add", &["k.linear/Split_2", "b"], &["k.linear/Add"], Vec::new()),
            node("Add", &["a.linear/Add", "c"], &["logits"], Vec::new()),
        ];
        let found = results(&nodes);
        let found: Vec<[&str; 2]> = found.iter().map(|(output, value)| [output.as_str(), value.as_str()]).collect();
        assert_eq!(
            found,
            [["a.linear/Add", "a.linear"], ["q.linear/Split", "q.linear"], ["w/transposed", "w"]] //
        );
    }
}
