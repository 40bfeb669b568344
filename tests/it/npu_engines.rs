//! NPU artifacts in engines that run graphs of fixed shapes: what a host makes of them is what the graph means.

use std::path::Path;

use converters::export::npu::{CacheUpdate, Npu};
use converters::{Artifact, Format, Model, import};
use graph::{Feeds, Interpreter, Tensor};
use validate::Runtime;
use validate::chain::{Arithmetic, Floor};
use validate::report::{Check, Outcome};
use validate::runtime::htp::Htp;
use validate::runtime::onnx::OnnxRuntime;
use validate::runtime::openvino::OpenVino;
use validate::runtime::reference::Reference;
use validate::runtime::rknn::Rknn;
use validate::runtime::{Options, Session};

use crate::fixture::{expected, fixture, npu_fixtures, source};
use crate::import::relative_l2;

/// A checkpoint that was written for a profile, and what it is asked.
struct Written {
    model: Model,
    artifact: Artifact,
    sources: Feeds,
    target_ids: Tensor,
    _home: tempfile::TempDir,
}

/// An operator or two of each kind: relative positions, norms with and without a mean, gated and plain layers, frames.
const RKNN_FIXTURES: [&str; 6] = ["t5-v1.1", "marian", "bart", "whisper", "m2m_100", "t5gemma"];

/// With two lengths of sources, of which the shorter is too short for the recorded ones.
fn written(dir: &Path, profile: &'static str, update: CacheUpdate) -> Written {
    let (recorded, _) = expected(dir);
    let (sources, target_ids) = (source(&recorded), recorded["decoder_input_ids"].clone());
    let longest = sources.get("input_ids").map_or(1, |ids| ids.shape()[1]);
    let target = target_ids.shape()[1] + 1;
    let npu = Npu { profile: profile.into(), source: vec![longest - 1, longest + 3], target, update, ..Npu::DEFAULT };
    let mut model = import(dir).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    npu.prepare(&mut model).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let home = tempfile::tempdir().expect("temporary folder");
    let artifact = npu.write(&model, home.path()).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    Written { model, artifact, sources, target_ids, _home: home }
}

/// All logits of a batch, at once or one token at a time.
fn logits(session: &mut dyn Session, sources: &Feeds, target_ids: &Tensor, at_once: usize) -> Vec<Vec<f32>> {
    let &[rows, tokens] = target_ids.shape() else { panic!("rank 2") };
    session.encode(sources).unwrap_or_else(|e| panic!("{e}"));
    let mut found = vec![Vec::new(); rows];
    for from in (0..tokens).step_by(at_once) {
        let n = at_once.min(tokens - from);
        let ids = target_ids.as_i64().expect("ids").chunks(tokens).flat_map(|row| row[from..from + n].to_vec());
        let out = session.decode(&Tensor::i64([rows, n], ids.collect())).unwrap_or_else(|e| panic!("{e}"));
        let width = out.shape()[2];
        for (row, logits) in found.iter_mut().zip(out.as_f32().expect("floats").chunks(n * width)) {
            row.extend_from_slice(logits);
        }
    }
    found
}

/// How far an engine is from the graph, and whether a second pass in other pieces gives the same bits.
fn distance(written: &Written, session: &mut dyn Session) -> f64 {
    let Written { model, sources, target_ids, .. } = written;
    let interpreter = Interpreter::new(&model.graph);
    let tokens = target_ids.shape()[1];
    let expected = logits(&mut Reference::new(&interpreter), sources, target_ids, tokens);
    let whole = logits(session, sources, target_ids, tokens);
    assert!(logits(session, sources, target_ids, 1) == whole, "the same steps give the same bits");
    relative_l2(whole.into_iter().flatten(), expected.into_iter().flatten())
}

fn limit(runtime: &dyn Runtime, model: &Model) -> f64 {
    Floor::of(runtime.name(), Arithmetic::of(&model.graph)).expect("measured").rel_l2
}

