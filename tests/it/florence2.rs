//! Florence-2: two names for one checkpoint, and what its configs say.

use std::fs;
use std::path::Path;

use converters::import;
use graph::{Interpreter, Tensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{code, text};
use crate::fixture::{copy, expected, feeds, fixture, repository};

const NATIVE: &str = "florence2";
const MICROSOFT: &str = "florence2-microsoft";

/// A copy of a fixture with other values of some keys in an object of its config.json; null is as good as no key.
fn edited(name: &str, object: &str, keys: &Value) -> TempDir {
    let folder = copy(name);
    let file = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("there")).expect("JSON");
    let inside = config.pointer_mut(object).and_then(Value::as_object_mut).expect("an object");
    inside.extend(keys.as_object().expect("keys").clone());
    fs::write(&file, config.to_string()).expect("written");
    folder
}

fn refused(folder: &Path) -> String {
    import(folder).err().expect("refused").to_string()
}

fn computed(name: &str) -> Tensors {
    let graph = import(&fixture(name)).unwrap_or_else(|e| panic!("{e}")).graph;
    Interpreter::new(&graph).call("full", &feeds(&expected(&fixture(name)).0)).expect("evaluates")
}

#[test]
fn both_names_of_a_checkpoint_give_the_same_bits() {
    assert!(computed(NATIVE) == computed(MICROSOFT));
}

#[test]
fn an_image_is_encoded_on_its_own_and_read_before_the_prompt() {
    let mut graph = import(&fixture(NATIVE)).expect("imports").graph;
    graph::passes::run(&mut graph).expect("passes");
    let ports = |entry: &str| -> Vec<String> {
        let entry = graph.entry(entry).expect("made");
        entry.inputs.iter().chain(&entry.outputs).map(|p| format!("{} {}", p.name, graph.value(p.value).ty)).collect()
    };
    assert_eq!(ports("image_encoder"), ["pixel_values f32[batch, 3, 24, 40]", "image_features f32[batch, 16, 16]"]);
    assert_eq!(
        ports("encoder"),
        [
            "image_features f32[batch, 16, 16]",
            "input_ids i64[batch, enc]",
            "attention_mask i64[batch, enc]",
            "encoder_hidden f32[batch, enc + 16, 16]"
        ]
    );
    let encoder = graph.entry("encoder").expect("made");
    assert_eq!(graph.before(encoder).iter().map(|entry| &entry.name[..]).collect::<Vec<_>>(), ["image_encoder"]);
    let sources: Vec<&str> = graph.sources(encoder).iter().map(|port| &port.name[..]).collect();
    assert_eq!(sources, ["pixel_values", "input_ids", "attention_mask"]);
    // 40 positions, of which 16 are of the image.
    assert_eq!(graph.longest(graph::ENC), Some(24));
}

