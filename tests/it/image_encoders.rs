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
    for (name, part, keys, expected) in cases {
        let error = import(edited(name, part, &keys).path()).err().expect("refused").to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
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
