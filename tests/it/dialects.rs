//! GGUF for engines other than llama.cpp: the same numbers under their names, and everything that they do not take refused at once.

pub mod crisp_asr;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use converters::dialect::Engine;
use converters::export::gguf::{Array, FILE, Gguf, GgufFile, Value};
use converters::{ExportError, Format, Model, import};
use graph::Tensor;
use quant::Scheme;
use serde_json::json;
use validate::Greedy;
use validate::runtime::reference::Reference;

use crate::fixture::{copy, fixture, fixtures, repository};
use crate::gguf::{bits, quantized, write};

const TRANSCRIBE: Gguf = Gguf { engine: Some(Engine::TranscribeCpp), ..Gguf::DEFAULT };
/// What CrispASR makes of texts: `PYTHON translated.py FILE SOURCE TARGET LIMIT TEXT …` prints its answers.
const TRANSLATED: &str = include_str!("dialects/translated.py");
const CRISP_ASR: Gguf = Gguf { engine: Some(Engine::CrispAsr), ..Gguf::DEFAULT };

pub fn prepared(dir: &Path) -> Model {
    let mut model = import(dir).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    model
}

/// Every fixture of a family that transcribe.cpp runs, and that it takes.
fn taken() -> Vec<PathBuf> {
    let takes = |dir: &PathBuf| {
        let model = prepared(dir);
        let of_it = model.architecture.dialects().iter().any(|dialect| dialect.engine == Engine::TranscribeCpp);
        of_it && TRANSCRIBE.check(&model).is_ok()
    };
    fixtures().into_iter().filter(takes).collect()
}

/// Under how many schemes a dialect holds checkpoints: each is read back bit for bit, and opened as a checkpoint.
fn round_trips<'d>(dirs: impl IntoIterator<Item = &'d Path>, format: &Gguf) -> usize {
    let (mut round_trips, mut refused) = (0, 0);
    for dir in dirs {
        let exact = prepared(dir);
        for scheme in Scheme::ALL {
            let Some(model) = quantized(&exact, *scheme) else { continue };
            let place = format!("{} as {scheme}", dir.display());
            match format.check(&model) {
                Ok(()) => {
                    let (_home, artifact) = write(&model, format);
                    let read = format.read_weights(&model, &artifact).unwrap_or_else(|e| panic!("{place}: {e}"));
                    assert!(bits(&read) == bits(&model.graph.weights), "{place}");
                    let again = prepared(&artifact.dir);
                    assert!(bits(&again.graph.weights) == bits(&model.graph.weights), "{place}, opened");
                    round_trips += 1;
                }
                Err(ExportError::CannotHold { .. }) => refused += 1,
                Err(other) => panic!("{place}: {other}"),
            }
        }
    }
    println!("{round_trips} round trips, {refused} refused");
    round_trips
}

#[test]
fn every_scheme_reads_back_bit_for_bit_and_opens_as_a_checkpoint() {
    let taken = taken();
    let round_trips = round_trips(taken.iter().map(PathBuf::as_path), &TRANSCRIBE);
    // Three floats each.
    assert!(round_trips >= 3 * taken.len() && taken.len() >= 2, "{round_trips}");
}

#[test]
fn names_and_keys_are_the_engines_and_the_front_end_is_in_the_file() {
    let model = prepared(&fixture("whisper"));
    let (_home, artifact) = write(&model, &TRANSCRIBE);
    let file = GgufFile::open(&artifact.dir.join(FILE)).expect("opens");
    assert_eq!(file.get("general.architecture"), Some(&Value::string("whisper")));
    assert_eq!(file.get("trefoil.dialect"), Some(&Value::string("transcribe.cpp")));
    assert_eq!(file.get("stt.whisper.encoder.n_heads"), Some(&Value::U32(4)));
    assert_eq!(file.get("stt.whisper.decoder.ffn_dim"), Some(&Value::U32(36)));
    assert_eq!(file.get("stt.whisper.translate_token_id"), Some(&Value::U32(56)));
    let languages = ["en", "de", "fr", "es"].map(str::to_owned).to_vec();
    assert_eq!(file.get("general.languages"), Some(&Value::Array(Array::String(languages))));
    let shape = |name: &str| file.tensor(name).map(|tensor| tensor.shape.clone());
    assert_eq!(shape("frontend.mel_filterbank"), Some(vec![8, 201]));
    assert_eq!(shape("frontend.window"), Some(vec![400]));
    assert_eq!(shape("dec.blocks.0.cross_attn.q.weight"), Some(vec![16, 16]));
    assert_eq!(shape("enc.conv.0.weight"), Some(vec![16, 8, 3]));
}

#[test]
fn what_the_engine_does_not_take_is_refused_at_once_with_what_would_do() {
    let t5 = prepared(&fixture("t5-v1.1"));
    let error = TRANSCRIBE.check(&t5).expect_err("it hears, and reads nothing").to_string();
    let expected = "gguf cannot hold 1 thing: transcribe.cpp does not run the architecture t5\nhint: a t5 opens with \
                    `for: llama.cpp` or `for: CrispASR`";
    assert_eq!(error, expected);
    let llama = Gguf { engine: Some(Engine::LlamaCpp), ..Gguf::DEFAULT };
    assert!(llama.check(&t5).is_ok());
    let error = llama.check(&prepared(&fixture("whisper"))).expect_err("no T5").to_string();
    assert!(error.ends_with("hint: a whisper opens with `for: transcribe.cpp`"), "{error}");
    let error = TRANSCRIBE.check(&prepared(&fixture("bart"))).expect_err("no engine's").to_string();
    assert!(error.contains("leave out `for`"), "{error}");

    let folder = copy("whisper");
    let edit = |file: &str, key: &str, value: serde_json::Value| {
        let path = folder.path().join(file);
        let text = fs::read(&path).expect("there");
        let mut json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        json[key] = value;
        fs::write(&path, json.to_string()).expect("written");
    };
    edit("config.json", "activation_function", json!("relu"));
    edit("preprocessor_config.json", "padding_value", json!(0.5));
    let error = TRANSCRIBE.check(&prepared(folder.path())).expect_err("two things").to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[0], "gguf cannot hold 2 things:");
    assert!(lines[1].contains("activation_function") && lines[2].contains("padding_value"), "{error}");
    assert!(lines[3].starts_with("hint: without `for`"), "{error}");
}

