//! Why a quantized artifact may be slower than the float one: what its nodes make an engine do at every step.

use std::collections::{HashMap, HashSet};

use converters::Artifact;
use converters::export::onnx::{Attribute, Folder, OnnxFile};

const PRODUCTS: &[&str] = &["MatMul", "Gemm"];

/// What of an artifact's decoder is known to cost, with the node and what to do; `None` where nothing is known.
pub fn reason(artifact: &Artifact) -> Option<String> {
    match artifact.format {
        "onnx" => of_onnx(&OnnxFile::open(&Folder::find(&artifact.dir).step()).ok()?),
        "gguf" => Some(
            "ggml multiplies by blocks of whole bytes or nibbles fastest: q8_0 and q4_0 have kernels for every processor, \
             types of 3, 5 and 6 bits are put together from two fields in each product"
                .to_owned(),
        ),
        "safetensors" => Some(
            "transformers has no product with packed weights on a CPU: compressed-tensors unpacks each matrix to floats and \
             multiplies by that"
                .to_owned(),
        ),
        _ => None,
    }
}

fn of_onnx(step: &OnnxFile) -> Option<String> {
    let matrices: HashMap<&str, usize> =
        step.initializers.iter().filter(|c| c.dims.len() > 1).map(|c| (c.name.as_str(), c.count())).collect();
    let total: usize = matrices.values().sum();
    let share = |elements: usize| format!("{:.0} % of its weights", 100.0 * elements as f64 / total.max(1) as f64);
    let mut parts = Vec::new();

    // What is made of a matrix in codes before anything multiplies by it.
    let (mut codes, mut unpacked) = (matrices.clone(), HashMap::<&str, usize>::new());
    for node in &step.nodes {
        let first = node.inputs.first().map_or("", String::as_str);
        let Some(output) = node.outputs.first() else { continue };
        match (node.op.as_str(), codes.get(first).copied(), unpacked.get(first).copied()) {
            ("DequantizeLinear", Some(elements), _)
            | ("Transpose" | "Reshape" | "Identity" | "Cast", _, Some(elements)) => {
                unpacked.insert(output, elements);
            }
            // Engines turn what is constant once, before they run.
            ("Transpose" | "Reshape" | "Identity", Some(elements), _) => {
                codes.insert(output, elements);
            }
            _ => {}
        }
    }
    let mut multiplied = HashSet::new();
    let mut elements = 0;
    for node in step.nodes.iter().filter(|node| PRODUCTS.contains(&node.op.as_str())) {
        for input in &node.inputs {
            if let Some(count) = unpacked.get(input.as_str()).filter(|_| multiplied.insert(input.as_str())) {
                elements += count;
            }
        }
    }
    if !multiplied.is_empty() {
        parts.push(format!(
            "{} matrices ({}) are DequantizeLinear before MatMul: onnxruntime has no kernel for the two and unpacks each \
             matrix to floats at every step; `activations: dynamic` writes MatMulInteger instead, which multiplies the codes",
            multiplied.len(),
            share(elements)
        ));
    }

    let in_floats = |node: &&converters::export::onnx::Node| {
        let level = |name: &str| match node.attributes.get(name) {
            Some(Attribute::Int(level)) => *level,
            _ => 0,
        };
        node.op == "MatMulNBits" && level("accuracy_level") < 4
    };
    let nodes: Vec<_> = step.nodes.iter().filter(in_floats).collect();
    if !nodes.is_empty() {
        let bits = |node: &converters::export::onnx::Node| match node.attributes.get("bits") {
            Some(Attribute::Int(bits)) => *bits,
            _ => 4,
        };
        let widths: std::collections::BTreeSet<i64> = nodes.iter().map(|node| bits(node)).collect();
        let widths: Vec<String> = widths.iter().map(|bits| bits.to_string()).collect();
        parts.push(format!(
            "{} products are MatMulNBits of {} bits with an accuracy_level below 4, which multiplies in floats: its kernel \
             unpacks blocks of codes for every row",
            nodes.len(),
            widths.join(" and ")
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use converters::export::onnx::{Constant, Element, Node};

    fn node(op: &str, inputs: &[&str], output: &str) -> Node {
        let inputs = inputs.iter().map(|name| (*name).to_owned()).collect();
        Node { op: op.to_owned(), inputs, outputs: vec![output.to_owned()], ..Node::default() }
    }

    fn file(nodes: Vec<Node>) -> OnnxFile {
        let codes = Constant::new("codes", Element::INT8, &[4, 3], &[0; 12]);
        let other = Constant::new("other", Element::INT8, &[2, 2], &[0; 4]);
        let scales = Constant::new("scales", Element::FLOAT, &[3], &[0; 12]);
        OnnxFile { nodes, initializers: vec![codes, other, scales], ..OnnxFile::default() }
    }

    #[test]
    fn a_matrix_that_is_unpacked_before_a_product_is_told_with_its_share_and_once() {
        let unpack = || node("DequantizeLinear", &["codes", "scales"], "w");
        let turned = || node("Transpose", &["w"], "t");
        let products = || [node("MatMul", &["x", "t"], "y"), node("MatMul", &["z", "t"], "u")];
        // Turned after they are unpacked, or before, which is how the exporter writes them.
        let before = [node("Transpose", &["codes"], "turned"), node("DequantizeLinear", &["turned", "scales"], "t")];
        for first in [vec![unpack(), turned()], before.to_vec()] {
            let text = of_onnx(&file([first, products().to_vec()].concat())).expect("a reason");
            assert!(text.starts_with("1 matrices (75 % of its weights) are DequantizeLinear before MatMul"), "{text}");
        }
        // One that rows are taken from is not multiplied by, and codes that are multiplied by are not unpacked.
        for nodes in
            [vec![unpack(), node("Gather", &["w", "ids"], "y")], vec![node("MatMulInteger", &["x", "codes"], "y")]]
        {
            assert_eq!(of_onnx(&file(nodes)), None);
        }
    }

    #[test]
    fn products_in_blocks_are_slow_unless_they_say_that_integers_may_multiply() {
        let with = |level: i64| {
            let attributes = BTreeMap::from([
                ("accuracy_level".to_owned(), Attribute::Int(level)),
                ("bits".to_owned(), Attribute::Int(8)),
            ]);
            of_onnx(&file(vec![Node { attributes, ..node("MatMulNBits", &["x", "codes", "scales"], "y") }]))
        };
        assert!(with(1).expect("a reason").contains("1 products are MatMulNBits of 8 bits"));
        assert_eq!(with(4), None);
    }
}
