use serde_json::{Map, Value, json};

use super::*;
use crate::config::Config;

fn config(json: &Value) -> Config {
    Config::new(json.as_object().expect("an object").clone().into_iter().collect())
}

/// What is read, and every problem. Keys of config.json that are not about decoding count as read.
fn read(generation: Option<Value>, model: Value) -> (Generation, Vec<String>) {
    let config = config(&model);
    config.ignore(&["model_type", "decoder", "max_position_embeddings"]);
    let found = Generation::read(generation.as_ref(), &config, &Map::new());
    (found, config.problems().iter().map(ToString::to_string).collect())
}

fn sound(generation: Value, model: Value) -> Generation {
    let (found, problems) = read(Some(generation), model);
    assert_eq!(problems, [""; 0]);
    found
}

fn bart(generation: Value) -> Generation {
    sound(generation, json!({"model_type": "bart", "eos_token_id": 9, "forced_bos_token_id": 9, "num_beams": 9}))
}

fn problems(generation: Value, model_type: &str) -> Vec<String> {
    read(Some(generation), json!({"model_type": model_type})).1
}

/// The generation config of a multilingual Whisper, cut to two languages.
fn whisper_json() -> Value {
    json!({
        "alignment_heads": [[1, 0]], "begin_suppress_tokens": [20, 50], "bos_token_id": 50,
        "decoder_start_token_id": 51, "eos_token_id": 50, "forced_decoder_ids": [[1, null], [2, 55]],
        "is_multilingual": true, "lang_to_id": {"<|fr|>": 53, "<|en|>": 52}, "max_initial_timestamp_index": 50,
        "max_length": 30, "no_timestamps_token_id": 57, "pad_token_id": 50, "prev_sot_token_id": 56,
        "return_timestamps": false, "suppress_tokens": [1, 2], "task_to_id": {"transcribe": 55, "translate": 54},
        "transformers_version": "4.31.0.dev0"
    })
}

fn whisper(changes: Value) -> Generation {
    sound(changed(whisper_json(), changes), json!({"model_type": "whisper", "max_target_positions": 40}))
}

/// Keys at null are taken out.
fn changed(mut json: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().expect("an object") {
        json[key] = value.clone();
    }
    json
}

/// Cases that `tests/fixtures/generation/make.py` recorded with transformers: the two files, and what `generate` reads.
fn recorded(file: &str) -> Vec<(Generation, Value)> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/generation").join(file);
    let json: Value = serde_json::from_slice(&std::fs::read(file).expect("recorded")).expect("JSON");
    let cases = json["cases"].as_array().expect("a list");
    assert!(cases.len() >= 13);
    let case = |case: &Value| {
        let generation = Some(case["generation"].clone()).filter(|g| !g.is_null());
        let found = Generation::read(generation.as_ref(), &config(&case["config"]), &Map::new());
        (found, case["read"].clone())
    };
    cases.iter().map(case).collect()
}

#[test]
fn two_files_are_read_as_transformers_reads_them() {
    for (found, expected) in recorded("configs.json") {
        // Both least lengths as one, in which 1 is none: the start token is always there.
        let least = found.min_length.max(if found.min_new_tokens > 0 { found.min_new_tokens + 1 } else { 0 });
        let least = least.max(expected["min_length"].as_u64().filter(|n| *n == 1).unwrap_or(0) as usize);
        let as_recorded = json!({
            "start": found.decoder_start_token_id, "eos": found.eos_token_ids, "pad": found.pad_token_id,
            "max_new_tokens": found.new_tokens(), "min_length": least, "num_beams": found.num_beams.unwrap_or(1),
            "forced_bos": found.forced_bos_token_id, "forced_eos": found.forced_eos_token_ids,
            "bad_words": found.bad_words_ids, "no_repeat_ngram_size": found.no_repeat_ngram_size,
            "encoder_no_repeat_ngram_size": found.encoder_no_repeat_ngram_size,
            "repetition_penalty": found.repetition_penalty.unwrap_or(1.0),
            "encoder_repetition_penalty": found.encoder_repetition_penalty.unwrap_or(1.0),
            "suppress": found.suppress_tokens, "begin_suppress": found.begin_suppress_tokens,
        });
        assert_eq!(as_recorded, expected);
    }
}

#[test]
fn whispers_prompt_and_limit_are_those_of_transformers() {
    for (found, expected) in recorded("prompts.json") {
        let id = |choice: &Choice| if let Choice::Token(id) = choice { *id } else { -1 };
        let prompt: Vec<i64> = found.prompt().iter().map(id).collect();
        assert_eq!(json!({"prompt": prompt, "new_tokens": found.new_tokens()}), expected);
    }
}

