//! The links that need no engine and no recording: passes, export.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use converters::ExportError;
use converters::export::npu::{HOST_FILE, Host, Severity, profile};
use graph::eval::{Feeds, Interpreter};
use graph::{Graph, Tensor, WeightData, WeightError, Weights};
use rayon::prelude::*;

use super::apart::relative;
use super::culprit;
use super::error::ChainError;
use super::explained::Explained;
use super::limits::{Arithmetic, F32_NOISE};
use super::measure::{self, Outputs, Plan, Way};
use super::pair::Pair;
use super::subject::Subject;
use crate::lint::{self, Finding};
use crate::runtime::reference::{Reference, caching};
use crate::runtime::{RuntimeError, Session};
use metrics::Meter;
use report::{Check, Limit, Link, Metric, OutputFile};

/// Elements of a weight compared at a time.
const PIECE: usize = 1 << 20;
/// Weights, or rules, that a sentence names.
const NAMED: usize = 5;

/// The graph before the passes against the one after, and the whole target against steps with cache.
///
/// Errors: the graph cannot be evaluated.
pub fn passes(
    subject: &Subject,
    interpreter: &Interpreter,
    plan: &Plan,
    outputs: &Outputs,
) -> Result<Vec<Check>, ChainError> {
    let limit = Limit::AtMost(F32_NOISE);
    let mut checks = Vec::new();
    let (_, call) = plan.of(Way::Padded).next().expect("every plan has a padded batch");
    // Two of very different lengths: an encoder may be long.
    let mut rows = vec![0, call.batch.len() - 1];
    rows.dedup();
    let batch = call.batch.of(&rows);
    let decoder_input_ids = batch.decoder_columns(0, call.tokens(None).min(batch.decoder_tokens()));
    let mut feeds = batch.source.clone();
    feeds.insert("decoder_input_ids".to_owned(), decoder_input_ids.clone());
    let failed = |e: graph::EvalError| RuntimeError::Failed { runtime: "reference", message: e.to_string() };
    let whole = |interpreter: &Interpreter| -> Result<Tensor, ChainError> {
        let mut out = interpreter.call("full", &feeds).map_err(failed)?;
        out.remove("logits").ok_or(ChainError::Lacks { expected: "an output logits of the entry full" })
    };
    let imported = caching(subject.imported);
    let before = whole(&imported)?;
    let after = whole(interpreter)?;
    let mut session = Reference::new(interpreter);
    session.encode(&batch.source)?;
    let split = crate::generate::decode(&mut session, &decoder_input_ids)?;
    let mut compare = |what: &str, found: &Tensor, broken: &str| {
        let (Some(a), Some(b), true) = (before.as_f32(), found.as_f32(), before.shape() == found.shape()) else {
            let sentence = format!("expected logits {:?}, found {:?}", before.shape(), found.shape());
            checks.push(Check::failed(Link::Passes, what, sentence));
            return;
        };
        let mut meter = Meter::ZERO;
        meter.add(a, b, plan.vocabulary);
        let found = meter.distances();
        checks.push(Check::judge(Link::Passes, what, Metric::RelL2, found.rel_l2, limit, broken).with(found));
    };
    let broken = "a pass changes the meaning of the graph: leave out one pass at a time to find it";
    let off = match (before.as_f32(), after.as_f32()) {
        (Some(_), Some(_)) if relative(&before, &after) > F32_NOISE => first_off([&imported, interpreter], &feeds),
        _ => String::new(),
    };
    compare("the whole model before and after the passes", &after, &format!("{broken}{off}"));
    compare(
        "the whole model and encoder + decoder",
        &split,
        "the entries that split made compute something else than the whole model",
    );
    let found = measure::between(plan, outputs, Way::Padded, Way::Steps)?.distances();
    let broken = "decoding with cache differs from the whole target: split moved a position, mask or bias wrongly";
    let what = "the whole target and one token at a time, with cache";
    checks.push(Check::judge(Link::Passes, what, Metric::RelL2, found.rel_l2, limit, broken).with(found));
    Ok(checks)
}

/// The first value behind a pass that is another one than before, for a sentence; values that passes made have no name from before.
fn first_off([before, after]: [&Interpreter; 2], feeds: &Feeds) -> String {
    let find = || {
        let explained = Explained::new(before.graph(), after.graph(), &HashMap::new()).ok()?;
        let pair = Pair::new(before, after).ok()?;
        culprit::find(&pair, &explained, feeds).ok()?
    };
    find().map_or(String::new(), |off| format!("; {} differs first, relative L2 {:.2e}", off.value, off.rel_l2))
}

