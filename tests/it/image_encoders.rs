//! Checkpoints of VisionEncoderDecoder: what their configs say, which head counts, and matrices that are stored the other way round.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use converters::export::safetensors::Safetensors;
use converters::import;
use graph::Tensor;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::consumers::{model, write};
use crate::fixture::{copy, fixture};

/// A copy of a fixture with other values of some keys in one of the two configs inside.
fn edited(name: &str, part: &str, keys: &Value) -> TempDir {
    let folder = copy(name);
    let file = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("there")).expect("JSON");
    config[part].as_object_mut().expect("a config").extend(keys.as_object().expect("keys").clone());
    fs::write(&file, config.to_string()).expect("written");
    folder
}

#[test]
fn a_key_of_a_config_inside_that_changes_the_result_is_refused_with_its_place() {
    let cases = [
        (
            "trocr-vit",
            "encoder",
            json!({"model_type": "beit"}),
            "encoder.model_type = \"beit\" is not supported by vision-encoder-decoder: expected vit, deit or donut-swin for the encoder of images",
        ),
        (
            "trocr-vit",
            "decoder",
            json!({"model_type": "opt"}),
            "decoder.model_type = \"opt\" is not supported by vision-encoder-decoder: expected bert, gpt2, mbart or trocr for the decoder",
        ),
        (
            "trocr-deit",
            "decoder",
            json!({"cross_attention_hidden_size": 24}),
            "decoder.cross_attention_hidden_size = 24 is not supported by vision-encoder-decoder: expected encoder.hidden_size = 20",
        ),
        (
            "vit-bert",
            "decoder",
            json!({"position_embedding_type": "relative_key"}),
            "decoder.position_embedding_type = \"relative_key\" is not supported by vision-encoder-decoder: only \"absolute\" is",
        ),
        (
            "vit-gpt2",
            "decoder",
            json!({"n_head": 5}),
            "decoder.n_head = 5 is not supported by vision-encoder-decoder: it does not divide n_embd = 16",
        ),
        (
            "trocr-vit",
            "encoder",
            json!({"image_size": [24, 40, 3]}),
            "encoder.image_size = [24,40,3], expected a number from 1 to 2^31, or two of them",
        ),
        (
            "trocr-vit",
            "encoder",
            json!({"patch_size": [8, 80]}),
            "encoder.patch_size = [8,80] is not supported by vision-encoder-decoder: expected at most image_size = [24, 40]",
        ),
    ];
    for (name, part, keys, expected) in cases.into_iter().chain(windows()) {
        let error = import(edited(name, part, &keys).path()).err().expect("refused").to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

/// Sizes that make no grid of windows.
fn windows() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let swin = |keys, expected| ("donut", "encoder", keys, expected);
    vec![
        swin(
            json!({"image_size": [22, 43]}),
            "encoder.patch_size = [2,3] is not supported by vision-encoder-decoder: image_size = [22, 43] is no multiple of it",
        ),
        swin(
            json!({"window_size": 4}),
            "encoder.window_size = 4 is not supported by vision-encoder-decoder: a stage has a grid of [3, 4], less than a window",
        ),
        swin(
            json!({"window_size": 1}),
            "encoder.window_size = 1 is not supported by vision-encoder-decoder: expected 2 to 32",
        ),
        swin(json!({"window_size": 1_u64 << 31}), "expected 2 to 32"),
        swin(
            json!({"image_size": 1 << 30, "patch_size": 1}),
            "expected at most 1048576 patches, found [1073741824, 1073741824]",
        ),
        swin(json!({"depths": [2, 1_u64 << 31, 2]}), "encoder.depths = [2,2147483648,2], expected at most"),
        swin(json!({"depths": [2, 0, 2]}), "encoder.depths = [2,0,2], expected a list of numbers from 1 to 2^31"),
        swin(json!({"depths": []}), "encoder.depths = [], expected a list of numbers from 1 to 2^31"),
        swin(
            json!({"num_heads": [2, 1]}),
            "encoder.num_heads = [2,1] is not supported by vision-encoder-decoder: expected a number for each of the 3 stages of depths",
        ),
        swin(
            json!({"num_heads": [2, 3, 4]}),
            "encoder.num_heads = [2,3,4] is not supported by vision-encoder-decoder: 3 heads do not divide the width 8 of their stage",
        ),
        swin(
            json!({"embed_dim": 1 << 30, "mlp_ratio": 0.5}),
            "encoder.embed_dim = 1073741824 is not supported by vision-encoder-decoder: it doubles with each stage, and then passes 2147483648",
        ),
        swin(
            json!({"mlp_ratio": -1.0}),
            "encoder.mlp_ratio = -1.0 is not supported by vision-encoder-decoder: expected 1 to 2147483648 neurons for a width of 4",
        ),
        swin(
            json!({"use_absolute_embeddings": true}),
            "encoder.use_absolute_embeddings = true is not supported by vision-encoder-decoder: only false is",
        ),
        swin(
            json!({"hidden_size": 24}),
            "encoder.hidden_size = 24 is not supported by vision-encoder-decoder: only 16 is",
        ),
    ]
}

/// The tensors of a file with others in the place of some.
fn with_integers(name: &str, change: impl Fn(&mut Vec<u8>, &mut Dtype)) -> TempDir {
    let folder = copy("donut");
    let file = folder.path().join("model.safetensors");
    let bytes = fs::read(&file).expect("there");
    let parsed = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let all = parsed.tensors().into_iter().map(|(found, view)| {
        let (mut data, mut dtype) = (view.data().to_vec(), view.dtype());
        if found == name {
            change(&mut data, &mut dtype);
        }
        (found, view.shape().to_vec(), data, dtype)
    });
    let all: Vec<_> = all.collect();
    let views = all.iter().map(|(name, shape, data, dtype)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).expect("as long as before"))
    });
    fs::write(&file, safetensors::serialize(views, None).expect("in memory")).expect("written");
    folder
}

