//! What two or more families share.

use graph::{Unary, Val, Weight};

use checkpoint::{Checkpoint, CheckpointError, Config, Problem, Size};

use crate::error::ImportError;

/// Keys of config.json without effect on the logits: training, bookkeeping, defaults of `generate`, what other heads use.
pub(super) const WITHOUT_EFFECT: &[&str] = &[
    "_name_or_path",
    "_num_labels",
    "architectures",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classif_dropout",
    "classifier_dropout",
    "classifier_dropout_rate",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout_rate",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "extra_pos_embeddings",
    "force_bos_token_to_be_generated",
    "forced_bos_token_id",
    "forced_decoder_ids",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "init_std",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

/// The functions of an element, by the words of `ACT2FN` in transformers' activations.py.
const ACTIVATIONS: &[(&str, Unary)] = &[
    ("relu", Unary::Relu),
    ("gelu", Unary::Gelu),
    ("gelu_python", Unary::Gelu),
    ("gelu_new", Unary::GeluTanh),
    ("gelu_pytorch_tanh", Unary::GeluTanh),
    ("gelu_fast", Unary::GeluTanh),
    ("quick_gelu", Unary::QuickGelu),
    ("silu", Unary::Silu),
    ("swish", Unary::Silu),
    ("tanh", Unary::Tanh),
    ("sigmoid", Unary::Sigmoid),
];

/// The function that a key names. A word that is not known is noted as unsupported.
pub(super) fn activation(c: &Config, key: &str, default: &str) -> Unary {
    activation_called(c, key, c.str_or(key, default))
}

/// The function called `word`, which follows from `key`.
pub(super) fn activation_called(c: &Config, key: &str, word: &str) -> Unary {
    match ACTIVATIONS.iter().find(|(known, _)| *known == word) {
        Some((_, activation)) => *activation,
        None => {
            let words: Vec<&str> = ACTIVATIONS.iter().map(|(word, _)| *word).collect();
            c.unsupported(key, format!("expected one of {}", words.join(", ")));
            Unary::Relu
        }
    }
}

/// Notes as unsupported what does not divide the width into heads. Both sizes have the names of their keys.
pub(super) fn check_heads(c: &Config, heads: Size, width: Size) {
    if !width.len.is_multiple_of(heads.len) {
        c.unsupported(heads.name, format!("it does not divide {} = {}", width.name, width.len));
    }
}

/// One over the square root of a head's width, in f64: families that scale further round once, in [`attention`].
pub(super) fn head_scale(width: Size, heads: Size) -> f64 {
    ((width.len / heads.len) as f64).powf(-0.5)
}

/// `softmax(q · kᵀ · scale + mask) · v` of heads `[b, heads, length, width]`, side by side again: `[b, length, heads · width]`.
pub(super) fn attention<'b>(heads: [Val<'b>; 3], scale: f64, mask: Option<Val<'b>>) -> Val<'b> {
    mixed(heads, scale, mask).merge_heads()
}

/// The same, each head for itself.
pub(super) fn mixed<'b>([q, k, v]: [Val<'b>; 3], scale: f64, mask: Option<Val<'b>>) -> Val<'b> {
    let scores = q.matmul(k.t()) * scale as f32;
    let scores = mask.map_or(scores, |mask| scores + mask);
    scores.softmax().matmul(v)
}

/// Why there is no GGUF of a family with images.
pub(super) fn gguf_of_images(checkpoint: &Checkpoint, model_type: &str) -> ImportError {
    let problem = Problem::Unsupported {
        file: "config.json",
        key: "model_type".to_owned(),
        value: model_type.to_owned(),
        architecture: "gguf".to_owned(),
        why: "no engine reads encoder-decoders with images from it; `onnx` holds this model".to_owned(),
    };
    CheckpointError::DoesNotFit { dir: checkpoint.dir().to_owned(), problems: vec![problem] }.into()
}

/// Rows of a table of GGUF names for modules that stand in `model.` or, where a base model was saved, in nothing; and after
/// the semicolon rows as they are.
macro_rules! with_and_without_model_prefix {
    ($($from:literal => $to:literal),+; $($as_it_is:literal => $name:literal),+ $(,)?) => {
        &[$((concat!("model.", $from), $to),)+ $(($from, $to),)+ $(($as_it_is, $name),)+]
    };
}
pub(super) use with_and_without_model_prefix;

/// Why a table and a head stand for one weight, and what to do where they differ.
pub(super) const TIED_HEAD: &str =
    "config.json ties the head; set tie_word_embeddings to false if it has weights of its own";

/// One weight under all names when they are tied, because of `why`; else the weight of each.
pub(super) fn tied_or_own<const N: usize>(
    checkpoint: &Checkpoint,
    tied: bool,
    names: [&str; N],
    why: &str,
    shape: &[Size],
) -> [Weight; N] {
    match tied {
        true => {
            let weight = checkpoint.tied_weight(&names.map(|name| (name, why)), shape);
            std::array::from_fn(|_| weight.clone())
        }
        false => names.map(|name| checkpoint.weight(name, shape)),
    }
}
