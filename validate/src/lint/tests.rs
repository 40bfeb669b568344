//! What the graphs of `tests/it/lint.rs` do not have.

use std::collections::BTreeSet;

use converters::export::npu::profile;
use converters::export::onnx::{Attribute, Constant, Declared, Element, Extent, STANDARD};

use converters::export::onnx::Node;

use super::*;

/// A graph of one input `x`, written a node a line: `op result: arguments`.
struct Sketch(OnnxFile);

impl Sketch {
    fn new(shape: &[usize], lines: &str) -> Sketch {
        let shape = Some(shape.iter().map(|n| Extent::Known(*n)).collect());
        let nodes = lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
            let (call, arguments) = line.split_once(':').expect("arguments");
            let (op, result) = call.split_once(' ').expect("a result");
            let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            Node {
                name: result.to_owned(),
                op: op.to_owned(),
                domain: STANDARD.to_owned(),
                inputs: names(arguments),
                outputs: names(result),
                ..Node::default()
            }
        });
        Sketch(OnnxFile {
            opsets: [(STANDARD.to_owned(), 21)].into(),
            nodes: nodes.collect(),
            inputs: vec![Declared { name: "x".to_owned(), element: Some(Element::FLOAT), shape }],
            outputs: vec![Declared { name: "y".to_owned(), element: Some(Element::FLOAT), shape: None }],
            ..OnnxFile::default()
        })
    }

    fn constant(mut self, name: &str, element: Element, dims: &[usize], bytes: &[u8]) -> Sketch {
        self.0.initializers.push(Constant::new(name, element, dims, bytes));
        self
    }

    fn floats(self, name: &str, dims: &[usize], values: &[f32]) -> Sketch {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.constant(name, Element::FLOAT, dims, &bytes)
    }

    /// uint16 from -4 to 4 as `s`, `z`.
    fn steps(self) -> Sketch {
        self.floats("s", &[], &[8.0 / 65535.0]).constant("z", Element::UINT16, &[], &32768u16.to_le_bytes())
    }

    fn attribute(mut self, node: &str, name: &str, value: Attribute) -> Sketch {
        let node = self.0.nodes.iter_mut().find(|n| n.name == node).expect("a node of that name");
        node.attributes.insert(name.to_owned(), value);
        self
    }

    /// Zeros of int4 for the weight.
    fn zeros(mut self, dims: &[usize], bytes: usize) -> Sketch {
        self.0.nodes.iter_mut().find(|node| node.name == "wd").expect("there").inputs.push("wz".to_owned());
        self.constant("wz", Element::INT4, dims, &vec![0; bytes])
    }

    fn rules(&self, name: &str) -> Vec<&'static str> {
        self.seeing(name, None)
    }

    fn seeing(&self, name: &str, evidence: Option<Evidence>) -> Vec<&'static str> {
        let subject = Subject::new(&self.0, profile(name).expect("known"), evidence).expect("in memory");
        let mut rules = BTreeSet::new();
        for rule in RULES {
            let mut founds = Founds::new();
            match rule.check {
                Graph(check) => check(&subject, &mut founds),
                Numbers(check) => check(&subject, &mut founds).expect("in memory"),
                Together => together::past_and_present(&subject, None, &mut founds),
            }
            let applies = subject.profile.level(rule.id, rule.severity).is_some() && rule.id != "R0";
            rules.extend(founds.first().filter(|_| applies).map(|_| rule.id));
        }
        rules.into_iter().collect()
    }
}