#[test]
fn an_index_of_relative_positions_is_held_against_the_one_that_follows_and_goes_along() {
    const INDEX: &str = "encoder.encoder.layers.1.blocks.0.attention.self.relative_position_index";
    let refused = |change: fn(&mut Vec<u8>, &mut Dtype)| {
        import(with_integers(INDEX, change).path()).err().expect("refused").to_string()
    };
    // 12 is where distances are 0, and the second key is one place to the right.
    let another = refused(|data, _| data[8] = 13);
    assert!(
        another.ends_with(&format!(
            "{INDEX}: found 13 at place 1, expected 11, as follows from config.json; in model.safetensors"
        )),
        "{another}"
    );
    let floats = refused(|_, dtype| *dtype = Dtype::F64);
    assert!(floats.contains(&format!("{INDEX}: found F64 [9, 9], expected I64 [9, 9]")), "{floats}");

    let home = tempfile::tempdir().expect("temporary folder");
    write(&model("donut"), &Safetensors::DEFAULT, home.path());
    let integers = |dir: &Path| -> Vec<(String, Vec<u8>)> {
        let bytes = fs::read(dir.join("model.safetensors")).expect("there");
        let all = SafeTensors::deserialize(&bytes).expect("a safetensors file").tensors();
        let mut all: Vec<_> = all
            .into_iter()
            .filter(|(_, v)| v.dtype() == Dtype::I64)
            .map(|(name, v)| (name, v.data().to_vec()))
            .collect();
        all.sort();
        all
    };
    assert_eq!(integers(home.path()).len(), 5);
    assert!(integers(home.path()) == integers(&fixture("donut")));
}

