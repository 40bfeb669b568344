//! GGUF artifacts opened as checkpoints with nothing but the file, and run.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use converters::ImportError;
use converters::audio::{AudioError, Clip, FeatureExtractor, Features};
use converters::export::gguf::{FILE, Fallback, Gguf, GgufFile, Value};
use converters::export::safetensors::Safetensors;
use converters::{ARCHITECTURES, Architecture, Artifact, Checkpoint, Format, Model, Semantics, Tokenizer, import};
use graph::progress::Quiet;
use graph::{Blob, Build, Computed, Feeds, FloatType, Interpreter, Tensor, Weight, WeightData};
use quant::Scheme;
use tempfile::TempDir;
use validate::chain::validate_in;
use validate::report::{Link, Outcome};
use validate::runtime::Options;
use validate::runtime::interpreter::OwnInterpreter;
use validate::runtime::llama::LlamaCpp;
use validate::runtime::reference::{Reference, caching};
use validate::{Context, Fit, Limits, Program, Runtime, Session};

use crate::cli;
use crate::fixture::{copy, expected, fixture};
use crate::gguf::{all_models, bits, prepared, quantized, write};
use crate::tokenizer::{copied, families, runs};
use crate::validate::grown;

/// Schemes whose logits are compared; the weights of all are.
const RUN: [&str; 4] = ["keep", "f16", "q8_0", "q4_k"];

/// Steps that a session decodes.
const STEPS: usize = 5;

static OPTIONS: LazyLock<Options> = LazyLock::new(|| Options { offline: true, ..Options::DEFAULT });

fn scheme(name: &str) -> Scheme {
    name.parse().expect("a scheme")
}

/// The file of an artifact in a folder of its own.
fn alone(artifact: &Artifact) -> (TempDir, Artifact) {
    let home = tempfile::tempdir().expect("temporary folder");
    fs::copy(artifact.dir.join(FILE), home.path().join(FILE)).expect("copied");
    let artifact = Artifact::list("gguf", home.path()).expect("listed");
    (home, artifact)
}

/// Recorded inputs of the whole pass, the first rows of each.
fn inputs(dir: &Path, model: &Model) -> Feeds {
    const ROWS: usize = 3;
    let (recorded, _) = expected(dir);
    let entry = model.graph.entry("full").expect("the whole pass");
    let fed = recorded.into_iter().filter(|(name, _)| entry.input(name).is_some());
    fed.map(|(name, tensor)| {
        let mut shape = tensor.shape().to_vec();
        let row: usize = shape[1..].iter().product();
        shape[0] = shape[0].min(ROWS);
        let kept = shape[0] * row;
        let tensor = match tensor.as_i64() {
            Some(ids) => Tensor::i64(shape, ids[..kept].to_vec()),
            None => Tensor::f32(shape, tensor.as_f32().expect("floats")[..kept].to_vec()),
        };
        (name, tensor)
    })
    .collect()
}

/// Bits of every output of the whole pass.
fn logits(model: &Model, feeds: &Feeds) -> Vec<(String, Vec<u32>)> {
    let out = Interpreter::new(&model.graph).call("full", feeds).expect("evaluates");
    out.into_iter()
        .map(|(name, tensor)| (name, tensor.as_f32().expect("floats").iter().map(|x| x.to_bits()).collect()))
        .collect()
}

fn opened(dir: &Path) -> Model {
    let mut model = import(dir).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    model
}

