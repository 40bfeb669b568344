//! Whisper in the GGUF of transcribe.cpp. Source: src/arch/whisper/weights.cpp and scripts/convert-whisper.py there (@ea077b8).

use std::collections::BTreeMap;

use checkpoint::Checkpoint;
use checkpoint::gguf::{Array, Value};
use checkpoint::names::GENERATION_CONFIG;
use frontend::audio::MelTables;
use graph::{Tensor, Unary};
use serde_json::Map;
use tokenizer::Spelling;

use super::config::Config;
use crate::dialect::{Dialect, Engine, Words};
use crate::error::ImportError;
use crate::import::layers::with_and_without_model_prefix;
use crate::import::transcribe::{TYPES, count, token};

pub(super) const DIALECT: Dialect = Dialect {
    engine: Engine::TranscribeCpp,
    architecture: "whisper",
    names: NAMES,
    keys,
    tables,
    tokenizer: Words::BytePairs(Spelling::Gpt2),
    folds_logit_scale: false,
    refused,
    types: TYPES,
};

/// Samples a second that the engine's own front end takes.
const SAMPLING_RATE: u32 = 16_000;

fn keys(checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
    let c = Config::read(checkpoint)?;
    let languages = languages(checkpoint)?;
    let is_multilingual = languages.len() > 1;
    let mut keys = vec![
        ("general.languages".to_owned(), Value::Array(Array::String(languages))),
        ("stt.variant".to_owned(), Value::string("whisper")),
        ("stt.capability.lang_detect".to_owned(), Value::Bool(is_multilingual)),
        ("stt.capability.translate".to_owned(), Value::Bool(is_multilingual)),
        ("stt.capability.timestamps".to_owned(), Value::Bool(true)),
    ];
    for (stack, layers) in [("encoder", c.encoder), ("decoder", c.decoder)] {
        let key = |name: &str| format!("stt.whisper.{stack}.{name}");
        keys.push(count(key("n_layers"), layers.count));
        keys.push(count(key("d_model"), c.d_model.len));
        keys.push(count(key("n_heads"), layers.heads.len));
        keys.push(count(key("ffn_dim"), layers.ffn.len));
        keys.push((key("activation"), Value::string("gelu")));
    }
    keys.extend([
        count("stt.whisper.encoder.num_mel_bins", c.mels.len),
        count("stt.whisper.encoder.max_source_positions", c.source_positions.len),
        count("stt.whisper.decoder.max_target_positions", c.target_positions.len),
        count("stt.whisper.decoder.vocab_size", c.vocab.len),
        ("stt.whisper.decoder.tie_word_embeddings".to_owned(), Value::Bool(true)),
        ("stt.whisper.decoder.scale_embedding".to_owned(), Value::Bool(false)),
    ]);
    keys.extend(prompt(checkpoint)?);
    keys.extend(front_end(checkpoint)?);
    Ok(keys)
}

/// Tokens that the engine puts before a transcript, and those that it never says.
fn prompt(checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
    let decoding = checkpoint.generation();
    let settings = settings(checkpoint)?;
    let given = |key: &str| settings.get(key).and_then(serde_json::Value::as_i64);
    let task =
        |name: &str| settings.get("task_to_id").and_then(|ids| ids.get(name)).and_then(serde_json::Value::as_i64);
    let tokens = [
        ("decoder_start_token_id", Some(decoding.decoder_start_token_id)),
        ("sot_token_id", Some(decoding.decoder_start_token_id)),
        ("no_timestamps_token_id", given("no_timestamps_token_id")),
        ("prev_sot_token_id", given("prev_sot_token_id")),
        ("transcribe_token_id", task("transcribe")),
        ("translate_token_id", task("translate")),
    ];
    let mut keys: Vec<_> =
        tokens.into_iter().filter_map(|(name, id)| Some(token(format!("stt.whisper.{name}"), id?))).collect();
    for (name, ids) in
        [("suppress_tokens", &decoding.suppress_tokens), ("begin_suppress_tokens", &decoding.begin_suppress_tokens)]
    {
        let ids: Vec<i32> = ids.iter().filter_map(|id| i32::try_from(*id).ok()).collect();
        if !ids.is_empty() {
            keys.push((format!("stt.whisper.{name}"), Value::Array(Array::I32(ids))));
        }
    }
    Ok(keys)
}

fn front_end(checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
    let c = Config::read(checkpoint)?;
    let mel = MelTables::of(checkpoint.files())?;
    let rate = mel.sampling_rate as usize;
    let text = |name: &str, value: &str| (format!("stt.frontend.{name}"), Value::string(value));
    let float = |name: &str, value: f32| (format!("stt.frontend.{name}"), Value::F32(value));
    let number = |name: &str, value: usize| count(format!("stt.frontend.{name}"), value);
    Ok(vec![
        text("type", "mel"),
        number("num_mels", c.mels.len),
        number("sample_rate", rate),
        number("n_fft", mel.window.len()),
        number("win_length", mel.window.len()),
        number("hop_length", mel.hop_length),
        text("window", "hann_periodic"),
        text("normalize", "whisper_logmel"),
        float("dither", 0.0),
        float("pre_emphasis", 0.0),
        float("f_min", 0.0),
        float("f_max", rate as f32 / 2.0),
        text("pad_mode", "reflect"),
        ("stt.frontend.center".to_owned(), Value::Bool(true)),
        text("mel_norm", "slaney"),
        number("chunk_length", mel.samples / rate),
        number("n_samples", mel.samples),
        number("nb_max_frames", mel.samples / mel.hop_length),
    ])
}

