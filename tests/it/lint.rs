//! `trefoil lint`: good graphs of every profile are clean, and each fault is found by its rule and by no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use converters::Format;
use converters::export::npu::{
    EVIDENCE_FILE, Evidence, HOST_FILE, Host, Npu, PROFILES, Profile, Range, Severity, profile,
};
use converters::export::onnx::Onnx;
use converters::import;
use serde_json::Value;
use validate::lint::{Finding, RULES, graphs, lint, table};

use crate::cli::{bless_or_compare, code, run, text};
use crate::fixture::{fixture, npu_fixtures, repository};
#[cfg(target_os = "linux")]
use crate::hostile::peak_bytes;
use crate::npu_graph::{Update, decoder, encoder};
use crate::onnx_file::{
    Attribute, DOUBLE, FLOAT, File, INT4, INT8, INT16, INT64, Node, Port, Tensor, UINT4, UINT8, UINT16,
};

fn named(name: &str) -> &'static Profile {
    profile(name).unwrap_or_else(|| panic!("{name} is no profile"))
}

/// A folder that stays for a look with other tools.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lint").join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("made");
    dir
}

/// Rules and severities of all findings but that about calibration.json, and the findings.
fn judged(files: &[PathBuf], profile: &'static Profile) -> (BTreeSet<(&'static str, Severity)>, Vec<Finding>) {
    let judged = lint(files, profile).unwrap_or_else(|e| panic!("{e}"));
    let findings: Vec<Finding> = judged.into_iter().flat_map(|judged| judged.findings).collect();
    let rules = findings.iter().filter(|finding| finding.rule != "R0");
    (rules.map(|finding| (finding.rule, finding.severity)).collect(), findings)
}

#[test]
fn good_graphs_of_every_profile_are_clean() {
    for profile in PROFILES {
        let dir = folder(&format!("good/{}", profile.name));
        let updates = match profile.writes.activations {
            Some(_) if profile.operator("ScatterElements").is_some() => &[Update::Concat, Update::Scatter][..],
            _ => &[Update::Concat],
        };
        for update in updates {
            let files = [
                encoder(profile).write(&dir, "encoder.onnx"),
                decoder(profile, *update)
                    .write(&dir, if *update == Update::Concat { "decoder.onnx" } else { "decoder_scatter.onnx" }),
            ];
            let (mut rules, findings) = judged(&files, profile);
            // Reading a table is the host's work there.
            if profile.name.starts_with("rknn") {
                assert!(rules.remove(&("O3", Severity::Warning)), "{}", profile.name);
            }
            assert!(rules.is_empty(), "{}: {findings:#?}", profile.name);
            assert_eq!(findings.iter().filter(|finding| finding.rule == "R0").count(), 2, "one a file");
        }
    }
}

#[test]
fn a_graph_of_8_bits_is_clean_for_intel_too() {
    let dir = folder("good/openvino-npu-u8");
    let rockchip = named("rknn-w8a8");
    let files =
        [encoder(rockchip).write(&dir, "encoder.onnx"), decoder(rockchip, Update::Concat).write(&dir, "decoder.onnx")];
    let (rules, findings) = judged(&files, named("openvino-npu"));
    assert!(rules.is_empty(), "{findings:#?}");
}

/// An encoder with a fault.
struct Fault {
    name: &'static str,
    profile: &'static str,
    /// Rules that find it.
    rules: &'static [&'static str],
    /// Whether it must fail.
    severity: Severity,
    make: fn(&mut File),
}

const fn error(
    name: &'static str,
    profile: &'static str,
    rules: &'static [&'static str],
    make: fn(&mut File),
) -> Fault {
    Fault { name, profile, rules, severity: Severity::Error, make }
}

const fn warning(
    name: &'static str,
    profile: &'static str,
    rules: &'static [&'static str],
    make: fn(&mut File),
) -> Fault {
    Fault { name, profile, rules, severity: Severity::Warning, make }
}

const PORTABLE: &str = "npu-portable";
const FP16: &str = "qnn-htp-fp16";
const A16: &str = "qnn-htp-a16w8";
const A8: &str = "qnn-htp-a8w8";
const INTEL: &str = "openvino-npu";

fn set(file: &mut File, tensor: &str, x: f32) {
    file.tensor(tensor).bytes = x.to_le_bytes().to_vec();
}

/// Multiplies a scale.
fn stretch(file: &mut File, tensor: &str, factor: f32) {
    let scales = file.tensor(tensor).bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes")));
    file.tensor(tensor).bytes = scales.collect::<Vec<_>>().iter().flat_map(|x| (x * factor).to_le_bytes()).collect();
}

fn retype(file: &mut File, tensor: &str, element: u64, bytes: &[u8]) {
    (file.tensor(tensor).element, file.tensor(tensor).bytes) = (element, bytes.to_vec());
}

fn attribute(file: &mut File, node: &str, key: &str, value: Attribute) {
    let node = file.node(node);
    node.attributes.retain(|(known, _)| known != key);
    node.attributes.push((key.to_owned(), value));
}

/// A node more, whose result the graph returns, so that no tool drops it.
fn push(file: &mut File, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)], dims: &[i64]) {
    let name = format!("more/{op}");
    let node = Node {
        op: op.to_owned(),
        name: name.clone(),
        inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
        outputs: vec![name.clone()],
        attributes: attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        ..Node::default()
    };
    file.nodes.push(node);
    file.outputs.push(Port { name, element: FLOAT, dims: dims.to_vec() });
}

fn constant(file: &mut File, name: &str, element: u64, dims: &[i64], bytes: &[u8]) {
    let (name, dims, bytes) = (name.to_owned(), dims.to_vec(), bytes.to_vec());
    file.tensors.push(Tensor { name, element, dims, bytes, external: Vec::new() });
}

/// Rounds a value on its way to all that read it.
fn round(file: &mut File, value: &str, element: u64, scale: f32, zero: &[u8]) {
    let [scale_name, zero_name] = ["scale", "zero"].map(|part| format!("more/{value}/{part}"));
    constant(file, &scale_name, FLOAT, &[], &scale.to_le_bytes());
    constant(file, &zero_name, element, &[], zero);
    let [codes, floats] = ["codes", "floats"].map(|part| format!("more/{value}/{part}"));
    for input in file.nodes.iter_mut().flat_map(|node| &mut node.inputs).filter(|input| *input == value) {
        *input = floats.clone();
    }
    let at = file.nodes.iter().position(|node| node.outputs[0] == value).expect("made");
    let node = |op: &str, from: &str, to: &str| Node {
        op: op.to_owned(),
        name: to.to_owned(),
        inputs: [from, &scale_name, &zero_name].map(str::to_owned).to_vec(),
        outputs: vec![to.to_owned()],
        ..Node::default()
    };
    file.nodes.insert(at + 1, node("QuantizeLinear", value, &codes));
    file.nodes.insert(at + 2, node("DequantizeLinear", &codes, &floats));
}

