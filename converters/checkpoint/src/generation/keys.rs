//! The keys of a generation config, by what they do to greedy decoding.

use serde_json::Value;

/// Read.
const APPLIED: &[&str] = &[
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "decoder_start_token_id",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "eos_token_id",
    "force_bos_token_to_be_generated",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "num_beams",
    "pad_token_id",
    "repetition_penalty",
    "suppress_tokens",
];

type IsNeutral = fn(&Value) -> bool;

const NOTHING: IsNeutral = |_| false;
const FALSE: IsNeutral = |value| *value == Value::Bool(false);

/// Keys that change greedy tokens: whether a value does not, and what is supported.
pub(super) const REFUSED: &[(&str, IsNeutral, &str)] = &[
    ("constraints", NOTHING, "only null is"),
    ("dola_layers", NOTHING, "only null is"),
    ("exponential_decay_length_penalty", NOTHING, "only null is"),
    ("force_words_ids", NOTHING, "only null is"),
    ("guidance_scale", |value| value.as_f64() == Some(1.0), "only 1 is"),
    ("is_assistant", FALSE, "only false is"),
    ("max_time", NOTHING, "only null is"),
    ("no_speech_threshold", NOTHING, "only null is"),
    ("penalty_alpha", |value| value.as_f64() == Some(0.0), "only 0 is"),
    ("remove_invalid_values", FALSE, "only false is"),
    ("return_timestamps", FALSE, "only false is"),
    ("sequence_bias", NOTHING, "only null is"),
    ("stop_strings", NOTHING, "only null is"),
    ("token_healing", FALSE, "only false is"),
    ("watermarking_config", NOTHING, "only null is"),
];

/// Sampling, beams, speculation that leaves the tokens as they are, caches, what is returned, bookkeeping.
const WITHOUT_EFFECT: &[&str] = &[
    "_commit_hash",
    "_from_model_config",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "continuous_batching_config",
    "disable_compile",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "epsilon_cutoff",
    "eta_cutoff",
    "length_penalty",
    "low_memory",
    "max_cache_len",
    "max_matching_ngram_size",
    "min_p",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_beam_groups",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "renormalize_logits",
    "return_dict_in_generate",
    "return_legacy_cache",
    "speculation_type",
    "target_lookbehind",
    "temperature",
    "top_h",
    "top_k",
    "top_p",
    "transformers_version",
    "typical_p",
    "use_cache",
    "use_mtp",
];

/// Those of Whisper alone: its prompt, and what only timestamps or sound of more than one window need.
pub(super) const WHISPER: &[&str] = &[
    "alignment_heads",
    "compression_ratio_threshold",
    "condition_on_prev_tokens",
    "forced_decoder_ids",
    "is_multilingual",
    "lang_to_id",
    "language",
    "logprob_threshold",
    "max_initial_timestamp_index",
    "no_speech_threshold",
    "no_timestamps_token_id",
    "prev_sot_token_id",
    "prompt_condition_type",
    "return_timestamps",
    "return_token_timestamps",
    "task",
    "task_to_id",
];

/// Every key that is known.
pub(super) fn all(is_whisper: bool) -> impl Iterator<Item = &'static str> {
    let refused = REFUSED.iter().map(|(key, ..)| *key).filter(|key| !WHISPER.contains(key));
    let whisper = WHISPER.iter().copied().filter(move |_| is_whisper);
    APPLIED.iter().chain(WITHOUT_EFFECT).copied().chain(refused).chain(whisper)
}
