//! Reports to be shown.

use metrics::{Distances, Figure, Score, Spread, TaskMetric};
use report::*;

/// A report of nothing.
pub fn nothing() -> Report {
    Report {
        trefoil: "0.1.0".to_owned(),
        recipe: Note::default(),
        model: ModelReport { name: "leaf".to_owned(), ..ModelReport::default() },
        data: DataReport::default(),
        calibration: None,
        checks: Vec::new(),
        artifacts: Vec::new(),
        others: Vec::new(),
        costs: Vec::new(),
        columns: Vec::new(),
        made: Made::default(),
    }
}

/// A report of one artifact that was run and timed, all of whose checks passed.
pub fn good() -> Report {
    let passed = |link, what: &str| Check::passed(link, what, "");
    Report {
        data: DataReport {
            source: "words.jsonl".to_owned(),
            sha256: "ab".repeat(32),
            samples: 4,
            positions: 20,
            metrics: vec![TaskMetric::ExactMatch],
            ..DataReport::default()
        },
        model: ModelReport { score: Some(score(75.0, Some([19.4, 99.4]))), ..nothing().model },
        checks: vec![passed(Link::Import, "recorded logits")],
        artifacts: vec![artifact("onnx")],
        ..nothing()
    }
}

/// One metric.
pub fn score(points: f64, interval: Option<[f64; 2]>) -> Score {
    let figure = Figure { metric: TaskMetric::ExactMatch, points, interval, ended: None };
    Score { texts: 4, endless: 0, figures: vec![figure] }
}

/// An artifact with the quantized graph and onnxruntime.
pub fn artifact(name: &str) -> ArtifactReport {
    let kl = |value| Check::judge(Link::Quantization, "logits", Metric::Kl, Some(value), Limit::AtMost(0.1), "too far");
    ArtifactReport {
        name: name.to_owned(),
        folder: String::new(),
        format: "onnx".to_owned(),
        bytes: 4_500_000,
        files: Vec::new(),
        bits_per_weight: 8.06,
        checks: vec![kl(0.01), Check::passed(Link::Export, "weights read back", "")],
        runs: vec![run("interpreter", 0.01), run("onnxruntime", 0.012)],
        speed: vec![speed("onnxruntime")],
        tensors: Vec::new(),
        values: Vec::new(),
        generations: vec![
            generation(0, Some("a b"), "a b", ["a b", "a b"]),
            generation(1, Some("c"), "c", ["c", "d"]),
            generation(2, Some("e"), "x", ["x", "y"]),
        ],
        substitutions: Vec::new(),
    }
}

/// An engine that ran all of the data.
pub fn run(name: &str, kl: f64) -> Run {
    let distances = Distances {
        positions: 20,
        max_abs: None,
        rel_l2: None,
        sqnr_db: None,
        cosine: None,
        kl: Some(kl),
        top1: Some(1.0),
    };
    Run {
        engine: engine(name),
        to_float: Some(distances),
        agreement: None,
        score: Some(score(75.0, Some([19.4, 99.4]))),
    }
}

/// An engine.
pub fn engine(name: &str) -> Engine {
    Engine { name: name.to_owned(), version: "1.2".to_owned(), settings: String::new() }
}

/// What a clock said.
pub fn speed(name: &str) -> Speed {
    let spread = |median: f64| Spread { median, low: median * 0.95, high: median * 1.05 };
    let against = AgainstFloat { speedup: Some(spread(1.8)), first_token: spread(0.9), peak: None };
    Speed {
        engine: engine(name),
        samples: 4,
        rounds: 7,
        tokens: 16,
        first_token_ms: spread(12.0),
        tokens_per_s: Some(spread(310.0)),
        peak_mb: None,
        against_float: Some(against),
        machine_load: [None; 2],
        sentence: String::new(),
    }
}

/// A question and what the float model and each run said.
pub fn generation(sample: u64, target: Option<&str>, float: &str, outputs: [&str; 2]) -> Generation {
    Generation {
        sample,
        input: format!("word {sample}"),
        target: target.map(str::to_owned),
        float: float.to_owned(),
        outputs: outputs.iter().map(|output| Some((*output).to_owned())).collect(),
        endless: Vec::new(),
        partings: Vec::new(),
    }
}

/// Text that no page may take at its word.
pub const HOSTILE: &str =
    "<script>alert(1)</script> | `a` **b** [c](d) @all \u{0}\u{b}\u{202e}\u{ffff}]]> & \"q\"\r\n\n# heading\n| --- |";

/// A report in which every text is hostile, a megabyte long where it may be long, and figures are missing.
pub fn hostile() -> Report {
    let long = HOSTILE.repeat(1 + 1_000_000 / HOSTILE.len());
    let mut report = good();
    report.model.name = HOSTILE.to_owned();
    report.trefoil = HOSTILE.to_owned();
    report.data.source = long.clone();
    report.recipe = Note { about: HOSTILE.to_owned(), text: long.clone() };
    report.others = vec![Note { about: HOSTILE.to_owned(), text: HOSTILE.to_owned() }; 50];
    let artifact = &mut report.artifacts[0];
    artifact.name = HOSTILE.to_owned();
    artifact.runs[1].engine.name = HOSTILE.to_owned();
    artifact.runs[1].to_float = None;
    artifact.runs[1].score = None;
    artifact.generations = (0..200).map(|i| generation(i, Some("right"), "right", [HOSTILE, HOSTILE])).collect();
    artifact.generations[0].outputs[0] = Some(long.clone());
    let worst = Check::judge(Link::Runtime, HOSTILE, Metric::Kl, Some(f64::NAN), Limit::AtMost(0.1), HOSTILE);
    artifact.checks.extend(vec![worst; 40]);
    let others = vec![artifact.clone(); 119];
    report.artifacts[0].checks.push(Check::not_run(Link::Runtime, long, HOSTILE));
    report.artifacts.extend(others);
    report
}
