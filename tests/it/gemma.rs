//! What of T5Gemma and T5Gemma2 their recordings do not show: defaults, refusals, and the tensors that text leaves unused.

use converters::ImportError;
use converters::{Model, import};
use graph::{Def, Op, text};
use serde_json::{Value, json};

use crate::fixture::copy;

/// A fixture with an edited config.json.
fn edited(name: &str, edit: impl FnOnce(&mut Value)) -> Result<Model, ImportError> {
    let folder = copy(name);
    let file = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).expect("there")).expect("JSON");
    edit(&mut config);
    std::fs::write(&file, config.to_string()).expect("written");
    import(folder.path())
}

/// The lines of a refusal, without the folder.
fn refusal(model: Result<Model, ImportError>) -> Vec<String> {
    let error = model.err().expect("refused").to_string();
    let lines: Vec<String> = error.lines().map(|line| line.trim_start().to_owned()).collect();
    match lines.as_slice() {
        [one] => vec![one.split_once(": ").expect("names the folder").1.to_owned()],
        [_, rest @ ..] => rest.to_vec(),
        [] => panic!("says nothing"),
    }
}

fn printed(model: &Model) -> String {
    text::print(&model.graph)
}

#[test]
fn a_flag_that_nobody_knows_is_named_with_its_section() {
    let found = refusal(edited("t5gemma", |c| c["decoder"]["use_experts"] = json!(true)));
    assert_eq!(found, ["config.json: decoder.use_experts = true is not known to t5gemma; it may change the result"]);
    let found = refusal(edited("t5gemma2", |c| c["encoder"]["text_config"]["is_causal"] = json!(false)));
    let expected =
        "config.json: encoder.text_config.is_causal = false is not known to t5gemma2; it may change the result";
    assert_eq!(found, [expected]);
}