#[test]
fn a_key_that_changes_the_result_is_refused_with_its_place() {
    let (tower, text) = ("/vision_config", "/text_config");
    let cases = [
        (
            NATIVE,
            tower,
            json!({"num_heads": [4, 2]}),
            "vision_config.num_heads = [4,2] is not supported by florence2: it does not divide embed_dim = 6",
        ),
        (
            NATIVE,
            tower,
            json!({"num_groups": [2]}),
            "vision_config.num_groups = [2] is not supported by florence2: expected 2 numbers, as embed_dim has",
        ),
        (
            NATIVE,
            tower,
            json!({"depths": [1, "2"]}),
            "vision_config.depths = [1,\"2\"], expected a list of numbers from 1 to 2^31",
        ),
        (NATIVE, tower, json!({"depths": [1, 4000000]}), "vision_config.depths = 4000000, expected"),
        (
            NATIVE,
            tower,
            json!({"in_channels": 1}),
            "vision_config.in_channels = 1 is not supported by florence2: only 3 is",
        ),
        (
            NATIVE,
            tower,
            json!({"max_position_embeddings": 4}),
            "vision_config.patch_stride = [4,2] is not supported by florence2: 3 x 5 places are more than 4 positions",
        ),
        (
            NATIVE,
            tower,
            json!({"patch_padding": [900, 1]}),
            "vision_config.patch_size = [5,3] is not supported by florence2: stage 0 makes [455, 459] places (height, width) of [24, 40]: expected some, and no more",
        ),
        (NATIVE, tower, json!({"patch_size": [99, 3]}), "stage 0 makes [0, 0] places (height, width) of [24, 40]"),
        (
            NATIVE,
            tower,
            json!({"window_size": 4000000}),
            "vision_config.window_size = 4000000 is not supported by florence2: expected at most 8192",
        ),
        (
            NATIVE,
            tower,
            json!({"mlp_ratio": 0.01}),
            "vision_config.mlp_ratio = 0.01 is not supported by florence2: 6 · 0.01 is no number of columns",
        ),
        (
            NATIVE,
            tower,
            json!({"projection_dim": 20}),
            "vision_config.projection_dim = 20 is not supported by florence2: expected text_config.d_model = 16, whose tokens stand beside",
        ),
        (
            NATIVE,
            tower,
            json!({"activation_function": "mish"}),
            "vision_config.activation_function = \"mish\" is not supported by florence2: expected one of relu, ",
        ),
        (NATIVE, tower, json!({"shift": true}), "vision_config.shift = true"),
        (
            NATIVE,
            text,
            json!({"scale_embedding": true}),
            "text_config.scale_embedding = true is not supported by florence2: only false is",
        ),
        (
            NATIVE,
            text,
            json!({"tie_word_embeddings": false}),
            "text_config.tie_word_embeddings = false is not supported by florence2: only true is",
        ),
        (NATIVE, "", json!({"vision_config": null}), "vision_config"),
        (NATIVE, "", json!({"tie_word_embeddings": false}), "lm_head.weight: expected [60, 16]"),
        (
            MICROSOFT,
            tower,
            json!({"image_feature_source": ["temporal_avg_pool"]}),
            "vision_config.image_feature_source = [\"temporal_avg_pool\"] is not supported by florence2: only [\"spatial_avg_pool\",\"temporal_avg_pool\"] is",
        ),
        (
            MICROSOFT,
            "/vision_config/image_pos_embed",
            json!({"type": "sine"}),
            "vision_config.image_pos_embed.type = \"sine\" is not supported by florence2: only \"learned_abs_2d\" is",
        ),
        (
            MICROSOFT,
            tower,
            json!({"dim_embed": [6, 11]}),
            "vision_config.dim_embed = [6,11] is not supported by florence2: ",
        ),
    ];
    for (name, object, keys, expected) in cases {
        let said = refused(edited(name, object, &keys).path());
        assert!(said.contains(expected), "{keys}: {said}");
    }
}

#[test]
fn a_size_of_images_is_that_of_the_preprocessor() {
    let folder = copy(NATIVE);
    let file = folder.path().join("preprocessor_config.json");
    let mut settings: Value = serde_json::from_slice(&fs::read(&file).expect("there")).expect("JSON");
    settings["size"] = json!({"height": 32, "width": 24});
    fs::write(&file, settings.to_string()).expect("written");
    let graph = import(folder.path()).expect("imports").graph;
    let ports = &graph.entry("image_encoder").expect("written").inputs;
    assert_eq!(graph.value(ports[0].value).ty.to_string(), "f32[batch, 3, 32, 24]");
    settings["size"] = json!({"height": 0, "width": 24});
    fs::write(&file, settings.to_string()).expect("written");
    assert!(refused(folder.path()).contains("preprocessor_config.json: size = "), "{}", refused(folder.path()));
    // Without the file it is the published models' 768 x 768, which has more places than this table of positions.
    fs::remove_file(&file).expect("removed");
    assert!(refused(folder.path()).contains("96 x 96 places are more than 8 positions"), "{}", refused(folder.path()));
}

/// What transformers made of images and prompts (`tests/fixtures/record_tasks.py`).
fn asked() -> serde_json::Map<String, Value> {
    let file = fs::read(repository("tests/fixtures/images/tasks.json")).expect("recorded");
    let recorded: Value = serde_json::from_slice(&file).expect("JSON");
    recorded["asked"].as_object().expect("images").clone()
}

