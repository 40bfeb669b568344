//! Moonshine in the GGUF of transcribe.cpp. Source: src/arch/moonshine/weights.cpp and scripts/convert-moonshine.py there
//! (@ea077b8).

use checkpoint::Checkpoint;
use checkpoint::gguf::{Array, Value};
use frontend::audio::Heard;
use graph::Unary;
use tokenizer::Spelling;

use super::config::{Config, EPS, KERNELS, STRIDES};
use crate::dialect::{Dialect, Engine, Words};
use crate::error::ImportError;
use crate::import::layers::with_and_without_model_prefix;
use crate::import::transcribe::{TYPES, count, token};

pub(super) const DIALECT: Dialect = Dialect {
    engine: Engine::TranscribeCpp,
    architecture: "moonshine",
    names: NAMES,
    keys,
    tables: |_| Ok(Vec::new()),
    tokenizer: Words::BytePairs(Spelling::Text),
    folds_logit_scale: false,
    refused,
    types: TYPES,
};

/// Samples a second that the engine hears.
const SAMPLING_RATE: u32 = 16_000;

fn keys(checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
    let c = Config::read(checkpoint)?;
    let text = |key: &str, value: &str| (key.to_owned(), Value::string(value));
    let capability = |name: &str| (format!("stt.capability.{name}"), Value::Bool(false));
    let mut keys = vec![
        ("general.languages".to_owned(), Value::Array(Array::String(vec!["en".to_owned()]))),
        text("stt.variant", "moonshine"),
        capability("lang_detect"),
        capability("translate"),
        capability("timestamps"),
    ];
    for (stack, layers, activation) in [("encoder", c.encoder, "gelu"), ("decoder", c.decoder, "silu")] {
        let key = |name: &str| format!("stt.moonshine.{stack}.{name}");
        keys.push(count(key("n_layers"), layers.count));
        keys.push(count(key("d_model"), c.width.len));
        keys.push(count(key("n_heads"), c.heads.len));
        keys.push(count(key("n_kv_heads"), c.heads.len));
        keys.push(count(key("ffn_dim"), c.ffn.len));
        keys.push((key("activation"), Value::string(activation)));
    }
    let (decoding, config) = (checkpoint.generation(), checkpoint.config());
    let start = decoding.decoder_start_token_id;
    let end = decoding.eos_token_ids.first().copied().unwrap_or(decoding.pad_token_id);
    let lengths = |key: &str, lengths: [usize; 3]| {
        let lengths = lengths.map(|n| n as u32).to_vec(); // at most 2^31
        (format!("stt.moonshine.conv_stem.{key}"), Value::Array(Array::U32(lengths)))
    };
    keys.extend([
        count("stt.moonshine.decoder.vocab_size", c.vocab.len),
        count("stt.moonshine.decoder.max_position_embeddings", config.usize_or("max_position_embeddings", 512)),
        ("stt.moonshine.decoder.tie_word_embeddings".to_owned(), Value::Bool(true)),
        token("stt.moonshine.decoder_start_token_id", start),
        token("stt.moonshine.bos_token_id", start),
        token("stt.moonshine.eos_token_id", end),
        token("stt.moonshine.pad_token_id", decoding.pad_token_id),
        ("stt.moonshine.partial_rotary_factor".to_owned(), Value::F32(turned_part(&c))),
        ("stt.moonshine.rope_theta".to_owned(), Value::F32(c.rope.theta)),
        ("stt.moonshine.attention_bias".to_owned(), Value::Bool(false)),
        lengths("channels", [c.width.len, 2 * c.width.len, c.width.len]),
        lengths("kernel_sizes", KERNELS.map(|kernel| kernel.len)),
        lengths("strides", STRIDES),
        count("stt.moonshine.conv_stem.groupnorm_num_groups", 1),
        ("stt.moonshine.conv_stem.groupnorm_eps".to_owned(), Value::F32(EPS)),
        text("stt.frontend.type", "raw"),
        count("stt.frontend.sample_rate", SAMPLING_RATE as usize),
        count("stt.frontend.num_mels", 1),
    ]);
    Ok(keys)
}

/// The engine multiplies the width of a head by it, rounds down to an even number, and turns so many places: half a place more
/// keeps f32 from falling below.
fn turned_part(c: &Config) -> f32 {
    let head_width = c.inner.len / c.heads.len;
    ((c.rope.dims as f32 + 0.5) / head_width as f32).min(1.0)
}