#[test]
fn generation_config_is_asked_alone_where_there_is_one() {
    let found = bart(json!({"bos_token_id": 0, "eos_token_id": [2, 3], "pad_token_id": 1, "max_length": 12}));
    // Of config.json, neither the forced token nor the beams; the start token is the one that begins a sequence.
    assert_eq!(found, Generation::plain(0, &[2, 3], 1, 11));
    assert_eq!(bart(json!({"decoder_start_token_id": 4, "eos_token_id": 2})), Generation::plain(4, &[2], 2, 20));
    let (_, problems) = read(Some(json!({})), json!({"model_type": "bart", "decoder_start_token_id": 2}));
    assert_eq!(problems, ["generation_config.json: decoder_start_token_id is missing"]);
}

#[test]
fn config_is_asked_where_there_is_no_other_and_below_its_decoder_after_itself() {
    let model = json!({
        "model_type": "t5gemma", "eos_token_id": 1, "num_beams": 4,
        "decoder": {"eos_token_id": 7, "bos_token_id": 2, "pad_token_id": 0, "max_length": 9}
    });
    let (found, problems) = read(None, model);
    assert_eq!(problems, [""; 0]);
    assert_eq!(found, Generation { num_beams: Some(4), ..Generation::plain(2, &[1], 0, 8) });
}

#[test]
fn the_limit_is_that_of_new_tokens_then_that_of_all_then_twenty() {
    let limit = |settings: Value| bart(changed(json!({"bos_token_id": 0, "eos_token_id": 2}), settings)).new_tokens();
    assert_eq!(limit(json!({"max_new_tokens": 5, "max_length": 30})), 5);
    assert_eq!(limit(json!({"max_length": 30})), 29);
    assert_eq!(limit(json!({})), 20);
    let small = json!({"model_type": "bart", "max_position_embeddings": 16});
    assert_eq!(sound(json!({"bos_token_id": 0, "eos_token_id": 2}), small).new_tokens(), 15);
}

#[test]
fn every_setting_of_greedy_decoding_is_read() {
    let found = bart(json!({
        "decoder_start_token_id": 2, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "max_length": 20,
        "min_length": 3, "forced_bos_token_id": 0, "forced_eos_token_id": [2, 5], "bad_words_ids": [[7], [8, 9]],
        "no_repeat_ngram_size": 3, "encoder_no_repeat_ngram_size": 4, "repetition_penalty": 1.5,
        "encoder_repetition_penalty": 2, "suppress_tokens": [11], "begin_suppress_tokens": [12, 13], "num_beams": 5,
        // Without effect on greedy tokens.
        "do_sample": true, "early_stopping": true, "length_penalty": 2.0, "renormalize_logits": true, "top_k": 5,
        "cache_implementation": "static", "guidance_scale": 1.0, "remove_invalid_values": false, "sequence_bias": null
    }));
    let expected = Generation {
        min_length: 3,
        forced_bos_token_id: Some(0),
        forced_eos_token_ids: vec![2, 5],
        bad_words_ids: vec![vec![7], vec![8, 9]],
        no_repeat_ngram_size: 3,
        encoder_no_repeat_ngram_size: 4,
        repetition_penalty: Some(1.5),
        encoder_repetition_penalty: Some(2.0),
        suppress_tokens: vec![11],
        begin_suppress_tokens: vec![12, 13],
        num_beams: Some(5),
        ..Generation::plain(2, &[2], 1, 19)
    };
    assert_eq!(found, expected);
    assert_eq!(found.begin_index(), 2, "after the forced token");
    let back: Generation = serde_json::from_value(json!(found)).expect("a manifest reads back");
    assert_eq!(back, found);
    assert_eq!(
        found.to_string(),
        "starts with 2; ends at 2; at most 19 tokens; 0 forced first; 2 or 5 forced last; at least 3 tokens with the \
         prompt; 1 token suppressed; 2 tokens suppressed at the beginning; 2 bad words; no 3-gram twice; no 4-gram from \
         the source; repetition penalty 1.5; source penalty 2; greedy where the checkpoint searches with 5 beams"
    );
}

#[test]
fn the_least_number_of_new_tokens_takes_the_place_of_the_least_length() {
    let found = bart(json!({"bos_token_id": 0, "eos_token_id": 2, "min_length": 9, "min_new_tokens": 4}));
    assert_eq!((found.min_length, found.min_new_tokens), (0, 4));
}

#[test]
fn the_forced_start_of_old_barts_is_read_where_the_config_is_derived() {
    let old = json!({"bos_token_id": 0, "eos_token_id": 2, "force_bos_token_to_be_generated": true});
    assert_eq!(bart(old.clone()).forced_bos_token_id, None);
    assert_eq!(bart(changed(old.clone(), json!({"_from_model_config": true}))).forced_bos_token_id, Some(0));
    let (found, _) = read(None, changed(old, json!({"model_type": "bart"})));
    assert_eq!(found.forced_bos_token_id, Some(0));
}

