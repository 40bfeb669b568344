use super::*;
use crate::model::{Declared, Extent};

fn ints(name: &str, values: &[i64]) -> Constant {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Constant::new(name, Element::INT64, &[values.len()], &bytes)
}

fn input(name: &str, shape: &[usize]) -> Declared {
    let shape = shape.iter().map(|n| Extent::Known(*n)).collect();
    Declared { name: name.to_owned(), element: Some(Element::FLOAT), shape: Some(shape) }
}

fn node(op: &str, inputs: &[&str], outputs: usize, attributes: &[(&str, Attribute)]) -> Node {
    Node {
        name: op.to_owned(),
        op: op.to_owned(),
        domain: STANDARD.to_owned(),
        inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
        outputs: (0..outputs).map(|i| format!("y{i}")).collect(),
        attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
    }
}

/// A node over `a`, `b`, `c` of these shapes and the constants `i`, `j`, `k`.
fn infer(opset: i64, shapes: &[&[usize]], constants: &[&[i64]], node: Node) -> Types {
    Types::of(&OnnxFile {
        opsets: [(STANDARD.to_owned(), opset)].into(),
        inputs: ["a", "b", "c"].iter().zip(shapes).map(|(name, shape)| input(name, shape)).collect(),
        initializers: ["i", "j", "k", "l"].iter().zip(constants).map(|(name, values)| ints(name, values)).collect(),
        nodes: vec![node],
        ..OnnxFile::default()
    })
}

/// Shapes of the results.
fn shapes(opset: i64, inputs: &[&[usize]], constants: &[&[i64]], node: Node) -> Vec<Vec<usize>> {
    let types = infer(opset, inputs, constants, node.clone());
    assert_eq!((&types.unknown, &types.wrong), (&vec![], &vec![]), "{}", node.op);
    node.outputs.iter().map(|y| types.shape(y).expect("inferred").to_vec()).collect()
}

fn int(name: &'static str, value: i64) -> (&'static str, Attribute) {
    (name, Attribute::Int(value))
}

fn list(name: &'static str, values: &[i64]) -> (&'static str, Attribute) {
    (name, Attribute::Ints(values.to_vec()))
}

/// Inputs, constants, a node and what it makes.
type Case = (&'static [&'static [usize]], &'static [&'static [i64]], Node, Vec<usize>);

const X: &[usize] = &[2, 3, 5];

