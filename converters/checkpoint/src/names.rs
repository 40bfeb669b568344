//! What the files of a checkpoint are called.

/// What the model is.
pub const CONFIG: &str = "config.json";
/// How it decodes.
pub const GENERATION_CONFIG: &str = "generation_config.json";
/// What the model is and how it decodes.
pub const CONFIGS: [&str; 2] = [CONFIG, GENERATION_CONFIG];
/// Where the parameters of a feature extractor are.
pub const PREPROCESSOR_CONFIG: &str = "preprocessor_config.json";
/// Where transformers 5 puts them, in the object `feature_extractor`; it goes before the other file.
pub const PROCESSOR_CONFIG: &str = "processor_config.json";
/// The files that front ends are read from, here and by the consumers of artifacts.
pub const FRONT_END: [&str; 2] = [PREPROCESSOR_CONFIG, PROCESSOR_CONFIG];

/// The files that can hold the weights, in the order of preference.
pub const WEIGHTS: [&str; 5] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.pt",
];

/// The files that tokenizers are read from, here and by the consumers of artifacts.
pub const TOKENIZER: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "source.spm",
    "target.spm",
    "vocab.json",
    "target_vocab.json",
    "vocab.txt",
    "merges.txt",
    "normalizer.json",
];