/// One file for two engines: all that llama.cpp reads is as it is without `for`, and the other's keys stand beside it.
#[test]
fn a_t5_for_crisp_asr_is_llama_cpps_with_more_keys() {
    let files = [&Gguf::DEFAULT, &CRISP_ASR].map(|format| {
        let mut model = prepared(&repository("models/g2p-t5"));
        format.prepare(&mut model).expect("prepared");
        let (home, artifact) = write(&model, format);
        let read = format.read_weights(&model, &artifact).expect("reads");
        assert!(bits(&read) == bits(&model.graph.weights));
        assert!(bits(&prepared(&artifact.dir).graph.weights) == bits(&model.graph.weights), "opened");
        (GgufFile::open(&artifact.dir.join(FILE)).expect("opens"), home)
    });
    let [(plain, _), (both, _)] = &files;
    let missing = |(key, value): &&(String, Value)| both.get(key) != Some(value);
    let missing: Vec<&String> = plain.metadata.iter().filter(missing).map(|(key, _)| key).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let names = |file: &GgufFile| file.tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(plain), names(both));
    assert_eq!(both.get("t5.encoder.n_layers"), Some(&Value::U32(4)));
    assert_eq!(both.get("t5.decoder.n_layers"), Some(&Value::U32(2)));
    assert_eq!(both.get("t5.tie_word_embeddings"), Some(&Value::U32(1)));

    let error = |name: &str| CRISP_ASR.check(&prepared(&fixture(name))).expect_err("refused").to_string();
    assert!(error("t5-v1.0").contains("it computes gated gelu alone"), "{}", error("t5-v1.0"));
    assert!(error("umt5").contains("relative bias of the first layer"), "{}", error("umt5"));
    assert!(
        error("t5-v1.1").contains("SentencePiece's pieces alone, and the checkpoint has none"),
        "{}",
        error("t5-v1.1")
    );
}

#[test]
fn a_table_of_the_front_end_that_is_another_is_found() {
    let model = prepared(&fixture("whisper"));
    let (_home, artifact) = write(&model, &TRANSCRIBE);
    let path = artifact.dir.join(FILE);
    let window =
        GgufFile::open(&path).expect("opens").tensor("frontend.window").expect("there").data.read().expect("reads");
    let mut bytes = fs::read(&path).expect("there");
    let at = bytes.windows(window.len()).position(|part| part == window).expect("it is in the file");
    bytes[at + 400] ^= 1;
    fs::write(&path, bytes).expect("written");
    let error = TRANSCRIBE.read_weights(&model, &artifact).expect_err("another window").to_string();
    assert!(error.contains("frontend.window is not what the checkpoint's front end computes with"), "{error}");
}

/// What a script of a Python with the engines prints.
pub fn printed(script: &str, arguments: &[&std::ffi::OsStr]) -> serde_json::Value {
    let python = std::env::var_os("VIRTUAL_ENV").map_or_else(|| repository(".venv"), PathBuf::from).join("bin/python");
    let home = tempfile::tempdir().expect("temporary folder");
    let file = home.path().join("script.py");
    fs::write(&file, script).expect("written");
    let done = Command::new(&python).arg(&file).args(arguments).output().expect("starts");
    let (said, why) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{why}");
    serde_json::from_str(said.trim()).unwrap_or_else(|e| panic!("{e}: {said}"))
}

#[test]
#[ignore = "needs crispasr in $VIRTUAL_ENV; CI turns it on"]
fn crisp_asr_says_what_the_interpreter_says() {
    const WORDS: [&str; 6] = ["hello", "record", "through", "xylophone", "cytogen", "asencio"];
    let dir = repository("models/g2p-t5");
    let mut exact = prepared(&dir);
    CRISP_ASR.prepare(&mut exact).expect("prepared");
    let tokenizer = converters::Tokenizer::open(&dir).expect("opens");
    let greedy = Greedy::from(exact.checkpoint.generation());
    // In blocks it rounds activations too, and close calls part.
    for scheme in ["f32", "f16"] {
        let model = quantized(&exact, scheme.parse().expect("a scheme")).expect("fits");
        let (_home, artifact) = write(&model, &CRISP_ASR);
        let ours = WORDS.map(|word| {
            let ids = tokenizer.encode(word).expect("tokens");
            let shape = [1, ids.len()];
            let mask = Tensor::i64(shape, vec![1; ids.len()]);
            let mut session = Reference::new(Box::new(graph::eval::Interpreter::new(&model.graph)));
            let fed = crate::fixture::tokens(&Tensor::i64(shape, ids), &mask);
            let said = greedy.run(&mut session, &fed).unwrap_or_else(|e| panic!("{e}")).remove(0);
            tokenizer.decode(&said.tokens, true).expect("a text")
        });
        let file = artifact.dir.join(FILE);
        let arguments: Vec<&std::ffi::OsStr> = std::iter::once(file.as_os_str())
            .chain(["en", "en", "64"].iter().chain(&WORDS).map(|word| word.as_ref()))
            .collect();
        assert_eq!(printed(TRANSLATED, &arguments), json!(ours), "{scheme}");
    }
}