#[test]
fn shapes_follow_from_arguments_and_attributes() {
    let cases: Vec<Case> = vec![
        (&[&[4, 1, 3], &[5, 3]], &[], node("Add", &["a", "b"], 1, &[]), vec![4, 5, 3]),
        (&[&[3], &[4, 3], &[4, 1]], &[], node("Where", &["a", "b", "c"], 1, &[]), vec![4, 3]),
        (&[&[7, 2, 3], &[3, 5]], &[], node("MatMul", &["a", "b"], 1, &[]), vec![7, 2, 5]),
        (&[&[7, 1, 2, 3], &[6, 3, 5]], &[], node("MatMul", &["a", "b"], 1, &[]), vec![7, 6, 2, 5]),
        (&[&[3], &[3, 5]], &[], node("MatMul", &["a", "b"], 1, &[]), vec![5]),
        (&[&[2, 3], &[3]], &[], node("MatMul", &["a", "b"], 1, &[]), vec![2]),
        (&[&[2, 3], &[5, 3], &[5]], &[], node("Gemm", &["a", "b", "c"], 1, &[int("transB", 1)]), vec![2, 5]),
        (&[&[3, 2], &[3, 5]], &[], node("Gemm", &["a", "b"], 1, &[int("transA", 1)]), vec![2, 5]),
        (
            &[&[1, 4, 11], &[6, 4, 3]],
            &[],
            node("Conv", &["a", "b"], 1, &[list("strides", &[2]), list("pads", &[1, 1])]),
            vec![1, 6, 6],
        ),
        (
            &[&[1, 4, 9, 8], &[6, 2, 3, 1]],
            &[],
            node("Conv", &["a", "b"], 1, &[int("group", 2), list("dilations", &[2, 1])]),
            vec![1, 6, 5, 8],
        ),
        (&[X], &[], node("Transpose", &["a"], 1, &[list("perm", &[1, 2, 0])]), vec![3, 5, 2]),
        (&[X], &[], node("Transpose", &["a"], 1, &[]), vec![5, 3, 2]),
        (&[X], &[&[0, -1]], node("Reshape", &["a", "i"], 1, &[]), vec![2, 15]),
        (&[X], &[&[5, 1, 6]], node("Reshape", &["a", "i"], 1, &[]), vec![5, 1, 6]),
        (&[&[0, 3]], &[&[3, 0]], node("Reshape", &["a", "i"], 1, &[int("allowzero", 1)]), vec![3, 0]),
        (&[X], &[], node("Flatten", &["a"], 1, &[int("axis", 2)]), vec![6, 5]),
        (&[X, &[2, 4, 5]], &[], node("Concat", &["a", "b"], 1, &[int("axis", -2)]), vec![2, 7, 5]),
        (&[X], &[&[1], &[i64::MAX], &[-1]], node("Slice", &["a", "i", "j", "k"], 1, &[]), vec![2, 3, 4]),
        (&[X], &[&[-1], &[i64::MIN], &[2], &[-2]], node("Slice", &["a", "i", "j", "k", "l"], 1, &[]), vec![2, 3, 3]),
        (&[X, &[4, 7]], &[], node("Gather", &["a", "b"], 1, &[int("axis", 1)]), vec![2, 4, 7, 5]),
        (&[X], &[&[0, -1]], node("Unsqueeze", &["a", "i"], 1, &[]), vec![1, 2, 3, 5, 1]),
        (&[&[1, 3, 1]], &[&[-1]], node("Squeeze", &["a", "i"], 1, &[]), vec![1, 3]),
        (&[&[1, 3, 1]], &[], node("Squeeze", &["a"], 1, &[]), vec![3]),
        (&[&[3, 1]], &[&[2, 1, 4]], node("Expand", &["a", "i"], 1, &[]), vec![2, 3, 4]),
        (&[&[3, 2]], &[&[2, 4]], node("Tile", &["a", "i"], 1, &[]), vec![6, 8]),
        (&[&[3, 2]], &[&[1, 0, 2, 4]], node("Pad", &["a", "i"], 1, &[]), vec![6, 6]),
        (&[X], &[&[1]], node("ReduceMean", &["a", "i"], 1, &[]), vec![2, 1, 5]),
        (&[X], &[], node("ReduceMean", &["a"], 1, &[list("axes", &[-1]), int("keepdims", 0)]), vec![2, 3]),
        (&[X], &[], node("ReduceSum", &["a"], 1, &[int("keepdims", 0)]), vec![]),
        (&[X], &[], node("ReduceSum", &["a"], 1, &[int("noop_with_empty_axes", 1)]), vec![2, 3, 5]),
        (&[X], &[], node("ArgMax", &["a"], 1, &[int("axis", 2), int("keepdims", 0)]), vec![2, 3]),
        (&[X], &[], node("Shape", &["a"], 1, &[int("start", 1)]), vec![2]),
        (
            &[&[2, 3], &[4, 3]],
            &[],
            node("Einsum", &["a", "b"], 1, &[("equation", Attribute::Text("ij, kj -> ki".to_owned()))]),
            vec![4, 2],
        ),
    ];
    for (inputs, constants, node, expected) in cases {
        let found = shapes(20, inputs, constants, node.clone());
        assert_eq!(found, [expected], "{} of {inputs:?}, {constants:?}", node.op);
    }
    assert_eq!(shapes(13, &[&[2, 7]], &[&[3, 4]], node("Split", &["a", "i"], 2, &[int("axis", 1)])), [[2, 3], [2, 4]]);
    assert_eq!(shapes(18, &[&[7]], &[], node("Split", &["a"], 2, &[int("num_outputs", 2)])), [[4], [3]]);
    let attributes = [list("axes", &[1]), list("starts", &[1]), list("ends", &[-1])];
    assert_eq!(shapes(9, &[&[2, 7]], &[], node("Slice", &["a"], 1, &attributes)), [[2, 5]]);
    assert_eq!(shapes(17, &[X], &[], node("LayerNormalization", &["a"], 2, &[])), [vec![2, 3, 5], vec![2, 3, 1]]);
    assert_eq!(shapes(11, &[X], &[&[2]], node("TopK", &["a", "i"], 2, &[])), [[2, 3, 2], [2, 3, 2]]);
}

