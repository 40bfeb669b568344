//! What an NPU toolchain will make of an ONNX file, without the toolchain.
//!
//! A rule is a function over a [`Subject`] and a line of [`RULES`]; what differs between toolchains is in their
//! [`Profile`].

mod mask;
mod norm;
mod quantized;
mod structure;
mod subject;
mod table;
mod together;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use converters::ExportError;
use converters::export::npu::{Evidence, Host, Profile, Severity};
use converters::export::onnx::{Node, OnnxFile};
use serde::Serialize;

use subject::Subject;
pub use table::table;

/// What a rule says of a place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Of [`RULES`].
    pub rule: &'static str,
    /// What it means for this profile.
    pub severity: Severity,
    /// The node, by its name; where it has none, its op and its first result.
    pub node: Option<String>,
    /// The value.
    pub tensor: Option<String>,
    /// Expected and found.
    pub why: String,
    /// What to do.
    pub fix: &'static str,
}

/// What is said of a file, gravest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Judged {
    /// As it was given.
    pub file: PathBuf,
    /// Sorted by severity, then in the order of the rules and of the file.
    pub findings: Vec<Finding>,
}

/// A rule.
pub struct Rule {
    /// `S1`; a rule of a group is `S1-batch`.
    pub id: &'static str,
    /// What must hold.
    pub what: &'static str,
    /// What to do where it does not.
    pub fix: &'static str,
    /// What a finding means, unless the profile says otherwise.
    pub severity: Severity,
    /// How it is known, and what happens without.
    pub evidence: &'static str,
    check: Check,
}

type Founds = Vec<Found>;

