use super::folder::tests::folder;
use super::*;

#[test]
fn an_engine_that_is_not_there_is_unavailable_with_its_command() {
    let expected =
        "not installed in the environment of --python, TREFOIL_CTRANSLATE2_PYTHON, $VIRTUAL_ENV or $CONDA_PREFIX";
    for (named, expected) in [
        (None, expected),
        (Some("/no-such-folder/python"), "TREFOIL_CTRANSLATE2_PYTHON is /no-such-folder/python, which is not there"),
    ] {
        let error = python(named.map(PathBuf::from), &[]).expect_err("not there").to_string();
        assert_eq!(error, format!("ctranslate2 is not available: {expected}\nhint: {INSTALL}"));
    }
}

#[test]
fn settings_tell_what_was_not_asked() {
    assert_eq!(described("int8_float32", 1, &[]), "compute type int8_float32, its own greedy search, 1 thread");
    let told = described("float32", 2, &["forced_eos_token_id", "begin_suppress_tokens"]);
    let expected =
        "compute type float32, its own greedy search, 2 threads, without forced_eos_token_id, begin_suppress_tokens";
    assert_eq!(told, expected);
}

/// A translator with a shell script of ours in the child's place.
#[cfg(unix)]
fn child(script: &str) -> Result<Translator, RuntimeError> {
    use std::os::unix::fs::PermissionsExt;

    let model = folder("TransformerSpec", "{}");
    let read = Folder::read(model.path()).expect("whole");
    let decoding = Decoding::of(&Generation::plain(0, &[1], 0, 20), &read).expect("asked");
    let program = model.path().join("python");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("made executable");
    let patience = Patience::of(&Options::DEFAULT).expect("constants");
    let pipe = spawn(&program, model.path(), 1, patience)?;
    let engine = Engine { name: ENGINE.to_owned(), version: String::new(), settings: String::new() };
    let mut translator = Translator { pipe, engine, folder: read, decoding };
    translator.greet(1)?;
    Ok(translator)
}

#[cfg(unix)]
const VERSIONS: &str = r#"read x; echo '{"ok":true,"version":"4","compute_type":"float32"}'; read y"#;

#[cfg(unix)]
#[test]
fn tokens_come_back_as_ids_of_the_model() {
    let mut translator =
        child(&format!(r#"{VERSIONS}; echo '{{"ok":true,"tokens":[["a","b","</s>"],[]]}}'"#)).expect("greeted");
    assert_eq!(translator.say(&[&[3, 1], &[4, 1]]).expect("said"), [vec![3, 4, 1], vec![]]);
    assert_eq!(translator.engine().version, "4");
}

#[cfg(unix)]
#[test]
fn what_is_no_answer_is_told() {
    for (reply, expected) in [
        (r#"{"ok":true,"tokens":[["c"]]}"#, "shared_vocabulary.json: expected one of its 5 tokens, found \"c\""),
        (r#"{"ok":true,"tokens":[]}"#, "expected 1 answers, found 0"),
        (r#"{"ok":false,"error":"ValueError: no"}"#, "ctranslate2: ValueError: no"),
    ] {
        let mut translator = child(&format!("{VERSIONS}; echo '{reply}'")).expect("greeted");
        let error = translator.say(&[&[3, 1]]).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut translator = child(VERSIONS).expect("greeted");
    let error = translator.say(&[&[3, 77]]).expect_err("refused").to_string();
    assert_eq!(error, "ctranslate2: shared_vocabulary.json: expected ids below 5, found 77");
    let error = child(r#"read x; echo '{"ok":false,"error":"absent","lacks":"ctranslate2"}'"#).err();
    assert!(matches!(error, Some(RuntimeError::Unavailable { .. })));
}
