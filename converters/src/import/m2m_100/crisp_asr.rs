//! M2M100 and NLLB in the GGUF of CrispASR. Source: src/m2m100.cpp there, and its package 0.8.45.

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use graph::Unary;

use super::config::config;
use crate::dialect::{Dialect, Engine, Words};
use crate::error::ImportError;
use crate::import::fairseq::crisp_asr;

pub(super) const DIALECT: Dialect = Dialect {
    engine: Engine::CrispAsr,
    architecture: "m2m100",
    names: crisp_asr::NAMES,
    keys,
    tables: |_| Ok(Vec::new()),
    tokenizer: Words::Joins,
    folds_logit_scale: false,
    refused,
    types: crisp_asr::TYPES,
};

/// The id of padding for which it takes positions from the second row on.
const PAD: usize = 1;

fn keys(checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
    crisp_asr::metadata("m2m100", &config(checkpoint)?, checkpoint)
}

fn refused(checkpoint: &Checkpoint) -> Result<Vec<String>, ImportError> {
    let c = config(checkpoint)?;
    let mut faults = crisp_asr::refused(&c);
    if c.activation != Unary::Relu {
        faults.push("config.json: activation_function: it computes relu alone".to_owned());
    }
    if c.pad != PAD {
        faults.push(format!("config.json: pad_token_id = {}: its positions begin after {PAD}", c.pad));
    }
    Ok(faults)
}