/// Whether every weight of `quantized` is still stored as in `exact`, or wider.
pub fn lossless(exact: &Graph, quantized: &Graph) -> bool {
    let wide = |data: &WeightData| data.type_name() == "f32";
    quantized.weights.iter().all(|(_, weight)| {
        let original = exact.weights.find(&weight.name).map(|id| &exact.weights.get(id).data);
        match (&weight.data, original) {
            (data, Some(original)) => wide(data) || data.base().type_name() == original.base().type_name(),
            (_, None) => false,
        }
    }) && Arithmetic::of(quantized) == Arithmetic::of(exact)
}

/// The graph's weights against those read back from the artifact, bit for bit.
pub fn export(graph: &Graph, read: Result<Weights, ExportError>) -> Check {
    let what = format!("{} weights read back", graph.weights.len());
    let read = match read {
        Ok(read) => read,
        Err(error) => return Check::failed(Link::Export, what, format!("the artifact cannot be read back: {error}")),
    };
    let ids: Vec<_> = graph.weights.iter().map(|(id, _)| id).collect();
    let mut wrong: Vec<String> = ids.par_iter().filter_map(|id| differs(graph.weights.get(*id), &read).err()).collect();
    let extra = read.iter().filter(|(_, w)| graph.weights.find(&w.name).is_none());
    wrong.extend(extra.map(|(_, w)| format!("{}: not a weight of the graph", w.name)));
    let count = wrong.len();
    let more = if count > NAMED { format!("; and {} more", count - NAMED) } else { String::new() };
    wrong.truncate(NAMED);
    let broken = format!(
        "the file does not hold what the graph does, so its writer or reader is wrong: {}{more}",
        wrong.join("; ")
    );
    Check::judge(Link::Export, what, Metric::DifferingWeights, Some(count as f64), Limit::AtMost(0.0), &broken)
}

/// The files of an artifact against those that its manifest names.
pub fn digests(manifest: &[OutputFile], found: &[OutputFile]) -> Check {
    let what = format!("{} files and their digests", manifest.len());
    let of = |files: &[OutputFile], path: &str| files.iter().find(|file| file.path == path).cloned();
    let mut wrong: Vec<String> = manifest
        .iter()
        .filter_map(|then| match of(found, &then.path) {
            None => Some(format!("{} is gone", then.path)),
            Some(now) if now.bytes != then.bytes => {
                Some(format!("{}: expected {} bytes, found {}", then.path, then.bytes, now.bytes))
            }
            Some(now) if now.sha256 != then.sha256 => Some(format!("{} has another SHA-256", then.path)),
            Some(_) => None,
        })
        .collect();
    let strangers = found.iter().filter(|now| of(manifest, &now.path).is_none());
    wrong.extend(strangers.map(|now| format!("{} was not written with it", now.path)));
    if wrong.is_empty() {
        return Check::passed(Link::Export, what, "");
    }
    let more = if wrong.len() > NAMED { format!("; and {} more", wrong.len() - NAMED) } else { String::new() };
    wrong.truncate(NAMED);
    let sentence = format!("the artifact is not what was written: {}{more}; convert it again", wrong.join("; "));
    Check::failed(Link::Export, what, sentence)
}

/// The graphs of an artifact for NPUs against the rules of the profile that it was written for.
pub fn lint(dir: &Path) -> Check {
    linted(dir).unwrap_or_else(|sentence| Check::failed(Link::Export, "lint", sentence))
}

