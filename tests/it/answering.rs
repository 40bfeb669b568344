//! Engines that give answers and no logits: what the chain makes of them, and each of them on a file of ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use converters::checkpoint::Generation;
use converters::checkpoint::generation::Prompt;
use converters::dialect::Engine as Wanted;
use converters::export::gguf::{FILE, Gguf};
use converters::{Artifact, Format, Model, import};
use frontend::audio;
use graph::progress::Quiet;
use quant::Scheme;
use serde_json::{Value, json};
use validate::chain::validate_in;
use validate::report::{ArtifactReport, Check, Link, Metric, Outcome};
use validate::runtime::answering::{Answer, Answers, Form, Question, SAMPLING_RATE, Words};
use validate::runtime::crisp_asr::CrispAsr;
use validate::runtime::transcribe::TranscribeCpp;
use validate::runtime::{ANSWERERS, Answerer, Fit, Options, Present, Program};
use validate::{Context, Engine, Limits, RuntimeError};

use crate::cli::{code, converted, text, with_engines};
use crate::fixture::{copy, expected, fixture, repository};
use crate::gguf::write;
use crate::validate::{Grown, Memory, artifact, grown};

/// An engine of a test: says what it is given, by sample.
struct Fake {
    said: Vec<Vec<i64>>,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Missing,
    Dies,
    Hears,
}

impl Program for Fake {
    fn name(&self) -> &'static str {
        "transcribe.cpp"
    }

    fn runs(&self, format: &str) -> bool {
        format == "memory"
    }

    fn probe(&self, _: &Options) -> Result<Present, RuntimeError> {
        Ok(Present { version: String::new(), place: String::new() })
    }
}

impl Answerer for Fake {
    fn open(&self, _: &Artifact, _: &Options, _: &Generation) -> Result<Box<dyn Answers>, RuntimeError> {
        let (why, install) = ("no library".to_owned(), "pip install it".to_owned());
        match self.fault {
            Fault::Missing => Err(RuntimeError::Unavailable { runtime: self.name(), why, install }),
            fault => Ok(Box::new(Opened { said: self.said.clone(), fault })),
        }
    }
}

struct Opened {
    said: Vec<Vec<i64>>,
    fault: Fault,
}

impl Answers for Opened {
    fn engine(&self) -> Engine {
        Engine { name: "transcribe.cpp".to_owned(), version: "0".to_owned(), settings: "greedy".to_owned() }
    }

    fn form(&self) -> Form {
        if self.fault == Fault::Hears { Form::Sound } else { Form::Tokens }
    }

    fn answer(&mut self, questions: &[Question]) -> Result<Vec<Answer>, RuntimeError> {
        if self.fault == Fault::Dies {
            let message = "the Python process broke off: it ended with signal 6".to_owned();
            return Err(RuntimeError::Failed { runtime: "transcribe.cpp", message });
        }
        let answer = |_| Answer { words: Words::Tokens(self.said.remove(0)), ended: true };
        Ok(questions.iter().map(answer).collect())
    }
}

fn validated(grown: &Grown, engine: &Fake) -> ArtifactReport {
    let home = tempfile::tempdir().expect("temporary folder");
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let context = Context {
        baseline: &baseline,
        name: "leaf",
        quantized: &grown.exact,
        artifact: &artifact(home.path()),
        format: &Memory(|| Ok(grown.exact.graph.weights.clone())),
        limits: &Limits::default(),
        options: &Options::DEFAULT,
        tensors: Vec::new(),
        substitutions: Vec::new(),
        files: Vec::new(),
        manifest: None,
    };
    validate_in(&[], &[engine], context, &Quiet).expect("the chain runs to its end")
}

/// What the graph says of the samples, in the order in which engines are asked: by the length of the source.
fn expected_answers(grown: &Grown) -> Vec<Vec<i64>> {
    let said = validated(grown, &Fake { said: Vec::new(), fault: Fault::Missing });
    let mut samples: Vec<_> = said.generations.iter().collect();
    samples.sort_by_key(|one| (one.input.split_whitespace().count(), one.sample));
    let ids = |text: &str| text.split_whitespace().map(|id| id.parse().expect("an id")).collect();
    samples.iter().map(|one| ids(one.outputs[0].as_deref().expect("the graph's"))).collect()
}