#[test]
fn what_changes_the_result_what_nobody_knows_and_what_is_of_another_kind_are_told_at_once() {
    let found = problems(
        json!({
            "bos_token_id": 0, "eos_token_id": -2, "exponential_decay_length_penalty": [5, 1.2], "guidance_scale": 1.5,
            "lang_to_id": {"<|en|>": 1}, "max_lenght": 20, "no_repeat_ngram_size": -1, "bad_words_ids": [[]],
            "repetition_penalty": 0
        }),
        "bart",
    );
    let expected = [
        "generation_config.json: exponential_decay_length_penalty = [5,1.2] is not supported by bart: only null is",
        "generation_config.json: guidance_scale = 1.5 is not supported by bart: only 1 is",
        "generation_config.json: lang_to_id = {\"<|en|>\":1} is not known to bart; it may change the result",
        "generation_config.json: max_lenght = 20 is not known to bart; it may change the result",
        "generation_config.json: eos_token_id = -2, expected a token id",
        "generation_config.json: bad_words_ids = [[]], expected a list of lists of token ids, each with one at least",
        "generation_config.json: no_repeat_ngram_size = -1, expected a number from 0 to 2^31",
        "generation_config.json: repetition_penalty = 0, expected a number above 0",
    ];
    assert_eq!(found, expected);
}

#[test]
fn every_key_that_is_refused_is_refused_by_name() {
    for (key, ..) in keys::REFUSED {
        let generation = changed(whisper_json(), json!({*key: [1]}));
        let found = problems(generation, "whisper");
        assert!(found.len() == 1 && found[0].starts_with(&format!("generation_config.json: {key} = [1] is not supp")));
    }
}

#[test]
fn a_token_that_is_forced_and_suppressed_leaves_none() {
    let forced = json!({"bos_token_id": 0, "eos_token_id": 2, "suppress_tokens": [5, 6], "forced_bos_token_id": 5});
    let expected = "generation_config.json: forced_bos_token_id = 5 is not supported by bart: suppress_tokens has it, \
                    too, so that no token is left";
    assert_eq!(problems(forced, "bart"), [expected]);
    let either = json!({"bos_token_id": 0, "eos_token_id": 2, "suppress_tokens": [5], "forced_eos_token_id": [5, 2]});
    assert_eq!(problems(either, "bart"), [""; 0]);
}

fn tokens(ids: &[i64]) -> Vec<Choice> {
    ids.iter().copied().map(Choice::Token).collect()
}

/// In front, the start token and a language that is detected.
fn detected(ids: &[i64]) -> Vec<Choice> {
    [vec![Choice::Token(51), Choice::OneOf(vec![52, 53])], tokens(ids)].concat()
}

#[test]
fn whispers_prompt_is_that_of_retrieve_init_tokens() {
    let prompt = |changes: Value| whisper(changes).prompt();
    // The oldest way, with a language to be detected in it, then without, then without any.
    assert_eq!(prompt(json!({})), detected(&[55, 57]));
    assert_eq!(prompt(json!({"forced_decoder_ids": [[1, 53], [2, 54], [3, 57]]})), tokens(&[51, 53, 54, 57]));
    assert_eq!(prompt(json!({"forced_decoder_ids": [[2, 54]]})), detected(&[57]));
    assert_eq!(prompt(json!({"forced_decoder_ids": null})), detected(&[57]));
    // Words are stronger; a language alone is transcribed, a task alone has its language detected.
    assert_eq!(prompt(json!({"language": "French"})), tokens(&[51, 53, 55, 57]));
    assert_eq!(prompt(json!({"language": "<|en|>", "task": "translate"})), tokens(&[51, 52, 54, 57]));
    assert_eq!(prompt(json!({"task": "translate"})), detected(&[54, 57]));
    // English alone, and files older than all of this.
    let english =
        json!({"lang_to_id": null, "task_to_id": null, "is_multilingual": false, "forced_decoder_ids": [[1, 57]]});
    assert_eq!(prompt(english), tokens(&[51, 57]));
    let old = json!({"_from_model_config": true, "forced_decoder_ids": [[1, 53]]});
    assert_eq!(prompt(old), tokens(&[51]), "what GenerationConfig does not know is dropped from derived files");
    let model = json!({"model_type": "whisper", "forced_decoder_ids": [[1, 53]]});
    let (found, _) = read(Some(json!({"decoder_start_token_id": 51, "eos_token_id": 50})), model);
    assert_eq!(found.prompt(), tokens(&[51, 53]), "config.json is asked last");
}