/// `x -> codes -> op(x, w) -> codes -> y`
fn layer(op: &str, shape: &[usize], w: Element, w_dims: &[usize], w_bytes: usize, scales: usize, axis: i64) -> Sketch {
    let lines = format!(
        "QuantizeLinear xq: x s z\nDequantizeLinear xd: xq s z\nDequantizeLinear wd: w ws\n{op} p: xd wd\n\
         QuantizeLinear pq: p s z\nDequantizeLinear y: pq s z"
    );
    let scale_dims: &[usize] = if scales == 1 { &[] } else { &[scales] };
    let sketch = Sketch::new(shape, &lines)
        .steps()
        .constant("w", w, w_dims, &vec![0x11; w_bytes])
        .floats("ws", scale_dims, &vec![0.05; scales])
        .attribute("wd", "axis", Attribute::Int(axis));
    if w == Element::INT4 { sketch.zeros(scale_dims, scales.div_ceil(2)) } else { sketch }
}

#[test]
fn scales_of_a_weight_lie_on_the_axis_of_its_layer() {
    let a16 = "qnn-htp-a16w8";
    let matmul = |axis, scales| layer("MatMul", &[6, 4], Element::INT8, &[4, 8], 32, scales, axis);
    assert_eq!(matmul(1, 8).rules(a16), [""; 0]);
    assert_eq!(matmul(-1, 8).rules(a16), [""; 0]);
    assert_eq!(matmul(0, 4).rules(a16), ["Q4"]);
    let gemm = |axis, scales| layer("Gemm", &[6, 4], Element::INT8, &[4, 8], 32, scales, axis);
    assert_eq!(gemm(1, 8).rules(a16), [""; 0]);
    assert_eq!(gemm(0, 4).rules(a16), ["Q4"]);
    let conv = |element, bytes, axis, scales| layer("Conv", &[1, 4, 6, 1], element, &[8, 4, 1, 1], bytes, scales, axis);
    assert_eq!(conv(Element::INT8, 32, 0, 8).rules(a16), [""; 0]);
    assert_eq!(conv(Element::INT8, 32, 1, 4).rules(a16), ["Q4"]);
    assert_eq!(conv(Element::INT4, 16, 0, 8).rules(a16), [""; 0]);
    assert_eq!(conv(Element::INT4, 16, 0, 1).rules(a16), ["Q4-channels"]);
    let mut bare = conv(Element::INT4, 16, 0, 8);
    bare.0.nodes.iter_mut().find(|node| node.name == "wd").expect("there").inputs.truncate(2);
    assert_eq!(bare.rules(a16), ["Q4-nibbles"]);
}

#[test]
fn block_scales_need_activations_of_16_bits() {
    let blocks = layer("MatMul", &[6, 4], Element::INT4, &[4, 8], 16, 16, 0);
    let mut blocks = blocks.attribute("wd", "block_size", Attribute::Int(2));
    blocks.0.initializers.retain(|constant| constant.name != "ws" && constant.name != "wz");
    let blocks = blocks.floats("ws", &[2, 8], &[0.05; 16]).constant("wz", Element::INT4, &[2, 8], &[0; 8]);
    assert_eq!(blocks.rules("qnn-htp-a16w8"), [""; 0]);
    let mut narrow = blocks;
    narrow.0.initializers.retain(|constant| constant.name != "z");
    let narrow = narrow.constant("z", Element::UINT8, &[], &[128]);
    assert_eq!(narrow.rules("qnn-htp-a8w8"), ["Q4"]);
}

#[test]
fn a_bias_needs_no_codes_and_a_scale_that_is_computed_is_told() {
    let biased = layer("Gemm", &[6, 4], Element::INT8, &[4, 8], 32, 8, 1).floats("b", &[8], &[0.5; 8]);
    let mut biased = biased;
    biased.0.nodes.iter_mut().find(|node| node.op == "Gemm").expect("there").inputs.push("b".to_owned());
    // Accepted by the HTP simulator (84 dB).
    assert_eq!(biased.rules("qnn-htp-a16w8"), [""; 0]);
    let dynamic = Sketch::new(
        &[6, 4],
        "ReduceMax m: x\nQuantizeLinear xq: x m z\nDequantizeLinear xd: xq m z\nRelu r: xd\nQuantizeLinear rq: r s z\nDequantizeLinear y: rq s z",
    );
    assert_eq!(dynamic.steps().rules("qnn-htp-a16w8"), ["Q1"]);
}