enum Check {
    /// Of one graph.
    Graph(fn(&Subject<'_>, &mut Founds)),
    /// Of one graph, with numbers that must be read.
    Numbers(fn(&Subject<'_>, &mut Founds) -> Result<(), ExportError>),
    /// Of all graphs of a call.
    Together,
}

/// A finding before its rule's name is put to it.
struct Found {
    node: Option<String>,
    tensor: Option<String>,
    why: String,
}

impl Found {
    fn of(why: impl Into<String>) -> Found {
        Found { node: None, tensor: None, why: why.into() }
    }

    fn at(self, node: &Node) -> Found {
        self.maybe_at(Some(node))
    }

    fn maybe_at(mut self, node: Option<&Node>) -> Found {
        self.node = node.map(|node| match (node.name.as_str(), node.outputs.first()) {
            ("", Some(output)) => format!("{} -> {output}", node.op),
            ("", None) => node.op.clone(),
            (name, _) => name.to_owned(),
        });
        self
    }

    fn tensor(mut self, name: &str) -> Found {
        self.tensor = Some(name.to_owned());
        self
    }
}

use Check::{Graph, Numbers, Together};
use Severity::{Error, Info, Warning};

/// Every rule.
pub const RULES: &[Rule] = &[
    Rule {
        id: "S1",
        what: "every value has a static shape that its node confirms",
        fix: "export with fixed lengths; fold Shape, Range and their kind into constants",
        severity: Error,
        evidence: "ran: dynamic values are refused by the HTP simulator (QNN 2.7.0), Intel's compiler and RKNN 2.5.0",
        check: Graph(structure::static_shapes),
    },
    Rule {
        id: "S1-batch",
        what: "ids, masks and features have a batch of 1",
        fix: "export for a batch of 1; a host calls once a sequence",
        severity: Error,
        evidence: "source: AI Hub's Opus-MT and Whisper",
        check: Graph(structure::one_at_a_time),
    },
    Rule {
        id: "S2",
        what: "no If, Loop, Scan, sequences, optionals, strings or functions",
        fix: "export encoder and decoder as graphs of their own; inline functions",
        severity: Error,
        evidence: "source: no operator of QNN, OpenVINO's NPU plugin or RKNN chooses a branch",
        check: Graph(structure::no_control_flow),
    },
    Rule {
        id: "S3",
        what: "no more axes than the toolchain, or its operator, has",
        fix: "split or merge axes with Reshape; the batch of 1 can go",
        severity: Error,
        evidence: "ran: 6 axes, and 5 of LayerNormalization, LpNormalization, Sqrt and Tanh are refused by the HTP simulator",
        check: Graph(structure::rank),
    },
    Rule {
        id: "S4",
        what: "an opset that the toolchain reads",
        fix: "export with the profile's opset",
        severity: Error,
        evidence: "ran: opset 24 on QNN and OpenVINO, 20 on RKNN; source: AMD recommends 17",
        check: Graph(structure::opset),
    },
    Rule {
        id: "S5",
        what: "inputs and outputs are int32, float or quantized",
        fix: "declare ids, masks and positions as int32; cast a mask to float inside",
        severity: Error,
        evidence: "source: QNN has int32 and uint32 indices only; ran: RKNN casts int64 on the CPU, onnxruntime for QNN inside",
        check: Graph(structure::port_types),
    },
    Rule {
        id: "S6",
        what: "nodes do not share a name; values are made once, before they are read; no initializer is an input",
        fix: "rename; drop initializers from the inputs (ir_version 4 or newer)",
        severity: Error,
        evidence: "ran: onnxruntime refuses to load the file; an initializer that is an input can be replaced, so it is no constant",
        check: Graph(structure::names),
    },
    Rule {
        id: "S6-unnamed",
        what: "nodes have names",
        fix: "name them: tools name layers and encodings after nodes",
        severity: Warning,
        evidence: "source: AIMET and AI Hub; ran: the HTP simulator takes them",
        check: Graph(structure::unnamed),
    },
    Rule {
        id: "S7",
        what: "no float64, no int64 arithmetic, no text",
        fix: "compute in float32 and int32; precompute indices",
        severity: Error,
        evidence: "ran: int64 is cast on the CPU by RKNN; source: QNN's types",
        check: Graph(structure::element_types),
    },
    Rule {
        id: "S8",
        what: "constants are finite",
        fix: "mask with a finite number; find where the checkpoint broke",
        severity: Error,
        evidence: "ran: a NaN in a weight gives finite numbers on the HTP simulator, 7 dB; -inf in a quantized mask 0.8 dB",
        check: Numbers(structure::finite),
    },
    Rule {
        id: "S8-range",
        what: "constants fit the type that floats are computed in",
        fix: "mask with the profile's number; rescale the weight",
        severity: Error,
        evidence: "ran: the HTP saturates at 65504 and says nothing",
        check: Numbers(structure::within_range),
    },
    Rule {
        id: "S8-mask",
        what: "codes of scores reach no lower for a mask's sake than -100 (16 bits), -50 (8 bits), or as low as the scores do",
        fix: "mask with -100 where 16 bits follow, -50 where 8 bits do; or let a mask that must reach further saturate at the end of the scores' codes",
        severity: Error,
        evidence: "ran: softmax alone, 16 bits, -100: 71 dB, -1e4: 35 dB; 8 bits, -50: 29 dB, -1000: 5 dB; the encoder of the tests in 16 bits, -100: 40 dB, -1e4: 38 dB (HTP simulator)",
        check: Numbers(mask::magnitude),
    },
    Rule {
        id: "S9",
        what: "norms go over the last axis",
        fix: "transpose before and after",
        severity: Error,
        evidence: "ran: another axis is refused by the HTP simulator",
        check: Graph(structure::norms_over_the_last_axis),
    },
    Rule {
        id: "S9-softmax",
        what: "softmax goes over the last axis",
        fix: "transpose before and after",
        severity: Warning,
        evidence: "ran: another axis is taken (58 dB, HTP simulator); source: QNN transposes for it",
        check: Graph(structure::softmax_over_the_last_axis),
    },
    Rule {
        id: "S10",
        what: "Min and Max have two values",
        fix: "nest them",
        severity: Warning,
        evidence: "source: builders of the QNN execution provider; ran: three values are taken by 2.7.0, one is refused",
        check: Graph(structure::two_operands),
    },
    Rule {
        id: "S10-indices",
        what: "constant indices of Gather lie inside",
        fix: "correct the index",
        severity: Error,
        evidence: "ran: refused by the HTP simulator and onnxruntime",
        check: Numbers(structure::indices_inside),
    },
    Rule {
        id: "S10-negative",
        what: "constant indices of Gather count from the start",
        fix: "add the extent",
        severity: Warning,
        evidence: "source: gather_op_builder.cc; ran: the HTP simulator takes them",
        check: Numbers(structure::indices_from_the_start),
    },
    Rule {
        id: "S11",
        what: "files of external data have at most 2 GB",
        fix: "spread the weights over several files",
        severity: Error,
        evidence: "source: protobuf's limit; sizes that do not fit their tensors are not read at all",
        check: Numbers(structure::external_data),
    },
    Rule {
        id: "S12",
        what: "keys and values agree in name, type, shape and steps wherever one graph returns what another takes",
        fix: "quantize both sides with one scale; export a graph's sides together",
        severity: Error,
        evidence: "ran: codes under another scale leave 8 to 17 dB (HTP simulator)",
        check: Together,
    },
    Rule {
        id: "O1",
        what: "operators that the toolchain takes",
        fix: "write the operator as others, or fold it",
        severity: Error,
        evidence: "ran: each operator alone on the HTP simulator, Intel's compiler and RKNN's",
        check: Graph(structure::known_operators),
    },
    Rule {
        id: "O2",
        what: "operators in the form in which they are taken",
        fix: "leave them in float; Erf only as x · (erf(x / √2) + 1) / 2, or write Gelu (opset 20)",
        severity: Error,
        evidence: "ran: Erf alone or quantized and Einsum in 16 bits are refused by the HTP simulator",
        check: Graph(structure::forms),
    },
    Rule {
        id: "O3",
        what: "operators that run on the NPU itself",
        fix: "let the host do it before or after, or write the operator as others",
        severity: Warning,
        evidence: "ran: the table that RKNN 2.5.0 prints for rk3588",
        check: Graph(structure::on_the_host),
    },
    Rule {
        id: "Q0",
        what: "a profile with quantized activations has some",
        fix: "calibrate and quantize, or choose a float profile",
        severity: Error,
        evidence: "the profile's own words",
        check: Graph(quantized::some_quantized),
    },
    Rule {
        id: "Q1",
        what: "scales are constant, finite and above 0; zeros have the codes' type and are 0 where codes are signed",
        fix: "write scale and zero as initializers; symmetric types have a zero of 0",
        severity: Error,
        evidence: "ran: weights around a zero that is not 0 and zeros of another type are refused by the HTP simulator, a scale of 0 leaves 19 dB",
        check: Graph(quantized::parameters),
    },
    Rule {
        id: "Q2",
        what: "activations have one scale and the profile's types",
        fix: "uint8 or uint16, one scale",
        severity: Error,
        evidence: "ran: a scale each channel and int16 · uint8 are refused by the HTP simulator",
        check: Graph(quantized::activations),
    },
    Rule {
        id: "Q2-signed",
        what: "activations are unsigned, but for second factors",
        fix: "uint8 or uint16; int16 for second factors only",
        severity: Warning,
        evidence: "ran: int16 and int8 alone run on the HTP simulator (83 and 45 dB), but attention in int16 is refused",
        check: Graph(quantized::signed_activations),
    },
    Rule {
        id: "Q3",
        what: "the input and the result of a linear layer have one width",
        fix: "round to the input's width first, then to the other: two QuantizeLinears",
        severity: Error,
        evidence: "ran: 16 to 8 and 8 to 16 bits are refused by the HTP simulator, for MatMul and Gemm",
        check: Graph(quantized::one_width),
    },
    Rule {
        id: "Q3-dynamic",
        what: "the first factor and the result of a product of two activations have one width",
        fix: "give both the wider type",
        severity: Warning,
        evidence: "ran: uint8 · uint8 -> uint16 is computed in float16 (HTP simulator)",
        check: Graph(quantized::one_width_of_activations),
    },
    Rule {
        id: "Q3-w16",
        what: "weights have at most 8 bits, for processors before v73",
        fix: "int8 a channel",
        severity: Warning,
        evidence: "source: onnxruntime issue 21848",
        check: Graph(quantized::wide_weights),
    },
    Rule {
        id: "Q4",
        what: "weights have the profile's types and scales along the output axis",
        fix: "int8, symmetric, a scale each output channel: axis 0 of Gemm(transB=1) and Conv, 1 of MatMul",
        severity: Error,
        evidence: "ran: block scales need uint16; along the wrong axis: 40 dB on the HTP simulator, which takes the right one, 24 dB in onnxruntime",
        check: Graph(quantized::weights),
    },
    Rule {
        id: "Q4-nibbles",
        what: "int4 comes with zeros, though they are 0",
        fix: "write a zero of int4 for each scale",
        severity: Error,
        evidence: "ran: without, QNN 2.7.0 reads int4 as uint4: -10 dB instead of 62 dB, with a scale each channel or one (HTP simulator)",
        check: Graph(quantized::nibbles_with_zeros),
    },
    Rule {
        id: "Q4-channels",
        what: "weights have a scale each output channel",
        fix: "a scale each output channel costs nothing when it runs",
        severity: Warning,
        evidence: "ran: 45 dB a channel, 43 dB with one scale; in the encoder of the tests 40 and 32 dB (HTP simulator)",
        check: Graph(quantized::per_channel),
    },
    Rule {
        id: "Q5",
        what: "a bias is int32 with the product of the input's and the weight's scale",
        fix: "quantize the bias anew, whenever the input's scale changes",
        severity: Error,
        evidence: "ran: a scale twice as large: 40 dB on the HTP simulator, which takes its own, 23 dB in onnxruntime",
        check: Graph(quantized::bias),
    },
    Rule {
        id: "Q6",
        what: "a norm's gain has a type that goes with the activation's",
        fix: "uint8 beside uint8 and uint16, or int16 beside uint16; or the norm in float",
        severity: Error,
        evidence: "ran: int8 beside uint8 or uint16 is refused by the HTP simulator; winml-cli's device table agrees",
        check: Graph(quantized::gains),
    },
    Rule {
        id: "Q7",
        what: "an operator with a constant in channels' codes is quantized whole",
        fix: "quantize its input and its result too, or keep its constant in float",
        severity: Error,
        evidence: "ran: refused by the HTP simulator, for MatMul, Gemm and Gather",
        check: Graph(quantized::complete),
    },
    Rule {
        id: "Q7-partial",
        what: "products, and operators with a quantized constant, are quantized whole or not at all",
        fix: "quantize both factors and the result",
        severity: Warning,
        evidence: "ran: computed in float16 (HTP simulator)",
        check: Graph(quantized::partial),
    },
    Rule {
        id: "Q8",
        what: "what only moves numbers has one scale before and after",
        fix: "use the input's scale and zero for the result",
        severity: Warning,
        evidence: "source: AIMET does not round such results anew; ran: the HTP simulator rounds anew, correctly: 72 dB in 16 bits, 30 dB in 8",
        check: Graph(quantized::moves),
    },
    Rule {
        id: "Q9",
        what: "ScatterElements has one scale for data, updates and result",
        fix: "quantize all three, and all that leads to the updates, with one scale and zero; or write Where",
        severity: Error,
        evidence: "ran: 89 dB tied, 8 to 10 dB untied; the decoder of the tests 61 and 17 dB (HTP simulator, against onnxruntime)",
        check: Graph(quantized::scatters),
    },
    Rule {
        id: "Q10",
        what: "Concat has one scale for its parts and its result",
        fix: "use the widest range for all",
        severity: Warning,
        evidence: "source: NNCF's unified scales; ran: the HTP simulator rounds anew, correctly",
        check: Graph(quantized::joins),
    },
    Rule {
        id: "Q11",
        what: "codes after a softmax span 0 to 1",
        fix: "scale 1/255 or 1/65535, zero 0",
        severity: Warning,
        evidence: "source: AIMET's constraints; half of the codes stand for nothing",
        check: Graph(quantized::probabilities),
    },
    Rule {
        id: "Q11-fixed",
        what: "16-bit Sigmoid and Tanh have the fixed steps of the QNN quantizer",
        fix: "Sigmoid: scale 1/65536, zero 0; Tanh: scale 1/32768, zero 32768",
        severity: Warning,
        evidence: "source: quant_config.py of onnxruntime; ran: other steps cost nothing on the HTP simulator",
        check: Graph(quantized::fixed),
    },
    Rule {
        id: "Q11-relu",
        what: "a Relu is not left to the saturation of codes",
        fix: "keep Relu nodes (QDQKeepRemovableActivations)",
        severity: Warning,
        evidence: "ran: OpenVINO drops 16-bit quantizers, and with them the Relu: 2.7 dB instead of 33.8 dB",
        check: Graph(quantized::relus),
    },
    Rule {
        id: "Q12",
        what: "operators that lose their sense in few bits stay float",
        fix: "leave the operator in float",
        severity: Error,
        evidence: "ran: Log in 16 bits: -8 dB over one range, 103 dB over another (HTP simulator); Einsum in 16 bits is refused",
        check: Graph(quantized::never),
    },
    Rule {
        id: "Q12-mask",
        what: "arithmetic of the mask stays float",
        fix: "quantize the finished mask only",
        severity: Error,
        evidence: "ran: Intel's compiler fails on a quantized Sub(1, mask)",
        check: Graph(quantized::mask_arithmetic),
    },
    Rule {
        id: "Q13",
        what: "the second factor of a product of two activations is of 8 bits, or int16",
        fix: "keys and values as uint8 with zero 128, or int16 with zero 0",
        severity: Warning,
        evidence: "ran: uint16 · uint16: 44 dB, uint16 · int16: 77 dB, uint16 · uint8: 81 dB (HTP simulator, against onnxruntime)",
        check: Graph(quantized::second_factors),
    },
    Rule {
        id: "Q14",
        what: "quantizers of 16 and 4 bits are of opset 21 or of com.microsoft",
        fix: "opset 21",
        severity: Error,
        evidence: "ran: onnxruntime refuses to load the file",
        check: Graph(quantized::versions),
    },
    Rule {
        id: "Q14-domain",
        what: "quantizers of com.microsoft are not used where the standard has them",
        fix: "write the standard's",
        severity: Warning,
        evidence: "ran: taken by the HTP simulator; source: no other tool than onnxruntime knows them",
        check: Graph(quantized::domains),
    },
    Rule {
        id: "Q15",
        what: "every step that was fixed in advance was touched by a sample",
        fix: "calibrate with samples that reach this value",
        severity: Error,
        evidence: "by definition: a range that nobody saw is a guess",
        check: Numbers(quantized::touched),
    },
    Rule {
        id: "R0",
        what: "calibration.json lies beside the file and holds all sums and products",
        fix: "write what calibration saw, {\"samples\": n, \"values\": {name: {min, max}}}",
        severity: Info,
        evidence: "R1, R3 and Q15 need it",
        check: Graph(structure::seen),
    },
    Rule {
        id: "R1",
        what: "sums and products reach at most half of the largest float, in codes the largest",
        fix: "scale the residual stream down: `rescale_residual` in the recipe",
        severity: Error,
        evidence: "ran: the HTP saturates at 65504: 52 dB to 25, 3 and -1.8 dB as values grow; t5-base reaches 66246",
        check: Graph(structure::sums_seen),
    },
    Rule {
        id: "R2",
        what: "a spelled root mean square norm has a form that the toolchain takes for a norm",
        fix: "write the profile's form, with the gain second, or a norm operator that it takes",
        severity: Error,
        evidence: "ran: numbers of 300 in forms with Reciprocal, Div, LpNormalization: 69, 12, 68 dB on the HTP simulator, 0, 69, 68 dB on RKNN's; x · x: 63 dB at |x| = 350, 12 dB at 1100, -18 dB at 11000; Reciprocal with the gain first: refused by the HTP simulator (1002)",
        check: Graph(norm::forms),
    },
    Rule {
        id: "R3",
        what: "powers, exponentials and sums over an axis reach at most half of the largest float",
        fix: "scale the residual stream down: `rescale_residual` in the recipe",
        severity: Error,
        evidence: "as R1",
        check: Graph(structure::powers_seen),
    },
];

/// Judges files that are to run together: rules about two graphs hold among all of them.
///
/// npu.json and calibration.json beside the files are read where they are. Errors: a file cannot be read.
pub fn lint(files: &[PathBuf], profile: &'static Profile) -> Result<Vec<Judged>, ExportError> {
    let models = files.iter().map(|file| OnnxFile::open(file)).collect::<Result<Vec<_>, _>>()?;
    let mut subjects = Vec::with_capacity(models.len());
    for model in &models {
        let dir = model.file.parent().unwrap_or(Path::new(""));
        subjects.push((Subject::new(model, profile, Evidence::read(dir)?)?, Host::read(dir)?));
    }
    let mut judged = Vec::with_capacity(files.len());
    for (i, (subject, host)) in subjects.iter().enumerate() {
        let mut findings = Vec::new();
        for rule in RULES {
            let Some(severity) = profile.level(rule.id, rule.severity) else { continue };
            let mut founds = Founds::new();
            match rule.check {
                Graph(check) => check(subject, &mut founds),
                Numbers(check) => check(subject, &mut founds)?,
                Together => {
                    together::past_and_present(subject, host.as_ref(), &mut founds);
                    for (_, (encoder, _)) in subjects.iter().enumerate().filter(|(j, _)| *j != i) {
                        together::across(encoder, subject, host.as_ref(), &mut founds);
                    }
                }
            }
            let finding =
                |Found { node, tensor, why }| Finding { rule: rule.id, severity, node, tensor, why, fix: rule.fix };
            findings.extend(founds.into_iter().map(finding));
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        judged.push(Judged { file: files[i].clone(), findings });
    }
    Ok(judged)
}

/// The graphs that a folder holds, by name. Errors: it cannot be read.
pub fn graphs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    let is_graph = |path: &PathBuf| path.extension().is_some_and(|end| end == "onnx");
    let mut graphs: Vec<PathBuf> = entries.into_iter().filter(is_graph).collect();
    graphs.sort();
    Ok(graphs)
}

/// How many findings have this severity.
pub fn count(judged: &[Judged], severity: Severity) -> usize {
    judged.iter().flat_map(|judged| &judged.findings).filter(|finding| finding.severity == severity).count()
}

#[cfg(test)]
mod tests;