/// The checkpoint with a tokenizer whose words are places for the most part.
fn with_words() -> TempDir {
    let folder = copy(NATIVE);
    let words = repository("tests/fixtures/images/tasks-tokenizer.json");
    fs::copy(words, folder.path().join("tokenizer.json")).expect("copied");
    folder
}

fn image(name: &str) -> String {
    repository(&format!("tests/fixtures/images/{name}.png")).display().to_string()
}

#[test]
fn an_image_is_asked_and_answered_as_in_transformers() {
    let folder = with_words();
    let dir = folder.path().display().to_string();
    let mut lines = String::new();
    for (name, answers) in asked() {
        for (prompt, answer) in answers.as_object().expect("prompts") {
            let run = ["run", &dir, &image(&name), "--prompt", prompt, "--json", "--max-new-tokens", "12"];
            let output = crate::cli::run(&run);
            assert_eq!(code(&output), 0, "{name}, {prompt}: {}", text(&output.stderr));
            let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let said = [&found["prompt"], &found["tokens"]].map(|ids| ids.as_array().expect("ids").clone()).concat();
            assert_eq!(Value::from(said), answer["tokens"], "{name}, {prompt}");
            assert_eq!(found["input_ids"], answer["input_ids"], "{name}, {prompt}");
            assert_eq!(found.get("told").unwrap_or(&Value::Null), &answer["told"], "{name}, {prompt}");
            lines += &format!("{}\n", json!({"input": image(&name), "prompt": prompt}));
        }
    }
    // The same side by side, each line with its own prompt; and a person reads places.
    let file = folder.path().join("pages.jsonl");
    fs::write(&file, lines).expect("written");
    let file = file.display().to_string();
    let output = crate::cli::run(&["run", &dir, "--file", &file, "--json", "--batch", "5", "--max-new-tokens", "12"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let found: Vec<Value> = text(&output.stdout).lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let expected = asked();
    let expected = expected.values().flat_map(|answers| answers.as_object().expect("prompts").values());
    assert!(found.iter().map(|found| found.get("told").unwrap_or(&Value::Null)).eq(expected.map(|a| &a["told"])));
    let output =
        crate::cli::run(&["run", &dir, &image("large"), "--prompt", "<REGION_PROPOSAL>", "--max-new-tokens", "12"]);
    assert_eq!(text(&output.stdout), "{\"bboxes\":[[74,39,64,55],[64,63,64,55]],\"labels\":[\"\",\"\"]}\n");
}

#[test]
fn what_cannot_be_asked_is_an_error_that_says_why() {
    let folder = with_words();
    let dir = folder.path().display().to_string();
    let page = image("large");
    let said = |dir: &str, arguments: &[&str]| {
        let output = crate::cli::run(&[&["run", dir, &page], arguments].concat());
        assert_eq!(code(&output), 2, "{arguments:?}");
        text(&output.stderr)
    };
    for (prompt, expected) in [
        ("<FIND>", "no task is called <FIND>; expected a question, or one of <OCR>, <OCR_WITH_REGION>, "),
        ("<OD> cats", "<OD> takes no input, found \"cats\""),
        ("<REGION_TO_OCR>", "<REGION_TO_OCR> expects after it what it is about, found nothing"),
        (
            "<REFERRING_EXPRESSION_SEGMENTATION> a cat",
            "<REFERRING_EXPRESSION_SEGMENTATION> is answered with polygons, which are not read; boxes are, as those of <OD>",
        ),
    ] {
        let found = said(&dir, &["--prompt", prompt]);
        assert!(found.contains(expected), "{prompt}: {found}");
    }
    let found = said(&dir, &[]);
    assert!(
        found.contains("this model is asked something about an image, as \"<CAPTION>\"; found no prompt"),
        "{found}"
    );
    let found = said(&fixture("trocr-vit").display().to_string(), &["--prompt", "<OCR>"]);
    // Its encoder reads none, so that it is what the decoder is fed first: ids, where there is no tokenizer.
    assert!(found.contains("prompt: <OCR> is not a token id"), "{found}");
}