#[test]
fn an_image_of_another_size_needs_other_positions() {
    let folder = edited("trocr-vit", "encoder", &json!({"image_size": 40}));
    let error = import(folder.path()).err().expect("refused").to_string();
    let expected = "encoder.embeddings.position_embeddings: expected [1, 26, 18] (1, patches and the tokens before them, hidden_size), \
                    found [1, 16, 18] in model.safetensors";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn a_reader_of_images_that_is_no_encoder_decoder_is_refused_by_name() {
    for found in ["git", "kosmos-2", "smolvlm", "paddleocr_vl"] {
        let folder = copy("trocr-vit");
        fs::write(folder.path().join("config.json"), json!({ "model_type": found }).to_string()).expect("written");
        let error = import(folder.path()).err().expect("refused").to_string();
        let expected =
            format!("model_type is {found:?}, a decoder alone: its image tokens stand before the text in one sequence");
        assert!(error.contains(&expected), "{error}");
    }
}

/// The tensors of a safetensors file: shape and bytes.
fn tensors(file: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(file).expect("there");
    let parsed = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    parsed.tensors().into_iter().map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec()))).collect()
}

/// Writes them.
fn save(tensors: &BTreeMap<String, (Vec<usize>, Vec<u8>)>, file: &Path) {
    let views = tensors.iter().map(|(name, (shape, data))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data).expect("floats");
        (name.clone(), view)
    });
    fs::write(file, safetensors::serialize(views, None).expect("in memory")).expect("written");
}

#[test]
fn a_head_counts_where_it_is_a_weight_of_its_own() {
    const TABLE: &str = "decoder.model.decoder.embed_tokens.weight";
    const HEAD: &str = "decoder.output_projection.weight";
    let heads = |folder: &Path| {
        let weights = import(folder).unwrap_or_else(|e| panic!("{e}")).graph.weights;
        [TABLE, HEAD].map(|name| weights.find(name).is_some())
    };
    // Tied by its config, the file has no head; of its own by config, another.
    assert_eq!(heads(&fixture("trocr-deit")), [true, false]);
    assert_eq!(heads(&fixture("trocr-vit")), [true, true]);
    // Tied by the config beside a head that differs: transformers 5 takes the head.
    let folder = edited("trocr-vit", "decoder", &json!({"tie_word_embeddings": true}));
    assert_eq!(heads(folder.path()), [true, true]);
    // Beside a copy of the table there is one weight.
    let file = folder.path().join("model.safetensors");
    let mut all = tensors(&file);
    all.insert(HEAD.to_owned(), all[TABLE].clone());
    save(&all, &file);
    assert_eq!(heads(folder.path()), [true, false]);
    // Of its own by the config, and not there.
    let folder = edited("trocr-deit", "decoder", &json!({"tie_word_embeddings": false}));
    let error = import(folder.path()).err().expect("refused").to_string();
    assert!(error.contains("decoder.output_projection.weight: expected [50, 16]"), "{error}");
}

#[test]
fn matrices_that_are_stored_the_other_way_round_are_written_as_they_were() {
    let home = tempfile::tempdir().expect("temporary folder");
    let gpt2 = model("vit-gpt2");
    write(&gpt2, &Safetensors::DEFAULT, home.path());
    let [before, after] =
        [fixture("vit-gpt2"), home.path().to_owned()].map(|dir| tensors(&dir.join("model.safetensors")));
    assert!(before == after);
    // In the graph they are those of Linears, so that each of their rows is quantized with its own scale.
    let id = gpt2.graph.weights.find("decoder.transformer.h.0.mlp.c_fc.weight").expect("there");
    let weight = gpt2.graph.weights.get(id);
    let (shape, bytes) = &before[&weight.name];
    assert_eq!((&weight.shape[..], &shape[..]), (&[36, 16][..], &[16, 36][..]));
    let stored: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let turned = Tensor::f32([36, 16], (0..36 * 16).map(|i| stored[i % 16 * 36 + i / 16]).collect());
    assert_eq!(weight.read().expect("readable"), turned.as_f32().expect("floats"));
}