/// Divides by the root in place of multiplying with its reciprocal.
fn divide(file: &mut File, norm: &str) {
    file.nodes.retain(|node| node.name != format!("{norm}/Reciprocal"));
    let node = file.node(&format!("{norm}/x/Mul"));
    (node.op, node.inputs[1]) = ("Div".to_owned(), format!("{norm}/Sqrt"));
}

/// `wo` with weights of 4 bits and one scale.
fn int4(file: &mut File) {
    let codes: Vec<u8> = file.tensor("ffn/wo/weight").bytes.iter().map(|b| ((*b as i8) / 18) as u8 & 15).collect();
    retype(file, "ffn/wo/weight", INT4, &codes.chunks(2).map(|pair| pair[0] | pair[1] << 4).collect::<Vec<_>>());
    retype(file, "ffn/wo/weight/scale", FLOAT, &0.07f32.to_le_bytes());
    file.tensor("ffn/wo/weight/scale").dims.clear();
    constant(file, "ffn/wo/weight/zero", INT4, &[], &[0]);
    file.node("ffn/wo/weight/DequantizeLinear").inputs.push("ffn/wo/weight/zero".to_owned());
}

/// The same without a zero.
fn bare_int4(file: &mut File) {
    int4(file);
    file.node("ffn/wo/weight/DequantizeLinear").inputs.truncate(2);
}