fn check(report: &ArtifactReport, metric: Metric) -> &Check {
    report
        .checks
        .iter()
        .find(|check| check.link == Link::Runtime && check.metric == metric)
        .unwrap_or_else(|| panic!("{metric:?} in no check of {:#?}", report.checks))
}

#[test]
fn an_engine_that_says_the_same_passes_and_has_no_logits() {
    let grown = grown(&fixture("t5-v1.1"));
    let said = expected_answers(&grown);
    let report = validated(&grown, &Fake { said, fault: Fault::None });
    assert_eq!(
        (check(&report, Metric::SameAnswers).value, check(&report, Metric::DifferingWords).value),
        (Some(1.0), Some(0.0))
    );
    assert_eq!(check(&report, Metric::DifferingWords).outcome, Outcome::Passed);
    assert_eq!((report.runs.len(), report.runs[1].to_float), (2, None));
    assert_eq!(report.runs[1].agreement.expect("sequences").identical, 1.0);
    assert!(report.checks.iter().all(|check| check.outcome != Outcome::Failed), "{:#?}", report.checks);
}

#[test]
fn an_engine_that_says_something_else_is_found_with_the_first_token() {
    let grown = grown(&fixture("t5-v1.1"));
    let mut said = expected_answers(&grown);
    for tokens in &mut said {
        tokens.iter_mut().for_each(|token| *token = (*token + 7) % 40 + 2);
    }
    let report = validated(&grown, &Fake { said, fault: Fault::None });
    let words = check(&report, Metric::DifferingWords);
    assert_eq!(words.outcome, Outcome::Failed, "{words:#?}");
    assert!(
        words.sentence.starts_with("the engine says something else than the quantized graph: see where"),
        "{words:#?}"
    );
    let partings = report.generations.iter().flat_map(|one| &one.partings).filter(|one| one.stage == Link::Runtime);
    let partings: Vec<_> = partings.collect();
    assert!(!partings.is_empty());
    assert!(partings.iter().all(|one| one.sentence == "the engine shows no logits" && one.position == 0));
}

#[test]
fn what_could_not_be_asked_is_not_run_and_what_dies_has_failed() {
    let grown = grown(&fixture("t5-v1.1"));
    let told = |fault| {
        let report = validated(&grown, &Fake { said: Vec::new(), fault });
        assert_eq!(report.runs.len(), 1);
        let last = report.checks.last().expect("checks").clone();
        (last.outcome, last.engine_is_missing, last.sentence)
    };
    let (outcome, is_missing, sentence) = told(Fault::Missing);
    assert_eq!(
        (outcome, is_missing, sentence.as_str()),
        (Outcome::NotRun, true, "no library; to run it: pip install it")
    );
    let (outcome, is_missing, sentence) = told(Fault::Hears);
    assert_eq!((outcome, is_missing), (Outcome::NotRun, false));
    assert_eq!(sentence, "the engine takes clips, and the data has drawn numbers");
    let (outcome, _, sentence) = told(Fault::Dies);
    assert_eq!(outcome, Outcome::Failed);
    assert!(sentence.ends_with("transcribe.cpp: the Python process broke off: it ended with signal 6"), "{sentence}");
}

fn dialect(engine: Option<Wanted>) -> Gguf {
    Gguf { engine, ..Gguf::DEFAULT }
}

fn prepared(dir: &Path, format: &Gguf) -> Model {
    let mut model = import(dir).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    format.prepare(&mut model).expect("prepared");
    model
}

#[test]
fn a_file_is_its_engines_and_nobody_elses() {
    let t5 = repository("models/g2p-t5");
    for (dir, engine, expected) in [
        (fixture("whisper"), Some(Wanted::TranscribeCpp), "transcribe.cpp"),
        (fixture("moonshine"), Some(Wanted::TranscribeCpp), "transcribe.cpp"),
        (fixture("whisper"), None, ""),
        (t5.clone(), Some(Wanted::CrispAsr), "CrispASR"),
        (t5, None, ""),
    ] {
        let format = dialect(engine);
        let (_home, artifact) = write(&prepared(&dir, &format), &format);
        let fitting = ANSWERERS.iter().filter(|answerer| answerer.fit(&artifact) == Fit::Runs);
        let names: Vec<&str> = fitting.map(|answerer| answerer.name()).collect();
        assert_eq!(names.join(" "), expected, "{}", dir.display());
    }
}

