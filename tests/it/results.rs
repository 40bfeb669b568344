//! An algorithm whose results change has another number, so that no cache takes what the old one found for what the new one would.

use std::collections::BTreeMap;
use std::fmt::Write;

use graph::Graph;
use graph::progress::Quiet;
use quant::values::Values;
use quant::{
    Calibration, Equalize, Factors, GptqSettings, Method, Policy, RESULTS, RangeMethod, Samples, Smoothquant,
    StaticActivations, Statistics,
};
use sha2::{Digest, Sha256};
use validate::calibration::Calibrated;

use crate::calibration::{calibrated, quantized, split};
use crate::fixture::{arithmetic, fixture};
use crate::golden;

/// `algorithm number arithmetic digest`, a line each.
const GOLDEN: &str = "tests/fixtures/golden/results.txt";

/// A model, samples and what they showed.
struct Seen {
    graph: Graph,
    calibrated: Calibrated,
    statistics: Statistics,
}

impl Seen {
    fn new(checkpoint: &str) -> Seen {
        let model = split(&fixture(checkpoint));
        let mut calibrated = calibrated(&model, 6);
        let statistics = calibrated.gather(&model.graph, &Quiet).unwrap_or_else(|e| panic!("{e}"));
        Seen { graph: model.graph, calibrated, statistics }
    }

    fn with<T>(&self, use_it: impl FnOnce(&Calibration) -> T) -> T {
        let (feeds, dir) = (|sample: usize| self.calibrated.feeds(sample), std::env::temp_dir());
        let samples = Samples { entry: "full", count: self.calibrated.data.samples.len(), feeds: &feeds };
        use_it(&Calibration { samples, statistics: &self.statistics, gptq: GptqSettings::default(), dir: &dir })
    }

    /// The bits of all weights under some policies.
    fn weights(&self, policies: &[(&str, Method)]) -> String {
        let mut text = String::new();
        for (scheme, method) in policies {
            let policy = Policy { method: *method, ..Policy::of(scheme.parse().expect("a scheme")) };
            write!(text, "{scheme} {}", bits(&self.quantized(&policy))).expect("into memory");
        }
        text
    }

    fn quantized(&self, policy: &Policy) -> Graph {
        quantized(&self.graph, &self.calibrated, &self.statistics, policy).0
    }

    /// The factors that a setting chooses.
    fn factors(&self, how: Equalize) -> String {
        let policy = Policy { equalize: how, ..Policy::of("int8".parse().expect("a scheme")) };
        let plan = policy.plan(&self.graph).unwrap_or_else(|e| panic!("{e}"));
        let chosen = self.with(|known| quant::equalize::choose(&self.graph, how, &plan, Some(known), &Quiet));
        let chosen = chosen.unwrap_or_else(|e| panic!("{e}"));
        chosen.iter().map(|one| format!("{:?}\n", one.factors)).collect()
    }
}

fn bits(graph: &Graph) -> String {
    let mut text = String::new();
    for (_, weight) in graph.weights.iter() {
        let numbers: Vec<u32> = weight.read().expect("reads").into_iter().map(f32::to_bits).collect();
        writeln!(text, "{} {numbers:?}", weight.name).expect("into memory");
    }
    text
}

/// What an algorithm says of two models, one of which has biases.
fn result(algorithm: &str, t5: &Seen, bart: &Seen) -> String {
    match algorithm {
        "statistics" => serde_json::to_string(&t5.statistics).expect("plain data"),
        "values" => {
            format!("{:?}", t5.with(|known| Values::gather(&t5.graph, &[], &known.samples, &Quiet)).expect("runs"))
        }
        "ranges" => {
            let methods = [RangeMethod::Minmax, RangeMethod::Percentile(99.9), RangeMethod::Mse, RangeMethod::Entropy];
            let steps = |range| t5.statistics.steps(StaticActivations { bits: 8, range }).expect("finite");
            format!("{:?}", methods.map(steps))
        }
        "affine" => {
            t5.weights(&[("int8", Method::Nearest), ("int4-g32", Method::Nearest), ("int4-g32-asym", Method::Nearest)])
        }
        "float8" => {
            t5.weights(&[("fp8", Method::Nearest), ("fp8", Method::Importance), ("fp8-tensor", Method::Nearest)])
        }
        "ggml" => t5.weights(&[("q4_0", Method::Nearest), ("q5_1", Method::Importance), ("mxfp4", Method::Importance)]),
        "gptq" => t5.weights(&[("int4-g32", Method::Gptq), ("q4_0", Method::Gptq)]),
        "equalize" => {
            let weights = bart.factors(Equalize::Weights(Factors::default()));
            bart.factors(Equalize::Smoothquant(Smoothquant::default())) + &weights
        }
        "awq" => bart.factors(Equalize::Awq(Factors::default())),
        "bias_correction" => {
            let mut graph = bart.quantized(&Policy::of("int8".parse().expect("a scheme")));
            let corrected = quant::bias::correct(&bart.graph, &mut graph, &bart.statistics).expect("reads");
            assert!(!corrected.is_empty());
            bits(&graph)
        }
        "rescale_residual" => format!("{:?}", quant::rescale::extents(&t5.graph, &t5.statistics)),
        other => panic!("{other}: no result to tell its changes by; give it one here"),
    }
}

#[test]
fn an_algorithm_whose_results_changed_has_another_number() {
    let (t5, bart) = (Seen::new("t5-rows-of-32"), Seen::new("bart-rows-of-32"));
    let arithmetic = arithmetic();
    let found = RESULTS.iter().map(|(algorithm, number)| {
        let digest = golden::hex(Sha256::new_with_prefix(result(algorithm, &t5, &bart)));
        (format!("{algorithm} {number} {arithmetic}"), digest)
    });
    let found: BTreeMap<String, String> = found.collect();
    let mut golden = golden::read(GOLDEN);
    // Also under BLESS: a number that was given stands for the results that it was given for.
    let changed = |(key, digest): &(&String, &String)| golden.get(*key).is_some_and(|known| known != *digest);
    let changed: Vec<&String> = found.iter().filter(changed).map(|(key, _)| key).collect();
    assert!(changed.is_empty(), "other results under the same number; raise RESULTS beside the algorithm: {changed:?}");
    if std::env::var_os("BLESS").is_some() {
        golden.extend(found);
        return golden::bless(GOLDEN, &golden);
    }
    // Lines of other arithmetic say nothing of this one.
    let is_known = |key: &String| golden.contains_key(key) || golden.keys().all(|known| !known.ends_with(&arithmetic));
    let unknown: Vec<&String> = found.keys().filter(|key| !is_known(key)).collect();
    assert!(unknown.is_empty(), "numbers without results; BLESS=1 writes them to {GOLDEN}: {unknown:?}");
}