/// What the import of a folder says about its file.
fn refusal(dir: &Path) -> String {
    let error = import(dir).err().expect("refused").to_string();
    error.strip_prefix(&format!("{}: ", dir.join(FILE).display())).unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[test]
fn a_file_alone_opens_as_the_graph_that_it_was_written_from_with_not_a_bit_changed() {
    let mut compared = 0;
    for dir in all_models() {
        let prepared = prepared(&dir);
        for scheme in Scheme::ALL {
            let Some(model) = quantized(&prepared, *scheme) else { continue };
            let place = format!("{} as {scheme}", dir.display());
            // Codes that no block holds are written as the numbers that they mean.
            let (_home, artifact) = write(&model, &Gguf { fallback: Fallback::F32, ..Gguf::DEFAULT });
            let (_alone, artifact) = alone(&artifact);
            let read = opened(&artifact.dir);
            assert!(bits(&read.graph.weights) == bits(&model.graph.weights), "{place}");
            assert_eq!(read.checkpoint.config_json(), model.checkpoint.config_json(), "{place}");
            assert_eq!(read.checkpoint.generation(), model.checkpoint.generation(), "{place}");
            if RUN.contains(&scheme.name().as_str()) {
                let feeds = inputs(&dir, &model);
                assert!(logits(&read, &feeds) == logits(&model, &feeds), "{place}");
                compared += 1;
            }
        }
    }
    // Floats of every model; q8_0 and q4_k where rows are whole blocks.
    assert!(compared >= 2 * all_models().len() + 2, "{compared}");
}

#[test]
fn what_stands_in_the_file_counts_and_not_what_lies_beside_it() {
    let (home, artifact) = write(&prepared(&fixture("t5-v1.1")), &Gguf::DEFAULT);
    fs::write(home.path().join("config.json"), "{").expect("written");
    fs::write(home.path().join("generation_config.json"), "{").expect("written");
    let read = import(&artifact.dir).expect("the file is whole");
    assert_eq!(read.checkpoint.config().model_type(), Some("t5"));
    let files: Vec<_> = read.checkpoint.inputs().iter().map(|file| file.file_name().expect("a file")).collect();
    assert_eq!(files, [FILE]);
    // Weights that a checkpoint has of its own win over a file that was grown from one.
    fs::copy(fixture("t5-v1.1").join("model.safetensors"), home.path().join("model.safetensors")).expect("copied");
    let error = import(home.path()).err().expect("config.json counts now").to_string();
    assert!(error.contains("config.json: not the expected JSON"), "{error}");
}

#[test]
fn the_interpreter_on_the_file_says_what_the_quantized_graph_says_bit_for_bit_at_every_step() {
    let mut compared = 0;
    for dir in all_models() {
        let prepared = prepared(&dir);
        for name in ["keep", "q8_0"] {
            let Some(model) = quantized(&prepared, scheme(name)) else { continue };
            let place = format!("{} as {name}", dir.display());
            let (_home, artifact) = write(&model, &Gguf { fallback: Fallback::F32, ..Gguf::DEFAULT });
            let (_alone, artifact) = alone(&artifact);
            let mut file = OwnInterpreter.open(&artifact, &OPTIONS).unwrap_or_else(|e| panic!("{place}: {e}"));
            let interpreter = caching(&model.graph);
            let mut graph = Reference::new(&interpreter);
            assert_eq!(file.limit_tokens(), graph.limit_tokens(), "{place}");
            let mut source = inputs(&dir, &model);
            let ids = source.remove("decoder_input_ids").expect("recorded");
            let said = |session: &mut dyn Session| -> Vec<Tensor> {
                session.encode(&source).expect("encoded");
                let [rows, columns] = *ids.shape() else { panic!("i64[b, dec]") };
                let column = |j: usize| (0..rows).map(|i| ids.as_i64().expect("ids")[i * columns + j]).collect();
                let step = |j| session.decode(&Tensor::i64([rows, 1], column(j))).expect("decoded");
                (0..columns.min(STEPS)).map(step).collect()
            };
            assert!(said(&mut *file) == said(&mut graph), "{place}");
            compared += 1;
        }
    }
    assert!(compared > all_models().len(), "{compared}");
}

#[test]
fn a_scale_that_the_last_norm_has_in_it_is_not_applied_again() {
    let dir = fixture("t5-v1.0");
    let model = prepared(&dir);
    assert_eq!(model.folded_logit_scale, Some(0.25));
    let (_home, artifact) = write(&model, &Gguf::DEFAULT);
    let (home, artifact) = alone(&artifact);
    let feeds = inputs(&dir, &model);
    let read = opened(&artifact.dir);
    assert_eq!(read.folded_logit_scale, Some(0.25));
    assert!(logits(&read, &feeds) == logits(&model, &feeds));

    // Under another name the key means nothing, and the config's scale comes on top: what the test above would see.
    let edited = |skip: usize, new: &[u8]| {
        let mut bytes = fs::read(artifact.dir.join(FILE)).expect("there");
        let key = b"trefoil.folded_logit_scale";
        let at = bytes.windows(key.len()).position(|w| w == key).expect("the key") + skip;
        bytes[at..at + new.len()].copy_from_slice(new);
        let other = tempfile::tempdir().expect("temporary folder");
        fs::write(other.path().join(FILE), bytes).expect("written");
        other
    };
    let twice = edited(0, b"n");
    assert!(logits(&opened(twice.path()), &feeds) != logits(&model, &feeds));
    let value = "trefoil.folded_logit_scale".len() + 4;
    let other = refusal(edited(value, &0.5_f32.to_le_bytes()).path());
    assert_eq!(other, "drop_logit_scale: expected a logit scale of 0.5, found 0.25");
    let nan = refusal(edited(value, &f32::NAN.to_le_bytes()).path());
    assert_eq!(nan, "trefoil.folded_logit_scale: expected a finite f32, found F32(NaN)");

    // Written once more it is the same file; transformers' config has no word for it.
    let again = Gguf { name: Some("t5-v1.0".to_owned()), ..Gguf::DEFAULT };
    let mut read = import(home.path()).expect("imports");
    graph::passes::run(&mut read.graph).expect("passes");
    again.prepare(&mut read).expect("prepared");
    let (_second, second) = write(&read, &again);
    assert!(fs::read(second.dir.join(FILE)).expect("there") == fs::read(artifact.dir.join(FILE)).expect("there"));
    let error = Safetensors::DEFAULT.check(&read).expect_err("scaled already").to_string();
    assert!(error.starts_with("safetensors: the weight of the last norm is multiplied by 0.25 in "), "{error}");
}

/// The file of a fixture, and what the import of an edited copy says.
struct Lie {
    home: TempDir,
    bytes: Vec<u8>,
}

impl Lie {
    fn new(name: &str, scheme: &str) -> Lie {
        let model = quantized(&prepared(&fixture(name)), self::scheme(scheme)).expect("fits");
        let (home, artifact) = write(&model, &Gguf::DEFAULT);
        let bytes = fs::read(artifact.dir.join(FILE)).expect("written");
        fs::remove_file(home.path().join("config.json")).expect("removed");
        Lie { home, bytes }
    }

    /// Where a text begins for the `nth` time.
    fn at(&self, text: &str, nth: usize) -> usize {
        let places = self.bytes.windows(text.len()).enumerate().filter(|(_, w)| *w == text.as_bytes());
        places.map(|(at, _)| at).nth(nth).unwrap_or_else(|| panic!("{text} is not in the file"))
    }

    fn import(&self, bytes: &[u8]) -> Result<Model, String> {
        fs::write(self.home.path().join(FILE), bytes).expect("written");
        import(self.home.path()).map_err(|error| error.to_string())
    }

    /// With `new` in place of `text`, `skip` bytes after its start.
    fn says(&self, text: &str, skip: usize, new: &[u8]) -> String {
        self.says_all(&[(self.at(text, 0) + skip, new)])
    }

    fn says_all(&self, edits: &[(usize, &[u8])]) -> String {
        let mut bytes = self.bytes.clone();
        for (at, new) in edits {
            bytes[*at..at + new.len()].copy_from_slice(new);
        }
        let error = self.import(&bytes).err().expect("refused");
        let (file, dir) = (self.home.path().join(FILE), self.home.path());
        error.replace(&file.display().to_string(), "FILE").replace(&dir.display().to_string(), "DIR")
    }
}

#[test]
fn a_file_that_lies_about_the_checkpoint_is_refused_with_the_key() {
    let lie = Lie::new("t5-v1.1", "keep");
    assert!(lie.import(&lie.bytes).is_ok());
    let key = "trefoil.version".len();
    assert_eq!(
        lie.says("trefoil.version", 0, b"n"),
        "FILE: trefoil.version: expected 1, found no such key; only a file that trefoil wrote opens as a checkpoint"
    );
    assert_eq!(lie.says("trefoil.version", key + 4, &[2]), "FILE: trefoil.version: expected 1, found U32(2)");
    assert_eq!(lie.says("trefoil.version", key, &[5]), "FILE: trefoil.version: expected 1, found I32(1)");
    assert_eq!(lie.says("trefoil.config", 0, b"n"), "FILE: expected the key trefoil.config, found no such key");
    assert_eq!(
        lie.says("trefoil.tensors", 0, b"n"),
        "FILE: trefoil.tensors: expected 61 strings, one a tensor, found no such key"
    );
    // One string less, and that many bytes of the tensor table are no longer strings.
    let array = lie.at("trefoil.tensors", 0) + "trefoil.tensors".len() + 4 + 4;
    assert!(lie.says_all(&[(array, &60_u64.to_le_bytes())]).starts_with("FILE: "));
    // One tensor less: what is left is well-formed and means nothing.
    assert_eq!(
        lie.says_all(&[(8, &60_u64.to_le_bytes())]),
        "FILE: trefoil.tensors: expected 60 strings, one a tensor, found 61 strings"
    );
    let text = "trefoil.config".len() + 4 + 8;
    let json = lie.says("trefoil.config", text, b"[");
    assert!(json.starts_with("FILE: its config.json: not the expected JSON: "), "{json}");
    let generation = lie.says("trefoil.generation_config", "trefoil.generation_config".len() + 4 + 8, b"!");
    assert!(generation.starts_with("FILE: its generation_config.json: not the expected JSON: "), "{generation}");
    let not_a_string = lie.says("trefoil.generation_config", "trefoil.generation_config".len(), &[10]);
    assert!(not_a_string.starts_with("FILE: "), "{not_a_string}");

    let at = |text: &str| lie.at(text, 0);
    let model_type = lie.at("\"model_type\": \"t5\"", 0) + 15;
    assert!(lie.says_all(&[(model_type, b"x")]).starts_with("FILE: model_type is \"x5\"; known are "));
    let width = at("\"d_model\": 16") + 11;
    let shapes = lie.says_all(&[(width, b"8")]);
    assert!(
        shapes.contains("shared.weight: expected [66, 86] (vocab_size, d_model), found [66, 16] in model.gguf"),
        "{shapes}"
    );

    let q = at("encoder.block.0.layer.0.SelfAttention.q.weight") + "encoder.block.0.layer.0.SelfAttention.".len();
    let k = at("encoder.block.0.layer.0.SelfAttention.k.weight") + "encoder.block.0.layer.0.SelfAttention.".len();
    assert_eq!(
        lie.says_all(&[(q, b"k")]),
        "FILE: trefoil.tensors: encoder.block.0.layer.0.SelfAttention.k.weight comes twice"
    );
    assert_eq!(
        lie.says_all(&[(q, b"k"), (k, b"q")]),
        "FILE: enc.blk.0.attn_q.weight: expected enc.blk.0.attn_k.weight, the name of \
         encoder.block.0.layer.0.SelfAttention.k.weight; enc.blk.0.attn_k.weight: expected enc.blk.0.attn_q.weight, the name of \
         encoder.block.0.layer.0.SelfAttention.q.weight"
    );
    assert_eq!(
        lie.says_all(&[(q, b"z")]),
        "FILE: enc.blk.0.attn_q.weight: encoder.block.0.layer.0.SelfAttention.z.weight has no GGUF name"
    );
}

#[test]
fn a_file_cut_short_or_damaged_anywhere_in_its_header_is_an_error_or_a_model_and_never_a_panic() {
    let lie = Lie::new("t5-rows-of-32", "q8_0");
    let len = lie.bytes.len();
    for end in (0..16).map(|i| len * i / 16).chain([len - 1]) {
        assert!(lie.import(&lie.bytes[..end]).is_err(), "{end} of {len}");
    }
    let start = lie.at("trefoil.version", 0) - 8;
    let (mut opened, mut refused) = (0, 0);
    for (at, to) in (start..start + 2500).step_by(3).flat_map(|at| [(at, 0), (at, 0xff), (at, lie.bytes[at] ^ 1)]) {
        let mut bytes = lie.bytes.clone();
        bytes[at] = to;
        match lie.import(&bytes) {
            Ok(model) => {
                // Whatever was opened has all its numbers.
                model.graph.weights.iter().for_each(|(_, weight)| drop(weight.read().expect("reads")));
                opened += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(opened > 5 && refused > 1000, "{opened} opened, {refused} refused");
}

/// T5 as a family that llama.cpp has never heard of, with tensors of every kind that T5 lacks.
struct HandMade;

impl Architecture for HandMade {
    fn model_types(&self) -> &'static [&'static str] {
        &["handmade"]
    }

    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        t5().build(b, checkpoint)
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        let more = [
            ("final_logits_bias", "output.bias"),
            ("encoder.conv1", "enc.conv1"),
            ("encoder.embed_positions", "enc.position_embd"),
        ];
        Box::leak([t5().gguf_names(), &more].concat().into_boxed_slice())
    }

    fn gguf_metadata(&self, _: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        Ok(vec![("handmade.block_count".to_owned(), Value::U32(3))])
    }
}

fn t5() -> &'static dyn Architecture {
    *ARCHITECTURES.iter().find(|a| a.model_types().contains(&"t5")).expect("T5")
}

#[test]
fn a_family_that_llama_cpp_does_not_know_is_run_on_ggml_and_by_the_interpreter_without_noise() {
    let mut grown = grown(&fixture("t5-v1.0"));
    grown.exact.architecture = &HandMade;
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let mut model = grown.exact.clone();
    let said = Gguf::DEFAULT.prepare(&mut model).expect("prepared");
    assert!(said[0].starts_with("llama.cpp does not run the architecture handmade; "), "{said:?}");
    assert_eq!(model.folded_logit_scale, None, "nothing is folded for an engine that does not run it");
    let model = quantized(&model, scheme("f16")).expect("fits");
    let (_home, artifact) = write(&model, &Gguf::DEFAULT);
    let (_alone, artifact) = alone(&artifact);
    let context = Context {
        baseline: &baseline,
        name: "leaf",
        quantized: &model,
        artifact: &artifact,
        format: &Gguf::DEFAULT,
        limits: &Limits {
            max_kl: 1.0,
            min_top1: 0.0,
            max_points_lost: 100.0,
            max_endless_rise: 100.0,
            ..Limits::default()
        },
        options: &OPTIONS,
        tensors: Vec::new(),
        substitutions: said.into_iter().map(|text| validate::Note { about: "gguf".to_owned(), text }).collect(),
        files: Vec::new(),
        manifest: None,
    };
    let report = validate_in(validate::RUNTIMES, &[], context, &Quiet).expect("the chain runs to its end");
    let runtime = report.checks.iter().filter(|check| check.link == Link::Runtime);
    let (of_ggml, others): (Vec<_>, Vec<_>) = runtime.partition(|check| check.what.contains("ggml"));
    // Without the feature it is there and not run.
    let ran = if cfg!(feature = "llama-cpp") { Outcome::Passed } else { Outcome::NotRun };
    assert!(!of_ggml.is_empty() && of_ggml.iter().all(|check| check.outcome == ran), "{of_ggml:#?}");
    let mut runtime = others.into_iter();
    let llama = runtime.next().expect("llama.cpp");
    assert_eq!((llama.what.as_str(), llama.outcome), ("the artifact in llama.cpp", Outcome::NotRun));
    assert_eq!(llama.sentence, "of encoder-decoders it knows the architecture t5, and this is handmade");
    let mut exact = 0;
    for check in runtime {
        assert!(check.what.starts_with("interpreter ") && check.outcome == Outcome::Passed, "{check:#?}");
        let expected = if check.what.contains("greedy tokens") { 1.0 } else { 0.0 };
        assert_eq!(check.value, Some(expected), "{check:#?}");
        exact += usize::from(check.sentence.contains("not a bit may differ"));
    }
    assert_eq!(exact, 5, "data, alone, padded, first step, later steps");

    let (_home, t5) = write(&prepared(&fixture("t5-v1.0")), &Gguf::DEFAULT);
    assert_eq!((LlamaCpp.fit(&t5), OwnInterpreter.fit(&t5)), (Fit::Runs, Fit::Foreign));
    let onnx = Artifact { format: "onnx", ..t5.clone() };
    assert_eq!((LlamaCpp.fit(&onnx), OwnInterpreter.fit(&onnx)), (Fit::Foreign, Fit::Foreign));
    fs::write(t5.dir.join(FILE), "GGUF").expect("written");
    assert_eq!((LlamaCpp.fit(&t5), OwnInterpreter.fit(&t5)), (Fit::Runs, Fit::Foreign));
}

#[test]
fn kernels_biases_and_computed_tables_are_written_and_read_by_us_and_by_gguf_rs() {
    let mut model = prepared(&fixture("t5-v1.1"));
    model.architecture = &HandMade;
    let halves = |shape: &[usize]| {
        let bytes: Vec<u8> = (0..2 * shape.iter().product::<usize>()).map(|i| (i * 7 % 120) as u8).collect();
        WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F16 }
    };
    let mut add = |name: &str, shape: &[usize], data: WeightData| {
        model.graph.weights.push(Weight { name: name.to_owned(), shape: shape.to_vec(), data });
    };
    for (name, shape) in
        [("encoder.conv1.bias", &[6][..]), ("encoder.conv1.weight", &[6, 5, 3]), ("final_logits_bias", &[1, 66])]
    {
        add(name, shape, halves(shape));
    }
    add("encoder.embed_positions.weight", &[9, 16], WeightData::Computed(Computed::Sinusoid));
    Gguf::DEFAULT.check(&model).expect("holds them");
    let (_home, artifact) = write(&model, &Gguf::DEFAULT);
    let read = Gguf::DEFAULT.read_weights(&model, &artifact).expect("reads");
    assert!(bits(&read) == bits(&model.graph.weights));

    let path = artifact.dir.join(FILE);
    let file = GgufFile::open(&path).expect("opens");
    let last: Vec<(&str, &[usize], &str)> =
        file.tensors.iter().rev().take(4).map(|t| (t.name.as_str(), t.shape.as_slice(), t.kind.name())).collect();
    assert_eq!(
        last,
        [
            ("enc.position_embd.weight", &[9, 16][..], "F32"),
            ("enc.conv1.bias", &[6], "F32"),
            ("enc.conv1.weight", &[6, 5, 3], "F16"),
            ("output.bias", &[1, 66], "F32"),
        ]
    );
    let text = path.to_str().expect("a path of the test");
    let foreign = gguf_rs::get_gguf_container_array_size(text, 1 << 20).expect("opens").decode().expect("decodes");
    let kernel = foreign.tensors().iter().find(|t| t.name == "enc.conv1.weight").expect("there");
    assert_eq!((kernel.kind, kernel.shape.clone(), kernel.size), (1, vec![3, 5, 6], 2 * 90));
    let config = fs::read_to_string(fixture("t5-v1.1").join("config.json")).expect("there");
    assert_eq!(foreign.metadata()["trefoil.config"], serde_json::json!(config));
}