fn tables(checkpoint: &Checkpoint) -> Result<Vec<(&'static str, Tensor)>, ImportError> {
    let mel = MelTables::of(checkpoint.files())?;
    let (bins, samples) = (mel.window.len() / 2 + 1, mel.window.len());
    Ok(vec![
        ("frontend.mel_filterbank", Tensor::f32([mel.filters.len() / bins, bins], mel.filters)),
        ("frontend.window", Tensor::f32([samples], mel.window)),
    ])
}

fn refused(checkpoint: &Checkpoint) -> Result<Vec<String>, ImportError> {
    let c = Config::read(checkpoint)?;
    let mel = MelTables::of(checkpoint.files())?;
    let faults = [
        (c.activation != Unary::Gelu, "config.json: activation_function: it computes gelu alone".to_owned()),
        (!c.tied, "config.json: tie_word_embeddings = false: it has no head but the embedding".to_owned()),
        (
            !settings(checkpoint)?.contains_key("no_timestamps_token_id"),
            format!("{GENERATION_CONFIG}: no_timestamps_token_id: expected a token, found none"),
        ),
        (
            mel.sampling_rate != SAMPLING_RATE,
            format!("preprocessor_config.json: sampling_rate = {}: it hears {SAMPLING_RATE} alone", mel.sampling_rate),
        ),
        (
            mel.padding_value != 0.0,
            "preprocessor_config.json: padding_value: it fills clips up with silence".to_owned(),
        ),
    ];
    Ok(faults.into_iter().filter(|(is_refused, _)| *is_refused).map(|(_, why)| why).collect())
}

/// generation_config.json.
fn settings(checkpoint: &Checkpoint) -> Result<Map<String, serde_json::Value>, ImportError> {
    Ok(checkpoint.files().json(GENERATION_CONFIG)?.unwrap_or_default())
}

/// Languages as `en`, in the order of their tokens; English alone where none is told apart.
fn languages(checkpoint: &Checkpoint) -> Result<Vec<String>, ImportError> {
    let settings = settings(checkpoint)?;
    let ids = settings.get("lang_to_id").and_then(serde_json::Value::as_object);
    let named = ids
        .into_iter()
        .flatten()
        .filter_map(|(token, id)| Some((id.as_i64()?, token.strip_prefix("<|")?.strip_suffix("|>")?.to_owned())));
    let named: BTreeMap<i64, String> = named.collect();
    Ok(if named.is_empty() { vec!["en".to_owned()] } else { named.into_values().collect() })
}

const NAMES: &[(&str, &str)] = with_and_without_model_prefix![
    "encoder.conv1" => "enc.conv.0",
    "encoder.conv2" => "enc.conv.1",
    "encoder.embed_positions" => "enc.pos_emb",
    "encoder.layer_norm" => "enc.final_norm",
    "encoder.layers.{i}.self_attn_layer_norm" => "enc.blocks.{i}.norm_attn",
    "encoder.layers.{i}.self_attn.q_proj" => "enc.blocks.{i}.attn.q",
    "encoder.layers.{i}.self_attn.k_proj" => "enc.blocks.{i}.attn.k",
    "encoder.layers.{i}.self_attn.v_proj" => "enc.blocks.{i}.attn.v",
    "encoder.layers.{i}.self_attn.out_proj" => "enc.blocks.{i}.attn.out",
    "encoder.layers.{i}.final_layer_norm" => "enc.blocks.{i}.norm_ffn",
    "encoder.layers.{i}.fc1" => "enc.blocks.{i}.ffn.fc1",
    "encoder.layers.{i}.fc2" => "enc.blocks.{i}.ffn.fc2",
    "decoder.embed_tokens" => "dec.token_embd",
    "decoder.embed_positions" => "dec.pos_emb",
    "decoder.layer_norm" => "dec.final_norm",
    "decoder.layers.{i}.self_attn_layer_norm" => "dec.blocks.{i}.norm_self",
    "decoder.layers.{i}.self_attn.q_proj" => "dec.blocks.{i}.self_attn.q",
    "decoder.layers.{i}.self_attn.k_proj" => "dec.blocks.{i}.self_attn.k",
    "decoder.layers.{i}.self_attn.v_proj" => "dec.blocks.{i}.self_attn.v",
    "decoder.layers.{i}.self_attn.out_proj" => "dec.blocks.{i}.self_attn.out",
    "decoder.layers.{i}.encoder_attn_layer_norm" => "dec.blocks.{i}.norm_cross",
    "decoder.layers.{i}.encoder_attn.q_proj" => "dec.blocks.{i}.cross_attn.q",
    "decoder.layers.{i}.encoder_attn.k_proj" => "dec.blocks.{i}.cross_attn.k",
    "decoder.layers.{i}.encoder_attn.v_proj" => "dec.blocks.{i}.cross_attn.v",
    "decoder.layers.{i}.encoder_attn.out_proj" => "dec.blocks.{i}.cross_attn.out",
    "decoder.layers.{i}.final_layer_norm" => "dec.blocks.{i}.norm_ffn",
    "decoder.layers.{i}.fc1" => "dec.blocks.{i}.ffn.fc1",
    "decoder.layers.{i}.fc2" => "dec.blocks.{i}.ffn.fc2";
    "proj_out" => "dec.output",
];