const FAULTS: &[Fault] = &[
    error("a length that is a symbol", PORTABLE, &["S1"], |f| f.inputs[0].dims[1] = -1),
    error("a declared shape that the node does not make", PORTABLE, &["S1"], |f| {
        f.values.push(Port { name: "attention/scores/MatMul".to_owned(), element: FLOAT, dims: vec![2, 6, 7] });
    }),
    error("a batch of 2", PORTABLE, &["S1-batch"], |f| {
        f.inputs.push(Port { name: "segments".to_owned(), element: crate::onnx_file::INT32, dims: vec![2, 6] });
    }),
    error("a branch", PORTABLE, &["O1", "S1", "S2"], |f| {
        push(f, "If", &["attention_mask"], &[("then_branch", Attribute::Graph)], &[-1]);
    }),
    error("a function", PORTABLE, &["S2"], |f| f.functions.push("Block".to_owned())),
    error("five axes", PORTABLE, &["S3"], |f| {
        constant(f, "more/shape", INT64, &[5], &[1i64, 1, 1, 6, 10].map(i64::to_le_bytes).concat());
        push(f, "Reshape", &["ffn/residual/Add", "more/shape"], &[], &[1, 1, 1, 6, 10]);
    }),
    error("an input of six axes", A16, &["S3"], |f| {
        f.inputs.push(Port { name: "more".to_owned(), element: FLOAT, dims: vec![1; 6] });
    }),
    error("an opset that is too new", PORTABLE, &["S4"], |f| f.opset = 18),
    error("ids of 64 bits", PORTABLE, &["S5", "S7"], |f| f.inputs[0].element = INT64),
    error("a mask of truth values", PORTABLE, &["S5"], |f| f.inputs[1].element = crate::onnx_file::BOOL),
    error("two nodes of one name", PORTABLE, &["S6"], |f| {
        f.node("attention/scores/MatMul").name = "attention/Softmax".to_owned();
    }),
    warning("a node without a name", PORTABLE, &["S6-unnamed"], |f| f.node("attention/Softmax").name.clear()),
    error("an initializer that is an input", PORTABLE, &["S6"], |f| {
        f.inputs.push(Port { name: "one".to_owned(), element: FLOAT, dims: vec![] });
    }),
    error("a mask of 64-bit floats", PORTABLE, &["S7"], |f| {
        attribute(f, "mask/Cast", "to", Attribute::Int(DOUBLE as i64))
    }),
    error("a weight that is no number", PORTABLE, &["S8"], |f| {
        f.tensor("attention/q/weight").bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    }),
    error("a mask of infinity", A16, &["S8"], |f| set(f, "hidden", f32::INFINITY)),
    error("a constant beyond float16", PORTABLE, &["S8-range"], |f| set(f, "hidden", 1e5)),
    error("a mask of 10000 in 16 bits", A16, &["S8-mask"], |f| {
        set(f, "hidden", 1e4);
        set(f, "mask/scale", 1e4 / 65535.0);
        set(f, "attention/masked/scale", 10020.0 / 65535.0);
    }),
    error("a mask of 100 in 8 bits", A8, &["S8-mask"], |f| set(f, "hidden", 100.0)),
    error("a norm over the tokens", PORTABLE, &["S9"], |f| {
        attribute(f, "final_norm/LayerNormalization", "axis", Attribute::Int(0))
    }),
    warning("a softmax over the queries", PORTABLE, &["S9-softmax"], |f| {
        attribute(f, "attention/Softmax", "axis", Attribute::Int(1));
    }),
    warning("a maximum of three", FP16, &["S10"], |f| push(f, "Max", &["ffn/residual/Add"; 3], &[], &[6, 10])),
    warning("an index from the end", PORTABLE, &["S10-negative"], |f| {
        constant(f, "more/last", INT64, &[1], &(-1i64).to_le_bytes());
        push(f, "Gather", &["ffn/residual/Add", "more/last"], &[], &[1, 10]);
    }),
    error("an index beyond the end", FP16, &["S10-indices"], |f| {
        constant(f, "more/last", INT64, &[1], &6i64.to_le_bytes());
        push(f, "Gather", &["ffn/residual/Add", "more/last"], &[], &[1, 10]);
    }),
    error("a triangle", FP16, &["O1"], |f| f.node("ffn/relu/Relu").op = "Trilu".to_owned()),
    error("Erf alone", PORTABLE, &["O2"], |f| set(f, "root", 3.0)),
    error("Erf in 16 bits", A16, &["O2"], |f| f.node("ffn/gate/Gelu").op = "Erf".to_owned()),
    warning("what a processor of Rockchip lacks", PORTABLE, &["O3"], |f| f.node("ffn/relu/Relu").op = "Exp".to_owned()),
    error("a scale of 0", A16, &["Q1"], |f| set(f, "attention/scores/scale", 0.0)),
    error("zeros of another type", A8, &["Q1"], |f| {
        f.node("attention/q/weight/DequantizeLinear").inputs.push("more/zeros".to_owned());
        constant(f, "more/zeros", UINT8, &[10], &[0; 10]);
    }),
    error("weights around another zero", A16, &["Q1"], |f| {
        f.node("attention/q/weight/DequantizeLinear").inputs.push("more/zeros".to_owned());
        constant(f, "more/zeros", INT8, &[10], &[3; 10]);
    }),
    warning("signed activations", A16, &["Q2-signed"], |f| retype(f, "attention/scores/zero", INT16, &[0, 0])),
    error("signed queries and unsigned keys", A16, &["Q2", "Q2-signed"], |f| {
        round(f, "attention/q/heads/DequantizeLinear", INT16, 8.0 / 65535.0, &[0, 0]);
        retype(f, "attention/scores/zero", INT16, &[0, 0]);
    }),
    error("activations of 4 bits", A16, &["Q2", "Q3"], |f| {
        retype(f, "ffn/inner/zero", UINT4, &[0]);
        set(f, "ffn/inner/scale", 0.5);
    }),
    error("an activation with a scale each channel", A16, &["Q2"], |f| {
        retype(f, "ffn/inner/scale", FLOAT, &[1e-4f32; 12].map(f32::to_le_bytes).concat());
        retype(f, "ffn/inner/zero", UINT16, &[7282u16; 12].map(u16::to_le_bytes).concat());
        (f.tensor("ffn/inner/scale").dims, f.tensor("ffn/inner/zero").dims) = (vec![12], vec![12]);
    }),
    error("a layer of two widths", A16, &["Q3"], |f| {
        retype(f, "ffn/relu/zero", UINT8, &[0]);
        set(f, "ffn/relu/scale", 4.0 / 255.0);
    }),
    error("a projection to other codes", A8, &["Q3"], |f| {
        round(f, "attention/q/Gemm", UINT16, 8.0 / 65535.0, &32768u16.to_le_bytes());
    }),
    warning("shares mixed into another width", A16, &["Q3-dynamic", "Q8"], |f| {
        retype(f, "attention/mixed/zero", UINT8, &[128]);
        set(f, "attention/mixed/scale", 8.0 / 255.0);
    }),
    warning("weights of 16 bits", A16, &["Q3-w16"], |f| {
        let wide: Vec<u8> =
            f.tensor("ffn/wo/weight").bytes.iter().flat_map(|b| i16::from(*b as i8).to_le_bytes()).collect();
        retype(f, "ffn/wo/weight", INT16, &wide);
    }),
    warning("weights of 4 bits with one scale", A16, &["Q4-channels"], int4),
    error("weights of 4 bits without zeros", A16, &["Q4-channels", "Q4-nibbles"], bare_int4),
    error("weights of a type that no product takes", A16, &["Q4"], |f| {
        retype(f, "ffn/wo/weight", UINT4, &[0x35; 60]);
    }),
    error("weights scaled along the wrong axis", A16, &["Q4"], |f| {
        // Square, so that the scales fit either way.
        attribute(f, "attention/q/weight/DequantizeLinear", "axis", Attribute::Int(1));
    }),
    warning("weights with one scale", A16, &["Q4-channels"], |f| {
        retype(f, "ffn/wo/weight/scale", FLOAT, &0.004f32.to_le_bytes());
        f.tensor("ffn/wo/weight/scale").dims.clear();
    }),
    error("a bias with another scale", A16, &["Q5"], |f| stretch(f, "ffn/wi_0/bias/scale", 2.0)),
    error("a signed gain in 16 bits", A16, &["Q6"], |f| {
        f.tensor("final_norm/gain").element = INT8;
        retype(f, "final_norm/gain/zero", INT8, &[0]);
    }),
    error("a signed gain in 8 bits", A8, &["Q6"], |f| {
        f.tensor("final_norm/gain").element = INT8;
        retype(f, "final_norm/gain/zero", INT8, &[0]);
    }),
    error("codes of weights beside floats", A16, &["Q7"], |f| {
        f.node("ffn/wo/Gemm").inputs[0] = "ffn/inner/Mul".to_owned();
    }),
    error("4-bit codes of weights beside floats", A16, &["Q4-channels", "Q4-nibbles", "Q7-partial"], |f| {
        bare_int4(f);
        f.node("ffn/wo/Gemm").inputs[0] = "ffn/inner/Mul".to_owned();
    }),
    warning("codes of weights with one scale beside floats", A16, &["Q4-channels", "Q7-partial"], |f| {
        retype(f, "ffn/wo/weight/scale", FLOAT, &0.004f32.to_le_bytes());
        f.tensor("ffn/wo/weight/scale").dims.clear();
        f.node("ffn/wo/Gemm").inputs[0] = "ffn/inner/Mul".to_owned();
    }),
    warning("a product half of floats", A16, &["Q7-partial"], |f| {
        f.node("attention/scores/MatMul").inputs[0] = "attention/q/heads/Transpose".to_owned();
    }),
    warning("a transposition that scales", A16, &["Q8"], |f| stretch(f, "attention/q/heads/scale", 1.5)),
    warning("shares above 1", A16, &["Q11"], |f| stretch(f, "attention/shares/scale", 2.0)),
    warning("a sigmoid with steps of its own", A16, &["Q11-fixed"], |f| {
        f.node("ffn/gate/Gelu").op = "Sigmoid".to_owned()
    }),
    warning("a Relu that saturation replaces", A16, &["Q11-relu"], |f| {
        f.nodes.retain(|node| node.op != "Relu");
        f.node("ffn/relu/QuantizeLinear").inputs[0] = "ffn/wi_1/Gemm".to_owned();
    }),
    warning("a Relu that was between quantizers", A8, &["Q11-relu"], |f| {
        round(f, "ffn/wi_1/Gemm", UINT8, 8.0 / 255.0, &[128]);
        f.nodes.retain(|node| node.op != "Relu");
        f.node("ffn/relu/QuantizeLinear").inputs[0] = "more/ffn/wi_1/Gemm/floats".to_owned();
    }),
    error("a logarithm in 16 bits", A16, &["Q12"], |f| f.node("ffn/gate/Gelu").op = "Log".to_owned()),
    warning("keys of 16 bits", A16, &["Q13"], |f| {
        round(f, "attention/k/turned/DequantizeLinear", UINT16, 8.0 / 65535.0, &32768u16.to_le_bytes());
    }),
    error("16 bits before opset 21", A16, &["Q14"], |f| f.opset = 20),
    warning("quantizers of a domain that is not needed", A16, &["Q14-domain"], |f| {
        for node in f.nodes.iter_mut().filter(|node| node.op.ends_with("uantizeLinear")) {
            node.domain = "com.microsoft".to_owned();
        }
    }),
    error("x times x", FP16, &["R2"], |f| {
        let node = f.node("attention/norm/Pow");
        (node.op, node.inputs[1]) = ("Mul".to_owned(), node.inputs[0].clone());
    }),
    error("a norm that divides", FP16, &["R2"], |f| divide(f, "ffn/norm")),
    error("a norm that divides, beside codes", A16, &["R2"], |f| divide(f, "ffn/norm")),
    error("a norm that multiplies with the inverse of a root by division", FP16, &["R2"], |f| {
        let node = f.node("ffn/norm/Reciprocal");
        (node.op, node.inputs) = ("Div".to_owned(), ["one", "ffn/norm/Sqrt"].map(str::to_owned).to_vec());
    }),
    error("a norm by a power", FP16, &["R2"], |f| {
        constant(f, "more/power", FLOAT, &[], &(-0.5f32).to_le_bytes());
        let node = f.node("ffn/norm/Sqrt");
        (node.op, node.inputs) = ("Pow".to_owned(), ["ffn/norm/Add", "more/power"].map(str::to_owned).to_vec());
        f.nodes.retain(|node| node.name != "ffn/norm/Reciprocal");
        f.node("ffn/norm/x/Mul").inputs[1] = "ffn/norm/Sqrt".to_owned();
    }),
    error("a gain before its norm", FP16, &["R2"], |f| f.node("ffn/norm/Mul").inputs.reverse()),
];