/// What transcribe.cpp opens, with the tokens of the prompt.
pub const HEARD: [(&str, usize); 2] = [("whisper", 4), ("moonshine", 1)];
const CLIP: &str = "tests/fixtures/audio/chirp.wav";

/// The answer of an engine as words.
fn said(answers: &mut dyn Answers, question: Question) -> String {
    match answers.answer(&[question]).unwrap_or_else(|e| panic!("{e}")).remove(0).words {
        Words::Text(text) => text.trim().to_owned(),
        Words::Tokens(_) => panic!("its own tokenizer reads tokens"),
    }
}

#[test]
#[ignore = "needs transcribe-cpp in $VIRTUAL_ENV; CI turns it on"]
fn transcribe_cpp_says_what_transformers_said_of_a_clip() {
    let format = dialect(Some(Wanted::TranscribeCpp));
    for (name, prompt) in HEARD {
        let model = prepared(&fixture(name), &format);
        let decoding = model.checkpoint.generation().clone();
        let (recorded, _) = expected(&fixture(name));
        let tokens = &recorded["clip_greedy"].as_i64().expect("ids")[prompt..];
        // Without a tokenizer, a token is a number, and a special one its name.
        let names: BTreeMap<i64, String> =
            decoding.prompt.iter().flat_map(Prompt::named).map(|(name, id)| (id, name)).collect();
        let word = |id: &i64| names.get(id).cloned().unwrap_or_else(|| format!(" {id}"));
        let words: String = tokens.iter().filter(|id| !decoding.eos_token_ids.contains(id)).map(word).collect();
        let samples = audio::samples(&repository(CLIP), SAMPLING_RATE).expect("a clip");
        let (_home, artifact) = write(&model, &format);
        let mut answers = TranscribeCpp.open(&artifact, &Options::DEFAULT, &decoding).unwrap_or_else(|e| panic!("{e}"));
        let found = said(&mut *answers, Question::Sound(samples));
        // Recorded up to a limit below the engine's.
        assert!(found.starts_with(words.trim()), "{name}: expected {words}, found {found}");
    }
}

#[test]
#[ignore = "needs transcribe-cpp and crispasr in $VIRTUAL_ENV; CI turns it on"]
fn a_file_that_is_cut_short_or_of_another_family_is_refused_with_the_engines_words() {
    let whisper = dialect(Some(Wanted::TranscribeCpp));
    let model = prepared(&fixture("whisper"), &whisper);
    let (_home, artifact) = write(&model, &whisper);
    let path = artifact.dir.join(FILE);
    let decoding = model.checkpoint.generation();
    let refused = |answerer: &dyn Answerer| {
        let error = answerer.open(&artifact, &Options::DEFAULT, decoding).err().expect("refused");
        assert!(matches!(error, RuntimeError::Failed { .. }), "{error}");
        error.to_string()
    };
    let error = refused(&CrispAsr);
    assert!(error.starts_with("CrispASR: ") && error.contains(FILE), "{error}");
    let whole = fs::read(&path).expect("there");
    fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    let error = refused(&TranscribeCpp);
    assert!(error.starts_with("transcribe.cpp: ") && error.contains(FILE), "{error}");
}

#[test]
#[ignore = "needs crispasr in $VIRTUAL_ENV; CI turns it on"]
fn crisp_asr_stands_in_the_report_beside_the_graph() {
    let home = tempfile::tempdir().expect("temporary folder");
    let model: PathBuf = repository("models/g2p-t5");
    let recipe = format!(
        "model: {0}\nout: out\nartifacts:\n  - gguf: {{ for: CrispASR }}\n    quantize: {{ scheme: {1} }}\nvalidate:\n  \
         data: {0}/data/test.jsonl\n  metric: token_error_rate\n  samples: 60\n",
        model.display(),
        Scheme::Keep.name()
    );
    let report = converted(with_engines, home.path(), &recipe);
    let artifact = &report["artifacts"][0];
    let runs = artifact["runs"].as_array().expect("a list");
    let found = runs.iter().find(|run| run["engine"]["name"] == "CrispASR").expect("it ran");
    assert_eq!((&found["to_float"], &found["agreement"]["sequences"]), (&Value::Null, &json!(60)), "{found:#}");
    let checks = artifact["checks"].as_array().expect("a list");
    let of = |metric: &str| checks.iter().find(|check| check["metric"] == metric).expect("compared");
    // One word of the sixty has two answers that are 0.0005 nats apart.
    assert!(of("same_answers")["value"].as_f64() >= Some(59.0 / 60.0), "{:#}", of("same_answers"));
    let words = of("differing_words");
    assert_eq!((&words["outcome"], &words["value"]), (&json!("passed"), &json!(0.0)), "{words:#}");
}