fn linted(dir: &Path) -> Result<Check, String> {
    let host =
        Host::read(dir).map_err(|e| e.to_string())?.ok_or_else(|| format!("expected a {HOST_FILE}, found none"))?;
    let profile = profile(&host.profile)
        .ok_or_else(|| format!("{HOST_FILE}: expected a known profile, found {}", host.profile))?;
    let graphs = lint::graphs(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let judged = lint::lint(&graphs, profile).map_err(|e| e.to_string())?;
    let what = format!("lint for {}", profile.name);
    let warnings = match lint::count(&judged, Severity::Warning) {
        0 => "no warnings".to_owned(),
        1 => "1 warning".to_owned(),
        n => format!("{n} warnings"),
    };
    let findings = judged.iter().flat_map(|judged| &judged.findings);
    let mut errors: BTreeMap<&str, (usize, &Finding)> = BTreeMap::new();
    for finding in findings.filter(|finding| finding.severity == Severity::Error) {
        errors.entry(finding.rule).or_insert((0, finding)).0 += 1;
    }
    if errors.is_empty() {
        return Ok(Check::passed(Link::Export, what, warnings));
    }
    let named = errors.iter().take(NAMED).map(|(rule, (count, first))| format!("{rule} {count} times: {}", first.why));
    let named: Vec<String> = named.collect();
    let more = match errors.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!("; and {n} more rules"),
    };
    let sentence = format!(
        "the toolchain refuses the graphs or computes them wrongly, see `trefoil lint`: {}{more}; {warnings}",
        named.join("; ")
    );
    Ok(Check::failed(Link::Export, what, sentence))
}

/// Errors: one line that says how the weight differs.
fn differs(weight: &graph::Weight, read: &Weights) -> Result<(), String> {
    let name = &weight.name;
    let found = read.find(name).map(|id| read.get(id)).ok_or_else(|| format!("{name}: missing"))?;
    if found.shape != weight.shape {
        return Err(format!("{name}: expected {:?}, found {:?}", weight.shape, found.shape));
    }
    let [rows, columns] = weight.matrix();
    let step = (PIECE / columns.max(1)).max(1);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for from in (0..rows).step_by(step) {
        let piece = from..rows.min(from + step);
        let text = |e: WeightError| e.to_string();
        weight.rows(piece.clone(), &mut a).map_err(text)?;
        found.rows(piece, &mut b).map_err(text)?;
        if let Some(i) = a.iter().zip(&b).position(|(a, b)| a.to_bits() != b.to_bits()) {
            let (row, column) = (from + i / columns.max(1), i % columns.max(1));
            return Err(format!("{name}[{row}, {column}]: expected {:?}, found {:?}", a[i], b[i]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use graph::{Blob, FloatType, Weight};

    use super::*;

    fn weights(list: &[(&str, [usize; 2], &[f32])]) -> Weights {
        let mut weights = Weights::default();
        for (name, shape, values) in list {
            let mut bytes = vec![0; values.len() * 4];
            FloatType::F32.encode(values, &mut bytes);
            let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
            weights.push(Weight { name: (*name).into(), shape: shape.to_vec(), data });
        }
        weights
    }

    fn sentence(graph: &[(&str, [usize; 2], &[f32])], read: &[(&str, [usize; 2], &[f32])]) -> (f64, String) {
        let graph = Graph { weights: weights(graph), ..Graph::default() };
        let check = export(&graph, Ok(weights(read)));
        (check.value.expect("a count"), check.sentence)
    }

    #[test]
    fn bits_are_compared_and_every_kind_of_difference_is_told() {
        let graph = [("a", [2, 2], &[1.0, 2.0, 0.0, f32::NAN][..]), ("b", [1, 1], &[1.0])];
        assert_eq!(sentence(&graph, &graph), (0.0, String::new()));
        let minus_zero = [("a", [2, 2], &[1.0, 2.0, -0.0, f32::NAN][..]), graph[1]];
        let (count, text) = sentence(&graph, &minus_zero);
        assert!(count == 1.0 && text.ends_with("a[1, 0]: expected 0.0, found -0.0"), "{text}");
        let (count, text) = sentence(&graph, &[("a", [4, 1], graph[0].2), ("c", [1, 1], &[1.0])]);
        assert_eq!(count, 3.0);
        assert!(text.ends_with("a: expected [2, 2], found [4, 1]; b: missing; c: not a weight of the graph"), "{text}");
    }

    #[test]
    fn a_truncated_weight_is_told_and_does_not_panic() {
        let graph = Graph { weights: weights(&[("a", [1, 2], &[1.0, 2.0])]), ..Graph::default() };
        let data = WeightData::Stored { blob: Blob::memory([0; 7]), dtype: FloatType::F32 };
        let mut read = Weights::default();
        read.push(Weight { name: "a".into(), shape: vec![1, 2], data });
        let check = export(&graph, Ok(read));
        assert!(check.sentence.contains("a: cannot read its rows"), "{}", check.sentence);
    }
}