#[test]
fn float_islands_between_codes_are_whole() {
    let island = "QuantizeLinear xq: x s z\nDequantizeLinear xd: xq s z\nPow p: xd two\nReduceMean m: p\nAdd a: m eps\n\
                  Sqrt r: a\nReciprocal i: r\nMul d: xd i\nMul n: d g\nQuantizeLinear nq: n s z\nDequantizeLinear y: nq s z";
    let island = Sketch::new(&[6, 4], island).steps().floats("two", &[], &[2.0]).floats("eps", &[], &[1e-6]);
    let island = island.floats("g", &[4], &[1.0; 4]);
    assert_eq!(island.rules("qnn-htp-a16w8"), [""; 0]);
    // The same with codes for the gain alone.
    let mut lone = island;
    lone.0.nodes.insert(
        0,
        Node {
            inputs: ["gq", "gs"].map(str::to_owned).to_vec(),
            outputs: vec!["gd".to_owned()],
            ..lone.0.nodes[1].clone()
        },
    );
    lone.0.nodes[0].name = "gd".to_owned();
    lone.0.nodes.iter_mut().find(|node| node.name == "n").expect("there").inputs[1] = "gd".to_owned();
    let lone = lone.constant("gq", Element::UINT8, &[4], &[9; 4]).floats("gs", &[], &[0.1]);
    assert_eq!(lone.rules("qnn-htp-a16w8"), ["Q7-partial"]);
}

/// Scores with codes from -4 to 4 of `p`, and a sum of which codes of 16 bits reach down to `low`.
fn masked(sum: &str, low: f32) -> Sketch {
    // `k` is as large as a mask, but it scales; `c` caps.
    let lines = format!(
        "MatMul p: x x\nMul t: p k\nDiv d: t c\nTanh h: d\nMul e: h c\nQuantizeLinear eq: e s z\n\
         DequantizeLinear ed: eq s z\n{sum}\nQuantizeLinear aq: a as az\nDequantizeLinear ad: aq as az\nSoftmax y: ad"
    );
    let scale = (4.0 - low) / 65535.0;
    let zero = ((-low / scale).round() as u16).to_le_bytes();
    let sketch = Sketch::new(&[4, 4], &lines).steps().floats("k", &[], &[1000.0]).floats("c", &[], &[500.0]);
    sketch.floats("as", &[], &[scale]).constant("az", Element::UINT16, &[], &zero)
}

#[test]
fn a_mask_may_reach_as_far_as_it_likes_where_codes_of_the_sum_do_not() {
    let is_found = |sketch: Sketch| sketch.rules("qnn-htp-a16w8").contains(&"S8-mask");
    let scores = |mask: f32, low: f32| is_found(masked("Add a: ed m", low).floats("m", &[4], &[0.0, mask, 0.0, 0.0]));
    assert_eq!([-100.0, -101.5, -1e4].map(|mask| scores(mask, mask - 4.0)), [false, true, true]);
    assert_eq!([-101.5, -1e4].map(|mask| scores(mask, -4.0)), [false, false], "they saturate");
    // Chosen instead of added.
    let chosen = |low: f32| {
        let chosen = masked("Where a: b ed m", low).floats("m", &[], &[-1e4]);
        is_found(chosen.constant("b", Element::BOOL, &[4], &[1, 0, 1, 1]))
    };
    assert_eq!([-1e4, -4.0].map(chosen), [true, false]);
    // In floats no steps are lost.
    let float = Sketch::new(&[4, 4], "MatMul p: x x\nAdd a: p m\nSoftmax y: a");
    assert!(!is_found(float.floats("m", &[4], &[0.0, -1e4, 0.0, 0.0])));
}