fn refused(checkpoint: &Checkpoint) -> Result<Vec<String>, ImportError> {
    let c = Config::read(checkpoint)?;
    let heard = Heard::of(checkpoint.files())?;
    let faults = [
        (c.encoder.activation != Unary::Gelu, "config.json: encoder_hidden_act: it computes gelu alone".to_owned()),
        (c.decoder.activation != Unary::Silu, "config.json: decoder_hidden_act: it computes silu alone".to_owned()),
        (!c.tied, "config.json: tie_word_embeddings = false: it has no head but the embedding".to_owned()),
        (c.attention_bias, "config.json: attention_bias = true: it adds none".to_owned()),
        (
            c.inner.len != c.width.len,
            format!(
                "config.json: head_dim: expected hidden_size = {} for all heads, found {}",
                c.width.len, c.inner.len
            ),
        ),
        (heard.normalize, "preprocessor_config.json: do_normalize = true: it takes samples as they are".to_owned()),
        (
            heard.sampling_rate != SAMPLING_RATE,
            format!(
                "preprocessor_config.json: sampling_rate = {}: it hears {SAMPLING_RATE} alone",
                heard.sampling_rate
            ),
        ),
    ];
    Ok(faults.into_iter().filter(|(is_refused, _)| *is_refused).map(|(_, why)| why).collect())
}

const NAMES: &[(&str, &str)] = with_and_without_model_prefix![
    "encoder.conv1" => "enc.conv.0",
    "encoder.conv2" => "enc.conv.1",
    "encoder.conv3" => "enc.conv.2",
    "encoder.groupnorm" => "enc.conv.norm",
    "encoder.layer_norm" => "enc.final_norm",
    "encoder.layers.{i}.input_layernorm" => "enc.blocks.{i}.norm_attn",
    "encoder.layers.{i}.self_attn.q_proj" => "enc.blocks.{i}.attn.q",
    "encoder.layers.{i}.self_attn.k_proj" => "enc.blocks.{i}.attn.k",
    "encoder.layers.{i}.self_attn.v_proj" => "enc.blocks.{i}.attn.v",
    "encoder.layers.{i}.self_attn.o_proj" => "enc.blocks.{i}.attn.out",
    "encoder.layers.{i}.post_attention_layernorm" => "enc.blocks.{i}.norm_ffn",
    "encoder.layers.{i}.mlp.fc1" => "enc.blocks.{i}.ffn.fc1",
    "encoder.layers.{i}.mlp.fc2" => "enc.blocks.{i}.ffn.fc2",
    "decoder.embed_tokens" => "dec.token_embd",
    "decoder.norm" => "dec.final_norm",
    "decoder.layers.{i}.input_layernorm" => "dec.blocks.{i}.norm_self",
    "decoder.layers.{i}.self_attn.q_proj" => "dec.blocks.{i}.self_attn.q",
    "decoder.layers.{i}.self_attn.k_proj" => "dec.blocks.{i}.self_attn.k",
    "decoder.layers.{i}.self_attn.v_proj" => "dec.blocks.{i}.self_attn.v",
    "decoder.layers.{i}.self_attn.o_proj" => "dec.blocks.{i}.self_attn.out",
    "decoder.layers.{i}.post_attention_layernorm" => "dec.blocks.{i}.norm_cross",
    "decoder.layers.{i}.encoder_attn.q_proj" => "dec.blocks.{i}.cross_attn.q",
    "decoder.layers.{i}.encoder_attn.k_proj" => "dec.blocks.{i}.cross_attn.k",
    "decoder.layers.{i}.encoder_attn.v_proj" => "dec.blocks.{i}.cross_attn.v",
    "decoder.layers.{i}.encoder_attn.o_proj" => "dec.blocks.{i}.cross_attn.out",
    "decoder.layers.{i}.final_layernorm" => "dec.blocks.{i}.norm_ffn",
    "decoder.layers.{i}.mlp.fc1" => "dec.blocks.{i}.ffn.fc1",
    "decoder.layers.{i}.mlp.fc2" => "dec.blocks.{i}.ffn.fc2";
    "proj_out" => "dec.output",
];
