use std::fs;

use ort::logging::LogLevel;

use super::device::Refused;
use super::*;
use crate::runtime::npu::Codes;

#[test]
fn each_soc_model_is_a_run_of_its_own_and_one_is_the_default() {
    let of = |socs: &[u32]| {
        let runs = Htp.runs_of(&Options { soc_models: socs.to_vec(), threads: 3, ..Options::DEFAULT });
        assert!(runs.iter().all(|(_, options)| options.threads == 3));
        runs.into_iter().map(|(called, options)| (called, options.soc_models)).collect::<Vec<_>>()
    };
    assert_eq!(of(&[]), [("htp-simulator (soc 60)".to_owned(), vec![60])]);
    let expected = [57, 69].map(|soc| (format!("htp-simulator (soc {soc})"), vec![soc]));
    assert_eq!(of(&[57, 69]), expected);
}

#[test]
fn chips_after_the_first_run_a_few_samples() {
    let of = |simulated_samples: Option<usize>| {
        let runs = Htp.runs_of(&Options { soc_models: vec![57, 69], simulated_samples, ..Options::DEFAULT });
        runs.into_iter().map(|(_, options)| options.simulated_samples).collect::<Vec<_>>()
    };
    assert_eq!(of(None), [None, Some(FURTHER_SAMPLES)]);
    assert_eq!(of(Some(200)), [Some(200), Some(FURTHER_SAMPLES)]);
    assert_eq!(of(Some(4)), [Some(4), Some(4)]);
}

/// Messages of onnxruntime-qnn 2.7.0 about a graph in which a product of uint16 codes has a result of uint8 codes.
const LOG: [(LogLevel, &str); 4] = [
    (
        LogLevel::Verbose,
        "Validation PASSED for 1 nodes in OrtNodeUnit (DequantizeLinear) :\n\tOperator type: DequantizeLinear Node name: \
         n_Mul Node index: 195\n",
    ),
    (
        LogLevel::Verbose,
        "Validation FAILED for 1 nodes in OrtNodeUnit (DequantizeLinear) :\n\tOperator type: DequantizeLinear Node name: \
         n_134 Node index: 61\n\tREASON : QNN EP does not support a standalone DQ op with per-channel quantization\n",
    ),
    (
        LogLevel::Verbose,
        "Validation FAILED for 1 nodes in OrtNodeUnit (DequantizeLinear) :\n\tOperator type: DequantizeLinear Node name: \
         n_114 Node index: 53\n\tREASON : QNN EP does not support a standalone DQ op with per-channel quantization\n",
    ),
    (LogLevel::Error, "Unsupported nodes in QNN EP: { name: n_114, type: DequantizeLinear }"),
];

#[test]
fn refused_nodes_are_told_by_reason_once_each() {
    let mut refused = Refused::default();
    // The provider asks twice.
    for (level, message) in LOG.into_iter().chain(LOG) {
        refused.hear(level, message);
    }
    assert_eq!(
        refused.told("nodes on the CPU"),
        "nodes on the CPU\n  DequantizeLinear: QNN EP does not support a standalone DQ op with per-channel quantization \
         (n_114, n_134)"
    );
    let mut refused = Refused::default();
    refused.hear(LogLevel::Error, "Failed to finalize QNN graph. ");
    refused.hear(LogLevel::Error, "Failed to finalize QNN graph. ");
    refused.hear(LogLevel::Warning, "slow");
    assert_eq!(refused.told("no session"), "no session\n  Failed to finalize QNN graph.");
}

/// An ONNX file: nodes `(operator, inputs, output)` from `x` to `y`, both float32[1, 4].
fn onnx(nodes: &[(&str, &[&str], &str)]) -> Vec<u8> {
    fn varint(mut n: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    }
    let bytes = |field: usize, data: &[u8]| [varint(field << 3 | 2), varint(data.len()), data.to_vec()].concat();
    let number = |field: usize, n: usize| [varint(field << 3), varint(n)].concat();
    let node = |(i, (operator, inputs, output)): (usize, &(&str, &[&str], &str))| {
        let mut node: Vec<u8> = inputs.iter().flat_map(|input| bytes(1, input.as_bytes())).collect();
        node.extend(bytes(2, output.as_bytes()));
        node.extend(bytes(3, format!("{operator}_{i}").as_bytes()));
        node.extend(bytes(4, operator.as_bytes()));
        bytes(1, &node)
    };
    let value = |name: &str| {
        let shape: Vec<u8> = [1, 4].into_iter().flat_map(|n| bytes(1, &number(1, n))).collect();
        let ty = bytes(1, &[number(1, 1), bytes(2, &shape)].concat());
        [bytes(1, name.as_bytes()), bytes(2, &ty)].concat()
    };
    let mut graph: Vec<u8> = nodes.iter().enumerate().flat_map(node).collect();
    graph.extend(bytes(2, b"g"));
    graph.extend([bytes(11, &value("x")), bytes(12, &value("y"))].concat());
    [number(1, 8), bytes(8, &number(2, 17)), bytes(7, &graph)].concat()
}

#[test]
#[ignore = "needs onnxruntime-qnn in $VIRTUAL_ENV"]
fn chips_stand_side_by_side_and_a_refused_node_is_named_with_its_reason() {
    let home = tempfile::tempdir().expect("temporary folder");
    let provider = library::load(&Options::DEFAULT).expect("installed");
    let file = home.path().join("graph.onnx");
    fs::write(&file, onnx(&[("Relu", &["x"], "a"), ("Add", &["a", "x"], "b"), ("Tanh", &["b"], "y")]))
        .expect("written");
    let x = Value { shape: vec![1, 4], codes: Codes::Float32(vec![-1.0, -0.5, 0.25, 1.0]) };
    let mut graphs: Vec<(HtpGraph, &str)> = [(60, "SC8380XP (v73)"), (57, "SM8650 (v75)"), (69, "SM8750 (v79)")]
        .map(|(soc_model, chip)| {
            let device = Device { provider: provider.clone(), soc_model };
            (HtpGraph::open(&device, &file).expect("all of it is supported"), chip)
        })
        .into();
    for (graph, chip) in &mut graphs {
        assert_eq!(graph.nodes, BTreeMap::from([(EP.to_owned(), 3)]));
        let y = graph.run(&[("x", &x)], &["y"]).expect("runs").remove(0);
        let Codes::Float32(y) = y.codes else { panic!("{y:?}") };
        for (found, expected) in y.iter().zip([-1.0_f32, -0.5, 0.5, 2.0].map(f32::tanh)) {
            // Its floats are of 16 bits.
            assert!((found - expected).abs() <= 2e-3, "{found}, expected {expected}");
        }
        let context = reloaded(&graph.device, &graph.file, graph.last.as_ref().expect("it ran")).expect("equal");
        assert_eq!(context.chip, *chip);
    }

    let refused = home.path().join("refused.onnx");
    fs::write(&refused, onnx(&[("Relu", &["x"], "a"), ("Erf", &["a"], "y")])).expect("written");
    let device = Device { provider, soc_model: SOC_MODEL };
    let error = HtpGraph::open(&device, &refused).err().expect("nothing runs on the CPU").to_string();
    assert!(error.contains("refused.onnx: ") && error.contains("Erf") && error.contains("Erf_1"), "{error}");
    println!("{error}");
}