#[test]
fn arguments_that_do_not_fit_are_told_and_make_no_shape() {
    for (inputs, constants, node, expected) in [
        (&[&[2, 3][..], &[4, 5]][..], &[][..], node("MatMul", &["a", "b"], 1, &[]), "MatMul of [2, 3] and [4, 5]"),
        (&[&[2, 3], &[4]], &[], node("Add", &["a", "b"], 1, &[]), "[2, 3] and [4] do not broadcast"),
        (&[&[2, 3]], &[&[4, -1][..]], node("Reshape", &["a", "i"], 1, &[]), "Reshape of [2, 3] to [4, -1]"),
        (&[&[2, 3]], &[&[5]], node("Reshape", &["a", "i"], 1, &[]), "Reshape of [2, 3] to [5]"),
        (&[&[2, 3]], &[&[0]], node("Squeeze", &["a", "i"], 1, &[]), "Squeeze of [2, 3] at 0"),
        (&[&[2, 3]], &[], node("Transpose", &["a"], 1, &[list("perm", &[0, 0])]), "Transpose of [2, 3] by [0, 0]"),
        (&[&[2, 3]], &[], node("Gather", &["a", "a"], 1, &[int("axis", 2)]), "axis 2 of a tensor of rank 2"),
        (
            &[&[2, 3], &[2, 4]],
            &[],
            node("Concat", &["a", "b"], 1, &[int("axis", 0)]),
            "Concat of [2, 3] and [2, 4] on axis 0",
        ),
        (
            &[&[2, 3], &[5, 4]],
            &[],
            node("Gemm", &["a", "b"], 1, &[int("transB", 1)]),
            "Gemm of rows of 3 and columns of 4",
        ),
        (
            &[&[2]],
            &[&[1], &[2], &[0], &[0]],
            node("Slice", &["a", "i", "j", "k", "l"], 1, &[]),
            "Slice with steps of 0",
        ),
        (&[&[1 << 40]], &[&[1 << 40]], node("Tile", &["a", "i"], 1, &[]), "an extent of 1099511627776 · 1099511627776"),
        (&[&[2, 3]], &[], node("Add", &["a"], 1, &[]), ""),
        (&[&[2, 3]], &[], node("MatMul", &["a"], 1, &[]), "MatMul lacks its input 1"),
    ] {
        let types = infer(20, inputs, constants, node.clone());
        let why: Vec<&str> = types.wrong.iter().map(|wrong| wrong.why.as_str()).collect();
        let expected: Vec<&str> = Some(expected).filter(|text| !text.is_empty()).into_iter().collect();
        assert_eq!(why, expected, "{}", node.op);
        assert_eq!(types.shape("y0").is_none(), !expected.is_empty(), "{}", node.op);
    }
}

#[test]
fn the_unknown_is_told_where_it_begins_and_counted_where_it_goes_on() {
    let mut range = node("Range", &["i", "j", "k"], 1, &[]);
    range.outputs = vec!["r".to_owned()];
    let mut negated = node("Neg", &["r"], 1, &[]);
    negated.outputs = vec!["n".to_owned()];
    let reshaped = node("Reshape", &["a", "b"], 1, &[]);
    let mut model = OnnxFile {
        opsets: [(STANDARD.to_owned(), 20)].into(),
        inputs: vec![input("a", &[6]), Declared { element: Some(Element::INT64), ..input("b", &[2]) }],
        initializers: ["i", "j", "k"].map(|name| ints(name, &[1])).to_vec(),
        nodes: vec![range, negated, reshaped],
        ..OnnxFile::default()
    };
    let types = Types::of(&model);
    let told: Vec<(Option<usize>, &str)> = types.unknown.iter().map(|u| (u.node, u.value.as_str())).collect();
    assert_eq!((told, types.following), (vec![(Some(0), "r"), (Some(2), "y0")], 1));
    assert_eq!(types.unknown[1].why, "b, which Reshape goes by, is not constant");
    assert_eq!(types.element("n"), Some(Element::INT64));
    // What the file declares counts where nothing can be inferred, and is wrong where something else can.
    model.values = vec![Declared { element: Some(Element::INT64), ..input("r", &[4]) }, input("y0", &[2, 3])];
    let types = Types::of(&model);
    assert_eq!((&types.unknown, &types.wrong, types.following), (&vec![], &vec![], 0));
    assert_eq!([types.shape("n"), types.shape("y0")], [Some(&[4][..]), Some(&[2, 3])]);
    model.values.push(Declared { element: Some(Element::INT64), ..input("n", &[5]) });
    assert_eq!(Types::of(&model).wrong[0].why, "declared as [5], but Neg makes [4]");
    model.values[2] = input("n", &[4]);
    assert_eq!(Types::of(&model).wrong[0].why, "declared as float, but Neg makes int64");
    // An input whose declared length is a symbol.
    model.inputs[0].shape = Some(vec![Extent::Symbol("n".to_owned())]);
    let types = Types::of(&model);
    assert_eq!((types.unknown[0].node, types.unknown[0].value.as_str()), (None, "a"));
}

#[test]
fn types_of_elements_follow_too() {
    let of = |node: Node| infer(21, &[&[2], &[2]], &[&[1]], node).element("y0");
    assert_eq!(of(node("Cast", &["a"], 1, &[int("to", 6)])), Some(Element::INT32));
    assert_eq!(of(node("Less", &["a", "b"], 1, &[])), Some(Element::BOOL));
    assert_eq!(of(node("Where", &["i", "a", "b"], 1, &[])), Some(Element::FLOAT));
    assert_eq!(of(node("Shape", &["a"], 1, &[])), Some(Element::INT64));
    assert_eq!(of(node("QuantizeLinear", &["a", "b"], 1, &[])), Some(Element::UINT8));
    assert_eq!(of(node("QuantizeLinear", &["a", "b"], 1, &[int("output_dtype", 4)])), Some(Element::UINT16));
    assert_eq!(of(node("QuantizeLinear", &["a", "b", "i"], 1, &[])), Some(Element::INT64), "the zero's");
    assert_eq!(of(node("DequantizeLinear", &["i", "a"], 1, &[])), Some(Element::FLOAT));
    assert_eq!(of(node("Mul", &["i", "i"], 1, &[])), Some(Element::INT64));
}