#[test]
fn values_that_no_importer_follows_are_refused_by_name() {
    let scaled = json!({"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0});
    let cases = [
        (
            "t5gemma",
            "/is_encoder_decoder",
            json!(false),
            "is_encoder_decoder = false is not supported by t5gemma: only true is",
        ),
        (
            "t5gemma",
            "/encoder/num_key_value_heads",
            json!(4),
            "encoder.num_key_value_heads = 4 is not supported by t5gemma: expected a divisor of num_attention_heads = 6",
        ),
        (
            "t5gemma",
            "/decoder/layer_types",
            json!(["full_attention", "chunked_attention"]),
            "decoder.layer_types = [\"full_attention\",\"chunked_attention\"] is not supported by t5gemma: expected 2 words, \
             each full_attention or sliding_attention",
        ),
        (
            "t5gemma",
            "/decoder/attn_logit_softcapping",
            json!(0.0),
            "decoder.attn_logit_softcapping = 0.0 is not supported by t5gemma: expected a number above 0, or null",
        ),
        (
            "t5gemma-untied",
            "/encoder/rope_parameters/rope_type",
            json!("yarn"),
            "encoder.rope_parameters.rope_type = \"yarn\" is not supported by t5gemma: expected default or linear",
        ),
        (
            "t5gemma2",
            "/decoder/rope_parameters/full_attention",
            scaled,
            "decoder.rope_parameters.full_attention.rope_type = \"yarn\" is not supported by t5gemma2: expected default or linear",
        ),
        (
            "t5gemma2",
            "/decoder/attn_logit_softcapping",
            json!(50.0),
            "decoder.attn_logit_softcapping = 50.0 is not supported by t5gemma2: transformers 5.23 reads it and leaves the \
             scores as they are",
        ),
    ];
    for (name, pointer, value, expected) in cases {
        let found = refusal(edited(name, |config| *config.pointer_mut(pointer).expect("a key") = value));
        assert!(found.contains(&format!("config.json: {expected}")), "{pointer}: {found:#?}");
    }
    let found = refusal(edited("t5gemma2", |config| config["decoder"]["hidden_size"] = json!(32)));
    let expected =
        "config.json: decoder.hidden_size = 32 is not supported by t5gemma2: expected 24, as in encoder.text_config";
    assert!(found.contains(&expected.to_owned()), "{found:#?}");
}

#[test]
fn the_tensors_of_one_family_under_the_config_of_another_are_told_both_ways() {
    let folder = copy("t5gemma");
    let of_another = crate::fixture::fixture("t5gemma2").join("model.safetensors");
    std::fs::copy(of_another, folder.path().join("model.safetensors")).expect("copied");
    let found = refusal(import(folder.path()));
    for expected in [
        "model.decoder.layers.1.cross_attn.k_proj.weight: expected [8, 24] (num_key_value_heads·head_dim, hidden_size), found \
         no such tensor",
        "model.encoder.embed_tokens.weight: expected [70, 24] (vocab_size, hidden_size), found [66, 24] in model.safetensors",
        "model.decoder.layers.0.self_attn.q_norm.weight: t5gemma has no use for this tensor, F32 [8] in model.safetensors",
        "model.encoder.vision_tower.post_layernorm.bias: t5gemma has no use for this tensor, F32 [2] in model.safetensors",
    ] {
        assert!(found.iter().any(|line| line == expected), "{expected}\n{found:#?}");
    }
}

#[test]
fn a_cap_that_is_null_is_none_and_one_that_is_missing_is_the_default() {
    let caps = |edit: fn(&mut Value)| -> Vec<Option<f32>> {
        let graph = edited("t5gemma", edit).unwrap_or_else(|e| panic!("{e}")).graph;
        let cap = |value: &graph::Value| match value.def {
            Def::Op(Op::Attention { softcap, .. }, _) => Some(softcap),
            _ => None,
        };
        graph.values.iter().filter_map(cap).collect()
    };
    let [encoder, decoder] = [[Some(3.0); 3].to_vec(), [Some(2.5); 4].to_vec()];
    assert_eq!(caps(|_| {}), [encoder.clone(), decoder].concat());
    let null = caps(|c| c["decoder"]["attn_logit_softcapping"] = Value::Null);
    assert_eq!(null, [encoder.clone(), vec![None; 4]].concat());
    let missing = caps(|c| drop(c["decoder"].as_object_mut().expect("a section").remove("attn_logit_softcapping")));
    assert_eq!(missing, [encoder, vec![Some(50.0); 4]].concat());
}

#[test]
fn layers_slide_in_turn_where_the_config_does_not_say_which() {
    let without = |name: &str, pattern: Option<usize>| {
        let model = edited(name, |config| {
            for section in ["/encoder", "/encoder/text_config", "/decoder"] {
                let Some(section) = config.pointer_mut(section).and_then(Value::as_object_mut) else { continue };
                if section.remove("layer_types").is_some() {
                    section.extend(pattern.map(|n| ("sliding_window_pattern".to_owned(), json!(n))));
                }
            }
        });
        printed(&model.unwrap_or_else(|e| panic!("{e}")))
    };
    let said = |name: &str| printed(&edited(name, |_| {}).expect("supported"));
    assert!(without("t5gemma", None) == said("t5gemma"), "every second layer is full");
    assert!(without("t5gemma2", Some(2)) == said("t5gemma2"), "every second layer is full");
    assert!(without("t5gemma2", None) != said("t5gemma2"), "every sixth layer is full");
}

#[test]
fn rotary_settings_of_4_x_mean_what_those_of_5_say() {
    let of_4 = edited("t5gemma-untied", |config| {
        let encoder = config["encoder"].as_object_mut().expect("a section");
        encoder.remove("rope_parameters");
        encoder.extend([
            ("rope_theta".to_owned(), json!(300.0)),
            ("rope_scaling".to_owned(), json!({"type": "linear", "factor": 2.5})),
        ]);
    });
    let of_5 = edited("t5gemma-untied", |_| {});
    assert!(printed(&of_4.expect("supported")) == printed(&of_5.expect("supported")));
}

#[test]
fn text_leaves_the_image_encoder_as_it_is_and_an_end_of_image_that_no_id_has_too() {
    let carried = |model: &Model| -> Vec<String> { model.checkpoint.carried().into_iter().map(|w| w.name).collect() };
    let model = edited("t5gemma2", |_| {}).expect("supported");
    let of_images = carried(&model);
    assert_eq!(of_images.len(), 23, "{of_images:?}");
    assert!(of_images.iter().all(|name| name.contains(".vision_tower.") || name.contains(".multi_modal_projector.")));
    assert!(model.graph.weights.find("model.encoder.embed_tokens.eoi_embedding").is_some());

    let outside = edited("t5gemma2", |config| config["encoder"]["eoi_token_index"] = json!(66)).expect("supported");
    assert!(outside.graph.weights.find("is_end_of_image.weight").is_none());
    assert_eq!(carried(&outside).len(), of_images.len() + 1);
}

#[test]
fn without_generation_config_decoding_starts_and_ends_where_the_config_class_says() {
    let folder = copy("t5gemma");
    std::fs::remove_file(folder.path().join("generation_config.json")).expect("removed");
    let model = import(folder.path()).expect("supported");
    let generation = model.checkpoint.generation();
    assert_eq!((generation.decoder_start_token_id, generation.pad_token_id), (2, 0));
    assert_eq!(generation.eos_token_ids, [1]);
}
