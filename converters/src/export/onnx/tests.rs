use std::path::Path;

use checkpoint::gguf;
use serde_json::{Value, json};

use super::*;
use crate::export::gguf::Gguf;
use crate::{import, import_gguf};

/// The folder of a checkpoint with a tokenizer whose config lists tokens as transformers 5 does.
fn listed() -> tempfile::TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let dir = tempfile::tempdir().expect("temporary folder");
    for folder in ["tokenizer/bart", "bart"] {
        for entry in fs::read_dir(fixtures.join(folder)).expect("a fixture") {
            let file = entry.expect("readable").path();
            fs::copy(&file, dir.path().join(file.file_name().expect("a file"))).expect("copied");
        }
    }
    let config = json!({ "tokenizer_class": "BartTokenizer", TOKEN_LIST: ["<extra>"] });
    fs::write(dir.path().join(TOKENIZER_CONFIG), config.to_string()).expect("written");
    dir
}

#[test]
fn a_list_of_tokens_is_left_out_whether_the_tokenizer_lies_in_the_folder_or_in_a_gguf_file() {
    let dir = listed();
    let mut folder = import(dir.path()).expect("a checkpoint");
    graph::passes::run(&mut folder.graph).expect("passes");
    let home = tempfile::tempdir().expect("temporary folder");
    Gguf::DEFAULT.write(&folder, home.path()).expect("written");
    let (lone, named) = (home.path().join("lone"), home.path().join("named"));
    for (place, name) in [(&lone, gguf::FILE), (&named, "bart.gguf")] {
        fs::create_dir(place).expect("made");
        fs::copy(home.path().join(gguf::FILE), place.join(name)).expect("copied");
    }
    let lone = import(&lone).expect("a file alone");
    let named = import_gguf(&named.join("bart.gguf")).expect("a file by its name");
    for mut model in [folder, lone, named] {
        let place = model.checkpoint.config_file().display().to_string();
        let said = Onnx::DEFAULT.prepare(&mut model).expect("prepared");
        assert!(said.iter().any(|line| line.contains(TOKEN_LIST)), "{place}: {said:?}");
        let out = tempfile::tempdir().expect("temporary folder");
        copy_companions(&model, out.path()).expect("copied");
        let text = readable_tokenizer_config(model.checkpoint.files()).expect("read").expect("a list to leave out");
        let found: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(found, json!({ "tokenizer_class": "BartTokenizer" }), "{place}");
        assert!(out.path().join("vocab.json").is_file(), "{place}");
    }
}