#[test]
fn the_tokenizer_of_a_file_alone_is_the_one_beside_the_checkpoint() {
    let (mut tokenizers, mut texts) = (0, 0);
    for folder in families() {
        for run in runs(&folder) {
            let dir = copied(&folder, &run["config"]);
            for file in ["config.json", "generation_config.json", "model.safetensors"] {
                fs::copy(fixture("t5-v1.1").join(file), dir.path().join(file)).expect("copied");
            }
            // Some are told apart by config.json, which is T5's here.
            let Ok(beside) = Tokenizer::open(dir.path()) else { continue };
            let mut model = prepared(dir.path());
            model.architecture = &HandMade;
            let (_home, artifact) = write(&model, &Gguf::DEFAULT);
            let (_alone, artifact) = alone(&artifact);
            let held = Tokenizer::open(&artifact.dir).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
            assert_eq!(held.languages(), beside.languages(), "{}", folder.display());
            for row in run["texts"].as_array().expect("texts") {
                let text = row[0].as_str().expect("text");
                let ids = |tokenizer: &Tokenizer| tokenizer.encode(text).map_err(|error| error.to_string());
                let (found, expected) = (ids(&held), ids(&beside));
                assert!(found == expected || found.is_err() && expected.is_err(), "{}: {text:?}", folder.display());
                texts += 1;
            }
            tokenizers += 1;
        }
    }
    assert!(tokenizers >= 20 && texts > 800, "{tokenizers} tokenizers, {texts} texts");
}