#[test]
fn codes_reach_as_low_as_scores_with_their_bias_do() {
    let is_found = |sketch: &Sketch| sketch.rules("qnn-htp-a16w8").contains(&"S8-mask");
    // Scores from -4 and a bias from -130 leave no less than -134.
    let sum = "Add b: ed bias\nAdd a: b m";
    let biased = |low: f32| {
        let sketch = masked(sum, low).floats("bias", &[4], &[0.0, -50.0, -90.0, -130.0]);
        is_found(&sketch.floats("m", &[4], &[0.0, 0.0, 0.0, -600.0]))
    };
    assert_eq!([-134.0, -150.0, -160.0, -734.0].map(biased), [false, false, true, true]);
    // A mask with a bias in it takes the steps of the bias, wherever the sum ends.
    let mixed = |own_low: f32| {
        let sum = "QuantizeLinear mq: m ms mz\nDequantizeLinear md: mq ms mz\nAdd a: ed md";
        let sketch = masked(sum, -20.0).floats("m", &[4], &[0.0, -3.0, -7.0, -1e4]);
        let sketch = sketch.floats("ms", &[], &[-own_low / 65535.0]);
        is_found(&sketch.constant("mz", Element::UINT16, &[], &u16::MAX.to_le_bytes()))
    };
    assert_eq!([-100.0, -1e4].map(mixed), [false, true]);
}

#[test]
fn scores_in_floats_reach_as_far_as_calibration_saw() {
    let sketch = Sketch::new(
        &[4, 4],
        "MatMul p: x x\nAdd a: p m\nQuantizeLinear aq: a s z\nDequantizeLinear ad: aq s z\nSoftmax y: ad",
    );
    let sketch =
        sketch.floats("s", &[], &[400.0 / 65535.0]).constant("z", Element::UINT16, &[], &32768u16.to_le_bytes());
    let sketch = sketch.floats("m", &[4], &[0.0, 0.0, 0.0, -400.0]);
    let found = |min: f32| {
        let range = converters::export::npu::Range { min, max: 190.0 };
        let evidence = Evidence { samples: 1, values: [("p".to_owned(), range)].into() };
        sketch.seeing("qnn-htp-a16w8", Some(evidence)).contains(&"S8-mask")
    };
    assert_eq!([-190.0, -90.0].map(found), [false, true]);
    assert!(sketch.rules("qnn-htp-a16w8").contains(&"S8-mask"), "without evidence");
}

#[test]
fn gelu_is_a_formula_and_not_its_parts() {
    let formula = "Mul d: x k\nErf e: d\nAdd a: e one\nMul m: x a\nMul y: m half";
    let with = |formula: &str, k: f32, one: f32| {
        let sketch = Sketch::new(&[6, 4], formula).floats("k", &[], &[k]).floats("one", &[], &[one]);
        sketch.floats("half", &[], &[0.5]).rules("npu-portable").contains(&"O2")
    };
    let root = std::f32::consts::FRAC_1_SQRT_2;
    assert!(!with(formula, root, 1.0));
    assert!(with(formula, 1.0, 1.0) && with(formula, root, 2.0));
    assert!(with(&formula.replace("Mul m: x a", "Sub m: x a"), root, 1.0));
}

#[test]
fn names_without_npu_json_are_matched_by_their_words() {
    let mut file = Sketch::new(
        &[1, 4],
        "Relu y: x\nRelu present.0.decoder.key: past_key_values.0.decoder.key\nRelu k_cache_self_0_out: k_cache_self_0_in",
    );
    let port = |name: &str, extent: usize| Declared {
        name: name.to_owned(),
        element: Some(Element::FLOAT),
        shape: Some([2, 5, extent].map(Extent::Known).to_vec()),
    };
    file.0.inputs.push(port("past_key_values.0.decoder.key", 7));
    file.0.outputs.push(port("present.0.decoder.key", 7));
    let rules = |file: &Sketch| file.rules("npu-portable").contains(&"S12");
    assert!(!rules(&file));
    file.0.outputs[1].name = "present.1.decoder.key".to_owned();
    assert!(rules(&file));
}