#[test]
fn each_fault_is_found_by_its_rules_and_by_no_other() {
    let mut wrong = Vec::new();
    for fault in FAULTS {
        let profile = named(fault.profile);
        let mut file = encoder(profile);
        (fault.make)(&mut file);
        let dir = folder(&format!("faults/{}", fault.name));
        let (rules, findings) = judged(&[file.write(&dir, "encoder.onnx")], profile);
        let found: Vec<&str> = rules.iter().map(|(rule, _)| *rule).collect();
        if found != fault.rules || rules.iter().all(|(_, severity)| *severity != fault.severity) {
            wrong.push(format!("{}: expected {:?}, found {findings:#?}", fault.name, fault.rules));
        }
        assert!(findings.iter().all(|finding| !finding.why.is_empty() && !finding.fix.is_empty()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the HTP simulator makes of a fault.
#[derive(Clone, Copy, Debug)]
enum Shown {
    /// It does not take the graph.
    Refused,
    /// Its output is 5 dB farther from the float graph's than that of the good one, or more.
    Farther,
    /// It is 15 dB farther from what onnxruntime's CPU makes of the same file, or more: one of them repairs the fault.
    Disagrees,
}

/// Faults whose damage the HTP simulator shows; the others it repairs, or other toolchains refuse.
const SHOWN: &[(Shown, &[&str])] = &[
    (
        Shown::Refused,
        &[
            "a length that is a symbol",
            "a norm over the tokens",
            "an index beyond the end",
            "a triangle",
            "Erf in 16 bits",
            "weights around another zero",
            "signed queries and unsigned keys",
            "activations of 4 bits",
            "an activation with a scale each channel",
            "a layer of two widths",
            "a projection to other codes",
            "weights of a type that no product takes",
            "a signed gain in 16 bits",
            "a signed gain in 8 bits",
            "codes of weights beside floats",
            "a gain before its norm",
        ],
    ),
    (
        Shown::Farther,
        &[
            "a weight that is no number",
            "a scale of 0",
            "weights of 4 bits without zeros",
            "4-bit codes of weights beside floats",
            "weights with one scale",
        ],
    ),
    (
        Shown::Disagrees,
        &["a mask of infinity", "Erf alone", "a bias with another scale", "weights scaled along the wrong axis"],
    ),
];

#[test]
#[ignore = "needs onnxruntime and onnxruntime-qnn in $VIRTUAL_ENV"]
fn the_htp_simulator_refuses_what_is_faulty_or_shows_its_damage() {
    let dir = folder("simulated");
    let mut good = BTreeMap::new();
    for profile in PROFILES {
        good.insert(profile.name, encoder(profile).write(&dir, &format!("{}.onnx", profile.name)));
    }
    let a16 = named(A16);
    let tied = decoder(a16, Update::Scatter).write(&dir, "tied.onnx");
    let mut other = decoder(a16, Update::Scatter);
    stretch(&mut other, "self/k/all/scale", 1.5);
    let untied = other.write(&dir, "untied.onnx");

    let mut faults = Vec::new();
    for (shown, name) in SHOWN.iter().flat_map(|(shown, names)| names.iter().map(move |name| (*shown, *name))) {
        let fault = FAULTS.iter().find(|fault| fault.name == name).unwrap_or_else(|| panic!("no fault {name}"));
        let mut file = encoder(named(fault.profile));
        (fault.make)(&mut file);
        faults.push((shown, fault, file.write(&dir, &format!("{name}.onnx"))));
    }
    let python = std::env::var("VIRTUAL_ENV").expect("an environment is active") + "/bin/python";
    let mut command = Command::new(python);
    command.arg(repository("tests/foreign/simulate.py")).arg(&good[FP16]);
    command.args(good.values()).args([&tied, &untied]).args(faults.iter().map(|(.., file)| file));
    let output = command.output().expect("Python starts");
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));

    let of = |file: &Path, what: &str| found[file.to_str().expect("UTF-8")][what].as_f64();
    let refused = |file: &Path| found[file.to_str().expect("UTF-8")]["refused"].is_string();
    for profile in [FP16, A16, A8, PORTABLE] {
        println!("good, {profile}: {}", found[good[profile].to_str().expect("UTF-8")]);
        assert!(of(&good[profile], "db").is_some_and(|db| db > 20.0), "{profile} is taken");
    }
    let [tied, untied] = [&tied, &untied].map(|file| of(file, "same_db").expect("taken"));
    println!("caches with one scale: {tied:.1} dB against the CPU; untied: {untied:.1} dB");
    assert!(untied < tied - 15.0);
    for (shown, fault, file) in &faults {
        println!("{} ({}): {}", fault.name, fault.profile, found[file.to_str().expect("UTF-8")]);
        let worse =
            |what: &str, by: f64| of(file, what).zip(of(&good[fault.profile], what)).is_some_and(|(a, b)| a < b - by);
        let is_shown = match shown {
            Shown::Refused => refused(file),
            Shown::Farther => worse("db", 5.0),
            Shown::Disagrees => worse("same_db", 15.0),
        };
        assert!(is_shown, "{}: expected {shown:?}, found {}", fault.name, found[file.to_str().expect("UTF-8")]);
    }
}

/// Rules of two files that run together, each with a fault put in.
fn together(
    name: &str,
    profile: &'static Profile,
    update: Update,
    fault: fn(&mut File, &mut File),
) -> Vec<(&'static str, Severity)> {
    let (mut first, mut second) = (encoder(profile), decoder(profile, update));
    fault(&mut first, &mut second);
    let dir = folder(&format!("together/{name}"));
    let (rules, _) = judged(&[first.write(&dir, "encoder.onnx"), second.write(&dir, "decoder.onnx")], profile);
    rules.into_iter().collect()
}

#[test]
fn what_an_encoder_returns_and_a_decoder_takes_must_agree() {
    let a16 = named(A16);
    let fails = [("S12", Severity::Error)];
    let scale = together("scale", a16, Update::Concat, |_, decoder| stretch(decoder, "cross.0.k/scale", 2.0));
    assert_eq!(scale, fails);
    let inner = together("scale inside", a16, Update::Concat, |_, decoder| stretch(decoder, "cross.0.v/scale", 2.0));
    assert_eq!(inner, fails);
    let missing =
        together("missing", a16, Update::Concat, |encoder, _| encoder.outputs.retain(|port| port.name != "cross.0.k"));
    assert_eq!(missing, fails);
    let type_of = together("type", named(FP16), Update::Concat, |_, decoder| {
        let port = decoder.inputs.iter_mut().find(|port| port.name == "cross.0.v").expect("taken");
        port.element = crate::onnx_file::FLOAT16;
    });
    assert_eq!(type_of, fails);
    // One head more.
    let shape = together("shape", named(FP16), Update::Concat, |encoder, _| {
        let port = encoder.outputs.iter_mut().find(|port| port.name == "cross.0.v").expect("returned");
        port.dims[0] = 3;
    });
    assert_eq!(shape, [("S1", Severity::Error)], "the file's own words are wrong");
    let present =
        together("present", a16, Update::Concat, |_, decoder| stretch(decoder, "present.0.k/given/scale", 2.0));
    assert_eq!(present, fails);
    let present = together("present missing", a16, Update::Concat, |_, decoder| {
        decoder.outputs.retain(|p| p.name != "present.0.v")
    });
    assert_eq!(present, fails);
}

#[test]
fn a_cache_whose_parts_have_other_steps_is_found() {
    for profile in [A16, A8].map(named) {
        let untied: fn(&mut File, &mut File) = |_, decoder| stretch(decoder, "self/k/all/scale", 1.5);
        let scattered = together(&format!("scatter {}", profile.name), profile, Update::Scatter, untied);
        assert_eq!(scattered, [("Q9", Severity::Error)]);
        let joined = together(&format!("concat {}", profile.name), profile, Update::Concat, untied);
        assert_eq!(joined, [("Q10", Severity::Warning)]);
    }
}

#[test]
fn the_same_fault_weighs_as_the_toolchain_takes_it() {
    let rockchip = named("rknn-w8a8");
    let at_intel = |name: &str, file: File| {
        let dir = folder(&format!("intel/{name}"));
        judged(&[file.write(&dir, "model.onnx")], named(INTEL)).0.into_iter().collect::<Vec<_>>()
    };
    let mut relu = encoder(rockchip);
    relu.nodes.retain(|node| node.op != "Relu");
    relu.node("ffn/relu/QuantizeLinear").inputs[0] = "ffn/wi_1/Gemm".to_owned();
    assert_eq!(at_intel("relu", relu), [("Q11-relu", Severity::Error)]);
    let mut joined = decoder(rockchip, Update::Concat);
    stretch(&mut joined, "self/k/all/scale", 1.5);
    assert_eq!(at_intel("joined", joined), [("Q10", Severity::Error)]);
    let mut mask = encoder(rockchip);
    round(&mut mask, "mask/Cast", UINT8, 1.0 / 255.0, &[0]);
    round(&mut mask, "mask/Sub", UINT8, 1.0 / 255.0, &[255]);
    let dir = folder("intel/mask at Rockchip");
    let elsewhere = judged(&[mask.write(&dir, "model.onnx")], named(A8)).0;
    assert_eq!(elsewhere.into_iter().collect::<Vec<_>>(), [("R2", Severity::Error)], "the norm, and not the mask");
    assert_eq!(at_intel("mask", mask), [("Q12-mask", Severity::Error)]);
    // A norm of Qualcomm's form overflows at Rockchip, and is only not known to be safe at Intel.
    let dir = folder("norms");
    let file = encoder(named(FP16));
    let mut older = File { opset: 17, ..file };
    for node in older.nodes.iter_mut().filter(|node| node.op == "ReduceMean") {
        node.inputs.truncate(1);
        node.attributes.push(("axes".to_owned(), Attribute::Ints(vec![-1])));
    }
    older.node("ffn/gate/Gelu").op = "Tanh".to_owned();
    let older = older.write(&dir, "model.onnx");
    for (profile, severity) in [(PORTABLE, Severity::Error), ("rknn-fp16", Severity::Error), (INTEL, Severity::Warning)]
    {
        let (rules, findings) = judged(std::slice::from_ref(&older), named(profile));
        assert!(rules.contains(&("R2", severity)), "{profile}: {findings:#?}");
    }
    let (rules, _) = judged(&[older], named("ryzenai-bf16"));
    assert!(rules.iter().all(|(rule, _)| *rule != "R2"), "bfloat16 has the exponents of float32");
    // bfloat16 has the exponents of float32, and AMD's partitions fall back.
    let dir = folder("amd");
    let mut file = encoder(named(PORTABLE));
    set(&mut file, "hidden", 1e5);
    file.node("ffn/relu/Relu").op = "Trilu".to_owned();
    let (rules, _) = judged(&[file.write(&dir, "model.onnx")], named("ryzenai-bf16"));
    assert_eq!(rules.into_iter().collect::<Vec<_>>(), [("O1", Severity::Warning)]);
}

#[test]
fn a_float_graph_is_not_what_a_quantized_profile_promises() {
    let dir = folder("float");
    let file = encoder(named(FP16)).write(&dir, "model.onnx");
    assert_eq!(judged(&[file], named(A16)).0.into_iter().collect::<Vec<_>>(), [("Q0", Severity::Error)]);
    let file = encoder(named(A8)).write(&dir, "quantized.onnx");
    assert_eq!(judged(&[file], named(FP16)).0.into_iter().collect::<Vec<_>>(), [("O1", Severity::Error)]);
}

#[test]
fn what_calibration_saw_is_checked_where_it_was_recorded() {
    let dir = folder("evidence");
    let (float, quantized) = (named(FP16), named(A16));
    let rules = |file: &File, profile, evidence: &Evidence| {
        evidence.write(&dir).expect("written");
        let (rules, findings) = judged(&[file.write(&dir, "model.onnx")], profile);
        let told: Vec<String> = findings.iter().filter(|f| f.rule == "R0").map(|f| f.why.clone()).collect();
        (rules.into_iter().map(|(rule, _)| rule).collect::<Vec<_>>(), told)
    };
    let seen = |file: &File, most: f32| Evidence {
        samples: 8,
        values: file.nodes.iter().map(|node| (node.outputs[0].clone(), Range { min: -1.0, max: most })).collect(),
    };
    let file = encoder(float);
    assert_eq!(rules(&file, float, &seen(&file, 32752.0)), (vec![], vec![]), "half of the largest");
    let mut grown = seen(&file, 1.0);
    grown.values.insert("ffn/wo/Gemm".to_owned(), Range { min: -4e4, max: 1.0 });
    assert_eq!(rules(&file, float, &grown).0, ["R1"]);
    // Within a norm, the square is no value of its own; elsewhere it is.
    grown = seen(&file, 1.0);
    grown.values.insert("attention/norm/Pow".to_owned(), Range { min: 0.0, max: 1e6 });
    assert_eq!(rules(&file, float, &grown).0, [""; 0]);
    let mut powers = file.clone();
    push(&mut powers, "Exp", &["ffn/residual/Add"], &[], &[6, 10]);
    grown.values.insert("more/Exp".to_owned(), Range { min: 0.0, max: 1e6 });
    assert_eq!(rules(&powers, float, &grown).0, ["R3"]);
    grown.values.remove("more/Exp");
    let (found, told) = rules(&powers, float, &grown);
    assert!(found.is_empty() && told[0].starts_with("1 of "), "{told:?}");

    let file = encoder(quantized);
    let in_codes = [4e4, 7e4].map(|most| rules(&file, quantized, &seen(&file, most)).0);
    assert_eq!(in_codes, [vec![], vec!["R1"]], "codes hold what they were made for, floats made of them must");
    let mut untouched = seen(&file, 1.0);
    assert_eq!(rules(&file, quantized, &untouched), (vec![], vec![]));
    untouched.values.remove("attention/scores/MatMul");
    assert_eq!(rules(&file, quantized, &untouched).0, ["Q15"]);
    untouched = seen(&file, 1.0);
    untouched.samples = 0;
    assert_eq!(rules(&file, quantized, &untouched).0, ["Q15"]);

    fs::write(dir.join(EVIDENCE_FILE), r#"{"samples": 1, "values": {"x": {"min": 2, "max": 1}}}"#).expect("written");
    let error = lint(&[dir.join("model.onnx")], quantized).expect_err("no range").to_string();
    assert!(error.ends_with("calibration.json: x: expected min ≤ max, found 2, 1"), "{error}");
}

#[test]
fn external_data_beyond_2_gb_is_found_without_being_read() {
    let dir = folder("large");
    let mut file = encoder(named(PORTABLE));
    // No byte of it is on the disk.
    let data = fs::File::create(dir.join("weights.bin")).expect("created");
    data.set_len(i32::MAX as u64 + 1).expect("sparse");
    let width = file.tensor("norm/width");
    (width.bytes, width.external) =
        (Vec::new(), external(&[("location", "weights.bin"), ("offset", "4096"), ("length", "4")]));
    let (rules, _) = judged(&[file.write(&dir, "model.onnx")], named(PORTABLE));
    assert_eq!(rules.into_iter().collect::<Vec<_>>(), [("S11", Severity::Error)]);
    fs::remove_file(dir.join("weights.bin")).expect("removed");
}

fn external(entries: &[(&str, &str)]) -> Vec<(String, String)> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_rule_has_a_fault_that_it_finds() {
    let elsewhere = ["S11", "S12", "Q0", "Q9", "Q10", "Q12-mask", "Q15", "R0", "R1", "R3"];
    let found: BTreeSet<&str> = FAULTS.iter().flat_map(|fault| fault.rules).copied().chain(elsewhere).collect();
    assert_eq!(found, RULES.iter().map(|rule| rule.id).collect());
    for (rule, _) in PROFILES.iter().flat_map(|profile| profile.takes.levels) {
        assert!(RULES.iter().any(|known| known.id == *rule), "{rule} is no rule");
    }
}

#[test]
fn dynamic_exports_are_refused_for_their_shapes_and_operators() {
    let mut model = import(&fixture("t5-v1.1")).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    let dir = folder("dynamic");
    Onnx::DEFAULT.write(&model, &dir).unwrap_or_else(|e| panic!("{e}"));
    let files =
        ["encoder_model.onnx", "decoder_with_past_model.onnx", "decoder_model_merged.onnx"].map(|file| dir.join(file));
    for file in &files {
        let (rules, findings) = judged(std::slice::from_ref(file), named(PORTABLE));
        for rule in ["S1", "S4", "S5", "S7", "O1"] {
            assert!(rules.contains(&(rule, Severity::Error)), "{}: {rule} is not among {rules:?}", file.display());
        }
        let all: String = findings.iter().filter(|f| f.rule == "O1").map(|f| f.why.as_str()).collect();
        assert!(all.contains("Shape of opset 18 is not taken") && all.contains("Range of opset 18"), "{all}");
        assert_eq!(rules.contains(&("S2", Severity::Error)), file.ends_with("decoder_model_merged.onnx"));
    }
}

#[test]
fn findings_are_told_as_text_and_json_and_decide_the_exit_code() {
    let dir = folder("cli");
    let mut bad = encoder(named(PORTABLE));
    bad.opset = 18;
    let (good, bad) = (encoder(named(PORTABLE)).write(&dir, "good.onnx"), bad.write(&dir, "bad.onnx"));
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    let output = run(&["lint", &good, "--profile", PORTABLE]);
    let expected = format!(
        "{good}\n  info R0: write what calibration saw, {{\"samples\": n, \"values\": {{name: {{min, max}}}}}}\n    \
         no calibration.json beside the file: R1, R3 and Q15 are not checked\n\
         npu-portable: 0 errors, 0 warnings, 1 thing not checked\n"
    );
    assert_eq!((code(&output), text(&output.stdout), text(&output.stderr)), (0, expected, String::new()));

    let output = run(&["lint", &bad, &good, "--profile", PORTABLE, "--json"]);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&found["profile"], &found["errors"], &found["warnings"]), (&PORTABLE.into(), &1.into(), &0.into()));
    assert_eq!(found["files"][0]["file"], bad);
    let expected = serde_json::json!({
        "rule": "S4", "severity": "error", "node": null, "tensor": null,
        "why": "expected opset 13 to 17, found 18", "fix": "export with the profile's opset",
    });
    assert_eq!(found["files"][0]["findings"][0], expected);

    let output = run(&["lint", &good, "--profile", "qnn-htp-a16w9"]);
    let expected = "error: unknown profile qnn-htp-a16w9; did you mean qnn-htp-a16w8?; expected one of npu-portable, ";
    assert_eq!((code(&output), text(&output.stdout)), (2, String::new()));
    assert!(text(&output.stderr).starts_with(expected), "{}", text(&output.stderr));
    let gone = dir.join("gone.onnx").display().to_string();
    let output = run(&["lint", &good, &gone, "--profile", PORTABLE]);
    assert_eq!((code(&output), text(&output.stdout)), (2, String::new()));
    assert!(text(&output.stderr).starts_with(&format!("error: {gone}: No such file")), "{}", text(&output.stderr));
}

/// A checkpoint's graphs for a profile, for two lengths of sources.
fn written(checkpoint: &Path, profile: &'static str, dir: &Path) -> Vec<PathBuf> {
    let npu = Npu { profile: profile.into(), source: vec![7, 12], target: 6, ..Npu::DEFAULT };
    let mut model = import(checkpoint).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    npu.prepare(&mut model).unwrap_or_else(|e| panic!("{}: {e}", checkpoint.display()));
    npu.write(&model, dir).unwrap_or_else(|e| panic!("{}: {e}", checkpoint.display()));
    graphs(dir).expect("a folder")
}

#[test]
fn a_folder_is_judged_by_the_profile_and_the_pairs_that_its_npu_json_names() {
    let dir = folder("artifact");
    let files = written(&fixture("t5-v1.1"), PORTABLE, &dir);
    let shown = dir.display().to_string();
    let output = run(&["lint", &shown]);
    let told = text(&output.stdout);
    let headings: Vec<&str> = told.lines().filter(|line| line.ends_with(".onnx")).collect();
    let expected: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    assert_eq!(headings, expected);
    assert_eq!(
        files.iter().map(|file| file.file_name().expect("a file").to_string_lossy()).collect::<Vec<_>>(),
        ["decoder_12.onnx", "decoder_7.onnx", "encoder_12.onnx", "encoder_7.onnx"]
    );
    assert!(told.ends_with("npu-portable: 0 errors, 0 warnings, 4 things not checked\n"), "{told}");
    assert_eq!(code(&output), 0);
    let output = run(&["lint", &shown, "--profile", A16]);
    assert_eq!(code(&output), 1, "{}", text(&output.stdout));

    // Encoders of the other length.
    let file = dir.join(HOST_FILE);
    let mut host = Host::read(&dir).expect("as written").expect("there");
    let [short, long] = &mut host.buckets[..] else { panic!("two lengths") };
    std::mem::swap(&mut short.encoder, &mut long.encoder);
    fs::write(&file, serde_json::to_vec(&host).expect("JSON")).expect("written");
    let (rules, _) = judged(&files, named(PORTABLE));
    assert_eq!(rules.into_iter().collect::<Vec<_>>(), [("S12", Severity::Error)]);

    let error = |arguments: &[&str]| {
        let output = run(&[&["lint"], arguments].concat());
        assert_eq!((code(&output), text(&output.stdout)), (2, String::new()), "{arguments:?}");
        text(&output.stderr)
    };
    let empty = folder("artifact of nothing").display().to_string();
    assert!(error(&[&empty]).starts_with(&format!("error: {empty}: expected *.onnx in it, found none")));
    let alone = encoder(named(PORTABLE)).write(&folder("artifact alone"), "encoder.onnx").display().to_string();
    assert!(
        error(&[&alone]).starts_with(&format!("error: {alone}: expected a npu.json beside it, which names a profile"))
    );
    let other = folder("artifact for another");
    host.profile = FP16.to_owned();
    fs::write(other.join(HOST_FILE), serde_json::to_vec(&host).expect("JSON")).expect("written");
    let other = encoder(named(FP16)).write(&other, "encoder.onnx").display().to_string();
    let found = error(&[&shown, &other]);
    assert!(found.contains("expected a file for npu-portable, as the first is, found one for qnn-htp-fp16"), "{found}");
    fs::write(&file, "{}").expect("written");
    assert!(error(&[&shown]).contains("npu.json: not the expected JSON"));
}

#[test]
fn artifacts_of_every_family_are_clean() {
    for (name, checkpoint) in npu_fixtures() {
        let home = tempfile::tempdir().expect("temporary folder");
        let (rules, findings) = judged(&written(&checkpoint, PORTABLE, home.path()), named(PORTABLE));
        assert!(rules.is_empty(), "{name}: {findings:#?}");
    }
}

/// The bundled model for several profiles, calibrated with a few words.
const CALIBRATED: &str = "
artifacts:
  - name: a16
    npu: { profile: qnn-htp-a16w8, source: [12, 24], target: 24 }
    quantize: { scheme: int8, activations: { static: { bits: 16 } } }
  - name: a8
    npu: { profile: qnn-htp-a8w8, source: [24], target: 24 }
    quantize: { scheme: int8, activations: { static: { bits: 8, range: mse } } }
  - name: rockchip
    npu: { profile: rknn-w8a8, source: [24], target: 24 }
    quantize: { scheme: int8, activations: { static: { bits: 8, range: mse } } }
  - name: wide caches outside of codes
    npu: { profile: qnn-htp-a16w8, source: [24], target: 24, caches: floats, key_bits: 16 }
    quantize: { scheme: int8, activations: { static: { bits: 16 } } }
  - name: portable
    npu: { profile: npu-portable, source: [24], target: 24 }
";

#[test]
fn what_calibration_saw_of_a_real_model_comes_with_its_artifacts_and_all_rules_hold() {
    let model = repository("models/g2p-t5");
    let home = tempfile::tempdir().expect("temporary folder");
    let recipe = home.path().join("recipe.yaml");
    let data = model.join("data/calibration.jsonl");
    let calibrate = format!("calibrate: {{ data: {:?}, samples: 8 }}", data.display().to_string());
    fs::write(&recipe, format!("model: {}\nout: out\n{calibrate}\n{CALIBRATED}", model.display())).expect("written");
    let recipe = recipe.display().to_string();
    let outs = ["1", "2"].map(|threads| home.path().join(threads));
    for (threads, out) in ["1", "2"].into_iter().zip(&outs) {
        let out = out.display().to_string();
        let output = run(&["convert", &recipe, "--no-validate", "--threads", threads, "--out", &out]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    }
    for (name, profile, expected) in [
        ("a16", A16, &[][..]),
        ("a8", A8, &[]),
        ("rockchip", "rknn-w8a8", &[("O3", Severity::Warning)]),
        ("wide caches outside of codes", A16, &[]),
        ("portable", PORTABLE, &[]),
    ] {
        let dirs = outs.each_ref().map(|out| out.join(name));
        let (rules, findings) = judged(&graphs(&dirs[0]).expect("a folder"), named(profile));
        assert_eq!(rules.into_iter().collect::<Vec<_>>(), expected, "{name}: {findings:#?}");
        assert!(findings.iter().all(|finding| finding.rule != "R0"), "{name}: {findings:#?}");
        let [one, two] = dirs.map(|dir| fs::read(dir.join(EVIDENCE_FILE)).expect("there"));
        assert!(one == two, "{name}: the same at any number of threads");
    }
    // Scores of this model lie so far apart that -100 hides nothing.
    let manifest = fs::read_to_string(outs[0].join("a16/trefoil.json")).expect("there");
    let mask = manifest.split('"').find_map(|text| text.strip_suffix(" is added to the scores of hidden keys"));
    assert!(mask.expect("a note").parse::<f32>().expect("a number") < -200.0, "{mask:?}");

    // Every number in the file is that of a tensor; what is missing is told.
    let dir = outs[0].join("a8");
    let mut evidence = Evidence::read(&dir).expect("as written").expect("there");
    assert_eq!(evidence.samples, 8);
    let files = graphs(&dir).expect("a folder");
    let tensors: String =
        files.iter().map(|file| String::from_utf8_lossy(&fs::read(file).expect("there")).into_owned()).collect();
    for (name, range) in &evidence.values {
        assert!(tensors.contains(name.as_str()) && range.magnitude() < 32752.0, "{name}: {range:?}");
    }
    let gone = "attention.add/Add";
    evidence.values.remove(gone).expect("scores with their bias");
    evidence.write(&dir).expect("written");
    let (rules, findings) = judged(&files, named(A8));
    assert_eq!(rules.into_iter().collect::<Vec<_>>(), [("Q15", Severity::Error)]);
    assert!(findings.iter().any(|finding| finding.rule == "Q15" && finding.tensor.as_deref() == Some(gone)));
}

#[test]
fn validation_begins_with_the_lint() {
    let home = tempfile::tempdir().expect("temporary folder");
    let (recipe, checkpoint) = (home.path().join("recipe.yaml"), fixture("t5-v1.1").display().to_string());
    let artifacts = "artifacts: [{ name: npu, npu: { source: [32], target: 8 } }]\nvalidate: { samples: 2 }";
    fs::write(&recipe, format!("model: {checkpoint}\nout: out\n{artifacts}\n")).expect("written");
    let output = run(&["convert", &recipe.display().to_string(), "--offline", "--no-bench"]);
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    let checks = |dir: &Path| {
        let report: Value = serde_json::from_slice(&fs::read(dir.join("report.json")).expect("there")).expect("JSON");
        report["artifacts"][0]["checks"].as_array().expect("a list").clone()
    };
    let of =
        |checks: &[Value]| checks.iter().position(|c| c["what"].as_str().is_some_and(|w| w.starts_with("lint for")));
    let out = home.path().join("out");
    let found = checks(&out);
    let at = of(&found).expect("a check");
    let part = |check: &Value| {
        ["what", "link", "outcome", "sentence"].map(|key| check[key].as_str().expect("text").to_owned())
    };
    assert_eq!(part(&found[at]), ["lint for npu-portable", "export", "passed", "no warnings"]);
    assert!(found[..at].iter().all(|check| check["link"] != "runtime"), "engines come after it");

    // As if it had been written for codes.
    let dir = out.join("npu");
    let mut host = Host::read(&dir).expect("as written").expect("there");
    host.profile = A8.to_owned();
    fs::write(dir.join(HOST_FILE), serde_json::to_vec(&host).expect("JSON")).expect("written");
    let shown = dir.display().to_string();
    let output = run(&["validate", &shown, "--reference", &checkpoint, "--offline", "--samples", "2", "--json"]);
    assert_eq!(code(&output), 1, "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("Q0 2 times: expected activations of 8 bits"), "{}", text(&output.stdout));
}

#[test]
fn files_that_lie_are_errors_and_take_no_memory() {
    let dir = folder("hostile");
    let good = encoder(named(A16));
    let whole = good.bytes();
    let path = dir.join("model.onnx");
    let judge = || lint(std::slice::from_ref(&path), named(A16));
    for sixteenths in 0..16 {
        fs::write(&path, &whole[..whole.len() * sixteenths / 16]).expect("cut");
        let error = judge().expect_err("cut").to_string();
        let place = format!("{}: ", path.display());
        assert!(error.starts_with(&place), "cut at {sixteenths}/16: {error}");
    }
    for at in (0..whole.len()).step_by(7) {
        let mut bent = whole.clone();
        bent[at] ^= 0x5a;
        fs::write(&path, &bent).expect("bent");
        drop(judge()); // an error or findings, never a panic
    }
    fs::write(dir.join("weights.bin"), [0; 64]).expect("written");
    #[cfg(target_os = "linux")]
    let before = peak_bytes();
    let told = |location: &str, offset: &str, length: &str, dims: &[i64]| {
        let mut file = good.clone();
        let tensor = file.tensor("hidden");
        (tensor.dims, tensor.bytes) = (dims.to_vec(), Vec::new());
        tensor.external = external(&[("location", location), ("offset", offset), ("length", length)]);
        file.write(&dir, "model.onnx");
        judge().map(|_| String::new()).unwrap_or_else(|e| e.to_string().replace(&format!("{}: ", path.display()), ""))
    };
    let huge = i64::MAX;
    for (location, offset, length, dims, expected) in [
        ("weights.bin", "0", "40", &[10][..], ""),
        ("../weights.bin", "0", "40", &[10], "hidden: external data at \"../weights.bin\", outside the folder"),
        ("/etc/passwd", "0", "40", &[10], "hidden: external data at \"/etc/passwd\", outside the folder"),
        ("a/../../b", "0", "40", &[10], "hidden: external data at \"a/../../b\", outside the folder"),
        ("", "0", "40", &[10], "hidden: external data at \"\", outside the folder"),
        ("weights.bin", "60", "40", &[10], "hidden: 40 bytes at 60 lie outside weights.bin of 64 bytes"),
        (
            "weights.bin",
            "18446744073709551615",
            "40",
            &[10],
            "hidden: 40 bytes at 18446744073709551615 lie outside weights.bin of 64 bytes",
        ),
        ("weights.bin", "-1", "40", &[10], "hidden: offset \"-1\" is no number"),
        ("weights.bin", "0", "40", &[11], "hidden: expected 44 bytes for [11], found 40"),
        ("weights.bin", "0", "40", &[huge], "hidden: dimensions [9223372036854775807] are no shape"),
        (
            "weights.bin",
            "0",
            "40",
            &[huge, huge],
            "hidden: dimensions [9223372036854775807, 9223372036854775807] are no shape",
        ),
        ("weights.bin", "0", "40", &[-1], "hidden: dimensions [-1] are no shape"),
        ("weights.bin", "0", "40", &[1 << 40], "hidden: expected 4398046511104 bytes for [1099511627776], found 40"),
    ] {
        assert_eq!(told(location, offset, length, dims), expected, "{location} {offset} {length} {dims:?}");
    }
    // Shapes that only arithmetic makes large.
    for dims in [vec![huge, huge], vec![huge, 1, huge], vec![0, huge]] {
        let mut file = good.clone();
        file.inputs[1].dims = dims;
        file.write(&dir, "model.onnx");
        judge().expect("findings");
    }
    #[cfg(target_os = "linux")]
    assert!(peak_bytes() < before + (10 << 30), "other tests take some, none takes gigabytes");
}

#[test]
fn the_table_of_rules_in_docs_is_that_of_the_program() {
    let file = repository("docs/lint.md");
    let known = fs::read_to_string(&file).expect("there");
    let (start, end) = ("<!-- generated by the tests: rules -->\n", "<!-- end -->");
    let (before, rest) = known.split_once(start).expect("a marker");
    let (_, after) = rest.split_once(end).expect("the end of the marker");
    bless_or_compare(&file, &format!("{before}{start}{}{end}{after}", table()));
}