#[test]
fn a_converted_bart_says_from_its_file_alone_what_its_checkpoint_says_and_llama_cpp_is_not_run() {
    let home = tempfile::tempdir().expect("temporary folder");
    let recipe = home.path().join("recipe.yaml");
    let model = fixture("bart");
    fs::write(
        &recipe,
        format!(
            "model: {}\nout: {}\nartifacts:\n  - gguf: {{}}\n    quantize: {{ scheme: keep }}\ndecode: {{ max_new_tokens: 9 }}\nvalidate: {{ samples: 6 }}\n",
            model.display(),
            home.path().join("out").display()
        ),
    )
    .expect("written");
    let output = cli::run(&["convert", &recipe.display().to_string(), "--offline", "--no-bench", "--quiet"]);
    assert_eq!(cli::code(&output), 0, "{}{}", cli::text(&output.stdout), cli::text(&output.stderr));
    let report = fs::read(home.path().join("out/report.json")).expect("there");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    let checks = report["artifacts"][0]["checks"].as_array().expect("a list");
    let of = |outcome: &str| -> Vec<&str> {
        let found = checks.iter().filter(|c| c["link"] == "runtime" && c["outcome"] == outcome);
        found.map(|c| c["what"].as_str().expect("a text")).collect()
    };
    assert!(of("not_run").contains(&"the artifact in llama.cpp"), "{checks:#?}");
    assert!(of("failed").is_empty() && of("passed").len() >= 6, "{checks:#?}");
    let known = ["interpreter ", "ggml "];
    assert!(of("passed").iter().all(|what| known.iter().any(|name| what.starts_with(name))), "{checks:#?}");
    let on_ggml = of("passed").iter().filter(|what| what.starts_with("ggml ")).count();
    assert!(on_ggml >= if cfg!(feature = "llama-cpp") { 6 } else { 0 }, "{checks:#?}");

    let artifact = Artifact::list("gguf", &home.path().join("out/gguf")).expect("listed");
    let (lone, _) = alone(&artifact);
    let said = |dir: &Path, more: &[&str]| {
        let dir = dir.display().to_string();
        cli::run(&[&["run", &dir, "5 17 23 2", "--offline", "--quiet", "--max-new-tokens", "9"], more].concat())
    };
    let expected = cli::text(&said(&model, &[]).stdout);
    assert!(expected.split_whitespace().count() > 1, "{expected}");
    for dir in [&artifact.dir, &lone.path().to_owned()] {
        let output = said(dir, &[]);
        assert_eq!(cli::text(&output.stdout), expected, "{}", cli::text(&output.stderr));
    }
    let output = said(&artifact.dir, &["--engine", "llama.cpp"]);
    assert_eq!(cli::code(&output), 2);
    let stderr = cli::text(&output.stderr);
    assert!(
        stderr.contains("llama.cpp: of encoder-decoders it knows the architecture t5, and this is bart"),
        "{stderr}"
    );
}

#[test]
fn the_front_end_of_a_file_alone_is_the_one_beside_the_checkpoint() {
    let dir = copy("moonshine");
    let asked = r#"{"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": true, "padding_value": 0.0}"#;
    fs::write(dir.path().join("processor_config.json"), format!(r#"{{"feature_extractor": {asked}}}"#))
        .expect("written");
    let (_home, artifact) = write(&prepared(dir.path()), &Gguf { fallback: Fallback::F32, ..Gguf::DEFAULT });
    let clips = [vec![0.25; 4], vec![-0.5, 0.125]];
    let inputs = |dir: &Path| -> Result<Vec<Clip>, AudioError> {
        let front_end = FeatureExtractor::open(dir, Features::Samples)?;
        Ok(clips.iter().map(|clip| front_end.features(clip)).collect())
    };
    let beside = inputs(dir.path()).expect("asked for");
    assert_eq!(inputs(&artifact.dir).expect("copied"), beside);
    let (_alone, artifact) = alone(&artifact);
    assert_eq!(inputs(&artifact.dir).expect("in the file"), beside);
    fs::write(artifact.dir.join(FILE), "GGUF").expect("written");
    assert!(inputs(&artifact.dir).is_err());
}
