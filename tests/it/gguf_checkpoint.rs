//! GGUF artifacts opened as checkpoints with nothing but the file, and run.

use std::fs;
use std::path::Path;

use converters::export::gguf::{FILE, Fallback, Gguf};
use converters::export::safetensors::Safetensors;
use converters::{Artifact, Format, Model, import};
use graph::{Feeds, Interpreter, Tensor};
use quant::Scheme;
use tempfile::TempDir;
use validate::runtime::interpreter::OwnInterpreter;
use validate::runtime::reference::{Reference, caching};
use validate::{Runtime, Session};

use crate::fixture::{expected, fixture};
use crate::gguf::{all_models, bits, prepared, quantized, write};

/// Schemes whose logits are compared; the weights of all are.
const RUN: [&str; 4] = ["keep", "f16", "q8_0", "q4_k"];

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

#[test]
fn a_file_alone_opens_as_the_graph_that_it_was_written_from_with_not_a_bit_changed() {
    let (mut opened_files, mut compared) = (0, 0);
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
            opened_files += 1;
            if RUN.contains(&scheme.name().as_str()) {
                let feeds = inputs(&dir, &model);
                assert!(logits(&read, &feeds) == logits(&model, &feeds), "{place}");
                compared += 1;
            }
        }
    }
    println!("{opened_files} files opened, {compared} run");
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
    let files: Vec<_> = read.checkpoint.files().iter().map(|file| file.file_name().expect("a file")).collect();
    assert_eq!(files, [FILE]);
    // Weights that a checkpoint has of its own win over a file that was grown from one.
    fs::copy(fixture("t5-v1.1").join("model.safetensors"), home.path().join("model.safetensors")).expect("copied");
    assert!(
        import(home.path())
            .expect_err("config.json counts now")
            .to_string()
            .contains("config.json: not the expected JSON")
    );
}

#[test]
fn the_interpreter_on_the_file_says_what_the_quantized_graph_says_bit_for_bit_at_every_step() {
    for (name, scheme) in [("t5-v1.0", "f16"), ("t5-rows-of-32", "q8_0"), ("umt5", "keep"), ("byt5", "f32")] {
        let model = quantized(&prepared(&fixture(name)), self::scheme(scheme)).expect("fits");
        let (_home, artifact) = write(&model, &Gguf::DEFAULT);
        let (_alone, artifact) = alone(&artifact);
        let options = validate::runtime::Options { threads: 1, offline: true, python: None, merged: false };
        let mut file = OwnInterpreter.open(&artifact, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let interpreter = caching(&model.graph);
        let mut graph = Reference::new(&interpreter);
        let feeds = inputs(&fixture(name), &model);
        let mut said = |session: &mut dyn Session| -> Vec<Tensor> {
            session.encode(&feeds["input_ids"], &feeds["attention_mask"]).expect("encoded");
            let ids = &feeds["decoder_input_ids"];
            let [rows, columns] = *ids.shape() else { panic!("i64[b, dec]") };
            let column = |j: usize| (0..rows).map(|i| ids.as_i64().expect("ids")[i * columns + j]).collect();
            (0..columns).map(|j| session.decode(&Tensor::i64([rows, 1], column(j))).expect("decoded")).collect()
        };
        assert!(said(&mut *file) == said(&mut graph), "{name}");
        assert_eq!(file.engine().name, "interpreter");
    }
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
    let refusal = |folder: &TempDir| {
        let error = import(folder.path()).expect_err("another scale").to_string();
        error.strip_prefix(&format!("{}: ", folder.path().join(FILE).display())).expect("its file").to_owned()
    };
    let value = "trefoil.folded_logit_scale".len() + 4;
    let other = refusal(&edited(value, &0.5_f32.to_le_bytes()));
    assert_eq!(other, "drop_logit_scale: expected a logit scale of 0.5, found 0.25");
    let nan = refusal(&edited(value, &f32::NAN.to_le_bytes()));
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