#[test]
#[ignore = "needs crispasr in $VIRTUAL_ENV; CI turns it on"]
fn crisp_asr_is_told_the_languages_that_a_recipe_names() {
    let home = tempfile::tempdir().expect("temporary folder");
    fs::write(home.path().join("texts.txt"), "hello world\nthe quick brown fox\nthe cat sat on the mat\n")
        .expect("written");
    // It feeds the last token too: where there is no place for it, its answers are shorter by one.
    let model = copy("m2m_100-translated");
    let settings = model.path().join("generation_config.json");
    let longer = fs::read_to_string(&settings).expect("there");
    fs::write(&settings, longer.replace("\"max_length\": 200", "\"max_length\": 20")).expect("written");
    let recipe = |languages: &str| {
        format!(
            "model: {}\nout: out\nlanguages: {languages}\nartifacts:\n  - gguf: {{ for: CrispASR }}\n    quantize: {{ scheme: keep }}\n\
             validate:\n  data: texts.txt\n",
            model.path().display()
        )
    };
    let said = |languages: &str| {
        let report = converted(with_engines, home.path(), &recipe(languages));
        let artifact = &report["artifacts"][0];
        let runs = artifact["runs"].as_array().expect("a list");
        let place = runs.iter().position(|run| run["engine"]["name"] == "CrispASR").expect("it ran");
        assert_eq!(runs[place]["agreement"]["sequences"], json!(3), "{:#}", runs[place]);
        let of = |one: &Value| one["outputs"][place].as_str().expect("an answer").to_owned();
        let answers = |name: usize| -> Vec<String> {
            let all = artifact["generations"].as_array().expect("a list").iter();
            all.map(|one| one["outputs"][name].as_str().expect("an answer").split_whitespace().collect()).collect()
        };
        assert_eq!(answers(place), answers(0), "the engine and the quantized graph");
        artifact["generations"].as_array().expect("a list").iter().map(of).collect::<Vec<_>>()
    };
    assert_ne!(said("{ source_lang: en, target_lang: de }"), said("{ source_lang: fr, target_lang: zh }"));
}

/// What becomes of a Whisper that whisper.cpp opens: the chain asks it a clip.
#[test]
#[ignore = "needs pywhispercpp in $VIRTUAL_ENV; CI turns it on"]
fn whisper_cpp_stands_in_the_report_beside_the_graph() {
    let (home, model) = (tempfile::tempdir().expect("temporary folder"), crate::whisper_cpp::small());
    let line = json!({ "input": repository(CLIP).display().to_string() });
    fs::write(home.path().join("clips.jsonl"), line.to_string()).expect("written");
    let recipe = format!(
        "model: {}\nout: out\nartifacts:\n  - whisper.cpp: {{}}\n    quantize: {{ scheme: f16 }}\nvalidate:\n  data: clips.jsonl\n",
        model.path().display()
    );
    let file = home.path().join("recipe.yaml");
    fs::write(&file, recipe).expect("written");
    let output = with_engines(&["convert", &file.display().to_string(), "--offline", "--no-bench"]);
    // Drawn weights say words that a little noise changes, and the limit is that of trained ones.
    assert!(code(&output) <= 1, "{}", text(&output.stderr));
    let report: Value =
        serde_json::from_slice(&fs::read(home.path().join("out/report.json")).expect("there")).expect("JSON");
    let checks = report["artifacts"][0]["checks"].as_array().expect("a list");
    let words = checks.iter().find(|check| check["metric"] == "differing_words").expect("compared");
    assert_eq!(words["limit"], json!({ "at_most": 0.03 }), "{words:#}");
    let runs = report["artifacts"][0]["runs"].as_array().expect("a list");
    let found = runs.iter().find(|run| run["engine"]["name"] == "whisper.cpp").expect("it ran");
    assert_eq!((&found["engine"]["version"], &found["to_float"]), (&json!("1.5.1"), &Value::Null), "{found:#}");
    assert_eq!(found["agreement"]["sequences"], json!(1), "{found:#}");
}
