//! Whisper in the file of whisper.cpp. Source: src/whisper.cpp and models/convert-h5-to-ggml.py there (@233fe1f).

use checkpoint::Checkpoint;
use checkpoint::names::{CONFIG, GENERATION_CONFIG, PREPROCESSOR_CONFIG};
use frontend::audio::MelTables;
use graph::Unary;

use super::config::Config;
use crate::error::ImportError;
use crate::import::layers::with_and_without_model_prefix;
use crate::whisper_cpp::Described;

/// Samples a second, and samples in a window of 30 seconds, which it hears alone.
const SAMPLING_RATE: u32 = 16_000;
const WINDOW: usize = 480_000;
/// Tokens of a vocabulary of English alone; larger ones have a token for each language.
const ENGLISH: usize = 51_864;
/// Tokens of any vocabulary that are neither text nor languages, the end of a multilingual text aside.
const NOT_LANGUAGES: usize = 51_765;

pub(super) fn describe(checkpoint: &Checkpoint) -> Result<Described, ImportError> {
    let c = Config::read(checkpoint)?;
    let hyperparameters = [
        c.vocab.len,
        c.source_positions.len,
        c.d_model.len,
        c.encoder.heads.len,
        c.encoder.count,
        c.target_positions.len,
        c.d_model.len,
        c.decoder.heads.len,
        c.decoder.count,
        c.mels.len,
    ];
    let mut refused = pass(&c);
    refused.extend(front_end(&MelTables::of(checkpoint.files())?));
    refused.extend(tokens(&c, checkpoint)?);
    Ok(Described { hyperparameters, text_tokens: end_of_text(c.vocab.len), names: NAMES, refused })
}

fn pass(c: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    if c.activation != Unary::Gelu {
        faults.push(format!("{CONFIG}: activation_function: it computes gelu alone"));
    }
    if !c.tied {
        faults.push(format!("{CONFIG}: tie_word_embeddings = false: it has no head but the embedding"));
    }
    let wide = 4 * c.d_model.len;
    for ffn in [c.encoder.ffn, c.decoder.ffn].iter().filter(|ffn| ffn.len != wide) {
        faults.push(format!("{CONFIG}: {} = {}: expected 4 · d_model = {wide}", ffn.name, ffn.len));
    }
    faults
}

fn front_end(mel: &MelTables) -> Vec<String> {
    let mut faults = Vec::new();
    let mut refuse = |why: String| faults.push(format!("{PREPROCESSOR_CONFIG}: {why}"));
    if mel.sampling_rate != SAMPLING_RATE {
        refuse(format!("sampling_rate = {}: it hears {SAMPLING_RATE} alone", mel.sampling_rate));
    }
    if mel.samples != WINDOW {
        refuse(format!("chunk_length: it hears windows of {WINDOW} samples, and here they are {}", mel.samples));
    }
    if mel.padding_value != 0.0 {
        refuse("padding_value: it fills clips up with silence".to_owned());
    }
    faults
}

/// It knows the ids of its tokens from how many there are.
fn tokens(c: &Config, checkpoint: &Checkpoint) -> Result<Vec<String>, ImportError> {
    let vocab = c.vocab.len;
    if vocab < ENGLISH {
        return Ok(vec![format!("{CONFIG}: vocab_size = {vocab}: it knows vocabularies of {ENGLISH} tokens or more")]);
    }
    let end = end_of_text(vocab) as i64;
    let languages = if vocab == ENGLISH { 0 } else { vocab - NOT_LANGUAGES - 1 - 98 };
    let decoding = checkpoint.generation();
    let settings: serde_json::Value = checkpoint.files().json(GENERATION_CONFIG)?.unwrap_or_default();
    let untimed = settings.get("no_timestamps_token_id").and_then(serde_json::Value::as_i64);
    let expected = [
        ("eos_token_id", decoding.eos_token_ids.first().copied(), end),
        ("decoder_start_token_id", Some(decoding.decoder_start_token_id), end + 1),
        ("no_timestamps_token_id", untimed, 50_362 + languages as i64),
    ];
    let differs = |(key, found, expected): (&str, Option<i64>, i64)| {
        let told = found.map_or_else(|| "none".to_owned(), |id| id.to_string());
        (found != Some(expected))
            .then(|| format!("{GENERATION_CONFIG}: {key}: of {vocab} tokens it takes {expected} for it, found {told}"))
    };
    Ok(expected.into_iter().filter_map(differs).collect())
}

/// The first token that is no text, by how many tokens there are.
fn end_of_text(vocab: usize) -> usize {
    if vocab > ENGLISH { 50_257 } else { 50_256 }
}

const NAMES: &[(&str, &str)] = with_and_without_model_prefix![
    "encoder.embed_positions.weight" => "=encoder.positional_embedding",
    "encoder.conv1" => "encoder.conv1",
    "encoder.conv2" => "encoder.conv2",
    "encoder.layer_norm" => "encoder.ln_post",
    "encoder.layers.{i}.self_attn_layer_norm" => "encoder.blocks.{i}.attn_ln",
    "encoder.layers.{i}.self_attn.q_proj" => "encoder.blocks.{i}.attn.query",
    "encoder.layers.{i}.self_attn.k_proj" => "encoder.blocks.{i}.attn.key",
    "encoder.layers.{i}.self_attn.v_proj" => "encoder.blocks.{i}.attn.value",
    "encoder.layers.{i}.self_attn.out_proj" => "encoder.blocks.{i}.attn.out",
    "encoder.layers.{i}.final_layer_norm" => "encoder.blocks.{i}.mlp_ln",
    "encoder.layers.{i}.fc1" => "encoder.blocks.{i}.mlp.0",
    "encoder.layers.{i}.fc2" => "encoder.blocks.{i}.mlp.2",
    "decoder.embed_positions.weight" => "=decoder.positional_embedding",
    "decoder.embed_tokens" => "decoder.token_embedding",
    "decoder.layer_norm" => "decoder.ln",
    "decoder.layers.{i}.self_attn_layer_norm" => "decoder.blocks.{i}.attn_ln",
    "decoder.layers.{i}.self_attn.q_proj" => "decoder.blocks.{i}.attn.query",
    "decoder.layers.{i}.self_attn.k_proj" => "decoder.blocks.{i}.attn.key",
    "decoder.layers.{i}.self_attn.v_proj" => "decoder.blocks.{i}.attn.value",
    "decoder.layers.{i}.self_attn.out_proj" => "decoder.blocks.{i}.attn.out",
    "decoder.layers.{i}.encoder_attn_layer_norm" => "decoder.blocks.{i}.cross_attn_ln",
    "decoder.layers.{i}.encoder_attn.q_proj" => "decoder.blocks.{i}.cross_attn.query",
    "decoder.layers.{i}.encoder_attn.k_proj" => "decoder.blocks.{i}.cross_attn.key",
    "decoder.layers.{i}.encoder_attn.v_proj" => "decoder.blocks.{i}.cross_attn.value",
    "decoder.layers.{i}.encoder_attn.out_proj" => "decoder.blocks.{i}.cross_attn.out",
    "decoder.layers.{i}.final_layer_norm" => "decoder.blocks.{i}.mlp_ln",
    "decoder.layers.{i}.fc1" => "decoder.blocks.{i}.mlp.0",
    "decoder.layers.{i}.fc2" => "decoder.blocks.{i}.mlp.2";
    "proj_out" => "decoder.proj",
];