/// What is wrong with an engine over every fixture: it refuses one, is farther from the graph than its noise, or `is_broken` a
/// check of its own. `both`: with either update, not by turns.
fn over_families(
    runtime: &dyn Runtime,
    profile: &'static str,
    both: bool,
    is_broken: fn(&Check) -> bool,
) -> Vec<String> {
    const UPDATES: [CacheUpdate; 2] = [CacheUpdate::Host, CacheUpdate::Where];
    let mut wrong = Vec::new();
    for (i, (name, dir)) in npu_fixtures().iter().enumerate() {
        // A family in several fixtures is seen with both.
        let updates = if both { &UPDATES[..] } else { &UPDATES[i % 2..][..1] };
        for update in updates {
            let written = written(dir, profile, *update);
            let mut session = match runtime.open(&written.artifact, &Options::DEFAULT) {
                Ok(session) => session,
                Err(error) => {
                    wrong.push(format!("{name}, {update:?}: {error}"));
                    continue;
                }
            };
            let found = distance(&written, &mut *session);
            println!("{name}, {update:?}: {found:.1e}");
            if found > limit(runtime, &written.model) {
                wrong.push(format!("{name}, {update:?}: {found:e}"));
            }
            let checks = session.checks();
            let broken = checks.iter().filter(|check| is_broken(check));
            wrong.extend(broken.map(|check| format!("{name}: {}: {}", check.what, check.sentence)));
        }
    }
    wrong
}

#[test]
fn onnxruntime_makes_of_a_static_artifact_what_the_graph_means() {
    let wrong = over_families(&OnnxRuntime, "npu-portable", true, |_| true);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs onnxruntime-qnn in $VIRTUAL_ENV"]
fn the_htp_simulator_takes_every_node_of_every_family_and_keeps_to_its_noise() {
    let wrong = over_families(&Htp, "qnn-htp-fp16", false, |check| check.outcome != Outcome::Passed);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs openvino in $TREFOIL_OPENVINO_PYTHON"]
fn openvino_makes_of_a_static_artifact_what_the_graph_means() {
    // It has something to tell of roundings alone, for which nobody asked here.
    let wrong = over_families(&OpenVino, "npu-portable", false, |_| true);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs rknn-toolkit2 in $TREFOIL_RKNN_PYTHON; a quarter of an hour"]
fn the_rknn_simulator_keeps_to_its_noise_and_tells_where_operators_run() {
    let mut wrong = Vec::new();
    for (i, name) in RKNN_FIXTURES.iter().enumerate() {
        let update = if i % 2 == 0 { CacheUpdate::Host } else { CacheUpdate::Where };
        for profile in ["npu-portable", "rknn-fp16"] {
            let written = written(&fixture(name), profile, update);
            let mut session = match Rknn.open(&written.artifact, &Options::DEFAULT) {
                Ok(session) => session,
                Err(error) => {
                    wrong.push(format!("{name}, {profile}: {error}"));
                    continue;
                }
            };
            let found = distance(&written, &mut *session);
            let checks = session.checks();
            println!("{name}, {profile}, {update:?}: {found:.1e}; {}; {}", checks[0].what, checks[0].sentence);
            if checks[0].outcome != Outcome::Info || !checks[0].sentence.contains("Gather") {
                wrong.push(format!("{name}, {profile}: {}: {}", checks[0].what, checks[0].sentence));
            }
            if found > limit(&Rknn, &written.model) {
                wrong.push(format!("{name}, {profile}: {found:e}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs onnxruntime-qnn in $VIRTUAL_ENV"]
fn onnxruntime_keeps_its_own_device_after_the_simulator_was_loaded() {
    let written = written(&fixture("t5-v1.1"), "npu-portable", CacheUpdate::Host);
    drop(Htp.open(&written.artifact, &Options::DEFAULT).unwrap_or_else(|e| panic!("{e}")));
    let mut session = OnnxRuntime.open(&written.artifact, &Options::DEFAULT).unwrap_or_else(|e| panic!("{e}"));
    // Its floats are of 32 bits, the simulator's of 16.
    let found = distance(&written, &mut *session);
    assert!(found <= limit(&OnnxRuntime, &written.model), "{found:e}");
}