#[test]
fn whispers_limit_leaves_room_for_its_prompt() {
    // At most 30 after the prompt of 4, of 40 positions; then 38 of which 36 are left.
    assert_eq!(whisper(json!({})).new_tokens(), 30);
    assert_eq!(whisper(json!({"max_length": 38})).new_tokens(), 36);
    assert_eq!(whisper(json!({})).begin_index(), 4);
    assert_eq!(whisper(json!({"language": "en"})).to_string().split("; ").next(), Some("starts with 51, 52, 55, 57"));
    let summary = whisper(json!({})).to_string();
    assert!(summary.starts_with("starts with 51, the likeliest of 2 languages, 55, 57; ends at 50; "), "{summary}");
}

#[test]
fn words_that_whisper_does_not_know_are_told_with_those_it_does() {
    for (changes, expected) in [
        (json!({"language": "german"}), "language = \"german\" is not supported by whisper: expected one of en, fr"),
        (json!({"task": "sing"}), "task = \"sing\" is not supported by whisper: expected transcribe or translate"),
        (json!({"language": ["en"]}), "language = [\"en\"], expected a word"),
        (
            json!({"language": "en", "lang_to_id": null}),
            "language = \"en\" is not supported by whisper: the generation config has no lang_to_id",
        ),
        (
            json!({"forced_decoder_ids": [[1, 52], [3, 55]]}),
            "forced_decoder_ids = [[1,52],[3,55]], expected pairs of a place and a token id or null, with places 1, 2, …",
        ),
    ] {
        let found = problems(changed(whisper_json(), changes), "whisper");
        assert_eq!(found, [format!("generation_config.json: {expected}")]);
    }
}

fn overrides(json: Value) -> Overrides {
    serde_json::from_value(json).expect("overrides")
}

#[test]
fn a_recipe_puts_its_settings_in_the_place_of_the_checkpoints() {
    let found = whisper(json!({})).with(&overrides(json!({"language": "fr", "max_new_tokens": 7}))).expect("fits");
    assert_eq!((found.prompt(), found.new_tokens()), (tokens(&[51, 53, 55, 57]), 7));
    let translated = whisper(json!({})).with(&overrides(json!({"task": "translate"}))).expect("fits");
    assert_eq!(translated.prompt(), detected(&[54, 57]));

    let strict = bart(json!({
        "bos_token_id": 0, "eos_token_id": 2, "forced_bos_token_id": 0, "forced_eos_token_id": 2, "min_length": 5,
        "no_repeat_ngram_size": 3, "repetition_penalty": 1.5, "suppress_tokens": [4], "bad_words_ids": [[5]]
    }));
    let off = overrides(json!({
        "forced_bos_token_id": null, "forced_eos_token_id": [], "min_length": 0, "no_repeat_ngram_size": 0,
        "repetition_penalty": 1, "suppress_tokens": [], "bad_words_ids": []
    }));
    assert_eq!(strict.with(&off).expect("fits"), Generation::plain(0, &[2], 2, 20));
    assert_eq!(strict.with(&Overrides::default()).expect("fits"), strict);
    let other = strict.with(&overrides(json!({"forced_bos_token_id": 8, "min_new_tokens": 2}))).expect("fits");
    assert_eq!((other.forced_bos_token_id, other.min_new_tokens, other.min_length), (Some(8), 2, 0));
}

#[test]
fn settings_that_do_not_fit_the_model_are_all_told() {
    let told = |model: Generation, json: Value| model.with(&overrides(json)).expect_err("refused");
    let plain = Generation::plain(0, &[2], 1, 20);
    assert_eq!(
        told(plain, json!({"language": "fr", "task": "sing", "repetition_penalty": -1, "max_new_tokens": 0})),
        [
            "repetition_penalty: expected a number above 0, found -1",
            "max_new_tokens: expected a number above 0, found 0",
            "language: this model is fed no language and no task; found fr",
            "task: this model is fed no language and no task; found sing",
        ]
    );
    assert_eq!(told(whisper(json!({})), json!({"language": "xx"})), ["language: expected one of en, fr; found xx"]);
    let english = whisper(json!({"is_multilingual": false}));
    assert_eq!(
        told(english, json!({"language": "en"})),
        ["language: this model is for English only (is_multilingual is false); found en"]
    );
    assert_eq!(
        told(whisper(json!({})), json!({"max_new_tokens": 37})),
        ["max_new_tokens: expected at most 36, for the decoder has 40 positions and is fed 4 tokens first; found 37"]
    );
}

#[test]
fn a_manifest_of_a_model_without_settings_of_its_own_says_four_things() {
    let plain = Generation::plain(0, &[1], 0, 20);
    let text = serde_json::to_string(&plain).expect("JSON");
    let expected = r#"{"decoder_start_token_id":0,"eos_token_ids":[1],"pad_token_id":0,"max_new_tokens":20}"#;
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_str::<Generation>(expected).expect("reads back"), plain);
}
