//! What of Mu the recordings do not show: a checkpoint without config.json, and what contradicts its tensors.

use converters::{Model, import};
use graph::{Def, Op, text};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{copy, fixture};

/// `mu-bare` with a config.json.
fn with_config(config: &Value) -> TempDir {
    let folder = copy("mu-bare");
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    folder
}

fn printed(model: &Model) -> String {
    text::print(&model.graph)
}

/// The lines of a refusal that name no folder.
fn refusal(folder: &TempDir) -> Vec<String> {
    let error = import(folder.path()).err().expect("refused").to_string();
    error
        .lines()
        .map(|line| line.rsplit_once(&format!("{}: ", folder.path().display())).map_or(line.trim(), |x| x.1).to_owned())
        .collect()
}

#[test]
fn without_config_json_the_tensors_say_what_a_config_would() {
    let whole = json!({
        "n_encoder_layer": 2, "n_decoder_layer": 1, "n_embd": 8, "qkv_embd": 256, "hidden_dim": 12, "n_head": 4, "n_kv_head": 2,
        "is_interleaved": false, "block_size": 1024, "dropout": 0.0, "rope_theta": 10000, "rope_factor": 1.0, "pad_token_id": 0,
        "vocab_size": 40
    });
    let bare = import(&fixture("mu-bare")).unwrap_or_else(|e| panic!("{e}"));
    let told = import(with_config(&whole).path()).unwrap_or_else(|e| panic!("{e}"));
    assert!(printed(&bare) == printed(&told));
    let generation = bare.checkpoint.generation();
    assert_eq!((generation.decoder_start_token_id, generation.eos_token_ids.len()), (1, 0));
    assert_eq!(bare.checkpoint.config().model_type(), Some("mu"));
}

#[test]
fn a_config_that_contradicts_the_tensors_is_refused() {
    let width = refusal(&with_config(&json!({"n_embd": 16})));
    let expected = "transformer.wte.weight: expected [40, 16] (vocab_size, n_embd), found [40, 8] in model.pt";
    assert!(width.iter().any(|line| line == expected), "{width:#?}");
    let heads = refusal(&with_config(&json!({"n_head": 3, "n_kv_head": 1})));
    let expected =
        "config.json: n_head = 3 is not supported by mu: expected a divisor of qkv_embd = 256, or heads of 64";
    assert!(heads.iter().any(|line| line == expected), "{heads:#?}");
}

#[test]
fn what_changes_the_result_or_belongs_to_nobody_is_refused_by_name() {
    assert_eq!(
        refusal(&with_config(&json!({"rope_factor": 2.0}))),
        [
            "config.json: rope_factor = 2.0 is not supported by mu: only 1.0 is, as any other changes the frequencies with the \
          length of a sequence"
        ]
    );
    assert_eq!(
        refusal(&with_config(&json!({"logit_softcap": 30.0}))),
        ["config.json: logit_softcap = 30.0 is not known to mu; it may change the result"]
    );
    let fewer = refusal(&with_config(&json!({"n_encoder_layer": 1})));
    let expected = "transformer.e.1.ln1.weight: mu has no use for this tensor, F32 [8] in model.pt";
    assert!(fewer.iter().any(|line| line == expected), "{fewer:#?}");
    // 96 columns are no heads of 64, the width that MuConfig gives them.
    let folder = copy("mu");
    std::fs::remove_file(folder.path().join("config.json")).expect("removed");
    let found = refusal(&folder);
    let expected =
        "config.json: n_head = missing is not supported by mu: expected a divisor of qkv_embd = 96, or heads of 64";
    assert!(found.iter().any(|line| line == expected), "{found:#?}");
}

#[test]
fn repeated_key_heads_move_activations_and_interleaved_ones_move_nothing() {
    let transposed = |name: &str| {
        let model = import(&fixture(name)).unwrap_or_else(|e| panic!("{e}"));
        let moved = |perm: &[usize]| perm == [0, 3, 2, 1, 4];
        model.graph.values.iter().filter(|v| matches!(&v.def, Def::Op(Op::Transpose(perm), _) if moved(perm))).count()
    };
    // Into order and back, in 3 encoder layers and twice in 2 decoder layers.
    assert_eq!((transposed("mu"), transposed("mu-interleaved")), (14, 0));
}
